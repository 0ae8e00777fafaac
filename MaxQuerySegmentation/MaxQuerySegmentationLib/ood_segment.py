"""The OOD segment: what reaches the threshold, live under the slider.

What does not depend on the threshold is worked out before: each voxel's place in the order of scores, and the lowest
place in a ball around it. A move of the slider costs two comparisons a voxel, and the components of what is left.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util import numpy_support

from MaxQuerySegmentationLib.result_nodes import ResultNodes
from MaxQuerySegmentationLib.searched_anomaly import SearchedAnomaly

SEGMENT_ID = "MaxQuery_OOD"
_COLOUR = (0.0, 1.0, 0.9)  # of no type, nor of the heat


class OodSegment:
    """Adds the segment to a result's segmentation and keeps it up to date.

    Its pieces are the engine's OOD regions, at any threshold: connected by faces, edges or corners, and thick enough to
    hold a ball of `LEAST_THICKNESS_MM` somewhere.
    """

    def __init__(self, result: ResultNodes, anomaly: SearchedAnomaly):
        from maxquery.search_region import LEAST_THICKNESS_MM

        self.result, self._anomaly = result, anomaly
        self._lowest_in_ball = _lowest_in_ball(anomaly.steps, LEAST_THICKNESS_MM / 2, result.raw.GetSpacing()[::-1])
        self._mask, self._voxels = np.zeros(anomaly.steps.shape, np.uint8), 0
        self._attach()

    def _attach(self) -> None:
        """Makes the segment, or takes over the one of an earlier time."""
        self._image = _image_over(self._mask, self._anomaly.box, self.result.raw)
        self._scalars = self._image.GetPointData().GetScalars()
        segments, segment = self.result.segmentation.GetSegmentation(), self._segment()
        is_new = segment is None
        if is_new:
            segment = slicer.vtkSegment()
            segment.SetName(_("OOD"))
            segment.SetColor(_COLOUR)
        segment.SetLabelValue(1)  # it had another where it shared an image with other segments
        segment.AddRepresentation(segments.GetSourceRepresentationName(), self._image)
        if is_new:
            segments.AddSegment(segment, SEGMENT_ID)

    def update(self, threshold: float, units: str, minimum_ml: float) -> None:
        """Shows the pieces, of at least `minimum_ml`, that reach this threshold."""
        mask = self._mask.view(bool)
        first = self._anomaly.scale.first_step(threshold, units)
        np.greater_equal(self._anomaly.steps, first, out=mask)
        self._voxels = _keep_pieces(mask, self._lowest_in_ball, first, minimum_ml / self._voxel_ml)
        if self._is_attached():
            self._scalars.Modified()
            self._image.Modified()  # the views follow
        else:  # deleted, saved (a file's segments share their images), or Segment Editor has cut its image to size
            self._attach()

    def settle(self) -> None:
        """Tells the rest of Slicer, which takes its time, and marks the segmentation as not yet saved."""
        if self._segment() is not None:
            self._segment().Modified()

    def _is_attached(self) -> bool:
        segment, segments = self._segment(), self.result.segmentation.GetSegmentation()
        if segment is None or segment.GetRepresentation(segments.GetSourceRepresentationName()) is not self._image:
            return False
        return self._image.GetPointData().GetScalars() is self._scalars

    def _segment(self):
        return self.result.segmentation.GetSegmentation().GetSegment(SEGMENT_ID)

    def show(self, visible: bool) -> None:
        self.result.segmentation.GetDisplayNode().SetSegmentVisibility(SEGMENT_ID, visible)

    def volume_ml(self) -> float:
        return self._voxels * self._voxel_ml

    def copy_as_segments(self, title: str) -> int:
        """Adds each piece as a segment of its own, to edit, named `title` and a number; how many there were."""
        pieces = _components(self._mask.view(bool))
        segments = self.result.segmentation.GetSegmentation()
        for number in range(1, int(pieces.max()) + 1):
            image = slicer.vtkOrientedImageData()
            image.DeepCopy(_image_over((pieces == number).astype(np.uint8), self._anomaly.box, self.result.raw))
            segment = slicer.vtkSegment()
            segment.SetName(f"{title} {number}")
            segment.SetLabelValue(1)
            segment.SetColor(_COLOUR)
            segment.AddRepresentation(segments.GetSourceRepresentationName(), image)
            segments.AddSegment(segment)
        return int(pieces.max())

    @property
    def _voxel_ml(self) -> float:
        return float(np.prod(self.result.raw.GetSpacing())) / 1000


def _image_over(mask: np.ndarray, box: tuple[slice, ...], volume):
    """A segment's image, which shares the memory of `mask`, the voxels of `box` of a volume node."""
    image = slicer.vtkOrientedImageData()
    k, j, i = box
    image.SetExtent(i.start, i.stop - 1, j.start, j.stop - 1, k.start, k.stop - 1)
    image.GetPointData().SetScalars(
        numpy_support.numpy_to_vtk(mask.ravel(), deep=False, array_type=vtk.VTK_UNSIGNED_CHAR)
    )
    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    image.SetGeometryFromImageToWorldMatrix(matrix)
    return image


def _lowest_in_ball(steps: np.ndarray, radius_mm: float, spacing_zyx_mm: Sequence[float]) -> np.ndarray:
    """The lowest step nearer than `radius_mm` to each voxel; 0 lies around the box.

    What is at or above a threshold there is the middle of a ball of voxels that all are. It is
    `ndimage.minimum_filter` with a ball for its footprint, row by row: three times as fast, while a person waits.
    """
    from scipy import ndimage

    reach = [math.ceil(radius_mm / mm) - 1 for mm in spacing_zyx_mm]
    padded = np.pad(steps, [(reach[0],) * 2, (reach[1],) * 2, (0, 0)])
    along_rows: dict[int, np.ndarray] = {}
    lowest = steps.copy()
    for z, y in itertools.product(range(2 * reach[0] + 1), range(2 * reach[1] + 1)):
        across_mm = math.hypot((z - reach[0]) * spacing_zyx_mm[0], (y - reach[1]) * spacing_zyx_mm[1])
        if across_mm >= radius_mm:
            continue
        half = math.ceil(math.sqrt(radius_mm**2 - across_mm**2) / spacing_zyx_mm[2]) - 1
        if half not in along_rows:
            along_rows[half] = ndimage.minimum_filter1d(padded, 2 * half + 1, axis=2, mode="constant")
        np.minimum(lowest, along_rows[half][z : z + len(steps), y : y + steps.shape[1]], out=lowest)
    return lowest


def _keep_pieces(mask: np.ndarray, lowest_in_ball: np.ndarray, first: int, least_voxels: float) -> int:
    """Clears, in place, the pieces of fewer voxels and those that hold no ball of steps from `first` on.

    Returns how many voxels are left.
    """
    inside = np.flatnonzero(mask)
    numbers = _components(mask).reshape(-1)[inside]
    sizes = np.bincount(numbers, minlength=1)
    thick = lowest_in_ball.reshape(-1)[inside] >= first
    kept = (sizes >= least_voxels) & (np.bincount(numbers[thick], minlength=len(sizes)) > 0)
    mask.reshape(-1)[inside] = kept[numbers]
    return int(sizes[kept].sum())


def _components(mask: np.ndarray) -> np.ndarray:
    """The 26-connected pieces of `mask`, numbered from 1."""
    try:
        import cc3d
    except ImportError:  # the engine may run in another Python; Slicer's own has scipy, ten times slower
        from scipy import ndimage

        return ndimage.label(mask, np.ones((3, 3, 3)))[0]
    return cc3d.connected_components(mask, connectivity=26)
