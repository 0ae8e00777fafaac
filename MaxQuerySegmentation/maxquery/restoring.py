"""The network's answer on its way from the model's grid to the CT's own."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from maxquery.model_grid import ModelGrid
from maxquery.network_run import Slice, foreground
from maxquery.progress import Report


@dataclass
class Received:
    """All slices of an answer.

    `labels` uint8 `(Z, Y, X)` lie on the input's grid already: K logits a voxel never exist as a whole. `scores`
    `(scores, z, y, x)`, infinite where the network said nothing, and `owner` uint8 `(z, y, x)` lie on the model's,
    because what belongs around the patient, the lowest score, is known last.
    """

    grid: ModelGrid
    labels: np.ndarray
    scores: Tensor
    owner: Tensor

    @classmethod
    def of(cls, grid: ModelGrid, slices: Iterator[Slice]) -> "Received":
        first = next(slices)
        device, shape = first.owner.device, grid.shape_zyx
        received = cls(
            grid,
            np.zeros(grid.input_shape_zyx, np.uint8),
            torch.empty((len(first.scores), *shape), device=device),
            torch.empty(shape, dtype=torch.uint8, device=device),
        )
        out = grid.canonical(received.labels)
        # Between voxels whose largest logit is the background's, the background's is the largest.
        for z, (y, x), logits in grid.slices_out(received._kept(first, slices), foreground):
            out[z, y, x] = logits.max(dim=0).indices.to(torch.uint8).cpu().numpy()
        return received

    def _kept(self, first: Slice, others: Iterator[Slice]) -> Iterator[Tensor]:
        """The logits of slice after slice; the rest of it is put aside."""
        for z, one in enumerate(chain([first], others)):
            self.scores[:, z] = one.scores.masked_fill(~one.inside, math.inf)
            self.owner[z] = one.owner
            yield one.logits

    def maps(self, report: Report, sigma_zyx: Sequence[float]) -> Iterator[np.ndarray]:
        """Each score's raw map float16 `(Z, Y, X)` on the input's grid, smoothed before with a Gaussian of `sigma_zyx`
        voxels of the model's; all 0 for none."""
        for number, scores in enumerate(self.scores):
            silent = scores.isinf()
            lowest = _fill_silent_(scores, silent)
            if any(sigma_zyx):
                scores.copy_(torch.from_numpy(gaussian_filter(scores.cpu().numpy(), sigma_zyx, mode="nearest")))
                lowest = _fill_silent_(scores, silent)
            result = np.full(self.grid.input_shape_zyx, lowest, np.float16)
            out = self.grid.canonical(result)
            for z, (y, x), (values,) in self.grid.slices_out(scores[:, None], partial(_above, lowest)):
                out[z, y, x] = values.cpu().numpy()
                done = (number + (z + 1) / len(out)) / len(self.scores)
                report("restore", done, "Back to the CT's own grid")
            yield result
            del result, out  # or two maps exist while the next is made

    def clusters(self) -> np.ndarray:
        """Owning queries + 1, uint8 `(Z, Y, X)` on the input's grid."""
        result = np.empty(self.grid.input_shape_zyx, np.uint8)
        self.grid.nearest_out(self.owner.cpu().numpy(), result)
        return result


def _fill_silent_(scores: Tensor, silent: Tensor) -> float:
    """The lowest of `scores` where the network was not `silent`, which they now hold where it was; 0 without any."""
    lowest = float(scores.masked_fill_(silent, math.inf).min())
    lowest = lowest if math.isfinite(lowest) else 0.0
    scores.masked_fill_(silent, lowest)
    return lowest


def _above(lowest: float, scores: Tensor) -> Tensor:
    return scores[0] > lowest
