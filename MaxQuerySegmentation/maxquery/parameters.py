"""How a run is made, and what it tells on the way."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from maxquery.backend_choice import BackendName
from maxquery.findings import FindingParameters

Quality = Literal["accurate", "fast"]
Report = Callable[[str, float, str], None]


@dataclass(frozen=True)
class PredictionParameters:
    """How a prediction is made.

    `device`: auto takes CUDA, then Apple's MPS, then the CPU. `quality`: accurate computes in 32 bit on
    windows that overlap by half; fast lets the hardware use 16 bit and overlaps by three tenths. `roi`: whole
    computes all that shows the patient, organ what lies around the organ as the model named `locator` finds it first.
    `backend`: see `choose_backend`.
    """

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    quality: Quality = "fast"
    roi: Literal["organ", "whole"] = "whole"
    locator: str = "liver-demo"
    backend: BackendName = "auto"
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


class timed:
    """Adds the seconds spent inside to the log."""

    def __init__(self, log: RunLog, stage: str):
        self.log, self.stage = log, stage

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_) -> None:
        self.log.seconds[self.stage] = round(time.perf_counter() - self.start, 3)
