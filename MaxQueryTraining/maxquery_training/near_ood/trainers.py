"""Networks that MaxQuery is compared with: the same backbone, trained on for as long and at the same rate."""

import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from torch import Tensor

from maxquery_training.near_ood.monte_carlo_dropout import with_dropout
from maxquery_training.trainers import BackboneTrainer


class ContinuedTrainer(BackboneTrainer):
    """Stock nnU-Net goes on where the backbone stage ended, on the windows of the joint stage.

    Same epochs, optimiser, rate and decay as MaxQuery's backbone has there; it is never frozen.
    """

    stage = "joint"

    def __init__(self, plans: dict, configuration: str, fold: int, dataset_json: dict,
                 device: torch.device = torch.device("cuda")):  # fmt: skip
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = self.preset.joint_epochs
        self.initial_lr = self.preset.query_rate * self.preset.backbone_rate_factor

    def load_backbone(self, weights: dict[str, Tensor]) -> None:
        """All of it: the segmentation layers too."""
        self.bare_network.load_state_dict(weights)

    def configure_optimizers(self):
        optimizer = torch.optim.RAdam(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)


class DropoutTrainer(ContinuedTrainer):
    """The same with dropout, so that samples of the network can be drawn from it."""

    def initialize(self) -> None:
        super().initialize()
        with_dropout(self.bare_network)
