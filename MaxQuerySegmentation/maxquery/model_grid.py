"""Between the CT's own grid and the model's: reorient, resample, and stream the answer back."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from maxquery.volume import Grid


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
        columns = _nearest_axes(grid.direction)  # columns[i]: the voxel axis (xyz) along patient axis i (LPS)
        axes, flips, shape = [], [], []
        for patient_axis, model_spacing in zip((2, 1, 0), spacing_zyx_mm, strict=True):
            column = columns[patient_axis]
            extent_mm = grid.size_xyz[column] * grid.spacing_xyz_mm[column]
            axes.append(2 - column)
            flips.append(bool(grid.direction[patient_axis, column] < 0))
            shape.append(max(1, round(extent_mm / model_spacing)))
        return cls(tuple(axes), tuple(flips), grid.shape_zyx, tuple(shape))

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

    def slices_out(self, channels: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Channels `(C, z, y, x)` on the model's grid, one canonical input slice `(C, Y, X)` after another.

        Linear in all three axes. Holds one slice at a time, whatever the size of the input.
        """
        depth, height, width = self.canonical_shape
        for z in range(depth):
            below, above, share = _neighbours(z, depth, channels.shape[1])
            between = torch.lerp(channels[:, below].float(), channels[:, above].float(), share)
            yield z, functional.interpolate(between[None], (height, width), mode="bilinear", align_corners=False)[0]

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


def _neighbours(z: int, depth: int, source_depth: int) -> tuple[int, int, float]:
    """The two source slices around output slice `z`, and how far it lies from the first to the second."""
    position = min(max((z + 0.5) * source_depth / depth - 0.5, 0.0), source_depth - 1.0)
    below = int(position)
    return below, min(below + 1, source_depth - 1), position - below


def _nearest_axes(direction: np.ndarray) -> list[int]:
    """For each patient axis the voxel axis that runs along it most; every voxel axis is used once."""
    strength = np.abs(direction).astype(float)
    columns = [0, 0, 0]
    for _ in range(3):
        patient_axis, column = np.unravel_index(strength.argmax(), (3, 3))
        columns[patient_axis] = int(column)
        strength[patient_axis], strength[:, column] = -1, -1
    return columns


