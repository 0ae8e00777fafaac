"""Between the CT's own grid and the model's: reorient, resample, and stream the answer back."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from maxquery.boxes import WHOLE, Box
from maxquery.volume import Grid


@dataclass(frozen=True)
class ModelGrid:
    """How an input grid becomes the model's grid: axes swapped and flipped to LPS, then scaled.

    The array axis `axes[i]` of the input is axis i (z, y, x) of the model's, reversed where `flips[i]`.
    What is oblique stays oblique: anatomy then leans a little, as it did in training. Voxels are
    matched edge to edge, as nnU-Net does. Of `whole_zyx` voxels, arrays on this grid hold `part`.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    input_shape_zyx: tuple[int, int, int]
    whole_zyx: tuple[int, int, int]
    part: Box = WHOLE

    @classmethod
    def of(cls, grid: Grid, spacing_zyx_mm: tuple[float, float, float]) -> "ModelGrid":
        """The model's grid of that spacing over `grid`; its size is rounded to whole voxels."""
        axes, flips = grid.patient_axes()
        extent_mm = np.array(grid.shape_zyx) * grid.spacing_xyz_mm[::-1]
        shape = tuple(max(1, round(extent_mm[axis] / step)) for axis, step in zip(axes, spacing_zyx_mm, strict=True))
        return cls(axes, flips, grid.shape_zyx, shape)

    def cropped(self, part: Box) -> "ModelGrid":
        """The same voxels, of which arrays hold only `part`."""
        return replace(self, part=part)

    def over(self, other: "ModelGrid", box: Box) -> Box:
        """The part of this grid's arrays that lies over `box` of the arrays on another grid of the same input."""
        sides = []
        for axis, side in enumerate(box):
            scale, first = self.whole_zyx[axis] / other.whole_zyx[axis], other.first_zyx[axis]
            ends = np.floor((first + side.start) * scale), np.ceil((first + side.stop) * scale)
            start, stop = np.clip(np.array(ends) - self.first_zyx[axis], 0, self.shape_zyx[axis]).astype(int).tolist()
            sides.append(slice(start, stop))
        return tuple(sides)

    @property
    def first_zyx(self) -> tuple[int, int, int]:
        """Where in the whole the part begins."""
        return tuple(side.start or 0 for side in self.part)

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        return tuple(len(range(size)[side]) for size, side in zip(self.whole_zyx, self.part, strict=True))

    def canonical(self, array: np.ndarray) -> np.ndarray:
        """A view of the input's array `(Z, Y, X)` with the model's axes; writing to it writes to the array."""
        view = array.transpose(self.axes)
        return view[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]

    def resample_in(self, array: np.ndarray) -> Tensor:
        """The input `(Z, Y, X)` on the model's grid, float32; averaged where the model's voxels are larger."""
        source, (depth, height, width) = self.canonical(array), self.whole_zyx
        in_plane = torch.empty((source.shape[0], height, width))
        for start in range(0, len(source), 16):
            slab = torch.from_numpy(np.ascontiguousarray(source[start : start + 16], np.float32))
            in_plane[start : start + 16] = _scale(slab[:, None], (height, width))[:, 0]
        return _scale(in_plane.view(1, 1, len(source), -1), (depth, height * width)).view(self.whole_zyx)[self.part]

    def slices_out(
        self, slices: Iterable[Tensor], shown: Callable[[Tensor], Tensor]
    ) -> Iterator[tuple[int, tuple[slice, slice], Tensor]]:
        """Slices `(C, y, x)` of the model's grid, as they come, to canonical slices `(C, Y, X)` of the input.

        Linear in all three axes, and constant beyond the grid's part. Holds two slices, whatever the size of the
        input. Gives z and, of that slice, the part along y and x between voxels of which `shown` `(y, x)` is true; a
        slice without any is left out.
        """
        (below, above, share), of_y, of_x = map(self._neighbours, range(3))
        z, before = 0, None
        for number, now in enumerate(slices):
            after = now, shown(now)
            before = before or after
            while z < len(above) and above[z] <= number:
                (first, first_shown), (second, second_shown) = (after if below[z] == number else before), after
                hit_y, hit_x = _sides(first_shown | second_shown)
                y, x = _between(of_y, hit_y), _between(of_x, hit_x)
                if y.start < y.stop:
                    slice_z = torch.lerp(first, second, float(share[z]))
                    yield z, (y, x), _lerp(_lerp(slice_z, 1, [t[y] for t in of_y]), 2, [t[x] for t in of_x])
                z += 1
            before = after

    def nearest_out(self, values: np.ndarray, out: np.ndarray) -> None:
        """Fills `out` `(Z, Y, X)`, on the input's grid, with the nearest of `values` `(z, y, x)`; else with 0."""
        index, known = [], []
        for size, whole, first, count in zip(
            self.canonical_shape, self.whole_zyx, self.first_zyx, values.shape, strict=True
        ):
            place = np.minimum(((np.arange(size) + 0.5) * whole / size).astype(int), whole - 1) - first
            known.append((place >= 0) & (place < count))
            index.append(place.clip(0, count - 1))
        target = self.canonical(out)
        for z, source_z in enumerate(index[0]):
            inside = known[0][z] & known[1][:, None] & known[2]
            target[z] = np.where(inside, values[source_z][np.ix_(index[1], index[2])], 0)

    @property
    def canonical_shape(self) -> tuple[int, int, int]:
        return tuple(self.input_shape_zyx[axis] for axis in self.axes)

    def _neighbours(self, axis: int) -> tuple[Tensor, Tensor, Tensor]:
        """For each canonical input index of an axis: the two indices of the grid's part around it, and how far it lies
        from the first."""
        whole, first, count = self.whole_zyx[axis], self.first_zyx[axis], self.shape_zyx[axis]
        size = self.canonical_shape[axis]
        centres = torch.arange(size, dtype=torch.float64) + 0.5
        position = (centres * whole / size - 0.5 - first).clamp(0, count - 1)
        below = position.long()
        return below, (below + 1).clamp(max=count - 1), (position - below).float()


def _scale(images: Tensor, size: tuple[int, int]) -> Tensor:
    if images.shape[2:] == size:
        return images
    return functional.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)


def _sides(mask: Tensor) -> list[Tensor]:
    """Of `mask` `(y, x)`: the indices along y, and along x, with anything."""
    return [mask.any(dim=1 - axis).nonzero().cpu() for axis in (0, 1)]


def _between(neighbours: Sequence[Tensor], hits: Tensor) -> slice:
    """The input indices whose neighbours lie between the first and the last of `hits`, or on them."""
    below, above, _ = neighbours
    if not len(hits):
        return slice(0, 0)
    inside = ((above >= hits[0]) & (below <= hits[-1])).nonzero()
    return slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0)


def _lerp(source: Tensor, dim: int, neighbours: Sequence[Tensor]) -> Tensor:
    """`source` interpolated along `dim`: each index of what comes out lies between two of its own."""
    below, above, share = (t.to(source.device) for t in neighbours)
    if not share.any():
        return source.index_select(dim, below)
    share = share.view([-1 if axis == dim else 1 for axis in range(source.ndim)]).to(source.dtype)
    return torch.lerp(source.index_select(dim, below), source.index_select(dim, above), share)
