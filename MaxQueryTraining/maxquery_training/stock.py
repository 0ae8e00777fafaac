"""A stock nnU-Net behind the engine's interface, so that it can be measured as our network is."""

from dataclasses import dataclass
from pathlib import Path

from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor, nn

from maxquery_training.checkpoints import read_checkpoint
from maxquery_training.preset import CONFIGURATION

STOCK_SCORES = ("maxlogit", "msp")
"""The anomaly scores that need no queries."""


@dataclass(frozen=True)
class Logits:
    """What stands for the engine's `Output`: logits `(B, K, Z, Y, X)`; where that has queries, this has classes."""

    segmentation: Tensor

    @property
    def responses(self) -> Tensor:
        return self.segmentation


class StockNet(nn.Module):
    """The U-Net of nnU-Net's `checkpoint`, one of the backbone stage for example, ready to predict."""

    def __init__(self, checkpoint: Path, plans: dict, input_channels: int, classes: int):
        super().__init__()
        configuration = PlansManager(plans).get_configuration(CONFIGURATION)
        self.unet = get_network_from_plans(
            configuration.network_arch_class_name, configuration.network_arch_init_kwargs,
            configuration.network_arch_init_kwargs_req_import, input_channels, classes, deep_supervision=False,
        )  # fmt: skip
        self.unet.load_state_dict(read_checkpoint(checkpoint)["network_weights"])
        self.eval()

    def forward(self, image: Tensor) -> Logits:
        """`image`: normalised windows `(B, channels, Z, Y, X)`."""
        return Logits(self.unet(image))
