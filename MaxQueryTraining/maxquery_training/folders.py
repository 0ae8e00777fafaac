"""Where nnU-Net finds and leaves its files."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxquery_training.preset import PLANS


def set_folders(work: Path, processes: int = 1) -> None:
    """Tells nnU-Net, which reads the environment when it is imported, where its folders are and how many `processes`
    may draw windows."""
    for name in ("raw", "preprocessed", "results"):
        (work / name).mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(work / name)
    os.environ["nnUNet_n_proc_DA"] = str(max(1, processes - 1))


@dataclass(frozen=True)
class DatasetFiles:
    """The files of one dataset under `work`, from raw images to calibration."""

    work: Path
    dataset: str

    @property
    def raw(self) -> Path:
        return self.work / "raw" / self.dataset

    @property
    def plans(self) -> Path:
        return self.work / "preprocessed" / self.dataset / f"{PLANS}.json"

    @property
    def results(self) -> Path:
        return self.work / "results" / self.dataset

    @property
    def calibration(self) -> Path:
        return self.results / "calibration.json"

    def read_description(self) -> dict[str, Any]:
        return json.loads((self.raw / "dataset.json").read_text("utf-8"))

    def read_plans(self) -> dict[str, Any]:
        return json.loads(self.plans.read_text("utf-8"))
