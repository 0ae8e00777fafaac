"""Organ, tumours and OOD region as surfaces in the 3D views."""

from MaxQuerySegmentationLib.result_nodes import ResultNodes

_ORGAN_OPACITY = 0.3  # so that what lies in it can be seen


class Surfaces:
    """Of a result's segmentation; made when a person asks for them.

    MRML drops the surfaces of a segmentation when one of its segments changes: `show` makes them anew.
    """

    def __init__(self, result: ResultNodes):
        self._segmentation = result.segmentation
        result.segmentation.GetDisplayNode().SetSegmentOpacity3D(result.organ_segment, _ORGAN_OPACITY)

    def show(self) -> None:
        self._segmentation.CreateClosedSurfaceRepresentation()

    def hide(self) -> None:
        self._segmentation.RemoveClosedSurfaceRepresentation()
