"""What classes weigh in training, a network in use knows nothing of."""

import torch

from maxquery_training.class_weights import class_weights, unweighted
from maxquery_training.preset import PAPER_LIVER, QUICK


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
