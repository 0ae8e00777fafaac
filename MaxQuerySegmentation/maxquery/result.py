"""What a run found, on the grid of the CT that came in."""

from dataclasses import dataclass

import numpy as np

from maxquery.labels import Label, Query
from maxquery.volume import Grid

REPORT_FORMAT = 1
"""Of report.json, which scenes keep: one more whenever what it says is no longer understood by what reads it."""


@dataclass(frozen=True)
class Finding:
    """One tumour component or one OOD region.

    `label` is the tumour type's name, or 'OOD region'. Diameters are measured in the slice (of the
    image's own stack) where the longest one lies; `queries` own at least a tenth of the finding, the
    largest share first. The centroid of a shell is the nearest of its voxels: it always lies in the finding.
    Percentiles are the anomaly percentile, 0…100.
    """

    id: int
    label: str
    ood: bool
    volume_ml: float
    longest_diameter_mm: float
    perpendicular_diameter_mm: float
    centroid_ras_mm: tuple[float, float, float]
    mean_percentile: float
    peak_percentile: float
    queries: tuple[int, ...]


@dataclass(frozen=True)
class CaseScore:
    """The paper's case-level score: mean anomaly (Eq. 9, in older models the heatmap's) over predicted tumour
    voxels (Sec. 4.2)."""

    raw: float
    percentile: float


@dataclass(frozen=True)
class Prediction:
    """Per voxel `(Z, Y, X)`: `labels` uint8, `anomaly` float16 or float32 (the bundle's score, raw), `clusters` uint8.

    `clusters` holds the owning query's index + 1, and 0 where none owns the voxel: no window was computed there, far
    from the patient or, in a run around the organ, from that. `findings`: OOD first, then the larger first.
    `case_score` is None when no tumour is predicted.
    """

    grid: Grid
    labels: np.ndarray
    anomaly: np.ndarray
    clusters: np.ndarray
    label_table: tuple[Label, ...]
    queries: tuple[Query, ...]
    findings: tuple[Finding, ...] = ()
    case_score: CaseScore | None = None

    def volumes_ml(self) -> np.ndarray:
        """`(256,)`: the volume of each label's value."""
        counts = np.zeros(256, int)
        for plane in self.labels:  # numpy counts what it has copied into 8 bytes a voxel
            counts += np.bincount(plane.ravel(), minlength=256)
        return counts * self.grid.voxel_volume_ml
