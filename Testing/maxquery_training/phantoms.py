"""Small CT and masks on disk, as a person who prepares a dataset has them."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

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
