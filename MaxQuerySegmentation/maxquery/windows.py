"""Overlapping windows over a volume, stitched with Gaussian weights in bounded memory."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from maxquery.boxes import WHOLE, Box
from maxquery.lattice import Lattice, Start, padded
from maxquery.window_queue import WindowQueue


@dataclass(frozen=True)
class Stitched:
    """`channels` `(channels, Z, Y, X)`; `owner` uint8 `(Z, Y, X)`: the owning query + 1, 0 where no window came and
    all channels are 0."""

    channels: Tensor
    owner: Tensor

    def cropped(self, shape_zyx: tuple[int, int, int]) -> "Stitched":
        z, y, x = (slice(size) for size in shape_zyx)
        return Stitched(self.channels[:, z, y, x], self.owner[z, y, x])


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
    part: Box = WHOLE,
    shows_organ: Callable[[Tensor], bool] = lambda channels: False,
) -> Stitched:
    """Runs `compute` on windows of `image` `(C, Z, Y, X)` and stitches what it returns.

    `compute`: `(C, Z, Y, X)` to channels `(channels, Z, Y, X)` and owners `(Z, Y, X)`. Windows without any of `body`
    `(Z, Y, X)` bool are left out. Those that cover `part` come first; further ones only where the organ goes on, so
    that nothing of it is cut: across a face along which `shows_organ` says yes to the channels of the window's rim.
    An image smaller than the patch is padded with its own minimum, and the padding cut off again.
    """
    shape, image = tuple(image.shape[1:]), padded(image, patch_zyx)
    lattice = Lattice.over(image.shape[1:], patch_zyx, step, part)
    wanted = [index for index in lattice.indices if body is None or body[lattice.box(index)].any()]
    queue = WindowQueue(wanted, lattice.first_indices)
    stitcher = Stitcher(channels, tuple(image.shape[1:]), keep_on)
    for index in queue:
        answer, owner = compute(image[(slice(None), *lattice.box(index))])
        stitcher.add(lattice.start(index), answer, owner)
        rims = lattice.rims(index)
        queue.grow(neighbour for neighbour, rim in rims if shows_organ(answer[(slice(None), *rim)]))
        advance(queue.fraction)
    return stitcher.result().cropped(shape)
