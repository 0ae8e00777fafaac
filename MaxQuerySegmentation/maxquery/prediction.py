"""From a CT to labels, anomaly and owning queries on the CT's own grid."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from maxquery.anomaly import SCORES, Score
from maxquery.body import body_mask
from maxquery.bundle import Bundle, check_tensors
from maxquery.device import find_device
from maxquery.errors import InputError, MachineError
from maxquery.findings import FindingParameters, find
from maxquery.model_grid import ModelGrid
from maxquery.network import Architecture, MaxQueryNet
from maxquery.organ import keep_organ
from maxquery.result import CaseScore, Prediction
from maxquery.volume import Volume
from maxquery.windows import stitch

Quality = Literal["accurate", "fast"]
Report = Callable[[str, float, str], None]


@dataclass(frozen=True)
class PredictionParameters:
    """How a prediction is made.

    `device`: auto takes CUDA, then Apple's MPS, then the CPU. `quality`: accurate computes in 32 bit on
    windows that overlap by half; fast lets the hardware use 16 bit and overlaps by three tenths.
    `score`: which anomaly score of `maxquery.anomaly.SCORES` is mapped.
    """

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    quality: Quality = "fast"
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
    grid = ModelGrid.of(volume.grid, bundle.spacing_zyx_mm)
    with _timed(log, "prepare"):
        report("prepare", 0.0, "Resampling to the model's grid")
        image, body = model_input(volume, bundle, grid)
    with _timed(log, "network"):
        channels, owner = _run_network(network, image, bundle, scores, parameters, report, log)
        _silence_outside(body, channels[len(bundle.labels) :])
    with _timed(log, "restore"):
        labels, maps = _restore(grid, channels, len(bundle.labels), volume.grid.shape_zyx, report)
        clusters = np.empty(volume.grid.shape_zyx, np.uint8)
        grid.nearest_out((owner + 1).cpu().numpy(), clusters)
    return labels, maps, clusters


def model_input(volume: Volume, bundle: Bundle, grid: ModelGrid) -> tuple[Tensor, Tensor]:
    """The volume on the model's grid: normalised `(C, z, y, x)` as the bundle says, and the patient's outline."""
    image = torch.stack([grid.resample_in(channel) for channel in volume.array])
    body = torch.from_numpy(body_mask(image[0].numpy()))
    for channel, n in zip(image, bundle.normalisation, strict=True):
        channel.clamp_(n.lower_hu, n.upper_hu).sub_(n.mean_hu).div_(n.std_hu)
    return image, body


def _silence_outside(body: Tensor, maps: Tensor) -> None:
    """Gives each of `maps` `(scores, z, y, x)`, in place, its lowest score in the patient around the patient."""
    body = body.to(maps.device)
    if body.any():
        for scores in maps:
            scores[~body] = scores[body].min()


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
    network: nn.Module, image: Tensor, bundle: Bundle, scores: Sequence[Score], parameters: PredictionParameters,
    report: Report, log: RunLog,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`(K + scores, z, y, x)`: segmentation logits and anomalies; and each voxel's owning query `(z, y, x)`."""
    for device, keep_on in _footprints(parameters.device):
        log.device = _device_name(device)
        try:
            return _run_on(device, keep_on, network, image, bundle, scores, parameters, report, log)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            log.warnings.append(f"{log.device} ran out of memory; trying with less.")
    raise MachineError(
        "memory", "The machine has too little memory for this CT.", "Close other programs, or crop the CT to the organ."
    )


def _run_on(device, keep_on, network, image, bundle, scores, parameters, report, log) -> tuple[Tensor, Tensor]:
    half = _half_precision(device, parameters.quality)
    log.backend = f"torch, {half}" if half else "torch, 32 bit"
    network.to(device, memory_format=torch.channels_last_3d if half else torch.contiguous_format)

    @torch.inference_mode()
    def window(cut: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(device.type, half, enabled=half is not None):
            output = network(cut[None].to(device))
        channels = torch.cat([output.segmentation[0], *(score(output) for score in scores)])
        return channels, output.responses[0].argmax(dim=0).to(torch.uint8)

    def advance(fraction: float) -> None:
        report("network", fraction, f"Segmenting on {log.device}")

    return stitch(image, bundle.patch_zyx, parameters.step, len(bundle.labels) + len(scores), window, keep_on, advance)


def _half_precision(device: torch.device, quality: Quality) -> torch.dtype | None:
    """The 16-bit type to compute in, None for 32 bit. Responses, softmax and argmax stay in 32 bit anyway."""
    if quality == "fast" and device.type == "cuda":
        return torch.float16
    # On a CPU bfloat16 pays only where matrices of it are multiplied in hardware.
    if quality == "fast" and device.type == "cpu" and torch.cpu._is_amx_tile_supported():
        return torch.bfloat16
    return None


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
