"""The cases of a dataset that `prepare` wrote, with their truth."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from maxquery.reading import read_case
from maxquery_training.labelled_case import LabelledCase
from maxquery_training.prepare import FOLDERS


@dataclass(frozen=True)
class PreparedCase:
    """A case of a dataset that `prepare` wrote, by its set and its name there.

    `outlier`: the name of its outlier's type, where the dataset says so.
    """

    dataset: Path
    set: str
    name: str
    patient: str
    outlier: str

    def read(self) -> LabelledCase:
        document, folder = read_document(self.dataset / "dataset.json"), FOLDERS[self.set]
        images = [
            self.dataset / f"images{folder}" / f"{self.name}_{channel:04d}{document['file_ending']}"
            for channel in range(len(document["channel_names"]))
        ]
        mask = sitk.ReadImage(str(self.dataset / f"labels{folder}" / f"{self.name}{document['file_ending']}"))
        return LabelledCase(
            self.name, self.patient, read_case(images).volume, sitk.GetArrayFromImage(mask),
            document["labels"]["ignore"],
        )  # fmt: skip


def prepared_cases(dataset: Path, of: str) -> list[PreparedCase]:
    """Of one set of a dataset that `prepare` wrote: train, val, test or ood."""
    cases = read_document(dataset / "cases.json")
    outliers = cases.get("outliers", {})
    return [PreparedCase(dataset, of, case, cases["patients"][case], outliers.get(case, "")) for case in cases[of]]


def read_prepared(dataset: Path, sets: tuple[str, ...]) -> Iterator[LabelledCase]:
    """The cases of several sets, one at a time."""
    return (case.read() for name in sets for case in prepared_cases(dataset, name))


def read_document(path: Path) -> dict[str, Any]:
    """`dataset.json` or `cases.json`."""
    return json.loads(path.read_text("utf-8"))
