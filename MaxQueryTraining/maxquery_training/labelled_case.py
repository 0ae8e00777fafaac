"""A scan whose truth is known voxel by voxel: what calibration and evaluation look at."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maxquery.model_grid import ModelGrid
from maxquery.volume import Volume
from maxquery_training.label_scheme import ORGAN, OUTLIER


@dataclass(frozen=True)
class LabelledCase:
    """`truth` `(Z, Y, X)` uint8: the model's labels; `ignore`, the label after the last type, where nobody knows;
    OUTLIER for tumours of types that are never trained on."""

    name: str
    patient: str
    volume: Volume
    truth: np.ndarray
    ignore: int

    @property
    def inlier(self) -> np.ndarray:
        """Voxels of the organ and of tumours of known types."""
        return (self.truth >= ORGAN) & (self.truth < self.ignore)

    @property
    def known_tumour(self) -> np.ndarray:
        return (self.truth > ORGAN) & (self.truth < self.ignore)

    @property
    def outlier(self) -> np.ndarray:
        return self.truth == OUTLIER


def model_labels(grid: ModelGrid, truth: np.ndarray) -> Tensor:
    """`truth` `(Z, Y, X)` uint8 on the model's grid `(z, y, x)`: of each voxel the label that covers most of it."""
    labels, largest = torch.zeros(grid.shape_zyx, dtype=torch.uint8), torch.zeros(grid.shape_zyx)
    for value in np.unique(truth).tolist():  # one after the other, as a fine grid's shares are large
        share = grid.resample_in(truth == value)
        labels[share > largest] = int(value)
        torch.maximum(largest, share, out=largest)
    return labels
