"""A CT as numbers that know where they are in the patient."""

from dataclasses import dataclass, field, replace
from itertools import permutations

import numpy as np


def whole_hu(hu: np.ndarray) -> np.ndarray:
    """HU as int16, as files hold them; some metal lies beyond.

    >>> whole_hu(np.array([-0.6, 40000.0]))
    array([   -1, 32767], dtype=int16)
    """
    return np.clip(np.rint(hu), -32768, 32767).astype(np.int16)


@dataclass(frozen=True)
class Grid:
    """Where voxels lie: ITK's convention, axes in the order x, y, z, patient coordinates LPS, mm.

    `size_xyz` in voxels; `direction` has one column per voxel axis (orthonormal).

    >>> Grid((2, 2, 2), (1.0, 1.0, 3.0), (0.0, 0.0, 0.0)).voxel_volume_ml
    0.003
    """

    size_xyz: tuple[int, int, int]
    spacing_xyz_mm: tuple[float, float, float]
    origin_lps_mm: tuple[float, float, float]
    direction: np.ndarray = field(default_factory=lambda: np.eye(3))

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        return self.size_xyz[::-1]

    @property
    def voxel_volume_ml(self) -> float:
        return float(np.prod(self.spacing_xyz_mm)) / 1000.0

    @property
    def index_to_lps(self) -> np.ndarray:
        """`(4, 4)`: homogeneous voxel index (x, y, z) to patient position (LPS, mm)."""
        matrix = np.eye(4)
        matrix[:3, :3] = self.direction * np.asarray(self.spacing_xyz_mm)
        matrix[:3, 3] = self.origin_lps_mm
        return matrix

    @property
    def index_to_ras(self) -> np.ndarray:
        """`(4, 4)`: the same in Slicer's RAS."""
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ self.index_to_lps

    def patient_axes(self) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
        """The array axes that run nearest to S, P and L, in that order, and whether each runs the other way."""
        cosines = self.direction[::-1, ::-1]  # [i, j]: array axis j along patient axis i of S, P, L
        order = max(permutations(range(3)), key=lambda axes: np.abs(cosines[range(3), axes]).sum())
        return order, tuple(bool(cosines[i, axis] < 0) for i, axis in enumerate(order))

    def ras_mm(self, zyx: np.ndarray) -> np.ndarray:
        """Positions (RAS, mm) of voxel indices `(…, 3)` given in array order z, y, x."""
        xyz = np.asarray(zyx, float)[..., ::-1]
        matrix = self.index_to_ras
        return xyz @ matrix[:3, :3].T + matrix[:3, 3]

    def cropped(self, box: tuple[slice, slice, slice]) -> "Grid":
        """The grid of the part `box` (z, y, x) of an array on this one."""
        first = [side.start for side in box[::-1]]
        size = tuple(side.stop - side.start for side in box[::-1])
        return replace(self, size_xyz=size, origin_lps_mm=tuple((self.index_to_lps @ [*first, 1.0])[:3].tolist()))

    def same_as(self, other: "Grid", tolerance_mm: float = 1e-3) -> bool:
        """Whether every voxel of both grids lies within `tolerance_mm` of its counterpart."""
        if self.size_xyz != other.size_xyz:
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape_zyx])).reshape(3, -1).T
        return bool(np.abs(self.ras_mm(corners) - other.ras_mm(corners)).max() <= tolerance_mm)


@dataclass(frozen=True)
class Volume:
    """`array`: `(C, Z, Y, X)` HU, int16 or float32, one channel a phase; `grid`: where it lies."""

    array: np.ndarray
    grid: Grid

    def __post_init__(self) -> None:
        if self.array.shape[1:] != self.grid.shape_zyx:
            raise ValueError(f"array {self.array.shape} does not lie on a grid of {self.grid.shape_zyx}")
