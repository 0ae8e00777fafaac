"""Nothing that is damaged or hostile is loaded from a bundle's folder or zip."""

import json
import pickle
import stat
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch

from maxquery import archive
from maxquery.bundle import Bundle, check_tensors, load_bundle, save_bundle
from maxquery.errors import InputError

from .bundles import refusal, sign, small_bundle, zipped


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return small_bundle()


@pytest.fixture
def folder(bundle, tmp_path) -> Path:
    return save_bundle(bundle, tmp_path / "liver")


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
    other = tmp_path / "other"
    (other / "models").mkdir(parents=True)
    error = refusal(other)
    assert error.code == "bundle-not-found"
    assert error.message == f"The folder {other} is no bundle: it holds none of {', '.join(archive.REQUIRED)}."


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
