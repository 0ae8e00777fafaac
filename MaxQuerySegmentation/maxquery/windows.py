"""Overlapping windows over a volume, stitched with Gaussian weights in bounded memory."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from maxquery.boxes import WHOLE, Box
from maxquery.lattice import Lattice, Start, padded
from maxquery.window_queue import WindowQueue


class Stitched(NamedTuple):
    """One slice: `channels` `(channels, Y, X)`; `owner` uint8 `(Y, X)`: the owning query + 1, 0 where no window came
    and all channels are 0."""

    channels: Tensor
    owner: Tensor


@lru_cache(maxsize=2)
def gaussian_weight(patch_zyx: tuple[int, int, int]) -> Tensor:
    """`(Z, Y, X)`: how much a window knows of each of its voxels; 1 in the centre, sigma = patch / 8."""
    axes = [torch.exp(-0.5 * ((torch.arange(n) - (n - 1) / 2) / (n / 8)) ** 2) for n in patch_zyx]
    weight = axes[0][:, None, None] * axes[1][:, None] * axes[2]
    return weight.clamp(min=1e-4)


class _Slice:
    """What windows have said of one slice so far.

    Channels are averaged with Gaussian weights. An owner cannot be averaged: each voxel keeps that of the
    window that sees it most centrally.
    """

    def __init__(self, channels: int, shape_yx: tuple[int, int], device: torch.device):
        self.total = torch.zeros((channels, *shape_yx), device=device)
        self.weight, self.best = torch.zeros((2, *shape_yx), device=device)
        self.owner = torch.zeros(shape_yx, dtype=torch.uint8, device=device)

    def add(self, where: tuple[slice, slice], channels: Tensor, owner: Tensor, weight: Tensor) -> None:
        self.total[(slice(None), *where)].addcmul_(channels, weight)
        self.weight[where] += weight
        closer = weight > self.best[where]
        self.best[where] = torch.where(closer, weight, self.best[where])
        self.owner[where] = torch.where(closer, owner + 1, self.owner[where])

    def result(self) -> Stitched:
        return Stitched(self.total.div_(self.weight.clamp(min=torch.finfo(torch.float32).tiny)), self.owner)


class Stitcher:
    """Collects windows of `(channels, Z, Y, X)` and of owning queries; what it holds does not grow with N, nor with
    the slices that were taken from it."""

    def __init__(self, channels: int, shape_yx: tuple[int, int], device: torch.device):
        self.slices: dict[int, _Slice] = {}
        self._empty = channels, shape_yx, device

    def add(self, start: Start, channels: Tensor, owner: Tensor) -> None:
        """One window's channels `(channels, Z, Y, X)` and owners `(Z, Y, X)`."""
        device = self._empty[-1]
        channels, owner = channels.to(device, torch.float32), owner.to(device, torch.uint8)
        weight = gaussian_weight(tuple(owner.shape)).to(device)
        where = tuple(slice(s, s + n) for s, n in zip(start[1:], owner.shape[1:], strict=True))
        for z in range(len(owner)):
            if start[0] + z not in self.slices:
                self.slices[start[0] + z] = _Slice(*self._empty)
            self.slices[start[0] + z].add(where, channels[:, z], owner[z], weight[z])

    def take(self, z: int) -> Stitched:
        """Slice `z`, which no further window may touch."""
        return (self.slices.pop(z, None) or _Slice(*self._empty)).result()


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
) -> Iterator[Stitched]:
    """Runs `compute` on windows of `image` `(C, Z, Y, X)` and stitches what it returns, slice after slice (Z).

    `compute`: `(C, Z, Y, X)` to channels `(channels, Z, Y, X)` and owners `(Z, Y, X)`. Windows without any of `body`
    `(Z, Y, X)` bool are left out. Those that cover `part` come first; further ones only where the organ goes on, so
    that nothing of it is cut: across a face along which `shows_organ` says yes to the channels of the window's rim.
    An image smaller than the patch is `padded`, and the padding cut off again. A slice comes, and is no longer held, as
    soon as no window can touch it.
    """
    (depth, height, width), image = image.shape[1:], padded(image, patch_zyx)
    lattice = Lattice.over(image.shape[1:], patch_zyx, step, part)
    wanted = [index for index in lattice.indices if body is None or body[lattice.box(index)].any()]
    queue = WindowQueue(wanted, lattice.first_indices)
    stitcher, done = Stitcher(channels, tuple(image.shape[2:]), keep_on), 0

    def taken(until: int) -> Iterator[Stitched]:
        for z in range(done, until):
            answer, owner = stitcher.take(z)
            yield Stitched(answer[:, :height, :width], owner[:height, :width])

    for index in queue:
        answer, owner = compute(image[(slice(None), *lattice.box(index))])
        stitcher.add(lattice.start(index), answer, owner)
        rims = lattice.rims(index)
        queue.grow(neighbour for neighbour, rim in rims if shows_organ(answer[(slice(None), *rim)]))
        advance(queue.fraction)
        untouched = min((lattice.start(other)[0] for other in queue.possible), default=depth)
        yield from taken(untouched)
        done = max(done, untouched)
    yield from taken(depth)
