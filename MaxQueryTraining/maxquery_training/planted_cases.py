"""Scans with lesions planted into them, for calibration and evaluation: the truth is known voxel by voxel."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from maxquery.reading import read_case
from maxquery.volume import Volume
from maxquery_training.dataset import TYPE_LABELS, UNKNOWN_TUMOUR
from maxquery_training.label_scheme import BACKGROUND, ORGAN, OUTLIER
from maxquery_training.labelled_case import LabelledCase
from maxquery_training.lesions.planting import plant


def planted_case(image: Path, mask: Path, kinds: Sequence[str], seed: int) -> LabelledCase:
    """A LiTS scan (mask: 1 liver, 2 tumour) with one lesion of each of `kinds` where there is room.

    Real tumours, of unknown type, are ignored; planted ones of a type that is not trained on are OUTLIER.
    """
    volume = read_case([image]).volume
    original = sitk.GetArrayFromImage(sitk.ReadImage(str(mask)))
    truth = np.where(original == 2, UNKNOWN_TUMOUR, np.where(original == 1, ORGAN, BACKGROUND)).astype(np.uint8)
    hu, rng = volume.array[0], np.random.default_rng(seed)
    for kind in kinds:
        planted = plant(hu, truth == ORGAN, volume.grid.spacing_xyz_mm[::-1], kind, rng, forbidden=truth > ORGAN)
        if planted is not None:
            hu = planted.image
            truth[planted.mask & (truth <= ORGAN)] = TYPE_LABELS.get(kind, OUTLIER)
    return LabelledCase(f"{image.name} + {', '.join(kinds)}", image.name, Volume(hu[None], volume.grid), truth,
                        UNKNOWN_TUMOUR)
