"""The benchmark: every network trained, every method measured, a report that says so."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from maxquery_training.near_ood.measuring import Measured
from maxquery_training.near_ood.methods import SEGMENTERS
from maxquery_training.preset import QUICK

from .conftest import SMALL
from .phantoms import training_case

_CHANGES = {name: value for name, value in asdict(SMALL).items() if value != getattr(QUICK, name)}
NETWORKS = {
    "nnU-Net": {"kind": "nnunet"},
    "nnU-Net with dropout": {"kind": "dropout"},
    "SynthCP": {"kind": "synthesis"},
    "ensemble": {"kind": "ensemble", "members": 2},
    "MaxQuery without QD": {"kind": "maxquery", "changes": {"qd_weight": 0.0}},
    "MaxQuery": {"kind": "maxquery"},
    "nnU-Net with exposure": {"kind": "exposed", "changes": {"exposure_weight": 0.5}},
    "MaxQuery with exposure": {"kind": "maxquery", "changes": {"exposure_weight": 1.0}},
    "Swin UNETR": {"kind": "swin"},
    "TransUNet": {"kind": "transunet"},
    "(8, 4, 20)": {"kind": "maxquery", "changes": {"query_distribution": [8, 4, 20]}},
}


def config(folder: Path) -> dict:
    scans = []
    for number in range(1, 6):
        case = training_case(folder, f"case{number}", number)
        scans.append({"name": case.name, "patient": case.name, "image": case.image.name, "mask": case.mask.name,
                      "labels": {"organ": [1], "unknown": [2]}, "copies": 1})  # fmt: skip
    return {
        "name": "Phantoms", "preset": "quick", "changes": _CHANGES,
        "rounds": {"validation": 1, "test": 1}, "outliers": ["abscess"], "scans": scans, "networks": NETWORKS,
        "runs": [{"seed": 3, "validation": ["case1"], "test": ["case4", "case5"]}],
    }  # fmt: skip


def run(folder: Path) -> subprocess.CompletedProcess:
    command = ["maxquery_training.cli", "benchmark", "near-ood", folder / "config.json", "--data", folder,
               "--work", folder / "work", "--output", folder / "report", "--progress", "none", "--device", "cpu",
               "--processes", "1"]  # fmt: skip
    return subprocess.run([sys.executable, "-m", *map(str, command)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "config.json").write_text(json.dumps(config(folder)))
    done = run(folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def report(folder) -> dict:
    return json.loads((folder / "report" / "report.json").read_text())


def test_table_1_has_a_row_for_every_method(report):
    assert {row["method"] for row in report["tables"]["1"]} >= {
        "MSP", "MaxLogit", "SML", "Energy", "Type doubt", "Mahalanobis", "kNN", "nnU-Net, in tumours",
        "nnU-Net, score by validation", "MC Dropout", "Deep ensemble", "SynthCP", "Outlier exposure",
        "Swin UNETR, MSP", "TransUNet, MSP",
        *(f"{network}{score}" for network in ("MaxQuery", "MaxQuery without QD", "MaxQuery with exposure")
          for score in ("", ", in tumours", ", score by validation")),
    }  # fmt: skip


def test_every_figure_has_an_interval_of_the_test_patients(report):
    for row in report["tables"]["1"]:
        for figure in ("auroc", "aupr", "fpr95"):
            low, high = row[figure]["ci"]
            assert 0 <= low <= row[figure]["mean"] <= high <= 1


def test_table_2_segments_what_table_1_is_measured_on(report):
    rows = {row["method"]: row for row in report["tables"]["2"]}
    assert {"nnU-Net", "Swin UNETR", "TransUNet", "MaxQuery without QD", "MaxQuery"} <= set(rows)
    assert set(rows["nnU-Net"]) >= {"liver", "Cyst", "inliers", "inliers_in_training"}


def test_what_was_learned_is_measured_on_cases_of_the_training(folder):
    split = json.loads(next((folder / "work" / "raw").glob("*/cases.json")).read_text())
    for network, kind in NETWORKS.items():
        measured = {file.stem for file in (folder / "work" / "measured" / "run-3" / network).glob("*.npz")}
        assert (set(split["train"]) <= measured) == (kind["kind"] in SEGMENTERS)


def test_table_3_holds_other_distributions_against_the_presets(report):
    rows = {tuple(row["distribution"]): row for row in report["tables"]["3"]}
    assert set(rows) == {SMALL.query_distribution, (8, 4, 20)}
    inliers = {row["method"]: row["inliers"] for row in report["tables"]["2"]}
    assert rows[8, 4, 20]["inliers"] == inliers["(8, 4, 20)"] and rows[SMALL.query_distribution]["method"] == "MaxQuery"


def test_table_4_crosses_level_and_softmax_on_one_network(report):
    rows = report["tables"]["4"]
    assert {(row["level"], row["softmax"]) for row in rows} == {
        ("category", "post"), ("category", "pre"), ("query", "post"), ("query", "pre")
    }  # fmt: skip
    ours = next(row for row in rows if row["method"] == "MaxQuery")
    assert ours["auroc"] == next(row for row in report["tables"]["1"] if row["method"] == "MaxQuery")["auroc"]


def test_the_score_by_validation_is_one_of_table_4_or_of_our_own(report):
    chosen = next(row for row in report["tables"]["1"] if row["method"] == "MaxQuery, score by validation")
    (score,) = chosen["setting"]
    same = {row["method"]: row for row in report["tables"]["4"]}
    if score in same:
        assert chosen["auroc"] == same[score]["auroc"]
    else:
        of_ours = ("type doubt", "type entropy", "in tumours", "P(tumour)")
        assert score in [f"MaxQuery, {each}" for each in of_ours]


def test_an_outlier_is_told_from_known_tumours_too(folder, report):
    for file in (folder / "work" / "measured").rglob("*.npz"):
        for counts in Measured.load(file).counts.values():
            tumours, organ = (counts[region].occurring.sum(axis=1)[1:] for region in ("tumours", "organ"))
            assert tumours[1] == organ[1] and 0 <= tumours[0] < organ[0]
    assert all(0 <= row["known_tumours"]["auroc"]["mean"] <= 1 for row in report["tables"]["1"])


def test_no_patient_is_in_two_sets_and_none_that_is_tested_was_trained_on(folder):
    split = json.loads(next((folder / "work" / "raw").glob("*/cases.json")).read_text())
    assert {split["patients"][case] for case in split["train"]} == {"case2", "case3"}
    assert {split["patients"][case] for case in split["val"]} == {"case1"}


def test_only_what_lacks_a_score_is_measured_again_and_nothing_trained(folder, report):
    lacking, *others = sorted((folder / "work" / "measured").rglob("*abscess*.npz"))
    ages, measured = [file.stat().st_mtime_ns for file in others], Measured.load(lacking)
    replace(measured, case_score={}, counts={}, plane={"ct": measured.plane["ct"]}).save(lacking)
    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert lacking.stem in done.stdout and "training" not in done.stdout
    assert Measured.load(lacking).case_score == measured.case_score
    assert [file.stat().st_mtime_ns for file in others] == ages
    assert json.loads((folder / "report" / "report.json").read_text())["tables"] == report["tables"]


def test_the_report_reads_as_tables_and_shows_what_it_speaks_of(folder):
    text = (folder / "report" / "REPORT.md").read_text("utf-8")
    assert "## Table 1" in text and "| MaxQuery |" in text and "nan" not in text
    for file in ("figure4.png", "figure5.png", "figure6_with_qd.png", "figure6_without_qd.png"):
        assert file in text and (folder / "report" / file).stat().st_size > 10_000
