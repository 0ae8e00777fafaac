"""All queries' responses in a region: one query's map over the CT, one place, or one slice of all."""

from collections.abc import Sequence

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from MaxQuerySegmentationLib.ct_input import ROLE, in_own_frame
from MaxQuerySegmentationLib.result_nodes import remove_node


class ResponseViews:
    """Views of R `(N, z, y, x)`; `to_ras` `(4, 4)` is where its voxels (x, y, z) lie in the CT's own frame, mm.

    `groups`: the group of each query. A transform above the CT is the map's, too.
    """

    def __init__(self, scene, ct, values: np.ndarray, to_ras: np.ndarray, groups: Sequence[str]):
        self.scene, self.ct, self.values, self.groups = scene, ct, values, np.array(groups)
        self._to_voxel = np.linalg.inv(to_ras)
        self.volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", _("Query response"))
        self.volume.SetSaveWithScene(False)
        self.volume.SetAttribute(ROLE, "response")
        matrix = slicer.util.vtkMatrixFromArray(to_ras)
        self.volume.SetIJKToRASMatrix(matrix)
        self.volume.SetAndObserveTransformNodeID(ct.GetTransformNodeID())
        self.volume.CreateDefaultDisplayNodes()

    def map_of(self, query: int | str) -> None:
        """Fills the volume with one query's responses, or with M summed over a group (Eq. 5)."""
        if isinstance(query, str):
            shares = np.exp(self.values - self.values.max(axis=0))
            picture = shares[self.groups == query].sum(axis=0) / shares.sum(axis=0)
        else:
            picture = self.values[query]
        slicer.util.updateVolumeFromArray(self.volume, np.ascontiguousarray(picture, np.float32))

    def at(self, ras_mm: Sequence[float]) -> np.ndarray | None:
        """R `(N,)` of the voxel at a place in the world, None outside the region."""
        x, y, z = np.rint((self._to_voxel @ [*in_own_frame(self.ct, ras_mm), 1.0])[:3]).astype(int)
        depth, height, width = self.values.shape[1:]
        if not (0 <= z < depth and 0 <= y < height and 0 <= x < width):
            return None
        return self.values[:, z, y, x]

    def axial_slice(self, local_ras_mm: Sequence[float]) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
        """The slice of R nearest to a place in the CT's own frame.

        The CT there `(Y, X)` in HU, R `(N, Y, X)`, and a pixel's height and width, mm; right is on the left.
        """
        depth, height, width = self.values.shape[1:]
        z = int(np.clip(np.rint((self._to_voxel @ [*local_ras_mm, 1.0])[2]), 0, depth - 1))
        y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        voxels = np.stack([x, y, np.full_like(x, z), np.ones_like(x)], axis=-1)
        to_ras = np.linalg.inv(self._to_voxel)
        from_ras = vtk.vtkMatrix4x4()
        self.ct.GetRASToIJKMatrix(from_ras)
        ijk = np.rint(voxels @ (slicer.util.arrayFromVTKMatrix(from_ras) @ to_ras).T)[..., :3].astype(int)
        hu = slicer.util.arrayFromVolume(self.ct)
        i, j, k = (np.clip(ijk[..., axis], 0, size - 1) for axis, size in enumerate(hu.shape[::-1]))
        pixel_mm = np.linalg.norm(to_ras[:3, :2], axis=0)
        return hu[k, j, i], self.values[:, z], (float(pixel_mm[1]), float(pixel_mm[0]))

    def remove(self) -> None:
        remove_node(self.scene, self.volume)
