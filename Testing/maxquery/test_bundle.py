"""Model bundles: what is saved comes back, and what was there before is safe."""

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from maxquery.bundle import Bundle, find_bundle, list_bundles, load_bundle, save_bundle, weights_sha256
from maxquery.calibration import CalibrationTable
from maxquery.errors import InputError

from .bundles import sign, small_bundle, zipped


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return small_bundle()


@pytest.fixture
def folder(bundle, tmp_path) -> Path:
    return save_bundle(bundle, tmp_path / "liver")


def test_a_bundle_comes_back_as_it_was_saved(bundle, folder):
    loaded = load_bundle(folder)
    assert loaded == bundle  # all but the weights
    assert loaded.weights.keys() == bundle.weights.keys()
    for name, tensor in bundle.weights.items():
        assert loaded.weights[name].dtype == tensor.dtype
        assert torch.equal(loaded.weights[name], tensor)
    assert loaded.tumour_values == (2,)


def test_weights_have_one_checksum_in_memory_and_on_the_disk_and_another_once_they_change(bundle, folder):
    half, scalar = torch.ones(2, 3, dtype=torch.bfloat16), torch.tensor(0.5)
    weights = {"half": half.T, "scalar": scalar, **bundle.weights}
    saved = save_bundle(replace(bundle, weights=weights), folder)
    assert weights_sha256(load_bundle(saved).weights) == weights_sha256(weights)
    others = weights | {"scalar": scalar + 1}, weights | {"half": half}, {"other": half.T, **weights}
    assert len({weights_sha256(each) for each in (weights, *others)}) == 4


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


def test_a_bundle_of_before_scores_were_named_shows_eq_9_as_it_is(folder):
    document = json.loads((folder / "bundle.json").read_text("utf-8"))
    assert (document.pop("score"), document.pop("smoothing_mm")) == ("maxquery", 0.0)
    assert document.pop("case_calibration") is None
    (folder / "bundle.json").write_text(json.dumps(document), encoding="utf-8")
    sign(folder)
    bundle = load_bundle(folder)
    assert (bundle.score, bundle.smoothing_mm, bundle.case_calibration) == ("maxquery", 0.0, None)


def test_the_table_of_case_scores_comes_back(bundle, tmp_path):
    table = CalibrationTable((-3.0, -1.0), (0.0, 100.0))
    path = save_bundle(replace(bundle, case_calibration=table), tmp_path / "ranked")
    assert load_bundle(path).case_calibration == table


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


def test_a_bundle_is_found_by_name_and_by_path(folder, tmp_path, monkeypatch):
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
    monkeypatch.chdir(root)
    assert find_bundle("liver", [root]) == root / "liver", "the same one"
    shutil.copytree(root / "liver", tmp_path / "here" / "liver")
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError, match="Two bundles are called 'liver'"):
        find_bundle("liver", [root])
    assert find_bundle("./liver", [root]) == Path("liver")
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


def test_the_model_that_ships_is_whole_small_and_says_how_good_it_is():
    folder = find_bundle("liver-demo")
    bundle = load_bundle(folder)
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 20e6
    assert {label.name for label in bundle.labels[1:]} == set(bundle.metrics["dsc"])
    for ood in ("ood", "ood_unsmoothed"):
        assert {"maxquery", "maxlogit", "msp"} <= set(bundle.metrics[ood])
    assert "Research use only" in bundle.training["limits"]
