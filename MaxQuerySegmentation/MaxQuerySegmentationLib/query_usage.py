"""How much each query owns in a case, and how strongly it responds there."""

from dataclasses import dataclass

import numpy as np
import slicer

from MaxQuerySegmentationLib.result_nodes import ResultNodes


@dataclass(frozen=True)
class QueryUsage:
    """`volume_ml` and `mean_response` of each query, `(N,)` both.

    `mean_response` is NaN where the query owns nothing, and where the model's own score is another than Eq. 9: its map
    says nothing of responses.
    """

    volume_ml: np.ndarray
    mean_response: np.ndarray

    @classmethod
    def of(cls, result: ResultNodes) -> "QueryUsage":
        """The owner's response is the largest, and Eq. 9 is minus that: nothing more is needed."""
        queries = len(result.report["queries"])
        voxels, sums = np.zeros(queries), np.zeros(queries)
        # Slice by slice: `bincount` makes copies of what it counts, 16 bytes a voxel.
        clusters, raw = (slicer.util.arrayFromVolume(node) for node in (result.clusters, result.raw))
        for owners, scores in zip(clusters, raw, strict=True):
            voxels += np.bincount(owners.ravel(), minlength=queries + 1)[1 : queries + 1]
            sums += np.bincount(owners.ravel(), weights=scores.ravel(), minlength=queries + 1)[1 : queries + 1]
        voxel_ml = float(np.prod(result.raw.GetSpacing())) / 1000
        known = voxels if result.shows_eq_9 else np.zeros_like(voxels)
        with np.errstate(invalid="ignore"):
            return cls(voxels * voxel_ml, -sums / np.where(known, known, np.nan))
