"""Where windows lie on a volume: evenly spread, overlapping, and over a part of it first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from torch import Tensor

from maxquery.boxes import WHOLE, Box

Start = tuple[int, int, int]
Index = tuple[int, int, int]
_RIM = 1 / 16  # of the patch


@dataclass(frozen=True)
class Lattice:
    """Windows of `patch_zyx` that cover a volume, by their place (z, y, x) among their neighbours.

    `starts`: along each axis, where windows begin; `inside`: which of these cover the part that comes first.
    """

    patch_zyx: tuple[int, int, int]
    starts: tuple[tuple[int, ...], ...]
    inside: tuple[range, ...]

    @classmethod
    def over(
        cls, shape_zyx: Sequence[int], patch_zyx: tuple[int, int, int], step: float, part: Box = WHOLE
    ) -> "Lattice":
        """Of a volume no smaller than the patch. At most `step` patches lie between neighbours; see `axis_starts`."""
        axes = [axis_starts(*axis) for axis in zip(shape_zyx, patch_zyx, [step] * 3, part, strict=True)]
        starts, inside = zip(*axes, strict=True)
        return cls(patch_zyx, starts, inside)

    @property
    def indices(self) -> list[Index]:
        return list(product(*(range(len(starts)) for starts in self.starts)))

    @property
    def first_indices(self) -> list[Index]:
        """Of the windows that cover the part."""
        return list(product(*self.inside))

    def start(self, index: Index) -> Start:
        return tuple(starts[i] for starts, i in zip(self.starts, index, strict=True))

    def box(self, index: Index) -> Box:
        """The part of the volume that a window holds."""
        return tuple(slice(s, s + n) for s, n in zip(self.start(index), self.patch_zyx, strict=True))

    def rims(self, index: Index) -> Iterator[tuple[Index, Box]]:
        """Each neighbour across a face of a window, and the rim of this window along that face: an organ that shows
        there goes on in the neighbour."""
        for axis, (starts, patch) in enumerate(zip(self.starts, self.patch_zyx, strict=True)):
            rim = max(1, round(_RIM * patch))
            for other, side in ((index[axis] - 1, slice(0, rim)), (index[axis] + 1, slice(patch - rim, patch))):
                if 0 <= other < len(starts):
                    yield (*index[:axis], other, *index[axis + 1 :]), (*WHOLE[:axis], side, *WHOLE[axis + 1 :])


def axis_starts(size: int, patch: int, step: float, part: slice = slice(None)) -> tuple[tuple[int, ...], range]:
    """Where windows of `patch` voxels begin on an axis of `size`, and which of these cover `part`.

    There they are spread evenly, at most `step` patches apart, and so on to both ends. A part that all but reaches an
    end reaches it, so that no two windows are nearly the same.

    >>> axis_starts(100, 40, 0.5)
    ((0, 20, 40, 60), range(0, 4))
    >>> axis_starts(100, 40, 0.5, slice(35, 85))
    ((0, 15, 35, 45, 60), range(2, 4))
    """
    first, last, _ = part.indices(size)
    first = min(first, size - patch) if first > _RIM * patch else 0
    last = max(last, first + patch) if last < size - _RIM * patch else size
    inside = np.linspace(first, last - patch, 1 + int(np.ceil((last - first - patch) / (patch * step))))
    apart = max(1, int(patch * step))
    below = [max(start, 0) for start in range(first - apart, -apart, -apart)][::-1]
    above = [min(start, size - patch) for start in range(last - patch + apart, size - patch + apart, apart)]
    return (*below, *inside.round().astype(int).tolist(), *above), range(len(below), len(below) + len(inside))


def padded(image: Tensor, patch_zyx: tuple[int, int, int], fill: float = 0.0) -> Tensor:
    """`image` `(C, Z, Y, X)`; where it is smaller than the patch, with `fill` behind its end: in a normalised image 0,
    the mean of what a model has seen, as nnU-Net fills its windows in training."""
    shape = tuple(image.shape[1:])
    larger = tuple(max(s, p) for s, p in zip(shape, patch_zyx, strict=True))
    if larger == shape:
        return image
    result = image.new_full((len(image), *larger), fill)
    result[(slice(None), *(slice(size) for size in shape))] = image
    return result


def cut(image: Tensor, patch_zyx: tuple[int, int, int], step: float) -> list[tuple[Start, Tensor]]:
    """The windows of `padded(image)`, as views, and where each starts; neighbours are `step` patches apart."""
    image = padded(image, patch_zyx)
    lattice = Lattice.over(image.shape[1:], patch_zyx, step)
    return [(lattice.start(index), image[(slice(None), *lattice.box(index))]) for index in lattice.indices]
