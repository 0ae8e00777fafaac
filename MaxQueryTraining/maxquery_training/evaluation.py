"""How good a bundle is, on patients that it neither learned from nor was calibrated on."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from maxquery.bundle import Bundle
from maxquery.prediction import PredictionParameters, RunLog, infer, predict, silent
from maxquery_training.label_scheme import OUTLIER
from maxquery_training.metrics import ScoreCounts, dice
from maxquery_training.planted_cases import PlantedCase

SCORES = ("maxquery", "max_assignment", "maxlogit", "msp")


def segmentation_figures(
    bundle: Bundle, cases: Sequence[PlantedCase], parameters: PredictionParameters
) -> dict[str, float]:
    """Mean Dice over cases by label. The organ counts with its tumours, as a liver volume does.

    Voxels of real tumours of unknown type count for the organ and are left out for the types.
    """
    found: dict[str, list[float]] = {label.name: [] for label in bundle.labels[1:]}
    for case in cases:
        labels = predict(case.volume, bundle, parameters).labels
        for label in bundle.labels[1:]:
            if label.role == "organ":
                found[label.name].append(dice(labels > 0, case.truth > 0))
            else:
                known = case.inlier | (case.truth == 0)
                found[label.name].append(dice((labels == label.value) & known, case.truth == label.value))
    return {name: round(float(np.nanmean(values)), 4) for name, values in found.items()}


def ood_localisation(
    bundle: Bundle, cases: Sequence[PlantedCase], parameters: PredictionParameters
) -> dict[str, dict[str, float]]:
    """AUROC, AUPR, FPR95 by score: planted outliers against inlier voxels of organ and tumours, all cases pooled."""
    pooled = {score: ScoreCounts() for score in SCORES}
    for case in cases:
        _, maps, _ = infer(case.volume, bundle, SCORES, parameters, silent, RunLog())
        asked = case.inlier | (case.truth == OUTLIER)
        for counts, anomaly in zip(pooled.values(), maps, strict=True):
            counts.add(anomaly[asked], case.truth[asked] == OUTLIER)
    return {
        score: {name: round(value, 4) for name, value in counts.figures().items()}
        for score, counts in pooled.items()
    }


def describe(cases: Sequence[PlantedCase]) -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cases": len(cases),
        "outlier_voxels": int(sum((case.truth == OUTLIER).sum() for case in cases)),
        "inlier_voxels": int(sum(case.inlier.sum() for case in cases)),
    }
