"""What classes weigh in training, a network in use knows nothing of."""

import pytest
import torch

from maxquery_training.class_weights import class_weights, unweighted
from maxquery_training.preset import CONFIGURATION, PAPER_LIVER, QUICK


def test_a_class_has_the_probability_that_it_has_in_the_data():
    share = torch.tensor([0.7, 0.25, 0.04, 0.01])
    constant = torch.zeros(4, requires_grad=True)
    optimiser = torch.optim.LBFGS([constant], max_iter=200)

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        weighted = -(share * class_weights(QUICK, 4) * constant.log_softmax(dim=0)).sum()
        weighted.backward()
        return weighted

    optimiser.step(loss)
    assert constant.detach().softmax(dim=0)[3] > 0.04
    freed = unweighted({"constant": constant.detach()}, "constant", QUICK)["constant"]
    torch.testing.assert_close(freed.softmax(dim=0), share, atol=1e-3, rtol=0)


def test_the_papers_network_stays_as_it_is():
    weights = {"constant": torch.randn(3, 5), "other": torch.randn(2)}
    freed = unweighted(weights, "constant", PAPER_LIVER)
    assert all(torch.equal(freed[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize("weighed", ["BackboneTrainer", "SwinTrainer", "TransUNetTrainer"])
def test_a_network_learns_with_the_weights_that_it_is_freed_of(planned, weighed):
    from maxquery_training.near_ood import segmenters

    losses = []
    for group_weights in ((1.0, 1.0, 1.0), QUICK.group_weights):
        plans = planned.read_plans()
        plans |= {"continue_training": False, "maxquery": plans["maxquery"] | {"group_weights": group_weights}}
        torch.manual_seed(0)
        device = torch.device("cpu")
        trainer = getattr(segmenters, weighed)(plans, CONFIGURATION, 0, planned.read_description(), device)
        trainer.initialize()
        several = trainer.enable_deep_supervision
        with torch.no_grad():
            answers = trainer.network(torch.randn(1, 1, *plans["configurations"][CONFIGURATION]["patch_size"]))
        targets = [torch.ones(1, 1, *logits.shape[2:]).random_(4) for logits in (answers if several else [answers])]
        losses.append(float(trainer.loss(answers, targets if several else targets[0])))
    assert abs(losses[0] - losses[1]) > 1e-3
