"""Deep ensemble: what networks trained from different seeds disagree on (Lakshminarayanan et al., NeurIPS 2017)."""

from collections.abc import Sequence

from torch import Tensor, nn

from maxquery_training.near_ood.samples import Samples, samples_of
from maxquery_training.stock import StockNet

MEMBERS = 5  # theirs


class EnsembleNet(nn.Module):
    """Its members' answers to one image."""

    def __init__(self, members: Sequence[StockNet]):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, image: Tensor) -> Samples:
        return samples_of([member(image) for member in self.members])
