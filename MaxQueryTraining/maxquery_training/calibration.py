"""The percentile tables: what inlier voxels of patients that the model never saw score."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from maxquery.anomaly import maxquery, score_of
from maxquery.bundle import Bundle
from maxquery.calibration import CalibrationTable
from maxquery.errors import InputError
from maxquery.prediction import PredictionParameters, RunLog, infer
from maxquery.progress import silent
from maxquery_training.labelled_case import LabelledCase


def calibrate(bundle: Bundle, cases: Iterable[LabelledCase], parameters: PredictionParameters) -> Bundle:
    """The bundle with the tables of its heatmap and, if that shows another score, of Eq. 9 for case scores: over the
    inlier foreground of `cases`, predicted as in use. Raises InputError where they have none."""
    scores = [score_of(bundle)] if bundle.score == "maxquery" else [score_of(bundle), maxquery]
    samples: list[list[np.ndarray]] = [[] for _ in scores]
    for case in cases:
        _, maps, _ = infer(case.volume, bundle, scores, parameters, silent, RunLog())
        for sampled, anomaly in zip(samples, maps, strict=True):
            sampled.append(anomaly[case.inlier])
    if not any(map(len, samples[0])):
        message = "In no case to calibrate on is the organ, or a known tumour, labelled."
        raise InputError("calibration", message, "Prepare the dataset again, from more patients with labels.")
    heatmap, *of_case = (CalibrationTable.from_samples(np.concatenate(s).astype(np.float32)) for s in samples)
    return replace(bundle, calibration=heatmap, case_calibration=of_case[0] if of_case else None)
