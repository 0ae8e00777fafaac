"""MC Dropout: what samples of one network disagree on (Gal & Ghahramani, ICML 2016; Kendall et al., BMVC 2017)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from maxquery_training.stock import Logits, StockNet

SHARE = 0.5
SAMPLES = 10


@dataclass(frozen=True)
class Samples(Logits):
    """Of several passes: mean logits, and the probabilities of each pass `(T, B, K, Z, Y, X)`."""

    probabilities: Tensor


def with_dropout(unet: nn.Module) -> None:
    """Makes an nnU-Net drop half of its feature maps, always, in its bottleneck and the two blocks after it.

    The central blocks are where Bayesian SegNet (Kendall et al.) found it to work best. No weight is added.
    """
    for block in (unet.encoder.stages[-1], *unet.decoder.stages[:2]):
        block.register_forward_hook(lambda block, inputs, maps: functional.dropout3d(maps, SHARE, training=True))


class DropoutNet(nn.Module):
    """A stock network trained with dropout, asked `SAMPLES` times."""

    def __init__(self, network: StockNet):
        super().__init__()
        with_dropout(network.unet)
        self.network = network

    def forward(self, image: Tensor) -> Samples:
        with torch.random.fork_rng(devices=[image.device] if image.device.type == "cuda" else []):
            torch.manual_seed(0)  # the same samples in every window, and whenever it is asked again
            passes: Sequence[Logits] = [self.network(image) for _ in range(SAMPLES)]
        logits = torch.stack([one.segmentation for one in passes])
        return Samples(logits.mean(dim=0), passes[0].features, logits.float().softmax(dim=2))


def predictive_entropy(samples: Samples) -> Tensor:
    """H of the mean prediction: uncertainty of any kind."""
    return _entropy(samples.probabilities.mean(dim=0), dim=1)


def mutual_information(samples: Samples) -> Tensor:
    """H of the mean less the mean H: what the samples disagree on, the model's own uncertainty."""
    return predictive_entropy(samples) - _entropy(samples.probabilities, dim=2).mean(dim=0)


def _entropy(probabilities: Tensor, dim: int) -> Tensor:
    return -torch.special.xlogy(probabilities, probabilities).sum(dim=dim)
