"""The percentile table: what inlier voxels of patients that the model never saw score."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from maxquery.bundle import Bundle
from maxquery.calibration import CalibrationTable
from maxquery.prediction import PredictionParameters, predict
from maxquery_training.labelled_case import LabelledCase


def calibrate(bundle: Bundle, cases: Iterable[LabelledCase], parameters: PredictionParameters) -> Bundle:
    """The bundle with the table of raw anomaly over the inlier foreground of `cases`, predicted as in use."""
    samples = [predict(case.volume, bundle, parameters).anomaly[case.inlier] for case in cases]
    return replace(bundle, calibration=CalibrationTable.from_samples(np.concatenate(samples).astype(np.float32)))
