"""What the tables say of counts that are known."""

import numpy as np
import pytest

from maxquery_training.metrics import ScoreCounts
from maxquery_training.near_ood import statistics as st
from maxquery_training.near_ood.measuring import REGIONS, Measured, Regions
from maxquery_training.near_ood.run import validation_limits
from maxquery_training.near_ood.tables import against_best

FIGURES = ("auroc", "aupr", "fpr95")


def case(patient: str, outlier: str = "", inlier=(0.0, 1.0), out=(), case_score=0.0, regions=(), dice=0.5) -> Measured:
    counts = ScoreCounts()
    counts.add(np.array([*inlier, *out], np.float16), np.array([False] * len(inlier) + [True] * len(out)))
    return Measured(f"{patient}_{outlier}", patient, outlier, {"liver": dice}, {"A": case_score}, {"A": list(regions)},
                    {"A": dict.fromkeys(REGIONS, counts)}, (1.0, 1.0), {})  # fmt: skip


def test_what_is_measured_comes_back_from_its_file(tmp_path):
    one = case("p", "fat", out=(2.0,), regions=[Regions(True, 2)])
    one.plane["ct"] = np.arange(6, dtype=np.int16).reshape(2, 3)
    one.save(tmp_path / "a" / "case.npz")
    again = Measured.load(tmp_path / "a" / "case.npz")
    assert (again.case, again.outlier, again.regions) == (one.case, "fat", one.regions)
    assert again.counts["A"]["organ"].figures() == one.counts["A"]["organ"].figures()
    assert (again.plane["ct"] == one.plane["ct"]).all()


def test_the_mean_is_over_runs_and_the_interval_over_patients():
    good, bad = case("good", "fat", out=(2.0,)), case("bad", "fat", out=(-1.0,))
    both = st.estimate([[good, bad], [good]], lambda run, cases: st.localisation(cases, "A"))["auroc"]
    assert both.mean == pytest.approx((0.5 + 1.0) / 2)
    alone = st.estimate([[good]], lambda run, cases: st.localisation(cases, "A"))["auroc"]
    assert (alone.mean, alone.low) == (1.0, None), "one patient alone gives no interval"
    of_two = st.estimate([[good, bad]], lambda run, cases: st.localisation(cases, "A"))["auroc"]
    assert (of_two.low, of_two.high, of_two.spread) == (0.0, 1.0, None)
    assert st.estimate([[good, bad]] * 2, lambda run, cases: st.localisation(cases, "A"))["auroc"].spread == 0.0


def test_the_interval_knows_that_runs_differ():
    """Patients of one run are alike here: drawn run by run, they would seem to leave nothing open."""
    good, bad = ([case(f"{run} {n}", "fat", out=(out,)) for n in range(2)] for run, out in (("a", 2.0), ("b", -1.0)))
    auroc = st.estimate([good, bad], lambda run, cases: st.localisation(cases, "A"))["auroc"]
    assert (auroc.mean, auroc.low, auroc.high) == (0.5, 0.0, 1.0)


def test_a_patient_of_several_runs_is_one_patient():
    good, bad = case("good", "fat", out=(2.0,)), case("bad", "fat", out=(-1.0,))
    auroc = lambda run, cases: st.localisation(cases, "A")  # noqa: E731
    once, thrice = (st.estimate([[good, bad]] * runs, auroc)["auroc"] for runs in (1, 3))
    assert (once.low, once.high) == (thrice.low, thrice.high)

    def row(method: str, kind: str, value: float) -> dict:
        by_patient = [{"good": dict.fromkeys(FIGURES, value), "bad": dict.fromkeys(FIGURES, value)}] * 3
        return {"method": method, "kind": kind, "exposed": False, "by_patient": by_patient,
                **{figure: {"mean": value} for figure in FIGURES}}  # fmt: skip

    found = against_best([row("A", "maxquery", 0.9), row("B", "nnunet", 0.5)], "A")["auroc"]
    assert found == {"best": "B", "margin": pytest.approx(0.4), "by_patient": pytest.approx(0.4), "p": 0.5}
    rivals = [row("B", "nnunet", 0.5), row("C", "nnunet", 0.6)]
    against = against_best([row("A", "maxquery", 0.9), *rivals], "A")
    assert [against[figure]["best"] for figure in FIGURES] == ["C", "C", "B"], "the best in each figure"
    assert against_best([row("A", "maxquery", 0.9)], "A") is None


def test_a_figure_that_cases_leave_undefined_is_null_in_the_report():
    inliers = st.estimate([[case("a"), case("b")]], lambda run, cases: st.localisation(cases, "A"))["auroc"]
    assert inliers.to_json() == {"mean": None, "ci": None, "sd_over_runs": None}
    once = st.estimate([[case("a")], [case("a", "fat", out=(2.0,))]], lambda run, cases: st.localisation(cases, "A"))
    assert once["auroc"].to_json() == inliers.to_json()


def test_a_large_lesion_counts_no_more_than_a_small_one_in_the_mean_of_types():
    large, small = case("a", "fnh", out=(-1.0,) * 9), case("a", "fat", out=(2.0,))
    assert st.mean_of_types([case("a"), large, small], "A", ("fnh", "fat")) == 0.5
    assert st.localisation([large, small], "A")["auroc"] == pytest.approx(0.1)


def test_detection_compares_cases_and_a_case_without_a_predicted_tumour_scores_lowest():
    cases = [case("a", "fat", case_score=0.9), case("b", "fat", case_score=None), case("c", case_score=0.5)]
    assert st.detection(cases, "A") == 0.5


def test_sensitivity_is_read_off_the_free_response_curve():
    steps = [Regions(True, 4), Regions(False, 0)], [Regions(True, 2), Regions(True, 1)]
    cases = [case("a", "fat", regions=steps[0]), case("b", "fat", regions=steps[1])]
    found = {n: st.sensitivity(cases, "A", n) for n in (0, 0.25, 0.5, 1, 3, 9)}
    assert found == pytest.approx({0: 0.0, 0.25: 0.25, 0.5: 0.5, 1: 0.6, 3: 1.0, 9: 1.0})
    assert np.isnan(st.sensitivity([case("b", regions=[Regions(None, 0)])], "A", 1))


def test_a_percentile_of_the_validation_patients_is_held_against_new_ones():
    validation = [case("v", inlier=np.linspace(0, 1, 1001))]
    limits = validation_limits(validation)["A"]
    same = st.shares_below(validation, "A", limits)
    assert same["95"] == pytest.approx(95, abs=0.5)
    higher = st.shares_below([case("t", inlier=np.linspace(0.5, 1.5, 1001))], "A", limits)
    assert higher["95"] == pytest.approx(45, abs=0.5)


def test_the_paired_test_knows_a_difference_that_every_patient_shows():
    assert st.paired_test([0.1] * 8) == pytest.approx(2 / 2**8)
    assert st.paired_test([0.1, -0.1] * 4) > 0.5
    assert st.paired_test([0.1]) is None


def test_dice_is_that_of_cases_without_an_outlier():
    assert st.mean_dice([case("a", dice=0.8), case("b", "fat", dice=0.1)], "liver") == 0.8
