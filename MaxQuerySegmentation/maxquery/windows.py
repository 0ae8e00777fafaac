"""Overlapping windows over a volume, stitched with Gaussian weights in bounded memory."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import torch
from torch import Tensor

from maxquery.window_queue import Index, WindowQueue

Start = tuple[int, int, int]


@dataclass(frozen=True)
class Stitched:
    """`channels` `(channels, Z, Y, X)`; `owner` uint8 `(Z, Y, X)`: the owning query + 1, 0 where no window came and
    all channels are 0."""

    channels: Tensor
    owner: Tensor

    def cropped(self, shape_zyx: tuple[int, int, int]) -> "Stitched":
        z, y, x = (slice(size) for size in shape_zyx)
        return Stitched(self.channels[:, z, y, x], self.owner[z, y, x])


def window_starts(
    shape_zyx: tuple[int, int, int], patch_zyx: tuple[int, int, int], step: float
) -> dict[Index, Start]:
    """First corners of evenly spread windows, at most `step` · patch apart, which cover the volume; by their place
    on the lattice that they form.

    >>> window_starts((10, 4, 4), (4, 4, 4), step=0.5)
    {(0, 0, 0): (0, 0, 0), (1, 0, 0): (2, 0, 0), (2, 0, 0): (4, 0, 0), (3, 0, 0): (6, 0, 0)}
    """
    per_axis = []
    for size, patch in zip(shape_zyx, patch_zyx, strict=True):
        count = int(np.ceil((size - patch) / (patch * step))) + 1 if size > patch else 1
        per_axis.append(np.linspace(0, max(size - patch, 0), count).round().astype(int).tolist())
    indices = product(*(range(len(starts)) for starts in per_axis))
    return dict(zip(indices, product(*per_axis), strict=True))


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
        self.owner[where] = torch.where(closer, owner.to(self.owner) + 1, self.owner[where])

    def result(self) -> Stitched:
        """The stitcher is used up."""
        self.total.div_(self.weight.clamp(min=torch.finfo(torch.float32).tiny))
        return Stitched(self.total, self.owner)


def stitch(
    image: Tensor,
    patch_zyx: tuple[int, int, int],
    step: float,
    channels: int,
    compute: Callable[[Tensor], tuple[Tensor, Tensor]],
    keep_on: torch.device,
    advance: Callable[[float], None],
    body: Tensor | None = None,
    shows_organ: Callable[[Tensor], bool] | None = None,
) -> Stitched:
    """Runs `compute` on windows of `image` `(C, Z, Y, X)` and stitches what it returns.

    `compute`: `(C, Z, Y, X)` to channels `(channels, Z, Y, X)` and owners `(Z, Y, X)`. Windows without any of `body`
    `(Z, Y, X)` bool are left out; with `shows_organ`, asked of a window's channels, so are those away from the organ
    (see `WindowQueue`). An image smaller than the patch is padded with its own minimum, and the padding cut off again.
    """
    shape = tuple(image.shape[1:])
    windows = cut(image, patch_zyx, step)
    starts = window_starts(tuple(max(s, p) for s, p in zip(shape, patch_zyx, strict=True)), patch_zyx, step)
    by_place = dict(zip(starts, windows, strict=True))
    wanted = [index for index, (start, _) in by_place.items() if body is None or body[_box(start, patch_zyx)].any()]
    queue = WindowQueue([1 + max(axis) for axis in zip(*by_place, strict=True)], wanted, shows_organ is not None)
    last, _ = windows[-1]
    stitcher = Stitcher(channels, tuple(s + p for s, p in zip(last, patch_zyx, strict=True)), keep_on)
    for index in queue:
        start, window = by_place[index]
        answer, owner = compute(window)
        stitcher.add(start, answer, owner)
        if shows_organ is not None and shows_organ(answer):
            queue.grow(index)
        advance(queue.fraction)
    return stitcher.result().cropped(shape)


def _box(start: Start, patch_zyx: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    return tuple(slice(s, s + n) for s, n in zip(start, patch_zyx, strict=True))


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
    starts = window_starts(padded_shape, patch_zyx, step).values()
    return [(start, image[(slice(None), *_box(start, patch_zyx))]) for start in starts]
