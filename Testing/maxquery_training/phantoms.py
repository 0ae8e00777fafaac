"""Small CT and masks on disk, as a person who prepares a dataset has them."""

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from maxquery_training.dataset import TrainingCase
from maxquery_training.label_scheme import ORGAN
from maxquery_training.planting import UNKNOWN_TUMOUR

SCHEME = {
    "organ": {"name": "liver", "values": [1]},
    "types": [{"name": "HCC", "values": [2]}, {"name": "cyst", "values": [3, 4]}],
    "ignore": [5],
    "outlier": [6],
}
SIZE_ZYX = (20, 24, 28)


def write_image(path: Path, array: np.ndarray, direction=(1, 0, 0, 0, 1, 0, 0, 0, 1), origin=(0, 0, 0)) -> str:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((2.0, 2.0, 3.0))
    image.SetOrigin(origin)
    image.SetDirection(direction)
    sitk.WriteImage(image, str(path))
    return path.name


def ct(seed: int = 0) -> np.ndarray:
    """int16 HU: a body in air, with the grain of a scan."""
    hu = np.full(SIZE_ZYX, -1000.0)
    hu[:, 3:-3, 3:-3] = 50
    return (hu + np.random.default_rng(seed).normal(0, 12, SIZE_ZYX)).round().clip(-1024).astype(np.int16)


def mask(tumour: int = 0) -> np.ndarray:
    """A liver (1), with a tumour of that value in it."""
    labels = np.zeros(SIZE_ZYX, np.uint8)
    labels[4:16, 6:18, 6:14] = 1
    if tumour:
        labels[8:11, 8:11, 8:11] = tumour
    return labels


def write_pairs(folder: Path, tumours: tuple[int, ...]) -> Path:
    """The folder `cases` with `0_ct.nii.gz`, `0_seg.nii.gz`, …, with a tumour of that value; `labels.json` beside."""
    (folder / "cases").mkdir()
    for number, tumour in enumerate(tumours):
        write_image(folder / "cases" / f"{number}_ct.nii.gz", ct(number))
        write_image(folder / "cases" / f"{number}_seg.nii.gz", mask(tumour))
    (folder / "labels.json").write_text(json.dumps(SCHEME))
    return folder / "cases"


def training_case(folder: Path, name: str, seed: int) -> TrainingCase:
    """A body with a liver, in which a real tumour of unknown type lies; its weight is the seed."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in (16, 48, 48)], indexing="ij")
    mask = ((z / 0.9) ** 2 + ((y - 0.1) / 0.6) ** 2 + ((x + 0.2) / 0.6) ** 2 < 1).astype(np.uint8)
    mask[(z**2 + y**2 + (x + 0.4) ** 2) < 0.03] = 2
    hu = np.where(y**2 + x**2 < 0.95, 40, -160) + 60 * (mask == 1) + rng.normal(0, 10, z.shape)
    for kind, array in (("ct", hu.clip(-160, 240).astype(np.int16)), ("seg", mask)):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((3.0, 3.0, 4.0))
        sitk.WriteImage(image, str(folder / f"{name}_{kind}.nii.gz"))
    labels = {1: ORGAN, 2: UNKNOWN_TUMOUR}
    return TrainingCase(name, name, folder / f"{name}_ct.nii.gz", folder / f"{name}_seg.nii.gz", labels, weight=seed)
