"""Between the CT's own grid and the model's: reorient, resample, and stream the answer back."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from maxquery.volume import Grid

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class ModelGrid:
    """How an input grid becomes the model's grid: axes swapped and flipped to LPS, then scaled.

    The array axis `axes[i]` of the input is axis i (z, y, x) of the model's, reversed where `flips[i]`.
    What is oblique stays oblique: anatomy then leans a little, as it did in training. Voxels are
    matched edge to edge, as nnU-Net does.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    input_shape_zyx: tuple[int, int, int]
    shape_zyx: tuple[int, int, int]

    @classmethod
    def of(cls, grid: Grid, spacing_zyx_mm: tuple[float, float, float]) -> "ModelGrid":
        """The model's grid of that spacing over `grid`; its size is rounded to whole voxels."""
        axes, flips = grid.patient_axes()
        extent_mm = np.array(grid.shape_zyx) * grid.spacing_xyz_mm[::-1]
        shape = tuple(max(1, round(extent_mm[axis] / step)) for axis, step in zip(axes, spacing_zyx_mm, strict=True))
        return cls(axes, flips, grid.shape_zyx, shape)

    def canonical(self, array: np.ndarray) -> np.ndarray:
        """A view of the input's array `(Z, Y, X)` with the model's axes; writing to it writes to the array."""
        view = array.transpose(self.axes)
        return view[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]

    def resample_in(self, array: np.ndarray) -> Tensor:
        """The input `(Z, Y, X)` on the model's grid, float32; averaged where the model's voxels are larger."""
        source, (depth, height, width) = self.canonical(array), self.shape_zyx
        in_plane = torch.empty((source.shape[0], height, width))
        for start in range(0, len(source), 16):
            slab = torch.from_numpy(np.ascontiguousarray(source[start : start + 16], np.float32))
            in_plane[start : start + 16] = _scale(slab[:, None], (height, width))[:, 0]
        return _scale(in_plane.view(1, 1, len(source), -1), (depth, height * width)).view(self.shape_zyx)

    def slices_out(self, channels: Tensor, box: Box | None = None) -> Iterator[tuple[int, Tensor]]:
        """Channels `(C, z, y, x)` on the model's grid, one canonical input slice `(C, Y, X)` after another.

        Linear in all three axes. Holds one slice at a time, whatever the size of the input. `box`: only
        these slices, and of each only this part.
        """
        depth, height, width = self.canonical_shape
        z_range, y_range, x_range = box or (slice(0, depth), slice(0, height), slice(0, width))
        for z in range(z_range.start, z_range.stop):
            between = _lerp(channels, 1, depth, slice(z, z + 1))[:, 0].float()
            yield z, _lerp(_lerp(between, 1, height, y_range), 2, width, x_range)

    def box_out(self, mask: Tensor) -> Box:
        """The canonical box outside which no input voxel lies between voxels of `mask` `(z, y, x)`."""
        sides = []
        for axis, size in enumerate(self.canonical_shape):
            hits = mask.any(dim=[other for other in range(3) if other != axis]).nonzero().cpu()
            below, above, _ = _neighbours(size, mask.shape[axis], slice(0, size))
            inside = ((above >= hits.min()) & (below <= hits.max())).nonzero() if len(hits) else hits
            sides.append(slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0))
        return tuple(sides)

    def nearest_out(self, values: np.ndarray, out: np.ndarray) -> None:
        """Fills `out` `(Z, Y, X)`, on the input's grid, with the nearest of `values` `(z, y, x)`."""
        index = [
            np.minimum(((np.arange(n) + 0.5) * m / n).astype(int), m - 1)
            for n, m in zip(self.canonical_shape, self.shape_zyx, strict=True)
        ]
        target = self.canonical(out)
        for z, source_z in enumerate(index[0]):
            target[z] = values[source_z][np.ix_(index[1], index[2])]

    @property
    def canonical_shape(self) -> tuple[int, int, int]:
        return tuple(self.input_shape_zyx[axis] for axis in self.axes)


def _scale(images: Tensor, size: tuple[int, int]) -> Tensor:
    if images.shape[2:] == size:
        return images
    return functional.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)


def _neighbours(size: int, source_size: int, part: slice) -> tuple[Tensor, Tensor, Tensor]:
    """For each output index in `part`: the two source indices around it, and how far it lies from the first."""
    centres = torch.arange(part.start, part.stop, dtype=torch.float64) + 0.5
    position = (centres * source_size / size - 0.5).clamp(0, source_size - 1)
    below = position.long()
    return below, (below + 1).clamp(max=source_size - 1), (position - below).float()


def _lerp(source: Tensor, dim: int, size: int, part: slice) -> Tensor:
    """Stretches `dim` to `size`, linearly, edge to edge; only `part` of it."""
    below, above, share = (t.to(source.device) for t in _neighbours(size, source.shape[dim], part))
    share = share.view([-1 if axis == dim else 1 for axis in range(source.ndim)]).to(source.dtype)
    return torch.lerp(source.index_select(dim, below), source.index_select(dim, above), share)
