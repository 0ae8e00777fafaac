"""Outlier exposure for a stock nnU-Net (Hendrycks et al., ICLR 2019): the lesions and the loss that MaxQuery gets."""

from torch import Tensor, nn

from maxquery_training.exposure import EXPOSED, exposure_loss, unexposed
from maxquery_training.near_ood.trainers import ContinuedTrainer


class ExposedLoss(nn.Module):
    """nnU-Net's loss, deep supervision and all, where nothing is exposed; and `weight` × `exposure_loss`."""

    def __init__(self, stock: nn.Module, weight: float, ignore_label: int):
        super().__init__()
        self.stock, self.weight, self.ignore_label = stock, weight, ignore_label

    def forward(self, outputs: list[Tensor], targets: list[Tensor]) -> Tensor:
        known = [unexposed(target, self.ignore_label) for target in targets]
        return self.stock(outputs, known) + self.weight * exposure_loss(outputs[0], targets[0][:, 0] == EXPOSED)


class ExposedTrainer(ContinuedTrainer):
    """The continued nnU-Net with outlier exposure."""

    can_be_exposed = True

    def _build_loss(self) -> nn.Module:
        return ExposedLoss(super()._build_loss(), self.preset.exposure_weight, self.label_manager.ignore_label)
