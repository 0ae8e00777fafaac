"""There is one organ: what the network scatters elsewhere is not it."""

import cc3d
import numpy as np

from maxquery.boxes import Box, bounding_box, shifted
from maxquery.labels import Label

# A liver of less than this is a false alarm, or a sliver at the edge of the scan that nobody can judge.
LEAST_ORGAN_ML = 20.0


def largest_piece(inside: np.ndarray, voxel_ml: float) -> tuple[Box, np.ndarray] | None:
    """Of organ and tumours, what is not 0 in `inside` `(Z, Y, X)`, the largest connected piece: a box, and the mask in
    it. None where that is less than 20 ml, and so no organ."""
    box = bounding_box(inside)
    if box is None:
        return None
    pieces = cc3d.connected_components(inside[box] != 0, connectivity=6)
    statistics = cc3d.statistics(pieces)
    sizes = statistics["voxel_counts"][1:]
    largest = 1 + int(sizes.argmax())
    if sizes[largest - 1] * voxel_ml < LEAST_ORGAN_ML:
        return None
    within = statistics["bounding_boxes"][largest]
    return shifted(within, box), pieces[within] == largest


def keep_organ(labels: np.ndarray, label_table: tuple[Label, ...], voxel_ml: float, warnings: list[str]) -> None:
    """Sets everything but the largest connected piece of organ and tumours to background, in place.

    Where that is no organ nothing stays, and `warnings` say so.
    """
    found = largest_piece(labels, voxel_ml)
    if found is None:
        organ = next(label for label in label_table if label.role == "organ")
        labels[:] = 0
        warnings.append(f"No {organ.name} was found: the CT may not show it, or the model does not know such images.")
        return
    box, mask = found
    kept = np.where(mask, labels[box], 0)
    labels[:] = 0
    labels[box] = kept
