"""MC Dropout: what samples of one network disagree on (Gal & Ghahramani, ICML 2016; Kendall et al., BMVC 2017)."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from maxquery_training.near_ood.samples import Samples, samples_of
from maxquery_training.stock import StockNet

SHARE = 0.5
SAMPLES = 10


def with_dropout(unet: nn.Module) -> None:
    """Makes an nnU-Net drop half of its feature maps, always, in its bottleneck and the two blocks after it.

    The central blocks are where Bayesian SegNet (Kendall et al.) found it to work best. No weight is added.
    """
    for block in (unet.encoder.stages[-1], *_after_bottleneck(unet)):
        block.register_forward_hook(_dropped_output)


class DropoutNet(nn.Module):
    """A stock network trained with dropout, asked `SAMPLES` times; nothing is dropped before the bottleneck, so the
    encoder is asked once."""

    def __init__(self, network: StockNet):
        super().__init__()
        for block in _after_bottleneck(network.unet):
            block.register_forward_hook(_dropped_output)
        self.network = network

    def forward(self, image: Tensor) -> Samples:
        *skips, bottleneck = self.network.unet.encoder(image)
        with torch.random.fork_rng(devices=[image.device] if image.device.type == "cuda" else []):
            torch.manual_seed(0)  # the same samples in every window, and whenever it is asked again
            return samples_of([self.network.decoded([*skips, _dropped(bottleneck)]) for _ in range(SAMPLES)])


def _after_bottleneck(unet: nn.Module) -> nn.ModuleList:
    return unet.decoder.stages[:2]


def _dropped(maps: Tensor) -> Tensor:
    return functional.dropout3d(maps, SHARE, training=True)


def _dropped_output(block: nn.Module, inputs: tuple[Tensor, ...], maps: Tensor) -> Tensor:
    return _dropped(maps)
