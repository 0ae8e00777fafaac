"""Outlier exposure: strange tissue put into the organ while training, which no query may respond to strongly.

Ours, not the paper's; the idea is Hendrycks et al., Deep anomaly detection with outlier exposure, ICLR 2019. The
tissue is no imitation of any lesion: noise of random brightness and grain, or another part of the same window.
"""

import torch
from torch import Tensor
from torch.nn import functional

from maxquery_training.label_scheme import ORGAN, OUTLIER

_MOST = 3  # pieces in one window
_RADIUS = (2.0, 10.0)  # voxels
_MARGIN = 4.0  # in responses; those of known tissue are several times as large


def expose(image: Tensor, target: Tensor, ignore_label: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A window `(1, C, Z, Y, X)` and its labels `(1, 1, Z, Y, X)` with strange tissue in the organ, labelled OUTLIER.

    Both are new tensors; unchanged where there is no organ. Voxels to be ignored stay so.
    """
    organ = (target[0, 0] == ORGAN).nonzero()
    image, target = image.clone(), target.clone()
    if not len(organ):
        return image, target
    shape = image.shape[2:]

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    for _ in range(int(uniform(1, _MOST + 1))):
        centre = organ[int(uniform(0, len(organ)))].tolist()
        radius = _RADIUS[0] * (_RADIUS[1] / _RADIUS[0]) ** uniform(0, 1)
        axes = [(torch.arange(n) - c) / (radius * uniform(0.7, 1.4)) for n, c in zip(shape, centre, strict=True)]
        distance = (axes[0][:, None, None] ** 2 + axes[1][:, None] ** 2 + axes[2] ** 2).sqrt()
        distance = distance + 0.25 * _field(shape, radius / 2, generator)
        if uniform(0, 1) < 0.5:
            grain = _field(shape, max(1.0, radius * uniform(0.1, 0.8)), generator)
            strange = (uniform(-6, 6) + uniform(0.2, 3) * grain).expand_as(image[0])
        else:
            shift = [int(uniform(n // 4, 3 * n // 4)) for n in shape]
            strange = image[0].roll(shift, dims=(1, 2, 3))
        share = (0.5 + (1 - distance) * radius / 2).clamp(0, 1)  # a rim of about two voxels
        image[0] = torch.lerp(image[0], strange, share)
        changed = (share > 0.5) & (target[0, 0] != ignore_label)
        target[0, 0][changed] = OUTLIER
    return image, target


def exposure_loss(responses: Tensor, target: Tensor, ignore_label: int | None) -> Tensor:
    """How far strange tissue's strongest response reaches up to that of known foreground, less a margin; mean.

    `responses` `(B, N, Z, Y, X)`, `target` `(B, Z, Y, X)`. Only the strange voxels' responses are pushed.
    """
    strongest, strange = responses.amax(dim=1), target == OUTLIER
    known = (target >= ORGAN) & ~strange
    if ignore_label is not None:
        known &= target != ignore_label
    if not (strange.any() and known.any()):
        return responses.sum() * 0
    level = strongest[known].detach().mean() - _MARGIN
    return functional.softplus(strongest[strange] - level).mean()


def _field(shape: torch.Size, scale: float, generator: torch.Generator) -> Tensor:
    """`(Z, Y, X)`: smooth noise of mean 0 and about variance 1, in lumps of `scale` voxels."""
    coarse = [max(2, round(n / scale)) for n in shape]
    noise = torch.randn((1, 1, *coarse), generator=generator)
    return functional.interpolate(noise, size=tuple(shape), mode="trilinear", align_corners=False)[0, 0] * 1.5
