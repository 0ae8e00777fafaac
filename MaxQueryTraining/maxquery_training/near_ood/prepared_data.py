"""A dataset that `maxquery-train prepare` wrote, as it is or with some of its types left out of training."""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from maxquery.errors import InputError
from maxquery_training.label_scheme import BACKGROUND, ORGAN, OUTLIER
from maxquery_training.near_ood.data import Run
from maxquery_training.nifti_writing import write_nifti
from maxquery_training.prepare import FOLDERS, OOD
from maxquery_training.prepared_case import PreparedCase, prepared_cases, read_document
from maxquery_training.preset import Preset

HELD_OUT = "held-out tumour"


@dataclass(frozen=True)
class PreparedData:
    """The raw folder of the prepared dataset, and the types that nothing may be learned of.

    Its split is kept, but for patients with a type that is left out: they are there to be tested on.
    """

    source: Path
    left_out: tuple[str, ...] = ()

    @property
    def outliers(self) -> tuple[str, ...]:
        return (*self.left_out, HELD_OUT)

    @property
    def cases_are(self) -> str:
        left_out = f" and all patients with {' or '.join(self.left_out)}, left out of training" if self.left_out else ""
        return f"the test patients{left_out}"

    def write(self, raw: Path, run: Run, preset: Preset, processes: int) -> None:
        """Whole or not at all. Raises InputError for a type that is not there, or when nothing is left to train on."""
        document, cases = (read_document(self.source / name) for name in ("dataset.json", "cases.json"))
        labels, lookup = relabelled(document["labels"], self.left_out)
        found = {
            case: self._outlier(case, FOLDERS[name], document) for name in FOLDERS for case in cases[name]
        }  # fmt: skip
        outliers = {case: name or HELD_OUT for case, name in found.items() if name or case in cases[OOD]}
        patients = {cases["patients"][case] for case in outliers}
        sets = {name: {case: weight for case, weight in cases[name].items() if cases["patients"][case] not in patients}
                for name in FOLDERS if name != OOD}  # fmt: skip
        if not (sets["train"] and sets["val"]):
            raise InputError(
                "cases", f"Without {', '.join(self.left_out)} too few cases are left to train and to validate on.",
                "Leave another type out, or prepare more patients.",
            )  # fmt: skip
        sets[OOD] = dict.fromkeys(outliers, 1)
        raw.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".near-ood-", dir=raw.parent, ignore_cleanup_errors=True) as temporary:
            staged = Path(temporary) / raw.name
            for name, members in sets.items():
                for kind in ("images", "labels"):
                    (staged / f"{kind}{FOLDERS[name]}").mkdir(parents=True, exist_ok=True)
                for case in members:
                    self._write_case(case, cases, staged, FOLDERS[name], document, lookup)
            document |= {"labels": labels, "numTraining": len(sets["train"]) + len(sets["val"])}
            _write(staged / "dataset.json", document)
            _write(staged / "cases.json", sets | {"patients": cases["patients"], "outliers": outliers})
            staged.rename(raw)

    def _outlier(self, case: str, folder: str, document: dict) -> str:
        """The name of the first type in the case that is left out; "" for none."""
        if not self.left_out:
            return ""
        mask = sitk.GetArrayFromImage(sitk.ReadImage(str(self.source / f"labels{folder}" / f"{case}.nii.gz")))
        present = set(np.unique(mask).tolist())
        return next((name for name in self.left_out if document["labels"][name] in present), "")

    def _write_case(
        self, case: str, cases: dict, target: Path, folder: str, document: dict, lookup: np.ndarray
    ) -> None:  # fmt: skip
        own = FOLDERS[next(name for name in FOLDERS if case in cases[name])]
        for channel in range(len(document["channel_names"])):
            file = f"{case}_{channel:04d}.nii.gz"
            _link(self.source / f"images{own}" / file, target / f"images{folder}" / file)
        mask = sitk.ReadImage(str(self.source / f"labels{own}" / f"{case}.nii.gz"))
        changed = sitk.GetImageFromArray(lookup[sitk.GetArrayFromImage(mask)])
        changed.CopyInformation(mask)
        write_nifti(changed, target / f"labels{folder}" / f"{case}.nii.gz")

    def validation(self, raw: Path, run: Run) -> list[PreparedCase]:
        return prepared_cases(raw, "val")

    def test(self, raw: Path, run: Run) -> list[PreparedCase]:
        return prepared_cases(raw, "test") + prepared_cases(raw, OOD)


def relabelled(labels: dict[str, int], left_out: tuple[str, ...]) -> tuple[dict[str, int], np.ndarray]:
    """nnU-Net's `labels` without some types, the others one after another again; and each old value's new one.

    >>> relabelled({"background": 0, "liver": 1, "HCC": 2, "cyst": 3, "ignore": 4}, ("HCC",))[0]
    {'background': 0, 'liver': 1, 'cyst': 2, 'ignore': 3}
    """
    types = [name for name, value in labels.items() if value > ORGAN and name != "ignore"]
    strange = [name for name in left_out if name not in types]
    if strange:
        raise InputError("labels", f"The dataset has no type {', '.join(strange)}.", f"It has {', '.join(types)}.")
    kept = {name: value for value, name in enumerate(name for name in labels if name not in left_out)}
    lookup = np.full(256, BACKGROUND, np.uint8)
    lookup[OUTLIER] = OUTLIER
    for name, value in labels.items():
        lookup[value] = kept.get(name, OUTLIER)
    return kept, lookup


def _link(source: Path, target: Path) -> None:
    """Without a second copy of the image, where the disk can do that."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False), encoding="utf-8")
