"""Model bundles: what is saved comes back, and nothing that is damaged or hostile is loaded."""

import hashlib
import json
import pickle
import stat
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from maxquery import archive
from maxquery.bundle import (
    Bundle,
    Channel,
    Normalisation,
    check_tensors,
    find_bundle,
    list_bundles,
    load_bundle,
    save_bundle,
)
from maxquery.calibration import CalibrationTable
from maxquery.errors import InputError
from maxquery.labels import Label, Query, QueryDistribution, Terminology

LIVER = Terminology(("123037004", "SCT", "Anatomical Structure"), ("10200004", "SCT", "Liver"))


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle(
        name="liver",
        version="1.0",
        licence="CC-BY-4.0",
        description="Liver tumours on portal venous CT.",
        training={
            "data": "12 phantoms",
            "limits": "no patient",
            "command": "train",
            "seed": 1,
            "duration_seconds": 2,
        },
        labels=(
            Label(0, "background", "background", (0, 0, 0)),
            Label(1, "liver", "organ", (221, 130, 101), LIVER),
            Label(2, "HCC", "tumour", (144, 238, 144)),
        ),
        channels=(Channel("portal venous"),),
        spacing_zyx_mm=(2.5, 0.8, 0.8),
        normalisation=(Normalisation(-150, 250, 60.0, 40.0),),
        patch_zyx=(32, 64, 64),
        architecture={
            "backbone": {
                "network_class_name": "a.Network",
                "arch_kwargs": {"conv_op": "torch.nn.modules.conv.Conv3d"},
            },
            "query_channels": 128,
            "embedding_channels": 32,
            "heads": 8,
        },
        query_distribution=QueryDistribution(1, 1, 1),
        calibration=CalibrationTable.from_samples(np.linspace(-10, 0, 500)),
        metrics={"dice": 0.9},
        sources={"git": "abc"},
        queries=tuple(
            Query(i, group, tuple(float(i == j) for j in range(3)), name="Rand" if i == 2 else "")
            for i, group in enumerate(("background", "organ", "tumour"))
        ),
        weights={"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16)},
        model_card="# Liver – model card\n",
    )


@pytest.fixture
def folder(bundle, tmp_path) -> Path:
    return save_bundle(bundle, tmp_path / "liver")


def sign(folder: Path) -> None:
    """Makes the sums right again, so that a test reaches what lies behind them."""
    names = sorted(path.name for path in folder.iterdir() if path.name != "SHA256SUMS")
    sums = (f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    (folder / "SHA256SUMS").write_text("".join(sums))


def zipped(folder: Path, top: str = "", compression: int = zipfile.ZIP_DEFLATED) -> Path:
    path = folder.parent / "bundle.zip"
    with zipfile.ZipFile(path, "w", compression) as out:
        for file in sorted(folder.iterdir()):
            out.write(file, top + file.name)
    return path


def refusal(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        load_bundle(path)
    assert caught.value.hint, "every refusal says what to do"
    return caught.value


# What is saved comes back


def test_a_bundle_comes_back_as_it_was_saved(bundle, folder):
    loaded = load_bundle(folder)
    assert loaded == bundle  # all but the weights
    assert loaded.weights.keys() == bundle.weights.keys()
    for name, tensor in bundle.weights.items():
        assert loaded.weights[name].dtype == tensor.dtype
        assert torch.equal(loaded.weights[name], tensor)
    assert loaded.organ_values == (1,)
    assert loaded.tumour_values == (2,)


@pytest.mark.parametrize("top", ["", "liver-1.0/"])
def test_a_zip_with_or_without_a_top_folder_is_a_bundle(bundle, folder, top):
    assert load_bundle(zipped(folder, top)) == bundle


def test_loading_a_zip_writes_nothing(folder, tmp_path, monkeypatch):
    path = zipped(folder)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    load_bundle(path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bundle_is_described_without_its_weights(bundle, folder):
    described = load_bundle(folder, with_weights=False)
    assert described == bundle
    assert described.weights == {}


def test_tensors_that_a_network_shares_are_stored_once(bundle, tmp_path):
    large = torch.rand(10_000)
    saved = save_bundle(
        replace(bundle, weights={"a": large, "same": large, "part": large[:3]}), tmp_path / "shared"
    )
    assert (saved / "weights.safetensors").stat().st_size < 1.2 * 40_000
    weights = load_bundle(saved).weights
    assert torch.equal(weights["same"], large)
    assert torch.equal(weights["part"], large[:3])


def test_what_a_file_manager_leaves_behind_does_no_harm(bundle, folder):
    (folder / ".DS_Store").write_bytes(b"x")
    path = zipped(folder, "liver/")
    with zipfile.ZipFile(path, "a") as out:
        out.writestr("__MACOSX/liver/._bundle.json", b"x")
    assert load_bundle(folder) == load_bundle(path) == bundle


def test_a_bundle_is_found_by_name_and_by_path(folder, tmp_path):
    root = tmp_path / "Models"
    root.mkdir()
    folder.rename(root / "liver")
    zipped(root / "liver").rename(root / "kidney.zip")
    (root / "notes").mkdir()
    assert list_bundles([tmp_path / "absent", root]) == {
        "kidney": root / "kidney.zip",
        "liver": root / "liver",
    }
    assert find_bundle("liver", [root]) == root / "liver"
    assert find_bundle(root / "liver", []) == root / "liver"
    with pytest.raises(InputError, match=r"No bundle is called 'lung'.*Known by name: kidney, liver\."):
        find_bundle("lung", [root])


# Saving


def test_saving_replaces_an_older_bundle_and_leaves_nothing_beside(bundle, folder, tmp_path):
    save_bundle(replace(bundle, version="2.0"), folder)
    assert load_bundle(folder).version == "2.0"
    assert [path.name for path in tmp_path.iterdir()] == ["liver"]


@pytest.mark.parametrize("content", ["CT.nrrd", "bundle.json and more"])
def test_saving_never_replaces_a_folder_that_is_no_bundle(bundle, tmp_path, content):
    (tmp_path / "study").mkdir()
    for name in content.split(" and "):
        (tmp_path / "study" / name).write_text("precious")
    with pytest.raises(InputError, match="is not a model bundle; it was left as it is"):
        save_bundle(bundle, tmp_path / "study")
    assert all(path.read_text() == "precious" for path in (tmp_path / "study").iterdir())


@pytest.mark.parametrize(
    "wrong",
    [{"licence": ""}, {"weights": {}}, {"weights": {"a": torch.tensor([float("nan")])}}, {"queries": ()}],
)
def test_what_could_not_be_loaded_is_not_saved_and_the_older_bundle_stays(bundle, folder, wrong):
    with pytest.raises(InputError):
        save_bundle(replace(bundle, **wrong), folder)
    assert load_bundle(folder) == bundle


def test_a_failed_write_leaves_the_older_bundle_alone(bundle, folder, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="no space"):
            save_bundle(replace(bundle, version="2.0"), folder)
    assert load_bundle(folder) == bundle
    assert [path.name for path in tmp_path.iterdir()] == ["liver"]


# bundle.json and queries.json say where they are wrong


def edit(folder: Path, path: str, value: object, file: str = "bundle.json") -> None:
    """Sets what `path` (keys and indices with dots between) leads to; `...` removes it."""
    document = json.loads((folder / file).read_text())
    *way, last = (int(key) if key.isdigit() else key for key in path.split("."))
    place = document
    for key in way:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    (folder / file).write_text(json.dumps(document))
    sign(folder)


@pytest.mark.parametrize(
    "path, value, message",
    [
        ("labels.2.colour", "red", "labels[2].colour: expected three integers 0…255, found 'red'."),
        (
            "labels.2.colour",
            [0, 0, 256],
            "labels[2].colour: expected three integers 0…255, found [0, 0, 256].",
        ),
        (
            "labels.1.value",
            7,
            "labels[1].value: expected 1, the place in the list and the network's class, found 7.",
        ),
        (
            "labels.2.role",
            "tumor",
            "labels[2].role: expected one of background, organ, tumour, found 'tumor'.",
        ),
        (
            "labels.1.role",
            "background",
            "labels[1].role: expected background for label 0 and for no other, found 'b",
        ),
        (
            "labels.1.terminology.type",
            ["1"],
            "labels[1].terminology.type: expected a list of 3, found ['1'].",
        ),
        ("licence", ..., "'licence' is missing."),
        ("license", "MIT", "unknown entry 'license'."),
        ("training.limits", "", "training.limits: expected some text, found ''."),
        ("channels.0.kind", "MR", "channels[0].kind: expected one of CT, found 'MR'."),
        ("channels", [], "channels: expected at least one channel, found []."),
        ("spacing_zyx_mm.0", 0, "spacing_zyx_mm[0]: expected a number above 0, found 0."),
        ("normalisation", [], "normalisation: expected a list of 1, found []."),
        ("normalisation.0.std_hu", True, "normalisation[0].std_hu: expected a number, found True."),
        ("normalisation.0.lower_hu", 900, "normalisation[0]: expected lower_hu below upper_hu, found {"),
        ("patch_zyx.1", 64.5, "patch_zyx[1]: expected an integer of at least 1, found 64.5."),
        ("architecture.heads", ..., "architecture: 'heads' is missing."),
        ("architecture.backbone", "UNet", "architecture.backbone: expected an object, found 'UNet'."),
        ("query_distribution.tumour", 300, "query_distribution: expected 1…254 queries in all, found {"),
        ("calibration.values.3", 99.0, "calibration: the values do not ascend."),
        ("calibration.percents", [0, 100], "values do not match 2 percents."),
        ("schema_version", 0, "schema_version: expected an integer of at least 1, found 0."),
    ],
)
def test_a_wrong_entry_is_named_by_its_path(folder, path, value, message):
    edit(folder, path, value)
    error = refusal(folder)
    assert error.code == "bundle-invalid"
    assert error.message.startswith("bundle.json: ")
    assert message in error.message


@pytest.mark.parametrize(
    "path, value, message",
    [
        (
            "1.group",
            "tumour",
            "[1].group: expected organ, which the query distribution says, found 'tumour'.",
        ),
        (
            "0.class_probabilities",
            [1.0, 1.0, 0.0],
            "[0].class_probabilities: expected probabilities that add up to 1",
        ),
        ("0.class_probabilities", [1.0], "[0].class_probabilities: expected a list of 3, found [1.0]."),
        ("2.index", 1, "[2].index: expected 2, the place in the list, found 1."),
        ("2", ..., "expected a list of 3, found [{"),
    ],
)
def test_a_wrong_query_is_named_by_its_path(folder, path, value, message):
    edit(folder, path, value, "queries.json")
    assert refusal(folder).message.startswith("queries.json: " + message)


def test_a_later_schema_asks_for_an_update(folder):
    edit(folder, "schema_version", 2)
    error = refusal(folder)
    assert (error.code, error.hint) == ("bundle-too-new", "Update the extension.")


@pytest.mark.parametrize(
    "constant", ["NaN", "Infinity", "-Infinity", "1e999", "{", '"\\ud800', "[" * 100_000]
)
def test_what_is_no_json_is_refused(folder, constant):
    text = (folder / "bundle.json").read_text()
    (folder / "bundle.json").write_text(text.replace('"dice": 0.9', f'"dice": {constant}'))
    sign(folder)
    assert refusal(folder).message.startswith("bundle.json is not valid JSON: ")


# Files


@pytest.mark.parametrize("name", archive.REQUIRED)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert f"{name} is missing" in refusal(folder).message


@pytest.mark.parametrize("name", ["bundle.json", "weights.safetensors", "queries.json", "README.md"])
def test_a_changed_byte_is_noticed(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[-2] ^= 1
    (folder / name).write_bytes(content)
    assert refusal(folder).message.startswith(f"{name} is damaged or was changed")


def test_every_file_is_listed_and_every_listed_file_is_there(folder):
    sums = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
    (folder / "SHA256SUMS").write_text("".join(line for line in sums if "queries" not in line))
    assert refusal(folder).message == "queries.json is not listed in SHA256SUMS."
    (folder / "SHA256SUMS").write_text("".join(sums))
    (folder / "README.md").unlink()
    assert refusal(folder).message == "README.md is listed in SHA256SUMS but missing."
    (folder / "SHA256SUMS").write_text("nonsense\n")
    assert refusal(folder).message.startswith("SHA256SUMS: a line is no sum and name: 'nonsense'")


@pytest.mark.parametrize("name", ["run.py", "bundle.json.bak", "more"])
def test_an_unexpected_file_is_refused(folder, name):
    (folder / name).mkdir() if name == "more" else (folder / name).write_text("")
    error = refusal(folder)
    assert error.code == "bundle-unsafe"
    assert error.message.startswith(f"{name} does not belong in a bundle, which holds only bundle.json, ")


@pytest.mark.parametrize("name", ["model.pth", "model.PT", "model.pkl"])
def test_a_pickle_is_never_opened(folder, name):
    (folder / name).write_bytes(pickle.dumps({}))
    assert refusal(folder).code == "bundle-pickle"
    (folder / name).rename(folder.parent / name)
    assert refusal(folder.parent / name).code == "bundle-pickle"


def test_a_pickle_under_the_name_of_weights_is_never_opened(folder, tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "new.zip")
    torch.save({"a": torch.zeros(1)}, tmp_path / "old", _use_new_zipfile_serialization=False)
    for content in [
        *(pickle.dumps({}, p) for p in range(2, 6)),
        *map(Path.read_bytes, tmp_path.glob("[no]*")),
    ]:
        (folder / "weights.safetensors").write_bytes(content)
        sign(folder)
        error = refusal(folder)
        assert error.code == "bundle-pickle"
        assert error.message.startswith("weights.safetensors is a pickle, which can run code")
    assert refusal(tmp_path / "new.zip").code == "bundle-pickle"


def test_a_header_as_long_as_a_pickle_mark_is_still_weights(bundle, folder):
    # 0x0280 bytes of header: the file begins 80 02, as a pickle of protocol 2 does.
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).ljust(0x0280).encode()
    (folder / "weights.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    sign(folder)
    assert load_bundle(folder).weights["a"].tolist() == [0.0]


def safetensors_bytes(entries: dict, data: bytes, length: int | None = None) -> bytes:
    header = json.dumps(entries).encode()
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "cannot be read"),
        (safetensors_bytes({"a": ENTRY}, bytes(8), length=1 << 40), "cannot be read"),
        (safetensors_bytes({"a": ENTRY, "b": ENTRY}, bytes(8)), "cannot be read"),  # overlapping
        (safetensors_bytes({"a": ENTRY}, bytes(4)), "cannot be read"),  # cut short
        (safetensors_bytes({"a": {**ENTRY, "dtype": "Q8"}}, bytes(8)), "cannot be read"),
        (safetensors_bytes({}, b""), "holds no tensor"),
        (
            safetensors_bytes({"__metadata__": {"shared": '{"b": "c"}'}, "a": ENTRY}, bytes(8)),
            ": b: expected the name of a stored tensor, under one that is not stored, found 'c'.",
        ),
        (safetensors.torch.save({"a": torch.zeros(2, dtype=torch.int64)}), "or float32, found int64"),
        (safetensors.torch.save({"a": torch.tensor([float("inf")])}), "tensor a: expected finite numbers"),
    ],
)
def test_damaged_weights_are_refused(folder, content, message):
    (folder / "weights.safetensors").write_bytes(content)
    sign(folder)
    error = refusal(folder)
    assert error.message.startswith("weights.safetensors")
    assert message in error.message


def test_weights_that_do_not_fit_the_network_are_named(bundle):
    check_tensors(bundle.weights, bundle.weights)
    for expected, message in [
        ({**bundle.weights, "a": torch.zeros(3, 2)}, r"tensor a: expected \(3, 2\), found \(2, 3\)\."),
        ({**bundle.weights, "c": torch.zeros(1)}, r"tensor c: expected \(1,\), found none\."),
        ({"a": bundle.weights["a"]}, r"tensor b: expected none, found \(4,\)\."),
    ]:
        with pytest.raises(InputError, match=message):
            check_tensors(bundle.weights, expected)


def test_a_symbolic_link_in_a_folder_is_refused(folder, tmp_path):
    (folder / "README.md").rename(tmp_path / "elsewhere")
    (folder / "README.md").symlink_to(tmp_path / "elsewhere")
    assert refusal(folder).message == "README.md is a symbolic link, which may point anywhere."


@pytest.mark.parametrize("name", ["bundle.json", "queries.json", "README.md", "SHA256SUMS"])
def test_a_huge_text_is_not_read(folder, name):
    (folder / name).write_bytes(b" " * 4_000_001)
    error = refusal(folder)
    assert (error.code, error.message) == ("bundle-too-large", f"{name} takes 4.0 MB; the limit is 4 MB.")


def test_a_folder_beyond_the_limit_is_not_read(folder, monkeypatch):
    monkeypatch.setattr(archive, "TOTAL_LIMIT_BYTES", 1000)
    assert refusal(folder).message.startswith("The bundle's files take ")


def test_what_is_no_bundle_at_all_says_so(tmp_path):
    assert refusal(tmp_path / "absent").code == "bundle-not-found"
    (tmp_path / "ct.nrrd").write_text("NRRD0004")
    assert refusal(tmp_path / "ct.nrrd").message == "ct.nrrd is neither a folder nor a zip."
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty").code == "bundle-incomplete"


# Zips


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "liver/../../evil",
        "/etc/evil",
        "C:/evil",
        "C:evil",
        "..\\evil",
        "\\\\server\\evil",
        "a/./../b", ".",
    ],
)
def test_a_zip_cannot_name_a_file_outside_itself(folder, name):
    path = zipped(folder)
    with zipfile.ZipFile(path, "a") as out:
        out.writestr(name, b"x")
    error = refusal(path)
    assert error.code == "bundle-unsafe"
    assert error.message.startswith("The zip names a file outside itself: ")


def test_a_symbolic_link_in_a_zip_is_refused(folder):
    (folder / "README.md").unlink()
    path = zipped(folder)
    link = zipfile.ZipInfo("README.md")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as out:
        out.writestr(link, "/etc/passwd")
    assert refusal(path).message == "README.md is a symbolic link, which may point anywhere."


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_with_one_name_twice_is_refused(folder):
    path = zipped(folder)
    with zipfile.ZipFile(path, "a") as out:
        out.writestr("bundle.json", b"{}")
    assert refusal(path).message == "The zip holds two files called bundle.json."


def patched(path: Path, offset: int, value: int, size: int) -> Path:
    """Changes a field of the first file in the zip's central directory."""
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\x01\x02") + offset
    content[start : start + size] = value.to_bytes(size, "little")
    path.write_bytes(content)
    return path


def test_an_encrypted_zip_is_refused(folder):
    assert refusal(patched(zipped(folder), 8, 1, 2)).message == "README.md is encrypted."


def test_an_unusual_compression_is_refused(folder):
    error = refusal(zipped(folder, compression=zipfile.ZIP_LZMA))
    assert error.message == "README.md is compressed by an unusual method (14)."


def test_a_zip_bomb_is_refused_by_its_header(folder):
    path = zipped(folder)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("weights.safetensors", bytes(4_000_000))
    assert refusal(path).message == "bundle.zip would unpack to more than 100 times its size."
    assert (
        refusal(patched(path, 24, 0xFFFFFFF0, 4)).message
        == "The bundle's files take 4.0 GiB; the limit is 2 GiB."
    )


@pytest.mark.parametrize("size", [10, 10_000])
def test_a_zip_that_lies_about_a_size_is_refused_while_reading(folder, size):
    (folder / "README.md").write_bytes(b"x" * 1000)
    assert refusal(patched(zipped(folder), 24, size, 4)).message.startswith(
        "bundle.zip cannot be read as a zip: "
    )


def test_a_zip_cut_short_is_refused(folder):
    path = zipped(folder)
    path.write_bytes(path.read_bytes()[:-200])
    assert refusal(path).code == "bundle-damaged"


def test_a_zip_whose_content_changed_is_refused(folder):
    path = zipped(folder, compression=zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"Liver tumours", b"Liver Tumours"))
    assert refusal(path).message.startswith("bundle.zip cannot be read as a zip: Bad CRC-32")
