"""A scan whose truth is known voxel by voxel: what calibration and evaluation look at."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor

from maxquery.model_grid import ModelGrid
from maxquery.reading import read_case
from maxquery.volume import Volume
from maxquery_training.label_scheme import ORGAN, OUTLIER
from maxquery_training.prepare import FOLDERS


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
    values = np.unique(truth).tolist()
    shares = torch.stack([grid.resample_in(truth == value) for value in values])
    return torch.tensor(values, dtype=torch.uint8)[shares.argmax(dim=0)]


def read_prepared(dataset: Path, sets: tuple[str, ...]) -> Iterator[LabelledCase]:
    """The cases of a dataset that `prepare` wrote, one at a time; `sets` of train, val, test and ood."""
    document = json.loads((dataset / "dataset.json").read_text("utf-8"))
    cases = json.loads((dataset / "cases.json").read_text("utf-8"))
    for name in sets:
        for case in cases[name]:
            images = [
                dataset / f"images{FOLDERS[name]}" / f"{case}_{channel:04d}{document['file_ending']}"
                for channel in range(len(document["channel_names"]))
            ]
            mask = sitk.ReadImage(str(dataset / f"labels{FOLDERS[name]}" / f"{case}{document['file_ending']}"))
            yield LabelledCase(
                case, cases["patients"][case], read_case(images).volume, sitk.GetArrayFromImage(mask),
                document["labels"]["ignore"],
            )  # fmt: skip
