"""SML: standardised max logits, boundary suppression, dilated smoothing, in 3D (Jung et al., ICCV 2021)."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from maxquery_training.near_ood.training_voxels import Voxels
from maxquery_training.stock import Logits

_KERNEL, _SIGMA = 7, 1.0  # voxels; theirs


@dataclass(frozen=True)
class StandardisedMaxLogit:
    """−(max logit − its mean) / its deviation, both of the predicted class `(K,)`, on training voxels.

    Where two predicted classes meet, the score of what lies about is taken instead, from `width` voxels on
    both sides inwards (0: nowhere); then it is smoothed by a Gaussian whose taps lie `dilation` voxels apart (0: not).
    Both are less than theirs, whose images are larger.
    """

    mean: Tensor
    deviation: Tensor
    width: int = 4
    dilation: int = 2

    @classmethod
    def fit(cls, voxels: Voxels, width: int = 4, dilation: int = 2) -> "StandardisedMaxLogit":
        """Labels count as often as they occur. A class that is hardly ever predicted has the statistics of all."""
        largest, predicted = voxels.logits.max(dim=1)
        weights = (voxels.shares / voxels.labels.bincount(minlength=len(voxels.shares)).clamp(min=1))[voxels.labels]
        own = [of if (of := predicted == k).sum() > 1 else torch.ones_like(of) for k in range(voxels.logits.shape[1])]
        means = [_mean(largest[of], weights[of]) for of in own]
        variances = [_mean((largest[of] - mean) ** 2, weights[of]) for of, mean in zip(own, means, strict=True)]
        return cls(torch.stack(means), torch.stack(variances).sqrt().clamp(min=1e-6), width, dilation)

    def __call__(self, output: Logits) -> Tensor:
        largest, predicted = output.segmentation.float().max(dim=1)
        score = (largest - self.mean.to(largest)[predicted]) / self.deviation.to(largest)[predicted]
        score = score[:, None]
        for boundary in self._boundaries(predicted):
            score = _from_around(score, boundary)
        return -_smoothed(score, self.dilation)[:, 0]

    def _boundaries(self, predicted: Tensor) -> list[Tensor]:
        """`(B, 1, Z, Y, X)` bool, the widest first, each a voxel narrower on both sides."""
        labels = predicted[:, None].float()
        edge = functional.max_pool3d(labels, 3, 1, 1) != -functional.max_pool3d(-labels, 3, 1, 1)
        widths = [edge]
        for _ in range(1, self.width):
            widths.append(functional.max_pool3d(widths[-1].float(), 3, 1, 1) > 0)
        return widths[: self.width][::-1]


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum()


def _from_around(score: Tensor, boundary: Tensor) -> Tensor:
    """On the boundary, the mean score of those of the 26 neighbours that are not on it, if there are any."""
    known = (~boundary).float()
    around = functional.avg_pool3d(score * known, 3, 1, 1)
    count = functional.avg_pool3d(known, 3, 1, 1)
    return torch.where(boundary & (count > 0), around / count.clamp(min=1e-6), score)


def _smoothed(score: Tensor, dilation: int) -> Tensor:
    if dilation == 0:
        return score
    taps = torch.exp(-0.5 * ((torch.arange(_KERNEL, device=score.device) - _KERNEL // 2) / _SIGMA) ** 2)
    taps = (taps / taps.sum()).to(score)
    reach = dilation * (_KERNEL // 2)
    for axis in range(3):  # a Gaussian in space is one along each axis, one after another
        shape, pad = [1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]
        shape[2 + axis] = _KERNEL
        pad[4 - 2 * axis], pad[5 - 2 * axis] = reach, reach
        score = functional.conv3d(functional.pad(score, pad, mode="replicate"), taps.reshape(shape), dilation=dilation)
    return score
