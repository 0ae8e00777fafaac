"""Where torch computes."""

import torch

from maxquery.errors import MachineError


def find_device(wanted: str) -> torch.device:
    """The device of that name; the fastest for `auto`."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        wanted = next(name for name, there in available.items() if there)
    if not available[wanted]:
        raise MachineError("device", f"This machine has no usable '{wanted}' device.", "Use --device auto or cpu.")
    return torch.device(wanted)
