"""The OOD segment: what reaches the threshold in and around the organ, live under the slider.

Only the search region's box is looked at, on values that were rounded once: a change of the threshold costs one
comparison a voxel of it.
"""

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from vtk.util import numpy_support

from MaxQuerySegmentationLib.result_nodes import ResultNodes

SEGMENT_ID = "MaxQuery_OOD"
_STEPS = 50000  # a percentile to the two-thousandth, as uint16
_COLOUR = (1.0, 0.85, 0.1)


class OodSegment:
    """Adds the segment to `segmentation` and keeps it up to date.

    `percentile` `(K, J, I)` 0…100 and `region` bool, the search region, are the anomaly volume's; `anomaly` is its
    node, which says where they lie.
    """

    def __init__(self, segmentation, anomaly, percentile: np.ndarray, region: np.ndarray):
        self.segmentation = segmentation
        hits = [np.flatnonzero(region.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
        box = tuple(slice(int(h[0]), int(h[-1]) + 1) if h.size else slice(0, 1) for h in hits)
        # 0: outside the region, never shown.
        self._steps = np.where(region[box], np.rint(percentile[box] * (_STEPS / 100)) + 1, 0).astype(np.uint16)
        self._mask = np.zeros(self._steps.shape, np.uint8)
        self._image = slicer.vtkOrientedImageData()
        (k, j, i) = box
        self._image.SetExtent(i.start, i.stop - 1, j.start, j.stop - 1, k.start, k.stop - 1)
        scalars = numpy_support.numpy_to_vtk(self._mask.ravel(), deep=False, array_type=vtk.VTK_UNSIGNED_CHAR)
        self._image.GetPointData().SetScalars(scalars)
        matrix = vtk.vtkMatrix4x4()
        anomaly.GetIJKToRASMatrix(matrix)
        self._image.SetGeometryFromImageToWorldMatrix(matrix)

        segments = segmentation.GetSegmentation()
        if segments.GetSegment(SEGMENT_ID) is None:
            segment = slicer.vtkSegment()
            segment.SetName(_("OOD"))
            segment.SetColor(_COLOUR)
            segment.SetLabelValue(1)
            segment.AddRepresentation(segments.GetSourceRepresentationName(), self._image)
            segments.AddSegment(segment, SEGMENT_ID)
        else:
            segments.GetSegment(SEGMENT_ID).AddRepresentation(segments.GetSourceRepresentationName(), self._image)

    @classmethod
    def of(cls, result: ResultNodes) -> "OodSegment":
        """The segment of a result in the scene; everything it needs is worked out anew, so also after a reload."""
        from maxquery.search_region import search_region

        percentile = slicer.util.arrayFromVolume(result.anomaly)
        inside = np.zeros(percentile.shape, bool)
        segments = result.segmentation.GetSegmentation()
        for segment_id in map(segments.GetNthSegmentID, range(segments.GetNumberOfSegments())):
            if segment_id != SEGMENT_ID:
                inside |= (
                    slicer.util.arrayFromSegmentBinaryLabelmap(result.segmentation, segment_id, result.anomaly) > 0
                )
        spacing_zyx_mm = result.anomaly.GetSpacing()[::-1]
        return cls(result.segmentation, result.anomaly, percentile, search_region(inside, spacing_zyx_mm))

    def update(self, threshold: float) -> None:
        """Shows the voxels of the region at or above this percentile."""
        least = max(1, int(np.ceil(round(threshold * (_STEPS / 100), 6))) + 1)
        np.greater_equal(self._steps, least, out=self._mask.view(bool))
        self._image.GetPointData().GetScalars().Modified()
        self._image.Modified()
        segments = self.segmentation.GetSegmentation()
        segments.GetSegment(SEGMENT_ID).Modified()
        segments.InvokeEvent(segments.SourceRepresentationModified)

    def show(self, visible: bool) -> None:
        self.segmentation.GetDisplayNode().SetSegmentVisibility(SEGMENT_ID, visible)

    def volume_ml(self) -> float:
        return float(self._mask.sum()) * float(np.prod(self._image.GetSpacing())) / 1000
