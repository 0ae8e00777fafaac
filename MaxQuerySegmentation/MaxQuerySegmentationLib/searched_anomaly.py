"""A result's anomaly where it counts: the scores of the search region, ready for thresholds and units."""

import numpy as np
import slicer

from MaxQuerySegmentationLib.anomaly_scale import AnomalyScale
from MaxQuerySegmentationLib.result_nodes import ResultNodes

Box = tuple[slice, slice, slice]
_ONE_VOXEL: Box = (slice(0, 1),) * 3


class SearchedAnomaly:
    """The scores in and close around organ and tumours, or `everywhere` that a threshold can reach.

    `box`: slices `(Z, Y, X)` of the volume, outside of which nothing is searched; `steps`: each voxel's step of the
    `scale` in that box, uint16, 0 where it is not searched. Everything it needs is in the scene, so that it works
    again after a reload.
    """

    def __init__(self, result: ResultNodes, scale: AnomalyScale, everywhere: bool = False):
        self.scale = scale
        raw = slicer.util.arrayFromVolume(result.raw)
        self.box, region = (_reached(raw, scale), None) if everywhere else _region(result)
        self.steps = scale.steps(raw[self.box])
        if region is not None:
            self.steps[~region] = 0


def _region(result: ResultNodes) -> tuple[Box, np.ndarray]:
    """A box, and the voxels of it that count."""
    from maxquery.boxes import bounding_box
    from maxquery.search_region import search_region

    inside = np.zeros(slicer.util.arrayFromVolume(result.raw).shape, bool)
    for segment_id in result.model_segments:
        inside |= slicer.util.arrayFromSegmentBinaryLabelmap(result.segmentation, segment_id, result.raw) > 0
    region = search_region(inside, result.raw.GetSpacing()[::-1])
    box = bounding_box(region) or _ONE_VOXEL
    return box, region[box]


def _reached(raw: np.ndarray, scale: AnomalyScale) -> Box:
    """The box of what the lowest threshold reaches."""
    from maxquery.boxes import bounding_box

    return bounding_box(raw >= scale.bounds("raw")[0]) or _ONE_VOXEL
