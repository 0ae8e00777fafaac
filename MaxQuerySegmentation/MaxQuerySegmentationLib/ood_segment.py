"""The OOD segment: what reaches the threshold, live under the slider.

What does not depend on the threshold is worked out before: where to look, and each voxel's place in the order of
scores. A move of the slider costs one comparison a voxel, and the components of what is left.
"""

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util import numpy_support

from MaxQuerySegmentationLib.anomaly_scale import AnomalyScale
from MaxQuerySegmentationLib.result_nodes import ResultNodes

SEGMENT_ID = "MaxQuery_OOD"
_COLOUR = (1.0, 0.85, 0.1)


class OodSegment:
    """Adds the segment to a result's segmentation and keeps it up to date.

    It looks in and close around organ and tumours, or `everywhere`. Everything it needs is in the scene, so that it
    works again after a reload.
    """

    def __init__(self, result: ResultNodes, scale: AnomalyScale, everywhere: bool = False):
        self.result, self.scale = result, scale
        raw = slicer.util.arrayFromVolume(result.raw)
        box, region = _region(result, everywhere)
        self._steps = scale.steps(raw[box])
        if region is not None:
            self._steps[~region] = 0
        self._mask = np.zeros(self._steps.shape, np.uint8)
        self._image = _image_over(self._mask, box, result.raw)
        segments = result.segmentation.GetSegmentation()
        segment = segments.GetSegment(SEGMENT_ID)
        if segment is None:
            segment = slicer.vtkSegment()
            segment.SetName(_("OOD"))
            segment.SetColor(_COLOUR)
            segment.SetLabelValue(1)
            segment.AddRepresentation(segments.GetSourceRepresentationName(), self._image)
            segments.AddSegment(segment, SEGMENT_ID)
        else:
            segment.AddRepresentation(segments.GetSourceRepresentationName(), self._image)

    def update(self, threshold: float, units: str, minimum_ml: float) -> None:
        """Shows the pieces, of at least `minimum_ml`, that reach this threshold."""
        mask = self._mask.view(bool)
        np.greater_equal(self._steps, self.scale.first_step(threshold, units), out=mask)
        least_voxels = minimum_ml / self._voxel_ml
        if least_voxels > 1:
            _drop_small(mask, least_voxels)
        self._image.GetPointData().GetScalars().Modified()
        self._image.Modified()
        segments = self.result.segmentation.GetSegmentation()
        segments.GetSegment(SEGMENT_ID).Modified()
        segments.InvokeEvent(segments.SourceRepresentationModified)

    def show(self, visible: bool) -> None:
        self.result.segmentation.GetDisplayNode().SetSegmentVisibility(SEGMENT_ID, visible)

    def volume_ml(self) -> float:
        return float(np.count_nonzero(self._mask)) * self._voxel_ml

    def copy_as_segments(self, title: str) -> int:
        """Adds each piece as a segment of its own, to edit, named `title` and a number; how many there were."""
        pieces = _components(self._mask.view(bool))
        segments = self.result.segmentation.GetSegmentation()
        for number in range(1, int(pieces.max()) + 1):
            image = slicer.vtkOrientedImageData()
            image.DeepCopy(self._image)
            values = numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
            values[:] = pieces.ravel() == number
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


def _region(result: ResultNodes, everywhere: bool) -> tuple[tuple[slice, ...], np.ndarray | None]:
    """A box, and the voxels of it that count (None: all of them)."""
    from maxquery.search_region import bounding_box, search_region

    shape = slicer.util.arrayFromVolume(result.raw).shape
    if everywhere:
        return tuple(slice(0, n) for n in shape), None
    inside = np.zeros(shape, bool)
    for segment_id in result.model_segments:
        inside |= slicer.util.arrayFromSegmentBinaryLabelmap(result.segmentation, segment_id, result.raw) > 0
    region = search_region(inside, result.raw.GetSpacing()[::-1])
    box = bounding_box(region) or tuple(slice(0, 1) for _axis in shape)
    return box, region[box]


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


def _drop_small(mask: np.ndarray, least_voxels: float) -> None:
    """Clears the pieces of fewer voxels, in place."""
    pieces = _components(mask)
    inside = np.flatnonzero(mask)
    numbers = pieces.reshape(-1)[inside]
    kept = np.bincount(numbers, minlength=1) >= least_voxels
    mask.reshape(-1)[inside] = kept[numbers]


def _components(mask: np.ndarray) -> np.ndarray:
    """The 26-connected pieces of `mask`, numbered from 1."""
    try:
        import cc3d
    except ImportError:  # the engine may run in another Python; Slicer's own has scipy, ten times slower
        from scipy import ndimage

        return ndimage.label(mask, np.ones((3, 3, 3)))[0]
    return cc3d.connected_components(mask, connectivity=26)
