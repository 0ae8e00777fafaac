"""`maxquery-train` as a process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from maxquery_training.preset import QUICK

from .phantoms import SCHEME, ct, mask, write_image


def maxquery_train(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "maxquery_training.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)


@pytest.fixture
def pairs(tmp_path) -> Path:
    folder = tmp_path / "pairs"
    folder.mkdir()
    for number in range(4):
        write_image(folder / f"scan{number}_ct.nii.gz", ct(number))
        write_image(folder / f"scan{number}_seg.nii.gz", mask(2))
    (tmp_path / "labels.json").write_text(json.dumps(SCHEME))
    return folder


def test_prepare_says_what_it_found_and_where_the_dataset_is(pairs, tmp_path):
    common = ("--dataset", "Dataset042_Liver", "--work", tmp_path / "work")
    done = maxquery_train("prepare", pairs, "--labels", tmp_path / "labels.json", *common)
    assert done.returncode == 0, done.stderr
    assert "scan3: liver 13.5 ml, HCC 0.3 ml" in done.stdout
    assert done.stdout.endswith(f"Dataset in {tmp_path / 'work' / 'raw' / 'Dataset042_Liver'}\n")
    assert (tmp_path / "work" / "raw" / "Dataset042_Liver" / "dataset.json").is_file()


def test_a_prepared_dataset_is_planned_on_the_presets_grid(pairs, tmp_path):
    common = ("--dataset", "Dataset042_Liver", "--work", tmp_path / "work")
    assert maxquery_train("prepare", pairs, "--labels", tmp_path / "labels.json", *common).returncode == 0
    done = maxquery_train("plan", *common, "--preset", "quick", "--processes", "1")
    assert done.returncode == 0, done.stderr
    preprocessed = tmp_path / "work" / "preprocessed" / "Dataset042_Liver"
    plans = json.loads((preprocessed / "MaxQueryPlans.json").read_text())
    assert plans["configurations"]["3d_fullres"]["spacing"] == list(QUICK.spacing_zyx_mm)
    assert plans["maxquery"] == json.loads(json.dumps(QUICK.to_json()))
    (split,) = json.loads((preprocessed / "splits_final.json").read_text())
    assert len(split["train"]) == 2 and len(split["val"]) == 1
    for name in (*split["train"], *split["val"]):
        assert (preprocessed / "MaxQueryPlans_3d_fullres" / f"{name}.b2nd").is_file()


def test_a_faulty_case_ends_it_with_one_sentence(pairs, tmp_path):
    write_image(pairs / "scan1_seg.nii.gz", mask(99))
    common = ("--dataset", "Dataset042_Liver", "--work", tmp_path / "work")
    done = maxquery_train("prepare", pairs, "--labels", tmp_path / "labels.json", *common)
    assert done.returncode == 2
    assert "scan1: The mask holds values without a meaning: 99." in done.stdout
    assert done.stderr.strip() == (
        "maxquery-train: 1 of 4 cases cannot be used. Mend them, or leave them out with --skip-faulty."
    )
    assert list((tmp_path / "work" / "raw").iterdir()) == []


@pytest.mark.parametrize("command, first", [("plan", "prepare"), ("train", "plan")])
def test_a_step_taken_too_early_names_the_step_before(tmp_path, command, first):
    done = maxquery_train(command, "--dataset", "Dataset042_Liver", "--work", tmp_path)
    assert done.returncode == 2
    assert f"Run 'maxquery-train {first}' first." in done.stderr
    assert list(tmp_path.iterdir()) == []
