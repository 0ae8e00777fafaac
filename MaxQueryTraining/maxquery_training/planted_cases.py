"""Scans with lesions planted into them, for calibration and evaluation: the truth is known voxel by voxel."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from maxquery.reading import read_case
from maxquery.volume import Volume
from maxquery_training.label_scheme import BACKGROUND, ORGAN, OUTLIER
from maxquery_training.labelled_case import LabelledCase
from maxquery_training.lesions.types import OUTLIERS
from maxquery_training.planting import TYPE_LABELS, UNKNOWN_TUMOUR, plant_lesions

LITS = {1: ORGAN, 2: UNKNOWN_TUMOUR}
_VALUES = TYPE_LABELS | dict.fromkeys(OUTLIERS, OUTLIER)


def planted_case(
    image: Path, mask: Path, kinds: Sequence[str], seed: int, labels: Mapping[int, int] = LITS
) -> LabelledCase:
    """A scan with one lesion of each of `kinds` where there is room. `labels`: what the values of its mask mean.

    Real tumours, of unknown type, are ignored; planted ones of a type that is not trained on are OUTLIER.
    """
    volume = read_case([image]).volume
    original = sitk.GetArrayFromImage(sitk.ReadImage(str(mask)))
    truth = np.full(original.shape, BACKGROUND, np.uint8)
    for value, label in labels.items():
        truth[original == value] = label
    spacing, rng = volume.grid.spacing_xyz_mm[::-1], np.random.default_rng([seed, *"".join(kinds).encode()])
    hu, truth = plant_lesions(volume.array[0], truth, spacing, kinds, rng, _VALUES)
    return LabelledCase(f"{image.name} + {', '.join(kinds)}", image.name, Volume(hu[None], volume.grid), truth,
                        UNKNOWN_TUMOUR)
