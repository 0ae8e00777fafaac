"""A few real scans become many training cases: continued beyond the organ, lesions planted, on the model's grid."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from maxquery.model_grid import ModelGrid
from maxquery.volume import Grid
from maxquery_training.label_scheme import BACKGROUND, ORGAN
from maxquery_training.labelled_case import model_labels
from maxquery_training.lesions.types import LESION_TYPES
from maxquery_training.nifti_writing import write_nifti
from maxquery_training.planting import TYPE_LABELS, UNKNOWN_TUMOUR, plant_inliers
from maxquery_training.stacking import stack


@dataclass(frozen=True)
class TrainingCase:
    """One image with its mask.

    `labels` maps values of the mask to labels of the model, all others become background; a case
    without a mask is background everywhere. `slices` keeps a part of the stack; `above` and `below`, cases without
    organ, continue it. With `copies` it is written so many times, each with lesions of its own; every other one is
    continued above, every other pair below. `patient` is what a split may never divide, `weight` how often the case
    is drawn beside others.
    """

    name: str
    patient: str
    image: Path
    mask: Path | None = None
    labels: Mapping[int, int] | None = None
    slices: slice = field(default_factory=lambda: slice(None))
    above: "TrainingCase | None" = None
    below: "TrainingCase | None" = None
    copies: int = 0
    weight: int = 1

    @property
    def names(self) -> list[str]:
        """Of what it is written as."""
        return [f"{self.name}_{copy:02d}" for copy in range(self.copies)] or [self.name]


def write_raw_dataset(
    folder: Path,
    cases: Sequence[TrainingCase],
    held_out_patients: Sequence[str],
    spacing_zyx_mm: tuple[float, float, float],
    seed: int = 0,
    processes: int = 1,
) -> None:
    """nnU-Net's raw layout under `folder`, and `cases.json` with patients, weights and the split.

    Images are reoriented to LPS, because nnU-Net looks at arrays, not at directions, and lie on the model's grid
    already, so that the files are small.
    """
    for sub in ("imagesTr", "labelsTr"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    write = partial(_write_case, folder=folder, spacing_zyx_mm=spacing_zyx_mm, seed=seed)
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(write, cases))
    document = {
        "channel_names": {"0": "CT"},
        "labels": {
            "background": BACKGROUND,
            "liver": ORGAN,
            **{LESION_TYPES[kind].name: label for kind, label in TYPE_LABELS.items()},
            "ignore": UNKNOWN_TUMOUR,
        },
        "numTraining": sum(len(case.names) for case in cases),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(document, indent=2))
    split = {
        "train": {n: c.weight for c in cases if c.patient not in held_out_patients for n in c.names},
        "val": {n: 1 for c in cases if c.patient in held_out_patients for n in c.names},
        "patients": {n: c.patient for c in cases for n in c.names},
    }
    (folder / "cases.json").write_text(json.dumps(split, indent=2))


def _write_case(case: TrainingCase, folder: Path, spacing_zyx_mm: tuple[float, float, float], seed: int) -> None:
    for copy, name in enumerate(case.names):
        rng = np.random.default_rng([seed, *name.encode()])
        image, labels = _continued(case, above=copy % 2 == 0, below=copy // 2 % 2 == 0)
        hu, spacing = sitk.GetArrayFromImage(image).astype(np.float32), image.GetSpacing()[::-1]
        if case.copies:
            hu, labels = plant_inliers(hu, labels, spacing, rng)
        grid = Grid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), np.reshape(image.GetDirection(), (3, 3)))
        model_grid = ModelGrid.of(grid, spacing_zyx_mm)
        arrays = model_grid.resample_in(hu).numpy(), model_labels(model_grid, labels).numpy()
        files = folder / "imagesTr" / f"{name}_0000.nii.gz", folder / "labelsTr" / f"{name}.nii.gz"
        for array, file in zip(arrays, files, strict=True):
            resampled = sitk.GetImageFromArray(array)
            resampled.SetSpacing(spacing_zyx_mm[::-1])
            write_nifti(resampled, file)


def _continued(case: TrainingCase, above: bool, below: bool) -> tuple[sitk.Image, np.ndarray]:
    """The image with what continues it on either side, if it has that, and its labels `(Z, Y, X)`."""
    image = _lps(case.image)[:, :, case.slices]
    labels = np.zeros(image.GetSize()[::-1], np.uint8)
    if case.mask:
        mask = sitk.GetArrayFromImage(_lps(case.mask)[:, :, case.slices])
        for value, label in case.labels.items():
            labels[mask == value] = label
    for side, other in (("above", case.above if above else None), ("below", case.below if below else None)):
        if other is not None:
            image = stack(image, _lps(other.image)[:, :, other.slices], side)
            more = image.GetDepth() - len(labels)
            labels = np.pad(labels, ((0, more) if side == "above" else (more, 0), (0, 0), (0, 0)))
    return image, labels


def _lps(path: Path) -> sitk.Image:
    return sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
