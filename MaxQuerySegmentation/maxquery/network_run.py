"""A bundle's network over a whole CT, on the model's own grid."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from maxquery.anomaly import Score
from maxquery.backend import WindowNet
from maxquery.backend_choice import choose_backend
from maxquery.body import body_box, body_mask
from maxquery.boxes import WHOLE, Box
from maxquery.bundle import Bundle, check_tensors
from maxquery.device import find_device
from maxquery.errors import InputError, MachineError
from maxquery.lattice import cut
from maxquery.model_grid import ModelGrid
from maxquery.network import Architecture, MaxQueryNet
from maxquery.parameters import PredictionParameters, RunLog
from maxquery.progress import Report
from maxquery.volume import Volume
from maxquery.windows import stitch

_SHOWN_ML = 1.0  # of organ and tumours: what makes a neighbouring window worth a look
_T = TypeVar("_T")


class Slice(NamedTuple):
    """What the network says of a slice of the model's grid.

    `inside` bool `(Y, X)`: where the patient is and a window came; elsewhere the segmentation `logits` `(K, Y, X)` are
    the background's. `scores` `(scores, Y, X)`; `owner` uint8 `(Y, X)`: the owning query + 1, 0 where no window came.
    """

    logits: Tensor
    scores: Tensor
    owner: Tensor
    inside: Tensor


def build_network(bundle: Bundle) -> MaxQueryNet:
    """The bundle's network with its weights, in 32 bit on the CPU, ready to predict.

    Raises InputError when no network has such sizes, or not these weights.
    """
    sizes = {k: v for k, v in bundle.architecture.items() if k != "backbone"}
    try:
        network = MaxQueryNet(
            Architecture(
                backbone=bundle.architecture["backbone"],
                input_channels=len(bundle.channels),
                classes=len(bundle.labels),
                distribution=bundle.query_distribution,
                **sizes,
            )
        )
    except (InputError, MemoryError):
        raise
    except Exception as error:  # torch and nnU-Net's blocks say it in many ways
        raise InputError(
            "architecture",
            f"No network has the sizes in bundle.json of '{bundle.name}': {type(error).__name__}: {error}",
            "Export the bundle again, or ask whoever made it.",
        ) from error
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


def run_network(
    network: nn.Module, image: Tensor, body: Tensor, bundle: Bundle, scores: Sequence[Score],
    parameters: PredictionParameters, report: Report, log: RunLog, receive: Callable[[Iterator[Slice]], _T],
    part: Box = WHOLE,
) -> _T:  # fmt: skip
    """What `receive` makes of the slices of `patient_input`'s image and body, from the first to the last.

    It is called anew where memory did not suffice. With `part`, only that part and what else shows the organ are
    computed.
    """
    for device, keep_on in _footprints(parameters.device):
        log.device = _device_name(device)
        try:
            return receive(
                _run_on(device, keep_on, network, image, body, bundle, scores, parameters, report, log, part)
            )
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            log.warnings.append(f"{log.device} ran out of memory; trying with less.")
    raise MachineError(
        "memory", "The machine has too little memory for this CT.", "Close other programs, or crop the CT to the organ."
    )


def _run_on(device, keep_on, network, image, body, bundle, scores, parameters, report, log, part) -> Iterator[Slice]:
    classes = len(bundle.labels)
    report("network", 0.0, "Preparing the network")  # for seconds, the first time that OpenVINO does
    step = parameters.step(body.shape, bundle.patch_zyx)
    windows = [window for _, window in cut(image, bundle.patch_zyx, step)]
    backend = choose_backend(
        WindowNet(network, scores), windows, classes, device, parameters.backend, parameters.quality == "fast",
        log.warnings,
    )  # fmt: skip
    log.backend = backend.name
    least_voxels = _SHOWN_ML * 1000 / float(np.prod(bundle.spacing_zyx_mm))

    def shows_organ(channels: Tensor) -> bool:
        return part != WHOLE and int(foreground(channels[:classes]).sum()) >= least_voxels

    def advance(fraction: float) -> None:
        report("network", fraction, f"Segmenting on {log.device}")

    slices = stitch(
        image, bundle.patch_zyx, step, classes + len(scores), backend.compute, keep_on, advance, body,
        part, shows_organ,
    )  # fmt: skip
    for (channels, owner), patient in zip(slices, body, strict=True):
        inside, logits = patient.to(owner.device) & (owner > 0), channels[:classes]
        logits.masked_fill_(~inside, 0.0)[0].masked_fill_(~inside, 1.0)
        yield Slice(logits, channels[classes:], owner, inside)


def _footprints(wanted: str) -> Iterator[tuple[torch.device, torch.device]]:
    """Where to compute and where to keep the stitched volume, from the fastest to the most modest."""
    cpu, device = torch.device("cpu"), find_device(wanted)
    if device != cpu:
        yield device, device
        yield device, cpu
    yield cpu, cpu


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def foreground(logits: Tensor) -> Tensor:
    """Where any class but the background has the largest of logits `(K, ...)`."""
    return logits[1:].amax(dim=0) > logits[0]
