"""A stock nnU-Net behind the engine's interface, so that it can be measured as our network is."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor, nn

from maxquery.anomaly import SCORES
from maxquery.backbone import pixel_features
from maxquery_training.class_weights import unweighted
from maxquery_training.preset import CONFIGURATION, Preset

STOCK_SCORES = {name: SCORES[name] for name in ("maxlogit", "msp")}
"""The anomaly scores that need no queries."""


@dataclass(frozen=True)
class Logits:
    """What stands for the engine's `Output`: where that has queries, this has classes.

    `segmentation`: logits `(B, K, Z, Y, X)`; `features` `(B, C, Z, Y, X)`: what they are computed from.
    """

    segmentation: Tensor
    features: Tensor

    @property
    def responses(self) -> Tensor:
        return self.segmentation


class StockNet(nn.Module):
    """The U-Net of nnU-Net's `weights`, those of the backbone stage for example, ready to predict: like a bundle's
    network without what classes weighed in training."""

    def __init__(self, weights: dict[str, Tensor], plans: dict, input_channels: int, classes: int):
        super().__init__()
        configuration = PlansManager(plans).get_configuration(CONFIGURATION)
        self.unet = get_network_from_plans(
            configuration.network_arch_class_name, configuration.network_arch_init_kwargs,
            configuration.network_arch_init_kwargs_req_import, input_channels, classes, deep_supervision=False,
        )  # fmt: skip
        constant = f"decoder.seg_layers.{len(self.unet.decoder.seg_layers) - 1}.bias"
        self.unet.load_state_dict(unweighted(weights, constant, Preset.from_json(plans["maxquery"])))
        self.eval()

    def forward(self, image: Tensor) -> Logits:
        """`image`: normalised windows `(B, channels, Z, Y, X)`."""
        return self.decoded(self.unet.encoder(image))

    def decoded(self, skips: Sequence[Tensor]) -> Logits:
        """From the encoder's features, the bottleneck last; in 32 bit even under autocast, as responses are."""
        features = pixel_features(self.unet.decoder, skips)[-1].float()
        with torch.autocast(features.device.type, enabled=False):
            return Logits(self.unet.decoder.seg_layers[-1](features), features)
