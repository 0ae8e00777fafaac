"""Figures of merit, against a library's and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from maxquery_training.metrics import ScoreCounts, dice


def counted(scores: list[float], outlier: list[bool]) -> ScoreCounts:
    counts = ScoreCounts()
    counts.add(np.array(scores, np.float16), np.array(outlier))
    return counts


@pytest.fixture
def voxels() -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, both signs of zero and infinity among them, and which voxels are outliers."""
    rng = np.random.default_rng(0)
    outlier = rng.random(20_000) < 0.05
    scores = np.round(rng.normal(outlier * 1.0, 1.0), 1).astype(np.float16)
    scores[:4] = [-0.0, 0.0, -np.inf, np.inf]
    return scores, outlier


def test_counted_figures_are_those_of_a_library_that_sorts_every_voxel(voxels):
    scores, outlier = voxels
    counts = ScoreCounts()
    counts.add(scores, outlier)
    finite = np.nan_to_num(scores.astype(np.float64), posinf=1e6, neginf=-1e6)
    fpr, tpr, _ = roc_curve(outlier, finite, drop_intermediate=False)
    figures = counts.figures()
    assert figures["auroc"] == pytest.approx(roc_auc_score(outlier, finite), abs=1e-12)
    assert figures["aupr"] == pytest.approx(average_precision_score(outlier, finite), abs=1e-12)
    assert figures["fpr95"] == pytest.approx(fpr[tpr >= 0.95].min(), abs=1e-12)


def test_cases_counted_one_by_one_give_what_they_give_together(voxels):
    scores, outlier = voxels
    parts, whole = ScoreCounts(), ScoreCounts()
    whole.add(scores, outlier)
    for part in np.array_split(np.arange(len(scores)), 7):
        case = ScoreCounts()
        case.add(scores[part], outlier[part])
        parts += case
    assert parts.figures() == whole.figures()


def test_scores_that_say_nothing_are_worth_a_coin():
    counts = ScoreCounts()
    counts.add(np.zeros(1000, np.float16), np.arange(1000) < 100)
    assert counts.figures() == pytest.approx({"auroc": 0.5, "aupr": 0.1, "fpr95": 1.0})


def test_without_outliers_there_is_nothing_to_measure():
    counts = ScoreCounts()
    counts.add(np.zeros(10, np.float16), np.zeros(10, bool))
    with pytest.raises(ValueError, match="no outlier"):
        counts.figures()


def test_dice_of_masks_by_hand():
    first, second = np.array([1, 1, 1, 0], bool), np.array([0, 1, 1, 0], bool)
    assert dice(first, second) == pytest.approx(2 * 2 / 5)
    assert np.isnan(dice(first & False, second & False))


def test_counts_can_be_kept_and_brought_back():
    counts = counted([-3.5, -3.5, 0.25, 7], [False, True, False, True])
    again = ScoreCounts.of(counts.occurring)
    assert counts.occurring.shape == (3, 3)
    assert again.figures() == counts.figures()


@given(st.lists(st.floats(-100, 100, width=16), min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_quantile_of_the_inliers_is_what_sorting_them_gives(scores, share):
    counts = counted(scores, [False] * len(scores))
    expected = sorted(scores)[max(math.ceil(share * len(scores) - 1e-9), 1) - 1]
    assert counts.inlier_quantile(share) == expected
    below = sum(score < expected for score in scores) / len(scores)
    assert counts.inlier_share_below(expected) == pytest.approx(below)
