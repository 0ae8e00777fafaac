"""`maxquery-train` as a process."""

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from maxquery.bundle import load_bundle
from maxquery.errors import InputError
from maxquery.model_grid import ModelGrid
from maxquery.network_run import model_input
from maxquery.reading import read_case
from maxquery_training import cli
from maxquery_training.label_scheme import ORGAN
from maxquery_training.preset import QUICK

from .phantoms import mask, write_image, write_pairs

TINY = replace(
    QUICK, patch_zyx=(8, 16, 16), features=(4, 8, 8, 8), strides=((1, 1, 1), (2, 2, 2), (2, 2, 2), (1, 2, 2)),
    convolutions=(1, 1, 1, 1), query_channels=16, embedding_channels=8, iterations=2, validation_iterations=1,
    backbone_epochs=1, joint_epochs=2, frozen_epochs=1,
)  # fmt: skip


def maxquery_train(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "maxquery_training.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)


@pytest.fixture
def pairs(tmp_path) -> Path:
    return write_pairs(tmp_path, (2, 3, 2, 3))


def test_prepare_says_what_it_found_and_where_the_dataset_is(pairs, tmp_path):
    common = ("--dataset", "Dataset042_Liver", "--work", tmp_path / "work")
    done = maxquery_train("prepare", pairs, "--labels", tmp_path / "labels.json", *common)
    assert done.returncode == 0, done.stderr
    assert "2: liver 13.5 ml, HCC 0.3 ml" in done.stdout
    assert f"Dataset in {tmp_path / 'work' / 'raw' / 'Dataset042_Liver'}\n" in done.stdout
    assert "Each of the 4 cases counts as a patient of its own." in done.stdout
    assert (tmp_path / "work" / "raw" / "Dataset042_Liver" / "dataset.json").is_file()


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    """The folder of a dataset taken from files to figures, one command after the other, as the README does it.

    The network and its training are made tiny after planning; four patients, one more with an outlier.
    """
    folder = tmp_path_factory.mktemp("cohort")
    tumours = (2, 3, 2, 3, 6)
    write_pairs(folder, tumours)
    with (folder / "cases.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("case", "image", "mask", "outlier"))
        for number, tumour in enumerate(tumours):
            outlier = "yes" if tumour == 6 else ""
            rows.writerow((f"scan{number}", f"cases/{number}_ct.nii.gz", f"cases/{number}_seg.nii.gz", outlier))
    common = ("--dataset", "Dataset042_Liver", "--work", folder / "work")
    card = ("--licence", "none", "--data", "five phantoms", "--limits", "not for people")

    def run(*arguments) -> str:
        done = maxquery_train(*arguments, *common)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("prepare", folder / "cases.csv", "--labels", folder / "labels.json")
    run("plan", "--preset", "quick", "--processes", "1")
    shutil.copytree(folder / "work" / "preprocessed", folder / "planned")
    from maxquery_training.planning import with_preset  # nnU-Net's, slow to import

    plans = folder / "work" / "preprocessed" / "Dataset042_Liver" / "MaxQueryPlans.json"
    plans.write_text(json.dumps(with_preset(json.loads(plans.read_text()), TINY)))
    told = run("train", "--device", "cpu", "--progress", "jsonl", "--tensorboard", "--seed", "7")
    (folder / "train.jsonl").write_text(told, encoding="utf-8")
    run("calibrate", "--device", "cpu")
    run("export", "--bundle", folder / "tiny", *card)
    run("evaluate", "--bundle", folder / "tiny", "--output", folder / "figures", "--device", "cpu")
    return folder


def test_a_prepared_dataset_is_planned_on_the_presets_grid(released):
    preprocessed = released / "planned" / "Dataset042_Liver"
    plans = json.loads((preprocessed / "MaxQueryPlans.json").read_text())
    assert plans["configurations"]["3d_fullres"]["spacing"] == list(QUICK.spacing_zyx_mm)
    assert plans["maxquery"] == json.loads(json.dumps(QUICK.to_json()))
    (split,) = json.loads((preprocessed / "splits_final.json").read_text())
    assert len(split["train"]) == 2 and len(split["val"]) == 1
    for name in (*split["train"], *split["val"]):
        assert (preprocessed / "MaxQueryPlans_3d_fullres" / f"{name}.b2nd").is_file()


def test_what_a_network_learns_from_is_what_it_will_be_shown(released):
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2  # slow to import

    learnt = nnUNetDatasetBlosc2(str(released / "planned" / "Dataset042_Liver" / "MaxQueryPlans_3d_fullres"))
    raw, bundle = released / "work" / "raw" / "Dataset042_Liver", load_bundle(released / "tiny")
    for name in learnt.identifiers:
        image, labels, _, properties = learnt.load_case(name)
        volume = read_case([raw / "imagesTr" / f"{name}_0000.nii.gz"]).volume
        grid = ModelGrid.of(volume.grid, bundle.spacing_zyx_mm)
        assert grid.shape_zyx != volume.grid.shape_zyx
        np.testing.assert_allclose(image[:], model_input(volume, bundle, grid)[0], atol=1e-5)
        places = properties["class_locations"][ORGAN]
        assert len(places) and (labels[:][tuple(places.T)] == ORGAN).all()


def test_training_tells_programs_of_every_batch_and_every_epoch(released):
    lines = [json.loads(line) for line in (released / "train.jsonl").read_text("utf-8").splitlines()]
    assert lines[-1] == {"stage": "done", "fraction": 1.0, "message": ""}
    epochs = [line for line in lines if "epoch" in line]
    assert [(line["stage"], line["epoch"]) for line in epochs] == [("backbone", 0), ("joint", 0), ("joint", 1)]
    assert set(epochs[0]["losses"]) == {"total"}
    assert set(epochs[-1]["losses"]) == {"total", "seg", "qd", "attention"}
    assert set(epochs[-1]["dice"]) == {"liver", "HCC", "cyst"}
    fractions = [line["fraction"] for line in lines if line["stage"] == "joint" and "message" in line]
    assert fractions == [0.25, 0.5, 0.75, 1.0]


def test_training_leaves_curves_and_a_picture_of_the_queries(released):
    results = released / "work" / "results" / "Dataset042_Liver"
    for stage in ("BackboneTrainer", "MaxQueryTrainer"):
        folder = results / f"{stage}__MaxQueryPlans__3d_fullres" / "fold_0"
        pictures = {"curves.png"} | ({"queries.png"} if stage == "MaxQueryTrainer" else set())
        assert {path.name for path in folder.glob("*.png")} == pictures
    assert list((results / "tensorboard" / "joint").glob("events.out.tfevents.*"))


def test_an_exported_model_knows_its_labels_and_where_it_comes_from(released):
    bundle = load_bundle(released / "tiny")
    assert [label.name for label in bundle.labels] == ["background", "liver", "HCC", "cyst"]
    assert [label.role for label in bundle.labels] == ["background", "organ", "tumour", "tumour"]
    assert bundle.training["data"] == "five phantoms" and bundle.training["duration_seconds"] > 0
    assert bundle.training["seed"] == bundle.training["preset"]["seed"] == 7
    assert "not for people" in bundle.model_card
    assert np.isfinite(bundle.calibration.values).all() and bundle.calibration.values[0] < bundle.calibration.values[-1]


def test_an_exported_model_segments(released):
    files = (released / "cases" / "0_ct.nii.gz", "--bundle", released / "tiny", "--output", released / "result")
    subprocess.run([sys.executable, "-m", "maxquery", "segment", *files, "--device", "cpu"], check=True, timeout=300)
    assert json.loads((released / "result" / "report.json").read_text("utf-8"))["bundle"]["name"] == "tiny"


def test_training_says_at_once_how_long_it_is_and_where_its_logs_are(released, tmp_path):
    work = shutil.copytree(released / "work", tmp_path / "work")
    results = work / "results" / "Dataset042_Liver"
    shutil.rmtree(results / "MaxQueryTrainer__MaxQueryPlans__3d_fullres")
    done = maxquery_train("train", "--dataset", "Dataset042_Liver", "--work", work, "--stage", "joint", "--seed", "7",
                          "--device", "cpu")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1 backbone and 2 joint epochs of 2 batches on cpu;")
    assert f"Logs in {results}\n" in done.stdout and "nothing was done" not in done.stdout


def test_plans_stay_once_something_was_trained_with_them(released):
    common = ("--dataset", "Dataset042_Liver", "--work", released / "work")
    done = maxquery_train("plan", *common, "--preset", "paper-liver")
    assert done.returncode == 2 and "holds a training with other plans than paper-liver" in done.stderr


@pytest.mark.parametrize("command", ["plan --preset quick", "train", "calibrate", "export"])
def test_a_training_never_goes_on_with_a_dataset_that_was_prepared_anew(released, tmp_path, command):
    """A value of the masks could mean another type by then, and a patient of the training could be one of the test."""
    work = shutil.copytree(released / "work", tmp_path / "work")
    description = work / "raw" / "Dataset042_Liver" / "dataset.json"
    document = json.loads(description.read_text("utf-8"))
    document["labels"] |= {"HCC": 3, "cyst": 2}
    description.write_text(json.dumps(document))
    also = ("--bundle", tmp_path / "m", "--licence", "none", "--data", "-", "--limits", "-")
    done = maxquery_train(*command.split(), "--dataset", "Dataset042_Liver", "--work", work,
                          *(also if command == "export" else ()))  # fmt: skip
    assert done.returncode == 2 and "was prepared anew since it was planned. Remove" in done.stderr
    assert not (tmp_path / "m").exists()


def test_a_model_never_gets_the_percentiles_of_another_training(released, tmp_path):
    work = shutil.copytree(released / "work", tmp_path / "work")
    tables = work / "results" / "Dataset042_Liver" / "calibration.json"
    tables.write_text(json.dumps(json.loads(tables.read_text("utf-8")) | {"weights_sha256": "of a network before"}))
    done = maxquery_train("export", "--dataset", "Dataset042_Liver", "--work", work, "--bundle", tmp_path / "m",
                          "--licence", "none", "--data", "-", "--limits", "-")  # fmt: skip
    assert done.returncode == 2 and "is of another training" in done.stderr and not (tmp_path / "m").exists()


def test_a_finished_training_says_that_nothing_is_left_to_do(released):
    done = maxquery_train("train", "--dataset", "Dataset042_Liver", "--work", released / "work", "--device", "cpu")
    assert done.returncode == 0 and "The training had ended before, so nothing was done." in done.stdout


def test_figures_are_those_of_test_patients_and_held_out_outliers(released):
    figures = json.loads((released / "figures" / "evaluation.json").read_text("utf-8"))["figures"]
    assert {"dsc.liver", "ood.maxquery.auroc", "ood.msp.fpr95", "case_auc"} <= set(figures)
    assert all(0 <= figure["value"] <= 1 for figure in figures.values())
    with (released / "figures" / "evaluation_cases.csv").open(encoding="utf-8", newline="") as file:
        outlier = {row["case"]: row["outlier"] for row in csv.DictReader(file)}
    assert outlier.pop("scan4") == "True" and list(outlier.values()) == ["False"]


def test_a_model_is_not_measured_on_another_models_labels(released, tmp_path):
    (tmp_path / "raw").mkdir()
    other = shutil.copytree(released / "work" / "raw" / "Dataset042_Liver", tmp_path / "raw" / "Dataset042_Liver")
    document = json.loads((other / "dataset.json").read_text("utf-8"))
    document["labels"] = {"FNH" if name == "cyst" else name: value for name, value in document["labels"].items()}
    (other / "dataset.json").write_text(json.dumps(document))
    common = ("--dataset", "Dataset042_Liver", "--work", tmp_path)
    done = maxquery_train("evaluate", *common, "--bundle", released / "tiny", "--output", tmp_path / "figures")
    assert done.returncode == 2 and "HCC, cyst; the dataset's background, liver, HCC, FNH." in done.stderr


def test_a_faulty_case_ends_it_with_one_sentence(pairs, tmp_path):
    write_image(pairs / "1_seg.nii.gz", mask(99))
    common = ("--dataset", "Dataset042_Liver", "--work", tmp_path / "work")
    done = maxquery_train("prepare", pairs, "--labels", tmp_path / "labels.json", *common)
    assert done.returncode == 2
    assert "1: The mask holds values without a meaning: 99; the labels list 0, 1, 2, 3, 4, 5, 6." in done.stdout
    assert done.stderr.strip() == (
        "maxquery-train: 1 of 4 cases cannot be used. Mend them, or leave them out (in a shell: --skip-faulty)."
    )
    assert list((tmp_path / "work" / "raw").iterdir()) == []


def test_a_work_folder_that_cannot_be_one_is_named(pairs, tmp_path):
    (tmp_path / "taken").write_text("a file")
    common = ("--dataset", "Dataset042_Liver", "--work", tmp_path / "taken" / "work")
    done = maxquery_train("prepare", pairs, "--labels", tmp_path / "labels.json", *common)
    assert done.returncode == 3 and "Traceback" not in done.stderr
    assert done.stderr.startswith(f"maxquery-train: {tmp_path / 'taken' / 'work' / 'raw'}: ")


@pytest.mark.parametrize("error, exit_code, code, said", [
    (InputError("labels", "So it is."), 2, "labels", "So it is."),
    (PermissionError(13, "Permission denied", "/x"), 3, "file", "/x: Permission denied."),
    (KeyError("maxquery"), 1, "bug", "Something went wrong inside MaxQuery: KeyError: 'maxquery'"),
])  # fmt: skip
def test_programs_always_hear_how_it_ended(error, exit_code, code, said, tmp_path, monkeypatch, capsys):
    def fail(options):
        raise error

    monkeypatch.setattr(cli, "_train", fail)
    arguments = ["train", "--dataset", "Dataset042_Liver", "--work", str(tmp_path), "--progress", "jsonl"]
    assert cli.main(arguments) == exit_code
    told = capsys.readouterr()
    end = json.loads(told.out.splitlines()[-1])
    assert (end["stage"], end["error"]["code"], end["error"]["message"]) == ("failed", code, said)
    assert told.err.startswith(f"maxquery-train: {said}") and "Traceback" not in told.err
    cli.main(["--traceback", *arguments])
    assert ("Traceback" in capsys.readouterr().err) == (code in ("file", "bug"))


@pytest.mark.parametrize("command, first", [("plan", "prepare"), ("train", "plan"), ("calibrate", "plan")])
def test_a_step_taken_too_early_names_the_step_before(tmp_path, command, first):
    done = maxquery_train(command, "--dataset", "Dataset042_Liver", "--work", tmp_path)
    assert done.returncode == 2
    assert f"Run 'maxquery-train {first}' first." in done.stderr
    assert list(tmp_path.iterdir()) == []
