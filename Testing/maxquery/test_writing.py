"""A run's result appears whole, or the folder stays as it was."""

import csv
import errno
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from maxquery import writing
from maxquery.calibration import CalibrationTable, in_units
from maxquery.errors import InputError, MachineError
from maxquery.labels import Label
from maxquery.output_folder import check_output
from maxquery.result import Finding, Prediction
from maxquery.volume import Grid, Volume
from maxquery.writing import discard_unfinished, remove_results, write_results

GRID = Grid((7, 6, 5), (0.8, 0.9, 2.5), (1.5, -2.25, 300.0), np.diag([1.0, -1.0, 1.0]))
LABELS = (Label(0, "background", "background", (0, 0, 0)), Label(1, "Liver", "organ", (221, 130, 101)))
FINDING = Finding(1, "OOD region", True, 1.23456, 11.0, 9.5, (1.0, -2.0, 3.5), 97.0, 99.5, (3, 12))
ALWAYS = ["segmentation.seg.nrrd", "anomaly.nrrd", "clusters.nrrd", "findings.csv", "report.json"]


def result(seed: int = 0) -> Prediction:
    random = np.random.default_rng(seed)
    shape = GRID.shape_zyx
    return Prediction(
        GRID,
        random.integers(0, 2, shape).astype(np.uint8),
        random.normal(size=shape).astype(np.float16),
        random.integers(1, 33, shape).astype(np.uint8),
        LABELS,
        (),
        (FINDING,),
    )


CALIBRATION = CalibrationTable((-3.0, 3.0), (0.0, 100.0))
REPORT = {"bundle": {}, "findings": []}
CT = Volume(np.full((1, *GRID.shape_zyx), 40, np.int16), GRID)


def write(folder, seed: int = 0, report=None, units="percentile", **options):
    return write_results(folder, result(seed), CALIBRATION, units, report or REPORT | {"seed": seed}, **options)


def contents(folder) -> dict[str, bytes]:
    """Every file below the folder, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_files_hold_what_was_found(tmp_path):
    folder = tmp_path / "new" / "résultat"
    written = write(folder)
    assert sorted(path.name for path in written) == sorted(ALWAYS) == sorted(contents(folder))
    anomaly = sitk.ReadImage(str(folder / "anomaly.nrrd"))
    assert np.array_equal(sitk.GetArrayFromImage(anomaly), CALIBRATION.percentile(result().anomaly))
    assert anomaly.GetMetaData("units") == "percentile"
    assert anomaly.GetPixelID() == sitk.sitkFloat32
    clusters = sitk.ReadImage(str(folder / "clusters.nrrd"))
    assert np.array_equal(sitk.GetArrayFromImage(clusters), result().clusters)
    for image in (anomaly, clusters):
        assert np.allclose(image.GetDirection(), GRID.direction.ravel(), atol=1e-6)
        assert np.allclose(image.GetOrigin(), GRID.origin_lps_mm, atol=1e-6)
    assert json.loads((folder / "report.json").read_text(encoding="utf-8")) == REPORT | {"seed": 0}
    with (folder / "findings.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["label"], row["ood"], row["volume_ml"], row["queries"]) == (
        "OOD region",
        "yes",
        "1.235",
        "3 12",
    )


@pytest.mark.parametrize("units", ["raw", "minmax", "percentile"])
def test_the_heatmap_comes_in_the_units_asked_for(tmp_path, units):
    write(tmp_path, units=units, ct=CT, scene=True)
    anomaly = sitk.ReadImage(str(tmp_path / "anomaly.nrrd"))
    assert anomaly.GetMetaData("units") == units
    np.testing.assert_array_equal(sitk.GetArrayFromImage(anomaly), in_units(result().anomaly, units, CALIBRATION))


def test_pictures_and_scene_come_on_request(tmp_path):
    written = write(tmp_path, ct=CT, preview=True, scene=True)
    assert {"preview.png", "scene.mrb"} <= {path.name for path in written} == set(contents(tmp_path))


def test_every_volume_says_that_a_lesion_was_planted(tmp_path):
    write(tmp_path, ct=CT, scene=True, planted="abscess")
    with zipfile.ZipFile(tmp_path / "scene.mrb") as scene:
        scene.extractall(tmp_path)
        assert b'name="CT with a planted (synthetic) abscess"' in scene.read("scene/scene.mrml")
    for volume in tmp_path.rglob("*.nrrd"):
        assert sitk.ReadImage(str(volume)).GetMetaData("planted") == "abscess", volume.name


def test_a_new_result_replaces_the_older_one_and_nobody_elses_files(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    write(tmp_path, 1, ct=CT, preview=True)
    write(tmp_path, 2)
    assert sorted(contents(tmp_path)) == sorted([*ALWAYS, "notes.txt"]), "the older preview would lie"
    assert json.loads((tmp_path / "report.json").read_text()) == REPORT | {"seed": 2}
    labels = sitk.ReadImage(str(tmp_path / "segmentation.seg.nrrd"))
    assert np.array_equal(sitk.GetArrayFromImage(labels), result(2).labels)


def test_the_report_leaves_first_and_arrives_last(tmp_path, monkeypatch):
    write(tmp_path, 1)
    steps, replace = [], os.replace
    monkeypatch.setattr(
        os, "replace", lambda old, new: (steps.append((old.parent, old.name)), replace(old, new))
    )
    write(tmp_path, 2)
    assert steps[0] == (tmp_path, "report.json") and steps[-1][1] == "report.json"
    assert steps[-1][0] != tmp_path


@pytest.mark.parametrize("step", range(2 * len(ALWAYS)))
def test_a_failure_at_any_rename_brings_the_older_result_back(tmp_path, monkeypatch, step):
    """A refused rename stands for a file that another program holds open."""
    write(tmp_path, 1)
    before = contents(tmp_path)
    calls, replace = iter(range(100)), os.replace

    def refuse_once(old, new):
        if next(calls) == step:
            raise PermissionError(errno.EACCES, "in use", str(new))
        replace(old, new)

    monkeypatch.setattr(os, "replace", refuse_once)
    with pytest.raises(MachineError, match="in use") as failure:
        write(tmp_path, 2)
    assert failure.value.code == "output_not_writable"
    assert contents(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    "writer",
    ["writing.write_segmentation", "writing.write_nrrd", "preview.write_preview", "writing.write_scene"],
)
def test_a_full_disk_leaves_the_older_result_and_nothing_else(tmp_path, monkeypatch, writer):
    """The writers raise what a full disk raises; test_nrrd.py has them meet a real limit."""
    write(tmp_path, 1)
    before = contents(tmp_path)

    def full(path, *_, **__):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(f"maxquery.{writer}", full)
    with pytest.raises(MachineError, match="no room left") as failure:
        write(tmp_path, 2, ct=CT, preview=True, scene=True)
    assert failure.value.code == "disk_full" and failure.value.hint
    assert contents(tmp_path) == before


def test_an_interrupted_run_leaves_no_folder_that_it_made(tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "write_nrrd", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("made, left", [(True, []), (False, ["out"])])
def test_a_stopped_run_takes_what_it_staged_and_a_folder_that_it_made(tmp_path, made, left):
    (tmp_path / "out" / ".maxquery-half").mkdir(parents=True)
    (tmp_path / "out" / ".maxquery-half" / "anomaly.nrrd").write_bytes(b"half")
    discard_unfinished(tmp_path / "out", made)
    assert [path.name for path in tmp_path.rglob("*")] == left


def test_a_stopped_run_leaves_a_folder_that_holds_something_else(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    discard_unfinished(tmp_path, made=True)
    assert list(contents(tmp_path)) == ["notes.txt"]


@pytest.mark.parametrize("folder", [".", "absent", "taken", "taken/below"])
@pytest.mark.parametrize("made", [True, False])
def test_stopping_a_run_fails_nowhere(tmp_path, monkeypatch, folder, made):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file")
    discard_unfinished(Path(folder), made)
    assert list(contents(tmp_path)) == ["taken"]


def test_an_older_result_goes_without_anybody_elses_files(tmp_path):
    write(tmp_path, ct=CT, preview=True)
    for name in ("more.nrrd", "notes.txt"):
        (tmp_path / name).write_text("")
    remove_results(tmp_path, "more.nrrd")
    remove_results(tmp_path / "absent")
    assert list(contents(tmp_path)) == ["notes.txt"]


def test_files_of_somebody_else_are_never_replaced(tmp_path):
    for name in ("scene.mrb", "report.json"):
        (tmp_path / name).write_text("mine")
    before = contents(tmp_path)
    for attempt in (lambda: check_output(tmp_path, 1000), lambda: write(tmp_path), lambda: remove_results(tmp_path)):
        with pytest.raises(InputError, match=r"holds scene\.mrb and report\.json, which no finished run"):
            attempt()
    assert contents(tmp_path) == before


def test_a_report_that_json_cannot_hold_changes_nothing(tmp_path):
    write(tmp_path, 1)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="JSON"):
        write(tmp_path, 2, report={"diameter": float("nan")})
    assert contents(tmp_path) == before


@pytest.mark.parametrize("path", ["taken", "taken/below"])
def test_an_output_that_is_a_file_is_an_input_error(tmp_path, path):
    (tmp_path / "taken").write_text("a file")
    for attempt in (lambda: check_output(tmp_path / path, 1000), lambda: write(tmp_path / path)):
        with pytest.raises(InputError, match="is a file") as failure:
            attempt()
        assert failure.value.code == "output_is_a_file"


def test_a_read_only_output_is_found_before_the_run(tmp_path):
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("this user may write anywhere")
        with pytest.raises(MachineError) as failure:
            check_output(tmp_path / "out", 1000)
        assert failure.value.code == "output_not_writable"
    finally:
        tmp_path.chmod(0o700)


def test_too_little_space_is_found_before_the_run(tmp_path):
    with pytest.raises(MachineError, match="MB free") as failure:
        check_output(tmp_path / "out", voxels=10**15)
    assert failure.value.code == "disk_full"


def test_checking_the_output_leaves_nothing_behind(tmp_path):
    check_output(tmp_path / "a" / "b", voxels=1000, scene=True)
    assert list(tmp_path.iterdir()) == []
