"""From figures of cases to those of a set: means, pooled scores, and intervals by patient."""

import csv
import json

import numpy as np
import pytest

from maxquery_training.evaluation import CaseFigures, case_detection, figures, intervals, write_evaluation
from maxquery_training.metrics import ScoreCounts

SCORES = ("maxquery", "msp")


def measured(case: str, patient: str, liver: float, anomaly: float = -5.0, outlier_voxels: int = 0) -> CaseFigures:
    """A case whose outlier voxels, if any, score higher than all of its hundred inlier voxels."""
    counts = {}
    for score in SCORES:
        counts[score] = ScoreCounts()
        counts[score].add(np.linspace(-9, -5, 100).astype(np.float16), np.zeros(100, bool))
        counts[score].add(np.full(outlier_voxels, -1, np.float16), np.ones(outlier_voxels, bool))
    return CaseFigures(case, patient, {"liver": liver, "cyst": np.nan}, anomaly, outlier_voxels > 0, counts)


def test_dice_is_the_mean_over_cases_that_have_one():
    named = figures([measured("a", "p1", 0.9), measured("b", "p2", 0.7), measured("c", "p3", np.nan)])
    assert named == {"dsc.liver": pytest.approx(0.8)}


def test_outlier_voxels_of_one_case_count_against_the_inlier_voxels_of_all():
    named = figures([measured("a", "p1", 0.9), measured("b", "p2", 0.9, outlier_voxels=50)])
    assert {named[f"ood.{score}.auroc"] for score in SCORES} == {1.0}
    assert named["ood.maxquery.fpr95"] == 0.0


def test_a_case_in_which_no_tumour_was_found_scores_lowest():
    cases = [measured("a", "p1", 0.9, -5.0), measured("b", "p2", 0.9, -4.0, 10), measured("c", "p3", 0.9, -np.inf, 10)]
    assert case_detection(cases) == pytest.approx(0.5)
    assert figures(cases)["case_auc"] == pytest.approx(0.5)


def test_scans_of_one_patient_are_drawn_together():
    alike = [measured("a1", "a", 0.5), measured("a2", "a", 0.7), measured("b1", "b", 0.6)]
    assert intervals(alike) == {"dsc.liver": pytest.approx((0.6, 0.6))}
    assert intervals(alike[:2]) == {}


def test_what_one_patient_decides_on_has_no_interval():
    many = [measured(str(i), str(i), 0.5 + i / 20) for i in range(8)]
    assert set(intervals([*many, measured("o", "o", 0.7, outlier_voxels=20)])) == {"dsc.liver"}
    several = [measured(f"o{i}", f"o{i}", 0.7, outlier_voxels=20) for i in range(4)]
    assert {"case_auc", "ood.maxquery.auroc"} < set(intervals([*many, *several]))


def test_draws_without_inlier_voxels_have_no_localisation():
    rare = [measured(f"o{i}", f"o{i}", 0.7, outlier_voxels=20) for i in range(2)]
    for case in rare:  # only the outlier is labelled in them
        for counts in case.counts.values():
            counts.inlier[:] = 0
    assert not any(name.startswith("ood") for name in figures(rare))
    assert "dsc.liver" in intervals([*rare, measured("a", "a", 0.9)])


def test_the_interval_of_many_patients_is_about_that_of_the_normal_distribution():
    values = np.linspace(0.5, 0.9, 20)
    low, high = intervals([measured(str(i), str(i), value) for i, value in enumerate(values)])["dsc.liver"]
    assert low < 0.7 < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20**0.5, rel=0.2)


def test_the_files_hold_every_figure_and_every_case(tmp_path):
    cases = [measured("a", "p1", 0.9), measured("b", "p2", 0.8, -4.0, 10), measured("c", "p3", 0.7, -np.inf)]
    named = write_evaluation(tmp_path / "new", cases, {"bundle": "liver"})
    document = json.loads((tmp_path / "new" / "evaluation.json").read_text("utf-8"))
    assert (document["bundle"], document["patients"]) == ("liver", 3)
    assert set(document["figures"]) == set(named)
    liver = document["figures"]["dsc.liver"]
    assert liver["value"] == pytest.approx(0.8) and 0.69 < liver["low"] < 0.8 < liver["high"] < 0.91
    with (tmp_path / "new" / "evaluation_cases.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case_score"] for row in rows] == ["-5.0", "-4.0", ""]
