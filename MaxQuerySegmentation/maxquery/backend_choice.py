"""Which backend computes, and why."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from maxquery import openvino_backend
from maxquery.backend import Backend, WindowNet, torch_backend
from maxquery.errors import InputError, MachineError
from maxquery.network import MaxQueryNet

_LEAST_WINDOWS = 8
BackendName = Literal["auto", "torch", "openvino"]


def choose_backend(
    network: WindowNet, windows: Sequence[Tensor], classes: int, device: torch.device, wanted: BackendName, fast: bool,
    warnings: list[str],
) -> Backend:  # fmt: skip
    """OpenVINO for a CPU where it is installed and agrees with torch on the middle one of the `windows`; else torch.

    Few windows are left to torch, which has done the last of them before OpenVINO, the first time, is ready. `auto`
    converts no other network than a `MaxQueryNet`: another may do what no traced graph holds. `fast` lets the hardware
    compute in 16 bit. A backend that disagrees is not used, and `warnings` say so. Raises InputError for
    an OpenVINO that was asked for with another device than the CPU, MachineError for one that is not installed, or
    disagrees.
    """
    half = _half_precision(device) if fast else None
    asked, installed = wanted == "openvino", openvino_backend.is_installed()
    if asked and device.type != "cpu":
        sentence = f"OpenVINO computes on the CPU here, and the device is {device.type}."
        raise InputError("backend", sentence, "Choose the device cpu, or the backend torch.")
    if asked and not installed:
        hint = "Install it: pip install openvino; or choose another backend."
        raise MachineError("package", "The Python package 'openvino' is missing.", hint)
    fitting = installed and device.type == "cpu" and isinstance(network.network, MaxQueryNet)
    if asked or (wanted == "auto" and fitting and len(windows) >= _LEAST_WINDOWS):
        probe = windows[len(windows) // 2]
        precisions = ("bf16", "f32") if fast and torch.cpu._is_avx512_bf16_supported() else ("f32",)
        backend, agreement = openvino_backend.openvino_backend(network, probe, classes, precisions)
        if agreement.suffices:
            return backend
        sentence = f"{backend.name} agrees too little with torch on this computer: {agreement}."
        if asked:
            raise MachineError("backend", sentence, "Choose the backend torch.")
        warnings.append(f"{sentence} It was not used.")
    return torch_backend(network, device, half)


def _half_precision(device: torch.device) -> torch.dtype | None:
    """The 16-bit type that pays. Responses, softmax and argmax stay in 32 bit anyway."""
    if device.type == "cuda":
        return torch.float16
    # AVX-512 has instructions for bfloat16, too, which do not pay on every processor.
    if device.type == "cpu" and torch.cpu._is_amx_tile_supported():
        return torch.bfloat16
    return None
