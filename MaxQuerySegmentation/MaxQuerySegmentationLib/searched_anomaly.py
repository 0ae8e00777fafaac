"""A result's anomaly where it counts: the scores of the search region, ready for thresholds and units."""

import numpy as np
import slicer

from MaxQuerySegmentationLib.anomaly_scale import AnomalyScale
from MaxQuerySegmentationLib.result_nodes import ResultNodes


class SearchedAnomaly:
    """The scores in and close around organ and tumours, or `everywhere`.

    `box`: slices `(Z, Y, X)` of the volume, outside of which nothing is searched; `steps`: each voxel's step of the
    `scale` in that box, uint16, 0 where it is not searched. Everything it needs is in the scene, so that it works
    again after a reload.
    """

    def __init__(self, result: ResultNodes, scale: AnomalyScale, everywhere: bool = False):
        self.scale = scale
        raw = slicer.util.arrayFromVolume(result.raw)
        self.box, region = _region(result, everywhere)
        self.steps = scale.steps(raw[self.box])
        if region is not None:
            self.steps[~region] = 0

    def in_units(self, units: str) -> np.ndarray:
        """The scores of the box, float32; the map's lowest one where nothing is searched."""
        return self.scale.values(self.steps, units)


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
