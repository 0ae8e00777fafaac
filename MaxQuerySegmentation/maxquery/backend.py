"""Who computes a window, and whether that can be trusted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maxquery.anomaly import Score
from maxquery.network import MaxQueryNet, Output

Answer = tuple[Tensor, Tensor]
"""Of a window: segmentation logits and a map for each score `(K + scores, Z, Y, X)`; owning queries `(Z, Y, X)`."""

LEAST_LABEL_AGREEMENT, LEAST_RANK_CORRELATION = 0.999, 0.999


@dataclass(frozen=True)
class Backend:
    """`name` is for the report; `compute` answers a normalised window `(C, Z, Y, X)`, wherever that lies."""

    name: str
    compute: Callable[[Tensor], Answer]


class WindowNet(nn.Module):
    """A network and the scores that are asked of it: `(1, C, Z, Y, X)` to an `Answer`."""

    def __init__(self, network: nn.Module, scores: Sequence[Score]):
        super().__init__()
        self.network, self.scores = network, tuple(scores)

    def forward(self, image: Tensor) -> Answer:
        outputs = self.network.in_slabs(image) if isinstance(self.network, MaxQueryNet) else [self.network(image)]
        channels, owners = zip(*map(self._answer, outputs), strict=True)
        return torch.cat(channels, dim=1), torch.cat(owners)

    def _answer(self, output: Output) -> Answer:
        with torch.autocast(output.responses.device.type, enabled=False):  # a score may multiply matrices
            channels = torch.cat([output.segmentation[0], *(score(output) for score in self.scores)])
        # On a CPU three times as fast as `argmax` is.
        return channels, output.responses[0].max(dim=0).indices.to(torch.uint8)


def torch_backend(network: WindowNet, device: torch.device, half: torch.dtype | None) -> Backend:
    """`half`: the 16-bit type to compute in, None for 32 bit. Responses, softmax and argmax are in 32 bit anyway."""
    network.to(device, memory_format=torch.channels_last_3d if half else torch.contiguous_format)

    @torch.inference_mode()
    def compute(window: Tensor) -> Answer:
        with torch.autocast(device.type, half, enabled=half is not None):
            return network(window[None].to(device))

    return Backend(f"torch, {half}" if half else "torch, 32 bit", compute)


@dataclass(frozen=True)
class Agreement:
    """Of two answers to one window: the share of voxels with the same label, and the least rank correlation
    (Spearman's) of their maps."""

    labels: float
    ranks: float

    @classmethod
    def of(cls, one: Answer, other: Answer, classes: int) -> "Agreement":
        from scipy.stats import spearmanr

        (first, _), (second, _) = ((channels.float().cpu(), owners) for channels, owners in (one, other))
        same = first[:classes].argmax(dim=0) == second[:classes].argmax(dim=0)
        ranks = [
            float(spearmanr(a.flatten().numpy(), b.flatten().numpy()).statistic)
            for a, b in zip(first[classes:], second[classes:], strict=True)
        ]
        return cls(float(same.float().mean()), min(ranks, default=1.0))

    @property
    def suffices(self) -> bool:
        return self.labels >= LEAST_LABEL_AGREEMENT and self.ranks >= LEAST_RANK_CORRELATION

    def __str__(self) -> str:
        return f"{100 * self.labels:.3f} % of labels, rank correlation {self.ranks:.5f}"
