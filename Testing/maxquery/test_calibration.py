"""Anomaly units: what a percentile means, and the paper's normalisation of one case."""

import json

import numpy as np
import pytest

from maxquery import calibration
from maxquery.calibration import CalibrationTable, in_units, minmax, planes_in_units


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    """A skewed score with a long tail, as −max R is."""
    return -5 + np.random.default_rng(1).gamma(2.0, 1.5, 200_000)


@pytest.fixture(scope="module")
def table(samples) -> CalibrationTable:
    return CalibrationTable.from_samples(samples[::2])


@pytest.mark.parametrize("percent", [1, 25, 50, 90, 95, 99, 99.9])
def test_a_percentile_is_the_share_of_inlier_voxels_that_score_lower(samples, table, percent):
    held_out = samples[1::2]
    share = 100 * np.mean(table.percentile(held_out) < percent)
    deviation = (2 * percent * (100 - percent) / held_out.size) ** 0.5  # of two samples of this size
    assert share == pytest.approx(percent, abs=4 * deviation)


def test_a_higher_score_never_has_a_lower_percentile(table):
    scores = np.linspace(-8, 30, 10_001)
    percentiles = table.percentile(scores)
    assert (np.diff(percentiles) >= 0).all()
    assert np.diff(table.values).min() >= 0


def test_scores_beyond_the_table_are_0_and_100(table):
    assert table.percentile(np.array([-1e6, table.values[0], table.values[-1], 1e6])).tolist() == [
        0,
        0,
        100,
        100,
    ]


def test_between_two_entries_a_percentile_is_linear(table):
    for percent in (0, 0.3, 50, 97.31, 99.995, 100):
        raw = np.interp(percent, table.percents, table.values)
        assert table.percentile(np.array(raw)) == pytest.approx(percent, abs=1e-4)


def test_the_tail_is_finer_than_the_bulk(table):
    percents = np.array(table.percents)
    assert np.diff(percents[percents >= 99]).max() <= 0.0101
    assert {50.0, 95.0, 99.0, 99.9, 99.99} <= set(table.percents)


def test_a_table_survives_json(table):
    assert (
        CalibrationTable(**{k: tuple(v) for k, v in json.loads(json.dumps(table.to_json())).items()}) == table
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_map_keeps_its_shape_whatever_the_chunk(table, monkeypatch, dtype):
    raw = np.random.default_rng(2).normal(-2, 2, (3, 4, 5)).astype(dtype)
    whole = table.percentile(raw[:, ::-1])
    monkeypatch.setattr(calibration, "CHUNK_VOXELS", 7)
    assert whole.shape == (3, 4, 5)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole, table.percentile(raw[:, ::-1].astype(np.float64)), atol=1e-4)
    np.testing.assert_array_equal(table.percentile(raw[:, ::-1]), whole)


def test_samples_that_say_nothing_are_refused():
    for samples in ([], [1.0, np.nan], [np.inf]):
        with pytest.raises(ValueError, match="finite samples, and at least one"):
            CalibrationTable.from_samples(np.array(samples))


@pytest.mark.parametrize(
    "values, percents",
    [((1, 0), (0, 100)), ((0, 1), (0, 99)), ((0, 1, 2), (0, 100)), ((0, 1, 2), (0, 0, 100))],
)
def test_two_columns_that_are_no_table_are_refused(values, percents):
    with pytest.raises(ValueError, match=r"ascend|do not match"):
        CalibrationTable(values, percents)


def test_minmax_runs_from_0_to_1_and_a_constant_map_is_0():
    scaled = minmax(np.array([[-7, -3], [1, -7]], np.float16))
    assert scaled.dtype == np.float32
    assert scaled.tolist() == [[0, 0.5], [1, 0]]
    assert not minmax(np.full((2, 2), 3.0)).any()


def test_one_map_has_three_views(table):
    raw = np.array([-4.0, 0.0, 9.0], np.float16)
    np.testing.assert_array_equal(in_units(raw, "raw", table), raw)
    np.testing.assert_array_equal(in_units(raw, "minmax", table), minmax(raw))
    np.testing.assert_array_equal(in_units(raw, "percentile", table), table.percentile(raw))
    assert {in_units(raw, units, table).dtype for units in ("raw", "minmax", "percentile")} == {
        np.dtype("float32")
    }


@pytest.mark.parametrize("units", ["raw", "minmax", "percentile"])
def test_plane_after_plane_is_the_whole(table, units):
    raw = np.random.default_rng(2).normal(-3, 2, (4, 5, 6)).astype(np.float16)
    planes = list(planes_in_units(raw, units, table))
    assert {plane.dtype for plane in planes} == {np.dtype("float32")}
    np.testing.assert_array_equal(np.stack(planes), in_units(raw, units, table))
