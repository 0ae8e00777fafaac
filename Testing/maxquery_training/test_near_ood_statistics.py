"""What the tables say of counts that are known."""

from dataclasses import replace

import numpy as np
import pytest

from maxquery.volume import Grid, Volume
from maxquery_training.label_scheme import ORGAN, OUTLIER
from maxquery_training.labelled_case import LabelledCase
from maxquery_training.metrics import ScoreCounts
from maxquery_training.near_ood import statistics as st
from maxquery_training.near_ood.config import Network
from maxquery_training.near_ood.measuring import REGIONS, Measured, Regions, ood_regions_of
from maxquery_training.near_ood.methods import scores_of
from maxquery_training.near_ood.run import validation_limits
from maxquery_training.near_ood.tables import against_best, measured_methods

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


def test_a_region_is_false_that_lies_neither_on_the_outlier_nor_on_a_tumour_of_unknown_type():
    grid = Grid((20, 20, 20), (1.0,) * 3, (0.0,) * 3)
    truth, anomaly = np.full(grid.shape_zyx, ORGAN, np.uint8), np.zeros(grid.shape_zyx, np.float16)
    unknown = 7
    truth[2:18, 2:18, 2:8], truth[2:18, 2:18, 14:] = OUTLIER, unknown
    anomaly[2:8, 2:8, 2:8] = 3.0  # a part of the outlier, IoU 0.14
    anomaly[11:16, 11:16, 2:7] = 2.0  # a smaller one, 0.08
    anomaly[11:16, 11:16, 15:] = anomaly[2:7, 11:16, 9:14] = 1.0  # on the unknown tumour, and in the organ
    one = LabelledCase("case", "p", Volume(np.zeros((1, *grid.shape_zyx), np.float32), grid), truth, ignore=unknown)
    found = ood_regions_of(one, truth, {"A": anomaly, "B": np.where(anomaly == 3.0, 0.0, anomaly)},
                           {"A": [2.5, 1.5, 0.5], "B": [1.5, 0.5]})  # fmt: skip
    assert found["A"] == [Regions(True, 0), Regions(True, 0), Regions(True, 1)]
    assert found["B"] == [Regions(False, 0), Regions(False, 1)]


def test_settings_are_chosen_by_outliers_of_the_validation_patients_and_else_are_each_methods_first():
    network = Network("nnU-Net with dropout", "dropout", {})
    first, second = scores_of(network.kind, network.name)

    class Run:
        def __init__(self, *outliers: str):
            self.outliers = outliers

        def results(self, network: Network, of: str) -> list[Measured]:
            """The second variant alone finds what is strange."""
            return [scored(of, outlier) for outlier in (*self.outliers, "")]

    def scored(patient: str, outlier: str) -> Measured:
        blind, seeing = (case(patient, outlier, out=(out,) if outlier else ()) for out in (-1.0, 2.0))
        counts = {first: blind.counts["A"], second: seeing.counts["A"]}
        return replace(seeing, counts=counts, case_score={}, regions={})

    assert [m.scores for m in measured_methods([Run("fat")], network)] == [(second,)]
    assert [m.scores for m in measured_methods([Run("fat"), Run()], network)] == [(first, first)]


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
