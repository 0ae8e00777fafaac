"""How results look wherever they are shown: the CT's window, the heatmap's colours, where to look first."""

import numpy as np
from scipy import ndimage

from maxquery.boxes import bounding_box
from maxquery.result import Finding, Prediction

CT_WINDOW_HU = (-160.0, 240.0)
HEAT_RANGE = (95.0, 100.0)
"""Anomaly percentiles that get a colour; nothing is drawn below the first."""

# From violet to pale yellow, lightness rising evenly (CIELAB L* 35 to 95): rank stays readable in
# grey and for colour-blind eyes, and the lowest colour still stands out from soft tissue.
_HEAT_ANCHORS = np.array([
    (122, 31, 125), (171, 39, 111), (214, 62, 78), (243, 106, 42), (252, 160, 37), (250, 209, 90),
    (252, 245, 180),
], float)


def heat_colours(count: int = 256) -> np.ndarray:
    """The heatmap's colours, lowest first: `(count, 3)` sRGB 0…1."""
    position = np.linspace(0, len(_HEAT_ANCHORS) - 1, count)
    steps = np.arange(len(_HEAT_ANCHORS))
    return np.stack([np.interp(position, steps, channel) for channel in _HEAT_ANCHORS.T], axis=1) / 255.0


def main_finding(findings: tuple[Finding, ...]) -> Finding | None:
    """The finding to look at first: the largest that is OOD, else the largest."""
    ood = [finding for finding in findings if finding.ood]
    return max(ood or findings, key=lambda finding: finding.volume_ml, default=None)


def first_look_ras_mm(prediction: Prediction) -> np.ndarray:
    """Where a viewer should open `(3,)`: the main finding, else the organ's centre, else the image's."""
    finding = main_finding(prediction.findings)
    if finding is not None:
        return np.asarray(finding.centroid_ras_mm, float)
    organ = next(label.value for label in prediction.label_table if label.role == "organ")
    inside = prediction.labels == organ
    box = bounding_box(inside)
    if box is None:
        centre = (np.array(inside.shape) - 1) / 2
    else:
        centre = [side.start for side in box] + np.array(ndimage.center_of_mass(inside[box]))
    return prediction.grid.ras_mm(np.asarray(centre))
