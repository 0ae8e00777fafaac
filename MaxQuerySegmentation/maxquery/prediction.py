"""From a CT to labels, anomaly and owning queries on the CT's own grid."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from maxquery.anomaly import SCORES, Score
from maxquery.boxes import WHOLE
from maxquery.bundle import Bundle
from maxquery.findings import find, search_box
from maxquery.locate import organ_part
from maxquery.model_grid import ModelGrid
from maxquery.network_run import build_network, check_channels, foreground, patient_input, run_network
from maxquery.organ import keep_organ
from maxquery.parameters import PredictionParameters, Report, RunLog, silent, timed
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

    Raises InputError when the volume has other channels than the bundle, MachineError when the device
    asked for is missing or memory does not suffice.

    >>> prediction = predict(read_case([path]).volume, load_bundle("liver-demo"))  # doctest: +SKIP
    """
    log = RunLog() if log is None else log
    labels, (anomaly,), clusters = infer(volume, bundle, (SCORES[parameters.score],), parameters, report, log)
    with timed(log, "findings"):
        report("findings", 0.0, "Measuring what was found")
        keep_organ(labels, bundle.labels, volume.grid.voxel_volume_ml, log.warnings)
        near = search_box(labels > 0, volume.grid, parameters.findings)
        percentile = bundle.calibration.percentile(anomaly[near])
        findings = find(
            labels[near], percentile, clusters[near], volume.grid.cropped(near), bundle.labels, parameters.findings
        )
    return Prediction(
        volume.grid, labels, anomaly, clusters, bundle.labels, bundle.queries, findings,
        case_score(labels, anomaly, bundle),
    )  # fmt: skip


def infer(
    volume: Volume, bundle: Bundle, scores: Sequence[Score], parameters: PredictionParameters, report: Report,
    log: RunLog, network: nn.Module | None = None,
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:  # fmt: skip
    """What the network says of every voxel `(Z, Y, X)` of the input: labels, one raw map a score, owners + 1.

    The network is the bundle's, or another that answers as it does for the same grid and labels. Around the
    patient each map holds its lowest score in the patient. Raises as `predict`, which makes findings of it.
    """
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
        stitched = run_network(network, image, body, bundle, scores, parameters, report, log, part)
    with timed(log, "restore"):
        labels, maps = _restore(grid, stitched.channels, len(bundle.labels), volume.grid.shape_zyx, report)
        clusters = np.empty(volume.grid.shape_zyx, np.uint8)
        grid.nearest_out(stitched.owner.cpu().numpy(), clusters)
    return labels, maps, clusters


def case_score(labels: np.ndarray, anomaly: np.ndarray, bundle: Bundle) -> CaseScore | None:
    """Mean raw anomaly over predicted tumour voxels (Sec. 4.2); None without any."""
    tumour = np.isin(labels, bundle.tumour_values)
    if not tumour.any():
        return None
    raw = float(anomaly[tumour].mean(dtype=np.float64))
    return CaseScore(raw, float(bundle.calibration.percentile(np.array([raw]))[0]))


def _restore(
    grid: ModelGrid, channels: Tensor, classes: int, shape_zyx: tuple[int, int, int], report: Report
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Labels uint8 and raw maps float16 on the input's grid; `channels` never exist there as a whole."""
    labels = np.zeros(shape_zyx, np.uint8)
    maps = [np.empty(shape_zyx, np.float16) for _ in range(len(channels) - classes)]
    labels_out, maps_out = grid.canonical(labels), [grid.canonical(scores) for scores in maps]
    # Between voxels whose largest logit is the background's, the background's is the largest.
    box = grid.box_out(foreground(channels[:classes]))
    for z, logits in grid.slices_out(channels[:classes], box):
        labels_out[(z, *box[1:])] = logits.max(dim=0).indices.to(torch.uint8).cpu().numpy()
        report("restore", (z + 1) / len(labels_out) / 2, "Back to the CT's own grid")
    for scores, whole, out in zip(channels[classes:], maps, maps_out, strict=True):
        whole[:] = lowest = float(scores.min())
        box = grid.box_out(scores > lowest)  # around the patient a map is constant
        for z, (values,) in grid.slices_out(scores[None], box):
            out[(z, *box[1:])] = values.cpu().numpy()
            report("restore", 0.5 + (z + 1) / len(labels_out) / 2, "Back to the CT's own grid")
    return labels, maps
