"""How a run is made, and what it tells on the way."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from maxquery.backend_choice import BackendName
from maxquery.findings import FindingParameters
from maxquery.lattice import axis_starts

Quality = Literal["accurate", "fast"]
_NEAR, _FAR = 0.5, 0.7  # patches between windows


@dataclass(frozen=True)
class PredictionParameters:
    """How a prediction is made.

    `device`: auto takes CUDA, then Apple's MPS, then the CPU. `quality`: accurate computes in 32 bit on
    windows that overlap by half; fast lets the hardware use 16 bit, and overlaps by three tenths where half would
    take more than `many_windows`. `roi`: whole computes all that shows the patient, organ what lies around the organ
    as the model named `locator` finds it first. `backend`: see `choose_backend`.
    """

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    quality: Quality = "fast"
    roi: Literal["organ", "whole"] = "whole"
    locator: str = "liver-demo"
    backend: BackendName = "auto"
    many_windows: int = 48
    findings: FindingParameters = field(default_factory=FindingParameters)

    def step(self, shape_zyx: Sequence[int], patch_zyx: Sequence[int]) -> float:
        """Patches from one window to the next, at most, on an image of `shape_zyx` voxels.

        >>> short, long = ((slices, 200, 200) for slices in (80, 320))
        >>> PredictionParameters().step(short, (40, 100, 100)), PredictionParameters().step(long, (40, 100, 100))
        (0.5, 0.7)
        """
        if self.quality == "accurate":
            return _NEAR
        sides = zip(shape_zyx, patch_zyx, strict=True)
        windows = math.prod(len(axis_starts(max(size, patch), patch, _NEAR)[0]) for size, patch in sides)
        return _NEAR if windows <= self.many_windows else _FAR


@dataclass
class RunLog:
    """What happened on the way: seconds per stage, what was computed where, what a person should know."""

    seconds: dict[str, float] = field(default_factory=dict)
    device: str = ""
    backend: str = ""
    warnings: list[str] = field(default_factory=list)


class timed:
    """Adds the seconds spent inside to the log."""

    def __init__(self, log: RunLog, stage: str):
        self.log, self.stage = log, stage

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_) -> None:
        self.log.seconds[self.stage] = round(time.perf_counter() - self.start, 3)
