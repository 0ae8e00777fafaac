"""There is one organ: what the network scatters elsewhere is not it."""

import cc3d
import numpy as np

from maxquery.labels import Label
from maxquery.volume import Grid

# A liver of less than this is a false alarm, or a sliver at the edge of the scan that nobody can judge.
LEAST_ORGAN_ML = 20.0


def keep_organ(labels: np.ndarray, label_table: tuple[Label, ...], grid: Grid, warnings: list[str]) -> None:
    """Sets everything but the largest connected piece of organ and tumours to background, in place.

    A piece of less than 20 ml is no organ: then nothing stays. Adds to `warnings` when that is so.
    """
    organ = next(label for label in label_table if label.role == "organ")
    pieces = cc3d.connected_components(labels > 0, connectivity=6)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    largest = int(sizes.argmax())
    if sizes[largest] * grid.voxel_volume_ml < LEAST_ORGAN_ML:
        labels[:] = 0
        warnings.append(f"No {organ.name} was found: the CT may not show it, or the model does not know such images.")
        return
    labels[pieces != largest] = 0
