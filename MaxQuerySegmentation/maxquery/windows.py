"""Overlapping windows over a volume, stitched with Gaussian weights in bounded memory."""

from collections.abc import Callable
from functools import lru_cache
from itertools import product

import numpy as np
import torch
from torch import Tensor

Start = tuple[int, int, int]


def window_starts(shape_zyx: tuple[int, int, int], patch_zyx: tuple[int, int, int], step: float) -> list[Start]:
    """First corners of evenly spread windows, at most `step` · patch apart, which cover the volume.

    >>> window_starts((10, 4, 4), (4, 4, 4), step=0.5)
    [(0, 0, 0), (2, 0, 0), (4, 0, 0), (6, 0, 0)]
    """
    per_axis = []
    for size, patch in zip(shape_zyx, patch_zyx, strict=True):
        count = int(np.ceil((size - patch) / (patch * step))) + 1 if size > patch else 1
        per_axis.append(np.linspace(0, max(size - patch, 0), count).round().astype(int).tolist())
    return list(product(*per_axis))


@lru_cache(maxsize=2)
def gaussian_weight(patch_zyx: tuple[int, int, int]) -> Tensor:
    """`(Z, Y, X)`: how much a window knows of each of its voxels; 1 in the centre, sigma = patch / 8."""
    axes = [torch.exp(-0.5 * ((torch.arange(n) - (n - 1) / 2) / (n / 8)) ** 2) for n in patch_zyx]
    weight = axes[0][:, None, None] * axes[1][:, None] * axes[2]
    return weight.clamp(min=1e-4)


class Stitcher:
    """Collects windows of `(channels, Z, Y, X)` and of owning queries; what it holds does not grow with N.

    Channels are averaged with Gaussian weights. An owner cannot be averaged: each voxel keeps that of the
    window that sees it most centrally.
    """

    def __init__(self, channels: int, shape_zyx: tuple[int, int, int], device: torch.device):
        self.total = torch.zeros((channels, *shape_zyx), device=device)
        self.weight = torch.zeros(shape_zyx, device=device)
        self.best = torch.zeros(shape_zyx, device=device)
        self.owner = torch.zeros(shape_zyx, dtype=torch.uint8, device=device)

    def add(self, start: Start, channels: Tensor, owner: Tensor) -> None:
        """One window's channels `(channels, Z, Y, X)` and owners `(Z, Y, X)`."""
        weight = gaussian_weight(tuple(channels.shape[1:])).to(self.total.device)
        where = tuple(slice(s, s + n) for s, n in zip(start, channels.shape[1:], strict=True))
        self.total[(slice(None), *where)].addcmul_(channels.to(self.total.device, torch.float32), weight)
        self.weight[where] += weight
        closer = weight > self.best[where]
        self.best[where] = torch.where(closer, weight, self.best[where])
        self.owner[where] = torch.where(closer, owner.to(self.owner), self.owner[where])

    def result(self) -> tuple[Tensor, Tensor]:
        """The stitched channels and owners. The stitcher is used up."""
        return self.total.div_(self.weight), self.owner


def stitch(
    image: Tensor,
    patch_zyx: tuple[int, int, int],
    step: float,
    channels: int,
    predict: Callable[[Tensor], tuple[Tensor, Tensor]],
    keep_on: torch.device,
    advance: Callable[[float], None],
) -> tuple[Tensor, Tensor]:
    """Runs `predict` on every window of `image` `(C, Z, Y, X)` and stitches what it returns.

    `predict`: `(C, Z, Y, X)` to channels `(channels, Z, Y, X)` and owners `(Z, Y, X)`. An image smaller
    than the patch is padded with its own minimum, and the padding cut off again.
    """
    shape = tuple(image.shape[1:])
    windows = cut(image, patch_zyx, step)
    last, _ = windows[-1]
    stitcher = Stitcher(channels, tuple(s + p for s, p in zip(last, patch_zyx, strict=True)), keep_on)
    for done, (start, window) in enumerate(windows, start=1):
        stitcher.add(start, *predict(window))
        advance(done / len(windows))
    total, owner = stitcher.result()
    return total[:, : shape[0], : shape[1], : shape[2]], owner[: shape[0], : shape[1], : shape[2]]


def cut(image: Tensor, patch_zyx: tuple[int, int, int], step: float) -> list[tuple[Start, Tensor]]:
    """The windows of `image` `(C, Z, Y, X)`, as views, and where each starts; neighbours are `step` patches apart.

    An image smaller than the patch is padded with its own minimum.
    """
    shape = tuple(image.shape[1:])
    padded_shape = tuple(max(s, p) for s, p in zip(shape, patch_zyx, strict=True))
    if padded_shape != shape:
        padded = image.new_full((len(image), *padded_shape), float(image.min()))
        padded[:, : shape[0], : shape[1], : shape[2]] = image
        image = padded
    windows = []
    for start in window_starts(padded_shape, patch_zyx, step):
        z, y, x = (slice(s, s + n) for s, n in zip(start, patch_zyx, strict=True))
        windows.append((start, image[:, z, y, x]))
    return windows
