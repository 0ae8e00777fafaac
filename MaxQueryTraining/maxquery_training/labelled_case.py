"""A scan whose truth is known voxel by voxel: what calibration and evaluation look at."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    labels, largest = torch.zeros(grid.shape_zyx, dtype=torch.uint8), torch.zeros(grid.shape_zyx)
    for value in np.unique(truth).tolist():  # one after the other, as a fine grid's shares are large
        share = grid.resample_in(truth == value)
        labels[share > largest] = int(value)
        torch.maximum(largest, share, out=largest)
    return labels


@dataclass(frozen=True)
class PreparedCase:
    """A case of a dataset that `prepare` wrote, by its set and its name there.

    `outlier`: the name of its outlier's type, where the dataset says so.
    """

    dataset: Path
    set: str
    name: str
    patient: str
    outlier: str

    def read(self) -> LabelledCase:
        document, folder = _read(self.dataset / "dataset.json"), FOLDERS[self.set]
        images = [
            self.dataset / f"images{folder}" / f"{self.name}_{channel:04d}{document['file_ending']}"
            for channel in range(len(document["channel_names"]))
        ]
        mask = sitk.ReadImage(str(self.dataset / f"labels{folder}" / f"{self.name}{document['file_ending']}"))
        return LabelledCase(
            self.name, self.patient, read_case(images).volume, sitk.GetArrayFromImage(mask),
            document["labels"]["ignore"],
        )  # fmt: skip


def prepared_cases(dataset: Path, of: str) -> list[PreparedCase]:
    """Of one set of a dataset that `prepare` wrote: train, val, test or ood."""
    cases = _read(dataset / "cases.json")
    outliers = cases.get("outliers", {})
    return [PreparedCase(dataset, of, case, cases["patients"][case], outliers.get(case, "")) for case in cases[of]]


def read_prepared(dataset: Path, sets: tuple[str, ...]) -> Iterator[LabelledCase]:
    """The cases of several sets, one at a time."""
    return (case.read() for name in sets for case in prepared_cases(dataset, name))


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))
