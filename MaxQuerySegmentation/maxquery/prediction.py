"""From a CT to labels, anomaly and owning queries on the CT's own grid."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from maxquery.anomaly import SCORES, Score
from maxquery.backend import WindowNet
from maxquery.backend_choice import BackendName, choose_backend
from maxquery.body import body_box, body_mask
from maxquery.bundle import Bundle, check_tensors
from maxquery.device import find_device
from maxquery.errors import InputError, MachineError
from maxquery.findings import FindingParameters, find
from maxquery.model_grid import ModelGrid
from maxquery.network import Architecture, MaxQueryNet
from maxquery.organ import keep_organ
from maxquery.result import CaseScore, Prediction
from maxquery.volume import Volume
from maxquery.windows import Stitched, cut, stitch

Quality = Literal["accurate", "fast"]
_SHOWN_ML = 1.0  # of organ and tumours: what makes a window's neighbours worth a look
Report = Callable[[str, float, str], None]


@dataclass(frozen=True)
class PredictionParameters:
    """How a prediction is made.

    `device`: auto takes CUDA, then Apple's MPS, then the CPU. `quality`: accurate computes in 32 bit on
    windows that overlap by half; fast lets the hardware use 16 bit and overlaps by three tenths. `roi`: organ
    computes only the windows around the organ, whole all that show the patient. `backend`: see `choose_backend`.
    `score`: which anomaly score of `maxquery.anomaly.SCORES` is mapped.
    """

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    quality: Quality = "fast"
    roi: Literal["organ", "whole"] = "whole"
    backend: BackendName = "auto"
    score: str = "maxquery"
    findings: FindingParameters = field(default_factory=FindingParameters)

    @property
    def step(self) -> float:
        return 0.5 if self.quality == "accurate" else 0.7


@dataclass
class RunLog:
    """What happened on the way: seconds per stage, what was computed where, what a person should know."""

    seconds: dict[str, float] = field(default_factory=dict)
    device: str = ""
    backend: str = ""
    warnings: list[str] = field(default_factory=list)


def silent(stage: str, fraction: float, message: str) -> None:
    """A `Report` for nobody. One that raises `Cancelled` stops the run where it is."""


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
    with _timed(log, "findings"):
        report("findings", 0.0, "Measuring what was found")
        keep_organ(labels, bundle.labels, volume.grid, log.warnings)
        percentile = bundle.calibration.percentile(anomaly)
        findings = find(labels, percentile, clusters, volume.grid, bundle.labels, parameters.findings)
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
    with _timed(log, "prepare"):
        report("prepare", 0.0, "Resampling to the model's grid")
        grid, image, body = patient_input(volume, bundle)
    with _timed(log, "network"):
        stitched = _run_network(network, image, body, bundle, scores, parameters, report, log)
        channels = _completed(stitched, body, len(bundle.labels))
    with _timed(log, "restore"):
        labels, maps = _restore(grid, channels, len(bundle.labels), volume.grid.shape_zyx, report)
        clusters = np.empty(volume.grid.shape_zyx, np.uint8)
        grid.nearest_out(stitched.owner.cpu().numpy(), clusters)
    return labels, maps, clusters


def model_input(volume: Volume, bundle: Bundle, grid: ModelGrid) -> tuple[Tensor, Tensor]:
    """The volume on the model's grid: normalised `(C, z, y, x)` as the bundle says, and the patient's outline."""
    image = torch.stack([grid.resample_in(channel) for channel in volume.array])
    body = torch.from_numpy(body_mask(image[0].numpy()))
    for channel, n in zip(image, bundle.normalisation, strict=True):
        channel.clamp_(n.lower_hu, n.upper_hu).sub_(n.mean_hu).div_(n.std_hu)
    return image, body


def patient_input(volume: Volume, bundle: Bundle) -> tuple[ModelGrid, Tensor, Tensor]:
    """The part of the model's grid that holds the patient, which is all that is segmented, and `model_input` there."""
    whole = ModelGrid.of(volume.grid, bundle.spacing_zyx_mm)
    image, body = model_input(volume, bundle, whole)
    grid = whole.cropped(body_box(body.numpy(), bundle.patch_zyx))
    return grid, image[(slice(None), *grid.part)].clone(), body[grid.part].clone()


def _completed(stitched: Stitched, body: Tensor, classes: int) -> Tensor:
    """The channels, in place: around the patient, and where no window came, the label is background and each map has
    its lowest score in the patient."""
    channels, inside = stitched.channels, body.to(stitched.channels.device) & (stitched.owner > 0)
    channels[:classes].masked_fill_(~inside, 0.0)
    channels[0].masked_fill_(~inside, 1.0)
    if inside.any():
        for scores in channels[classes:]:
            scores.masked_fill_(~inside, scores[inside].min())
    return channels


def case_score(labels: np.ndarray, anomaly: np.ndarray, bundle: Bundle) -> CaseScore | None:
    """Mean raw anomaly over predicted tumour voxels (Sec. 4.2); None without any."""
    tumour = np.isin(labels, bundle.tumour_values)
    if not tumour.any():
        return None
    raw = float(anomaly[tumour].mean(dtype=np.float64))
    return CaseScore(raw, float(bundle.calibration.percentile(np.array([raw]))[0]))


def build_network(bundle: Bundle) -> MaxQueryNet:
    """The bundle's network with its weights, in 32 bit on the CPU, ready to predict."""
    sizes = {k: v for k, v in bundle.architecture.items() if k != "backbone"}
    network = MaxQueryNet(
        Architecture(
            backbone=bundle.architecture["backbone"],
            input_channels=len(bundle.channels),
            classes=len(bundle.labels),
            distribution=bundle.query_distribution,
            **sizes,
        )
    )
    check_tensors(bundle.weights, network.state_dict())
    network.load_state_dict({name: tensor.float() for name, tensor in bundle.weights.items()})
    return network.eval()


def check_channels(volume: Volume, bundle: Bundle) -> None:
    """Raises InputError when the volume has other phases than the model."""
    expected, found = len(bundle.channels), len(volume.array)
    if expected != found:
        names = ", ".join(channel.name for channel in bundle.channels)
        raise InputError(
            "phases",
            f"The model '{bundle.name}' takes {expected} image(s) ({names}), {found} came.",
            "Give one file a phase, in that order.",
        )


def _run_network(
    network: nn.Module, image: Tensor, body: Tensor, bundle: Bundle, scores: Sequence[Score],
    parameters: PredictionParameters, report: Report, log: RunLog,
) -> Stitched:  # fmt: skip
    """Segmentation logits, anomaly maps and owners on the model's grid."""
    for device, keep_on in _footprints(parameters.device):
        log.device = _device_name(device)
        try:
            return _run_on(device, keep_on, network, image, body, bundle, scores, parameters, report, log)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            log.warnings.append(f"{log.device} ran out of memory; trying with less.")
    raise MachineError(
        "memory", "The machine has too little memory for this CT.", "Close other programs, or crop the CT to the organ."
    )


def _run_on(device, keep_on, network, image, body, bundle, scores, parameters, report, log) -> Stitched:
    classes = len(bundle.labels)
    report("network", 0.0, "Preparing the network")  # for seconds, the first time that OpenVINO does
    windows = [window for _, window in cut(image, bundle.patch_zyx, parameters.step)]
    backend = choose_backend(
        WindowNet(network, scores), windows, classes, device, parameters.backend, parameters.quality == "fast",
        log.warnings,
    )  # fmt: skip
    log.backend = backend.name
    least_voxels = _SHOWN_ML * 1000 / float(np.prod(bundle.spacing_zyx_mm))

    def shows_organ(channels: Tensor) -> bool:
        return int((channels[:classes].argmax(dim=0) > 0).sum()) >= least_voxels

    def advance(fraction: float) -> None:
        report("network", fraction, f"Segmenting on {log.device}")

    return stitch(
        image, bundle.patch_zyx, parameters.step, classes + len(scores), backend.compute, keep_on, advance, body,
        shows_organ if parameters.roi == "organ" else None,
    )  # fmt: skip


def _footprints(wanted: str) -> Iterator[tuple[torch.device, torch.device]]:
    """Where to compute and where to keep the stitched volume, from the fastest to the most modest."""
    cpu, device = torch.device("cpu"), find_device(wanted)
    if device != cpu:
        yield device, device
        yield device, cpu
    yield cpu, cpu


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _restore(
    grid: ModelGrid, channels: Tensor, classes: int, shape_zyx: tuple[int, int, int], report: Report
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Labels uint8 and raw maps float16 on the input's grid; `channels` never exist there as a whole."""
    labels = np.zeros(shape_zyx, np.uint8)
    maps = [np.empty(shape_zyx, np.float16) for _ in range(len(channels) - classes)]
    labels_out, maps_out = grid.canonical(labels), [grid.canonical(scores) for scores in maps]
    # Between voxels whose largest logit is the background's, the background's is the largest.
    box = grid.box_out(channels[:classes].argmax(dim=0) > 0)
    for z, logits in grid.slices_out(channels[:classes], box):
        labels_out[(z, *box[1:])] = logits.argmax(dim=0).to(torch.uint8).cpu().numpy()
        report("restore", (z + 1) / len(labels_out) / 2, "Back to the CT's own grid")
    for z, scores in grid.slices_out(channels[classes:]):
        for out, values in zip(maps_out, scores, strict=True):
            out[z] = values.cpu().numpy()
        report("restore", 0.5 + (z + 1) / len(labels_out) / 2, "Back to the CT's own grid")
    return labels, maps


class _timed:
    """Adds the seconds spent inside to the log."""

    def __init__(self, log: RunLog, stage: str):
        self.log, self.stage = log, stage

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_) -> None:
        self.log.seconds[self.stage] = round(time.perf_counter() - self.start, 3)
