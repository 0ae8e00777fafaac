"""Scans with lesions planted into them, for calibration and evaluation: the truth is known voxel by voxel."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from maxquery.reading import read_case
from maxquery.volume import Volume
from maxquery_training.dataset import TYPE_LABELS, UNKNOWN_TUMOUR
from maxquery_training.label_scheme import BACKGROUND, ORGAN, OUTLIER
from maxquery_training.lesions.planting import plant


@dataclass(frozen=True)
class PlantedCase:
    """`truth` `(Z, Y, X)`: the model's labels, UNKNOWN_TUMOUR for real tumours, OUTLIER for planted outliers."""

    volume: Volume
    truth: np.ndarray

    @property
    def inlier(self) -> np.ndarray:
        """Voxels of organ and planted inlier tumours."""
        return (self.truth >= ORGAN) & (self.truth < UNKNOWN_TUMOUR)


def planted_case(image: Path, mask: Path, kinds: Sequence[str], seed: int) -> PlantedCase:
    """A LiTS scan (mask: 1 liver, 2 tumour) with one lesion of each of `kinds` where there is room."""
    volume = read_case([image]).volume
    original = sitk.GetArrayFromImage(sitk.ReadImage(str(mask)))
    truth = np.where(original == 2, UNKNOWN_TUMOUR, np.where(original == 1, ORGAN, BACKGROUND)).astype(np.uint8)
    hu, rng = volume.array[0], np.random.default_rng(seed)
    for kind in kinds:
        planted = plant(hu, truth == ORGAN, volume.grid.spacing_xyz_mm[::-1], kind, rng, forbidden=truth > ORGAN)
        if planted is not None:
            hu = planted.image
            truth[planted.mask & (truth <= ORGAN)] = TYPE_LABELS.get(kind, OUTLIER)
    return PlantedCase(Volume(hu[None], volume.grid), truth)
