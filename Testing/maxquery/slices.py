"""Slices that come one after another, as a whole."""

from collections.abc import Iterator

import torch
from torch import Tensor

from maxquery.windows import Stitched


def everywhere(channels: Tensor) -> Tensor:
    """Shown `(Y, X)`: all of a slice `(C, Y, X)`."""
    return torch.ones_like(channels[0], dtype=torch.bool)


def stacked(slices: Iterator[Stitched]) -> tuple[Tensor, Tensor]:
    """Channels `(C, Z, Y, X)` and owners `(Z, Y, X)`."""
    channels, owner = zip(*slices, strict=True)
    return torch.stack(channels, dim=1), torch.stack(owner)
