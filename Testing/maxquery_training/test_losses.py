"""Eq. 5 to 8 against loops written from the formulas."""

import math

import pytest
import torch

from maxquery.labels import QueryDistribution
from maxquery.network import Output, cluster_assignment
from maxquery_training.losses import (
    MaxQueryLoss,
    merged_labels,
    merged_log_assignment,
    query_distribution_loss,
    segmentation_loss,
)

DISTRIBUTION = QueryDistribution(3, 1, 2)
IGNORE = 4


@pytest.fixture
def responses() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 6, 2, 3, 4) * 2


@pytest.fixture
def target() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randint(0, 4, (2, 2, 3, 4))


def test_eq_5_merges_the_assignments_of_each_group(responses):
    merged = merged_log_assignment(responses, DISTRIBUTION).exp()
    assignment = cluster_assignment(responses)
    bounds = [(0, 3), (3, 4), (4, 6)]
    for group, (first, last) in enumerate(bounds):
        expected = sum(assignment[:, i] for i in range(first, last))
        torch.testing.assert_close(merged[:, group], expected)
    torch.testing.assert_close(merged.sum(dim=1), torch.ones_like(merged[:, 0]))


def test_eq_6_merges_all_tumour_types_and_knows_what_to_ignore():
    labels = torch.tensor([0, 1, 2, 3, IGNORE])
    assert merged_labels(labels, IGNORE).tolist() == [0, 1, 2, 2, -1]


def test_eq_7_is_the_negative_log_likelihood_of_the_right_group(responses, target):
    assignment = cluster_assignment(responses)
    groups = {0: (0, 3), 1: (3, 4), 2: (4, 6), 3: (4, 6)}
    total, count = 0.0, 0
    for index in torch.cartesian_prod(*map(torch.arange, target.shape)).tolist():
        b, z, y, x = index
        first, last = groups[int(target[b, z, y, x])]
        total -= math.log(float(assignment[b, first:last, z, y, x].sum()))
        count += 1
    loss = query_distribution_loss(responses, target, DISTRIBUTION)
    assert float(loss) == pytest.approx(total / count, rel=1e-5)


def test_eq_7_does_not_underflow_where_a_probability_does():
    responses = torch.zeros(1, 6, 1, 1, 1)
    responses[:, 0] = 500.0
    responses.requires_grad_()
    loss = query_distribution_loss(responses, torch.full((1, 1, 1, 1), 2), DISTRIBUTION)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(500 - math.log(2), rel=1e-5)
    assert responses.grad.abs().sum() > 0


def _output(responses):
    torch.manual_seed(2)
    return Output(responses, torch.randn(2, 6, 4), (torch.randn(2, 6, 1, 3, 2), torch.randn(2, 6, 2, 3, 4)))


def test_eq_8_adds_the_terms_with_the_papers_weight(responses, target):
    loss = MaxQueryLoss(DISTRIBUTION, ignore_label=IGNORE)
    output = _output(responses)
    terms = loss.terms(output, target[:, None].float())
    assert float(loss(output, target[:, None].float())) == pytest.approx(
        float(terms["seg"] + 0.1 * terms["qd"] + terms["attention"]), rel=1e-5
    )


def test_a_lesion_smaller_than_a_pixel_of_the_coarsest_block_trains_its_attention():
    target = torch.zeros(1, 1, 4, 8, 8)
    pull = []
    for label in (0, 3):
        target[..., 2:4, 4:8, 4:8] = label
        coarse, finest = torch.zeros(1, 6, 1, 1, 1, requires_grad=True), torch.zeros(1, 6, 2, 4, 4)
        output = Output(torch.zeros(1, 6, 4, 8, 8), torch.zeros(1, 6, 4), (coarse, finest))
        MaxQueryLoss(DISTRIBUTION).terms(output, target)["attention"].backward()
        pull.append(coarse.grad[0, DISTRIBUTION.sizes[0] + DISTRIBUTION.sizes[1] :].sum())
    assert pull[1] < pull[0]


@pytest.mark.parametrize("class_weights", [None, torch.tensor([1.0, 2.0, 5.0, 5.0])])
def test_ignored_voxels_change_no_term(responses, target, class_weights):
    loss = MaxQueryLoss(DISTRIBUTION, class_weights=class_weights, ignore_label=IGNORE)
    target[:, 0] = IGNORE
    changed = responses.clone()
    changed[:, :, 0] = 50 * torch.randn_like(changed[:, :, 0])
    for term in ("seg", "qd"):
        first, second = (float(loss.terms(_output(r), target[:, None].float())[term]) for r in (responses, changed))
        assert first == pytest.approx(second, rel=1e-5)


def test_a_class_counts_as_often_as_it_weighs():
    target = torch.zeros(1, 1, 1, 10, 10)
    target[0, 0, 0, 0, :5] = 1  # 5 of 100 voxels
    logits = torch.zeros(1, 2, 1, 10, 10)
    logits[:, 0] = 8.0  # all is background, quite surely
    equal, weighted = (
        segmentation_loss(True, weights)(logits, target) for weights in (None, torch.tensor([1.0, 95.0]))
    )
    dice = 0.0  # nothing was found
    assert float(equal) == pytest.approx(-dice + 0.05 * 8, abs=0.01)
    assert float(weighted) == pytest.approx(-dice + 8 * 475 / 570, abs=0.01)
