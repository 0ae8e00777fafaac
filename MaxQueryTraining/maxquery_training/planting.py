"""Synthetic lesions by the handful, with the labels of their types."""

from collections.abc import Mapping, Sequence

import numpy as np

from maxquery_training.label_scheme import ORGAN
from maxquery_training.lesions.planting import plant
from maxquery_training.lesions.types import INLIERS, LesionType

TYPE_LABELS: dict[str, int] = {kind: ORGAN + 1 + i for i, kind in enumerate(INLIERS)}
# A real tumour whose type nobody recorded: it is neither liver nor any type, so it teaches nothing.
UNKNOWN_TUMOUR = ORGAN + 1 + len(INLIERS)

# Log-uniform for every type. As patients have them, most cysts and metastases are a few voxels of a coarse
# grid: a hundredth of a percent of what the network sees, and it does not learn them.
_DIAMETERS_MM = (10.0, 70.0)
_MOST = 14  # in one scan
_ATTEMPTS = 5  # each with an outline of its own, and a size where none is given


def plant_lesions(
    image_hu: np.ndarray,
    labels: np.ndarray,
    spacing_zyx_mm: Sequence[float],
    kinds: Sequence[str | LesionType],
    rng: np.random.Generator,
    values: Mapping[str, int],
    diameters_mm: Sequence[float | None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The CT and its labels `(Z, Y, X)` with one lesion of each of `kinds` where there is room, both new arrays.

    Lesions grow where the label is ORGAN and leave what is labelled above it as it is. `values`: the label of
    each kind; `diameters_mm`: one a lesion, None to draw it as the type has it.
    """
    labels = labels.copy()
    for kind, diameter_mm in zip(kinds, diameters_mm or [None] * len(kinds), strict=True):
        attempts = (
            plant(
                image_hu, labels == ORGAN, tuple(spacing_zyx_mm), kind, rng, forbidden=labels > ORGAN,
                diameter_mm=diameter_mm,
            )
            for _ in range(_ATTEMPTS)
        )  # fmt: skip
        planted = next(filter(None, attempts), None)
        if planted is not None:
            image_hu = planted.image
            key = kind if isinstance(kind, str) else kind.key
            labels[planted.mask & (labels <= ORGAN)] = values[key]
    return image_hu, labels


def plant_inliers(
    image_hu: np.ndarray,
    labels: np.ndarray,
    spacing_zyx_mm: Sequence[float],
    rng: np.random.Generator,
    values: Mapping[str, int] = TYPE_LABELS,
) -> tuple[np.ndarray, np.ndarray]:
    """Some lesions to learn from, or none: each kind in `values` drawn equally often and equally large."""
    count = int(rng.integers(0, _MOST + 1))
    kinds = [str(kind) for kind in rng.choice(list(values), size=count)]
    diameters_mm = np.exp(rng.uniform(*np.log(_DIAMETERS_MM), size=count)).tolist()
    return plant_lesions(image_hu, labels, spacing_zyx_mm, kinds, rng, values, diameters_mm)
