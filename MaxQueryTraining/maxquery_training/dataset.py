"""Images and masks on disk become an nnU-Net raw dataset: one orientation, the labels of the model."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from maxquery_training.label_scheme import BACKGROUND, ORGAN
from maxquery_training.lesions.types import INLIERS, LESION_TYPES
from maxquery_training.stacking import stack

TYPE_LABELS: dict[str, int] = {kind: 2 + i for i, kind in enumerate(INLIERS)}
# A real tumour whose type nobody recorded: it is neither liver nor any type, so it teaches nothing.
UNKNOWN_TUMOUR = 2 + len(INLIERS)


@dataclass(frozen=True)
class TrainingCase:
    """One image with its mask.

    `labels` maps values of the mask to labels of the model, all others become background; a case
    without a mask is background everywhere. `slices` keeps a part of the stack; `above`, a case without
    organ, continues it upward. `patient` is what a split may never divide, `weight` how often the case is
    drawn beside others.
    """

    name: str
    patient: str
    image: Path
    mask: Path | None = None
    labels: Mapping[int, int] | None = None
    slices: slice = field(default_factory=lambda: slice(None))
    above: "TrainingCase | None" = None
    weight: int = 1


def write_raw_dataset(folder: Path, cases: Sequence[TrainingCase], held_out_patients: Sequence[str]) -> None:
    """nnU-Net's raw layout under `folder`, and `cases.json` with patients, weights and the split.

    Images are reoriented to LPS, because nnU-Net looks at arrays, not at directions.
    """
    for sub in ("imagesTr", "labelsTr"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    for case in cases:
        image = _lps(case.image)[:, :, case.slices]
        mask = sitk.GetArrayFromImage(_lps(case.mask)[:, :, case.slices]) if case.mask else None
        if case.above is not None:
            image = stack(image, _lps(case.above.image)[:, :, case.above.slices])
        target = np.zeros(image.GetSize()[::-1], np.uint8)
        for value, label in (case.labels or {}).items():
            target[: len(mask)][mask == value] = label
        labels = sitk.GetImageFromArray(target)
        labels.CopyInformation(image)
        sitk.WriteImage(sitk.Cast(image, sitk.sitkFloat32), str(folder / "imagesTr" / f"{case.name}_0000.nii.gz"))
        sitk.WriteImage(labels, str(folder / "labelsTr" / f"{case.name}.nii.gz"))
    document = {
        "channel_names": {"0": "CT"},
        "labels": {
            "background": BACKGROUND,
            "liver": ORGAN,
            **{LESION_TYPES[kind].name: label for kind, label in TYPE_LABELS.items()},
            "ignore": UNKNOWN_TUMOUR,
        },
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(document, indent=2))
    split = {
        "train": {c.name: c.weight for c in cases if c.patient not in held_out_patients},
        "val": {c.name: 1 for c in cases if c.patient in held_out_patients},
        "patients": {c.name: c.patient for c in cases},
    }
    (folder / "cases.json").write_text(json.dumps(split, indent=2))


def _lps(path: Path) -> sitk.Image:
    return sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
