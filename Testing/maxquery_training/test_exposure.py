"""Outlier exposure: windows get lesions of arbitrary looks, and losses that know what those are."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from maxquery.errors import InputError
from maxquery.labels import QueryDistribution
from maxquery.network import Output
from maxquery_training.exposure import EXPOSED, PlantExposure, check_exposable, exposure_loss
from maxquery_training.losses import MaxQueryLoss
from maxquery_training.near_ood.outlier_exposure import ExposedLoss
from maxquery_training.preset import PAPER_LIVER

SPACING = (4.0, 3.0, 3.0)
INTENSITIES = {"mean": 80.0, "std": 25.0, "percentile_00_5": -160.0, "percentile_99_5": 240.0}
IGNORE = 4


@pytest.fixture
def window() -> dict[str, torch.Tensor]:
    """Noisy liver in the middle, in nnU-Net's units, and one known tumour in it."""
    noise = torch.randn(1, 32, 48, 48, generator=torch.Generator().manual_seed(0)) * 0.3
    labels = torch.zeros(1, 32, 48, 48, dtype=torch.int16)
    labels[:, 4:28, 6:42, 6:42] = 1
    labels[:, 12:16, 12:18, 12:18] = 2
    return {"image": noise, "segmentation": labels}


def planted(window: dict, seed: int) -> dict:
    np.random.seed(seed)
    return PlantExposure(SPACING, INTENSITIES)(**{name: tensor.clone() for name, tensor in window.items()})


def test_lesions_are_planted_into_the_organ_and_leave_what_is_labelled_alone(window):
    found = 0
    for seed in range(8):
        result = planted(window, seed)
        exposed = result["segmentation"] == EXPOSED
        found += bool(exposed.any())
        tumour = window["segmentation"] == 2
        assert torch.equal(result["segmentation"] == 2, tumour)
        assert torch.equal(result["image"][tumour], window["image"][tumour])
        assert (result["image"] != window["image"])[exposed].float().mean() > 0.9 or not exposed.any()
        assert result["segmentation"].dtype == torch.int16 and result["image"].dtype == torch.float32
    assert found >= 4


def test_the_same_window_is_planted_the_same_way(window):
    first, second = planted(window, 3), planted(window, 3)
    assert torch.equal(first["image"], second["image"])
    assert torch.equal(first["segmentation"], second["segmentation"])


def test_a_lesion_is_never_denser_than_the_window_of_the_normalisation(window):
    low, high = ((INTENSITIES[p] - 80) / 25 for p in ("percentile_00_5", "percentile_99_5"))
    for seed in range(8):
        image = planted(window, seed)["image"]
        assert low - 1e-4 <= image.min() and image.max() <= high + 1e-4


def test_a_window_without_organ_stays_as_it_is(window):
    window["segmentation"][:] = 0
    assert torch.equal(planted(window, 1)["image"], window["image"])


def test_the_loss_is_cross_entropy_to_all_tumour_types_alike():
    torch.manual_seed(0)
    logits, exposed = torch.randn(2, 5, 2, 3, 4) * 2, torch.rand(2, 2, 3, 4) < 0.3
    total = 0.0
    for b, z, y, x in torch.cartesian_prod(*map(torch.arange, exposed.shape)).tolist():
        if exposed[b, z, y, x]:
            powers = [math.exp(c) for c in logits[b, :, z, y, x].tolist()]
            total -= sum(math.log(p / sum(powers)) for p in powers[2:]) / 3
    assert float(exposure_loss(logits, exposed)) == pytest.approx(total / exposed.numel(), rel=1e-5)


def test_the_loss_is_least_where_all_types_are_as_likely_and_nothing_else_is():
    everywhere = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    doubtful, sure = torch.zeros(2, 1, 7, 1, 1, 1)
    doubtful[:, :2], sure[:, :2], sure[:, 3] = -20, -20, 5
    assert float(exposure_loss(doubtful, everywhere)) == pytest.approx(math.log(5))
    assert exposure_loss(sure, everywhere) > exposure_loss(doubtful, everywhere)
    assert exposure_loss(torch.zeros_like(sure), everywhere) > exposure_loss(doubtful, everywhere)
    assert exposure_loss(doubtful, ~everywhere) == 0


def test_what_is_exposed_is_a_tumour_to_the_queries_and_of_no_type_to_the_segmentation():
    torch.manual_seed(1)
    output = Output(torch.randn(1, 6, 4, 4, 4), torch.randn(1, 6, 4), (torch.randn(1, 6, 4, 4, 4),))
    target = torch.randint(0, 4, (1, 1, 4, 4, 4))
    exposed, ignored, tumour = target.clone(), target.clone(), target.clone()
    exposed[:, :, :2], ignored[:, :, :2], tumour[:, :, :2] = EXPOSED, IGNORE, 3
    loss = MaxQueryLoss(QueryDistribution(3, 1, 2), exposure_weight=2.0, ignore_label=IGNORE)
    terms = loss.terms(output, exposed)
    assert torch.equal(terms["seg"], loss.terms(output, ignored)["seg"])
    assert torch.equal(terms["qd"], loss.terms(output, tumour)["qd"])
    paper = {name: term for name, term in terms.items() if name != "exposure"}
    assert float(loss.total(terms) - loss.total(paper)) == pytest.approx(2 * float(terms["exposure"]), rel=1e-4)


def test_the_paper_has_no_exposure_and_shows_eq_9_as_it_is():
    output = Output(torch.randn(1, 6, 2, 2, 2), torch.randn(1, 6, 4), (torch.randn(1, 6, 2, 2, 2),))
    terms = MaxQueryLoss(QueryDistribution(3, 1, 2)).terms(output, torch.ones(1, 1, 2, 2, 2).long())
    assert set(terms) == {"seg", "qd", "attention"}
    assert PAPER_LIVER.exposure_weight == 0 and PAPER_LIVER.score == "maxquery"
    assert PAPER_LIVER.smoothing_mm == 0


@pytest.mark.parametrize(
    ("phases", "labels"),
    [(2, ["background", "liver", "HCC", "cyst", "ignore"]), (1, ["background", "liver", "HCC", "ignore"]),
     (1, ["background", "liver", "HCC", "cyst"])],
)  # fmt: skip
def test_a_dataset_that_cannot_be_exposed_is_refused(phases, labels):
    with pytest.raises(InputError, match=rf"found {phases} phase.*{labels[-1]}") as refused:
        check_exposable(phases, labels)
    assert refused.value.code == "exposure" and "quick" in refused.value.hint


def test_nnunets_own_loss_never_sees_what_is_exposed():
    class Stock(nn.Module):
        def forward(self, outputs: list[torch.Tensor], targets: list[torch.Tensor]) -> torch.Tensor:
            assert all(target.max() <= IGNORE for target in targets)
            return torch.tensor(1.0)

    outputs = [torch.randn(1, 5, *size) for size in ((2, 4, 4), (1, 2, 2))]
    targets = [torch.full((1, 1, *size), EXPOSED) for size in ((2, 4, 4), (1, 2, 2))]
    everywhere = torch.ones(1, 2, 4, 4, dtype=torch.bool)
    loss = ExposedLoss(Stock(), 0.5, IGNORE)(outputs, targets)
    assert float(loss) == pytest.approx(1 + 0.5 * float(exposure_loss(outputs[0], everywhere)))
