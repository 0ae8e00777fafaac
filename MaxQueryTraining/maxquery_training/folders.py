"""Where nnU-Net finds and leaves its files."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxquery.errors import InputError
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

    def digest(self) -> str:
        """Of what is written about the raw dataset: labels, cases, how much of what is in each, and the split."""
        about = (self.raw / name for name in ("dataset.json", "cases.json", "cases.csv"))
        return hashlib.sha256(b"".join(file.read_bytes() for file in about if file.exists())).hexdigest()

    def check_planned(self, plans: dict[str, Any]) -> None:
        """Raises InputError where the dataset was prepared anew after `plans`, which a checkpoint holds too, were made:
        a value may mean another type now, and a patient of the training may be one of the test."""
        digest = self.digest()
        if plans.get("prepared", digest) != digest:
            raise InputError(
                "trained", f"{self.raw} was prepared anew since it was planned.",
                f"Remove {self.results}, if there is one, and give 'plan' again; or choose another --work.",
            )  # fmt: skip
