"""What a benchmark needs of its data, wherever they come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from maxquery_training.labelled_case import LabelledCase
from maxquery_training.preset import Preset


@dataclass(frozen=True)
class Run:
    """One repetition: its seed and, where the configuration deals them out, the patients its networks never see."""

    seed: int
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"run-{self.seed}"


class Case(Protocol):
    """A case to measure on. `outlier`: the name of its outlier's type, "" where it is to have none."""

    name: str
    patient: str
    outlier: str

    def read(self) -> LabelledCase: ...


class Data(Protocol):
    """`outliers`: the names of the outliers' types; `cases_are`: what a test case is, for the report."""

    outliers: tuple[str, ...]
    cases_are: str

    def write(self, raw: Path, run: Run, preset: Preset, processes: int) -> None:
        """nnU-Net's raw dataset of a run's training and validation patients, in the folder `raw`."""

    def validation(self, raw: Path, run: Run) -> Sequence[Case]:
        """What settings and thresholds are chosen by."""

    def test(self, raw: Path, run: Run) -> Sequence[Case]: ...
