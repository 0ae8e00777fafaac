"""A small model finds the organ, so that a large one need not compute all of the patient."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from maxquery import locate
from maxquery.bundle import save_bundle
from maxquery.errors import Cancelled, InputError
from maxquery.labels import Label
from maxquery.model_grid import ModelGrid
from maxquery.network_run import Slice
from maxquery.parameters import PredictionParameters, RunLog
from maxquery.prediction import predict
from maxquery.progress import silent
from maxquery.volume import Grid, Volume

from .networks import tiny_bundle


@pytest.fixture
def volume() -> Volume:
    grid = Grid((60, 56, 40), (2.0, 2.0, 3.0), (0.0, 0.0, 0.0), np.diag([1.0, -1.0, 1.0]))
    return Volume(np.random.default_rng(0).normal(60, 60, (1, *grid.shape_zyx)).astype(np.float32), grid)


@pytest.fixture
def by_locator(tmp_path) -> PredictionParameters:
    save_bundle(tiny_bundle(), tmp_path / "small")
    return PredictionParameters(device="cpu", roi="organ", locator=str(tmp_path / "small"), backend="torch")


def test_the_part_of_the_models_grid_holds_the_organ_and_up_to_20_mm_around_it(volume, by_locator, monkeypatch):
    """What the small model says is played: a cube of 24 × 24 × 24 mm on its own grid of 4 × 3 × 3 mm, and a speck."""
    cube = (slice(12, 18), slice(14, 22), slice(20, 28))

    def says_cube(network, image, body, *rest):
        logits = torch.zeros(3, *image.shape[1:])
        logits[1][cube] = logits[1][1, 2, 3] = 1.0
        receive = rest[-1]
        return receive(Slice(of_slice, of_slice[:0], body[0], body[0]) for of_slice in logits.unbind(1))

    monkeypatch.setattr(locate, "run_network", says_cube)
    monkeypatch.setattr("maxquery.organ.LEAST_ORGAN_ML", 10.0)
    grid = ModelGrid.of(volume.grid, (1.0, 1.5, 1.5))
    part = locate.organ_part(volume, tiny_bundle(), grid, by_locator, silent, RunLog())
    in_mm = [(side.start * mm, side.stop * mm) for side, mm in zip(part, (1.0, 1.5, 1.5), strict=True)]
    for (first, last), (organ_first, organ_last) in zip(in_mm, [(48, 72), (42, 66), (60, 84)], strict=True):
        assert 10 <= organ_first - first < 20 + 3 and 10 <= last - organ_last < 20 + 3  # whole voxels


def test_where_the_locator_finds_nothing_all_is_computed_and_the_report_says_so(volume, by_locator, monkeypatch):
    monkeypatch.setattr("maxquery.organ.LEAST_ORGAN_ML", 1e6)
    log = RunLog()
    found = predict(volume, tiny_bundle(), by_locator, log=log)
    whole = predict(volume, tiny_bundle(), replace(by_locator, roi="whole"))
    assert (found.labels == whole.labels).all() and (found.anomaly == whole.anomaly).all()
    assert "'tiny' found no liver, so the whole CT was computed." in log.warnings
    assert log.seconds["locate"] > 0


def test_a_locator_of_another_organ_is_refused(volume, by_locator):
    kidney = replace(
        tiny_bundle(), labels=(tiny_bundle().labels[0], Label(1, "kidney", "organ", (1, 2, 3)), tiny_bundle().labels[2])
    )
    with pytest.raises(InputError, match="finds liver, and the model 'tiny' segments kidney"):
        predict(volume, kidney, by_locator)


def test_looking_for_the_organ_can_be_cancelled(volume, by_locator):
    def stop(stage, fraction, message):
        if stage == "locate" and fraction > 0:
            raise Cancelled()

    with pytest.raises(Cancelled):
        predict(volume, tiny_bundle(), by_locator, stop)
