"""How good a bundle is, on patients that it neither learned from nor was calibrated on."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from maxquery.bundle import Bundle
from maxquery.prediction import PredictionParameters, predict
from maxquery_training.metrics import dice, ood_figures
from maxquery_training.planted_cases import OUTLIER, PlantedCase

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
    figures = {}
    for score in SCORES:
        scores, outlier = [], []
        for case in cases:
            anomaly = predict(case.volume, bundle, replace(parameters, score=score)).anomaly
            asked = case.inlier | (case.truth == OUTLIER)
            scores.append(anomaly[asked].astype(np.float32))
            outlier.append(case.truth[asked] == OUTLIER)
        pooled = ood_figures(np.concatenate(scores), np.concatenate(outlier))
        figures[score] = {name: round(value, 4) for name, value in pooled.items()}
    return figures


def describe(cases: Sequence[PlantedCase]) -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cases": len(cases),
        "outlier_voxels": int(sum((case.truth == OUTLIER).sum() for case in cases)),
        "inlier_voxels": int(sum(case.inlier.sum() for case in cases)),
    }
