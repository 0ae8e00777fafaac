"""Strange tissue in the organ: where it comes to lie, and what the loss makes of it."""

import pytest
import torch

from maxquery_training.exposure import expose, exposure_loss
from maxquery_training.label_scheme import ORGAN, OUTLIER
from maxquery_training.losses import MaxQueryLoss

from .test_losses import DISTRIBUTION, IGNORE, _output


@pytest.fixture
def window() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    target = torch.zeros(1, 1, 16, 32, 32)
    target[..., 4:12, 8:28, 8:28] = ORGAN
    target[..., 7, 18:, 18:] = IGNORE
    return torch.randn(1, 1, 16, 32, 32), target


def test_it_lies_in_and_at_the_organ_and_leaves_the_rest_as_it_was(window):
    image, target = window
    exposed, labels = expose(image, target, IGNORE, torch.Generator().manual_seed(3))
    strange = labels == OUTLIER
    assert strange.any() and (exposed - image)[strange].abs().mean() > 0.3
    assert torch.equal(labels[~strange], target[~strange]) and (labels == IGNORE).sum() == (target == IGNORE).sum()
    assert (exposed == image).float().mean() > 0.2


def test_the_same_seed_draws_the_same_and_no_organ_draws_nothing(window):
    image, target = window
    first, second = (expose(image, target, IGNORE, torch.Generator().manual_seed(3)) for _ in "ab")
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    empty = torch.zeros_like(target)
    exposed, labels = expose(image, empty, IGNORE, torch.Generator())
    assert torch.equal(exposed, image) and torch.equal(labels, empty)


def test_strange_voxels_are_pushed_down_and_known_ones_are_not():
    responses = torch.full((1, 3, 1, 2, 2), 5.0, requires_grad=True)
    target = torch.tensor([[[[ORGAN, ORGAN], [OUTLIER, 0]]]])
    exposure_loss(responses, target, IGNORE).backward()
    pushed = responses.grad.amax(dim=1)[0, 0] > 0
    assert pushed.tolist() == [[False, False], [True, False]]


def test_strange_voxels_count_for_no_other_term():
    torch.manual_seed(1)
    responses = torch.randn(2, DISTRIBUTION.total, 2, 3, 4)
    target = torch.randint(0, 3, (2, 1, 2, 3, 4)).float()
    loss = MaxQueryLoss(DISTRIBUTION, exposure_weight=1.0, ignore_label=IGNORE)
    ignored, strange = target.clone(), target.clone()
    ignored[..., 0], strange[..., 0] = IGNORE, OUTLIER
    with_ignored, with_strange = (loss.terms(_output(responses), t) for t in (ignored, strange))
    for term in ("seg", "qd", "attention"):
        assert float(with_strange[term]) == pytest.approx(float(with_ignored[term]))
    assert float(with_strange["exposure"]) > float(with_ignored["exposure"]) == 0
