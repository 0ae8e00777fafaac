"""From a CT to labels, anomaly and owning queries on the CT's own grid."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from torch import nn

from maxquery.anomaly import Score, scores_in_use
from maxquery.boxes import WHOLE
from maxquery.bundle import Bundle
from maxquery.findings import find, search_box
from maxquery.locate import organ_part
from maxquery.network_run import build_network, check_channels, patient_input, run_network
from maxquery.organ import keep_organ
from maxquery.parameters import PredictionParameters, RunLog, timed
from maxquery.progress import Report, silent
from maxquery.restoring import Received
from maxquery.result import CaseScore, Prediction
from maxquery.volume import Volume


def predict(
    volume: Volume,
    bundle: Bundle,
    parameters: PredictionParameters = PredictionParameters(),
    report: Report = silent,
    log: RunLog | None = None,
) -> Prediction:
    """Segments `volume` and maps its anomaly. `report(stage, fraction, message)` hears of the progress.

    The anomaly is the bundle's score. Raises InputError when the volume has other channels than the bundle or its
    score is not known here, MachineError when the device asked for is missing or memory does not suffice.

    >>> prediction = predict(read_case([path]).volume, load_bundle("liver-demo"))  # doctest: +SKIP
    """
    log = RunLog() if log is None else log
    labels, anomaly, clusters, of_case = _answer(volume, bundle, parameters, report, log)
    with timed(log, "findings"):
        report("findings", 0.0, "Measuring what was found")
        near = search_box(labels, volume.grid, parameters.findings)
        percentile = bundle.calibration.percentile(anomaly[near])
        findings = find(
            labels[near], percentile, clusters[near], volume.grid.cropped(near), bundle.labels, parameters.findings
        )
    return Prediction(
        volume.grid, labels, anomaly, clusters, bundle.labels, bundle.queries, findings, of_case
    )


def _answer(
    volume: Volume, bundle: Bundle, parameters: PredictionParameters, report: Report, log: RunLog
) -> tuple[np.ndarray, np.ndarray, np.ndarray, CaseScore | None]:
    """Labels, of one organ, the heatmap, owners + 1 and the case score; never two maps at a time."""
    received, sigma_zyx = _received(volume, bundle, scores_in_use(bundle), parameters, report, log)
    with timed(log, "restore"):
        labels, maps = received.labels, received.maps(report, sigma_zyx)
        keep_organ(labels, bundle.labels, volume.grid.voxel_volume_ml, log.warnings)
        if bundle.case_calibration:
            of_case = case_score(labels, next(maps), bundle)
            anomaly = next(maps)
        else:
            anomaly = next(maps)
            of_case = case_score(labels, anomaly, bundle)
        return labels, anomaly, received.clusters(), of_case


def infer(
    volume: Volume, bundle: Bundle, scores: Sequence[Score], parameters: PredictionParameters, report: Report,
    log: RunLog, network: nn.Module | None = None,
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:  # fmt: skip
    """What the network says of every voxel `(Z, Y, X)` of the input: labels, one raw map a score, owners + 1.

    The network is the bundle's, or another that answers as it does for the same grid and labels. Maps are smoothed as
    the bundle's own; around the patient each holds its lowest score in the patient. Raises as `predict`, which makes
    findings of it.
    """
    received, sigma_zyx = _received(volume, bundle, scores, parameters, report, log, network)
    with timed(log, "restore"):
        return received.labels, list(received.maps(report, sigma_zyx)), received.clusters()


def _received(
    volume: Volume, bundle: Bundle, scores: Sequence[Score], parameters: PredictionParameters, report: Report,
    log: RunLog, network: nn.Module | None = None,
) -> tuple[Received, tuple[float, ...]]:  # fmt: skip
    """The network's answer, and the sigma that its maps are to be smoothed with, in voxels of the model's grid."""
    check_channels(volume, bundle)
    network = network or build_network(bundle)
    with timed(log, "prepare"):
        report("prepare", 0.0, "Resampling to the model's grid")
        grid, image, body = patient_input(volume, bundle)
    part = WHOLE
    if parameters.roi == "organ":
        with timed(log, "locate"):
            part = organ_part(volume, bundle, grid, parameters, report, log)
    with timed(log, "network"):
        received = run_network(
            network, image, body, bundle, scores, parameters, report, log, partial(Received.of, grid), part
        )
    return received, tuple(bundle.smoothing_mm / step for step in bundle.spacing_zyx_mm)


def case_score(labels: np.ndarray, anomaly: np.ndarray, bundle: Bundle) -> CaseScore | None:
    """Mean raw anomaly, the first of `scores_in_use`, over predicted tumour voxels (Sec. 4.2); None without any."""
    total, voxels = 0.0, 0
    for plane, scores in zip(labels, anomaly, strict=True):
        tumour = np.isin(plane, bundle.tumour_values)
        total += float(scores[tumour].sum(dtype=np.float64))
        voxels += int(tumour.sum())
    if not voxels:
        return None
    raw = total / voxels
    table = bundle.case_calibration or bundle.calibration
    return CaseScore(raw, float(table.percentile(np.array([raw]))[0]))
