"""From images and masks to a model in one go: what the Slicer module runs."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from maxquery.bundle import USER_MODELS, list_bundles, save_bundle
from maxquery.device import find_device
from maxquery.errors import InputError
from maxquery_training.folders import DatasetFiles, set_folders
from maxquery_training.preset import PRESETS
from maxquery_training.watching import Watcher

_CLAIM = "job.json"


def _shown(group: str, label: str, text: str, **kind: Any) -> dict[str, Any]:
    """How a field is shown to a person; `kind`: `choices`, `least` and `most`, `file` (its endings) or `folder`."""
    return {"group": group, "label": label, "text": text, **kind}


@dataclass(frozen=True)
class TrainingJob:
    """Every parameter of the Slicer module; its XML and its --help say the same, which a test checks."""

    table: Path | None = field(default=None, metadata=_shown(
        "Cases", "Table of cases", "CSV file with the columns case, image and mask, and, if you like, patient and "
        "outlier. Takes precedence over the folder.", file=".csv"))  # fmt: skip
    folder: Path | None = field(default=None, metadata=_shown(
        "Cases", "Folder of cases", "Folder with imagesTr and labelsTr, or with pairs such as a_ct.nii.gz and "
        "a_seg.nii.gz.", folder=True))  # fmt: skip
    labels: Path | None = field(default=None, metadata=_shown(
        "Cases", "Labels", "JSON file that says what the values in the masks mean.", file=".json"))  # fmt: skip
    name: str = field(default="my-model", metadata=_shown(
        "Model", "Name", "What the model is called in the segmentation module."))  # fmt: skip
    licence: str = field(default="none", metadata=_shown(
        "Model", "Licence", "Licence of the weights, as the data allow."))  # fmt: skip
    data: str = field(default="Data of the user.", metadata=_shown(
        "Model", "Learned from", "What it learned from, in a sentence."))  # fmt: skip
    limits: str = field(default="Research use only; not evaluated.", metadata=_shown(
        "Model", "Limits", "What it must not be used for, and what it never saw."))  # fmt: skip
    preset: str = field(default="paper-liver", metadata=_shown(
        "Training", "Preset", "Grid, network and schedule: the paper's, or a small one for a few CPU cores. "
        "quick-exposed also plants strange lesions while it learns, and its heatmap shows the doubt about a tumour's "
        "type: for two types or more and one phase.",
        choices=tuple(PRESETS)))  # fmt: skip
    backbone_epochs: int = field(default=0, metadata=_shown(
        "Training", "Backbone epochs", "0: as the preset has it.", least=0, most=10000))  # fmt: skip
    joint_epochs: int = field(default=0, metadata=_shown(
        "Training", "Joint epochs", "0: as the preset has it.", least=0, most=10000))  # fmt: skip
    seed: int = field(default=0, metadata=_shown(
        "Training", "Seed", "Of the split and of training.", least=0, most=2**31 - 1))  # fmt: skip
    work: Path | None = field(default=None, metadata=_shown(
        "Machine", "Work folder", "Takes the dataset, checkpoints and curves. A run that was stopped goes on there.",
        folder=True))  # fmt: skip
    device: str = field(default="auto", metadata=_shown(
        "Machine", "Device", "auto takes the fastest there is.", choices=("auto", "cuda", "mps", "cpu")))  # fmt: skip
    processes: int = field(default=2, metadata=_shown(
        "Machine", "Processes", "That read and prepare images.", least=1, most=64))  # fmt: skip

    def check(self) -> None:
        """Raises InputError for what can be seen before anything starts."""
        for name in ("labels", "work"):
            if getattr(self, name) is None:
                kind = "file" if name == "labels" else "folder"
                raise InputError("argument", f"--{name} is not set.", f"Give it a {kind}.")
        if self.table is None and self.folder is None:
            raise InputError("argument", "No cases were given.", "Set --table or --folder.")
        if not self.labels.is_file():
            raise InputError("missing", f"There is no file {self.labels}.", "Check the path of the labels.")
        for item in fields(self):
            value, kind = getattr(self, item.name), item.metadata
            if "least" in kind and not kind["least"] <= value <= kind["most"]:
                raise InputError(
                    "argument", f"{kind['label']} is {value}.", f"Choose from {kind['least']} to {kind['most']}."
                )
        shipped = set(list_bundles()) - set(list_bundles([USER_MODELS]))
        if not self.name or Path(self.name).name != self.name or self.name in shipped:
            raise InputError("argument", f"'{self.name}' cannot be the model's name.", "Choose another.")
        find_device(self.device)


def run(job: TrainingJob, watcher: Watcher, say: Callable[[str], None]) -> Path:
    """The bundle's folder, where the segmentation module finds it by name. `say` hears what is done, in words.

    What an earlier run with the same cases, labels, preset and seed has done in the work folder is not done again.
    Raises InputError and MachineError.
    """
    job.check()
    files = DatasetFiles(job.work, "Dataset700_Cases")
    claim = _claim(job)
    set_folders(job.work, job.processes)
    from maxquery_training.planning import plan_and_preprocess, with_schedule

    if not (files.raw / "cases.json").exists():
        _prepare(job, files, say)
    (job.work / _CLAIM).write_text(json.dumps(claim, indent=2), encoding="utf-8")
    if not files.plans.with_name("splits_final.json").exists():
        say("Planning and preprocessing with nnU-Net")
        plan_and_preprocess(700, files.dataset, PRESETS[job.preset], job.processes)
    from maxquery_training.release import trained_bundle
    from maxquery_training.stages import train

    plans = with_schedule(files.read_plans(), job.backbone_epochs or None, job.joint_epochs or None, job.seed)
    train(plans, files.read_description(), find_device(job.device), watcher)

    say("Calibrating on the validation patients")
    from maxquery.prediction import PredictionParameters
    from maxquery_training.calibration import calibrate
    from maxquery_training.prepared_case import read_prepared

    bundle = trained_bundle(files, name=job.name, licence=job.licence, data=job.data, limits=job.limits)
    bundle = calibrate(bundle, read_prepared(files.raw, ("val",)), PredictionParameters(device=job.device))
    return save_bundle(bundle, USER_MODELS / job.name)


def _claim(job: TrainingJob) -> dict[str, Any]:
    """What a work folder is kept to once its cases are prepared: one set of cases, labels, preset and seed.

    Raises InputError where the folder is another run's.
    """
    claim = {name: str(value) for name, value in asdict(job).items()
             if name in ("table", "folder", "labels", "preset", "seed")}  # fmt: skip
    files = {name: path for name in ("table", "labels") if (path := getattr(job, name)) is not None and path.is_file()}
    sums = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    record = job.work / _CLAIM
    begun = json.loads(record.read_text("utf-8")) if record.exists() else claim
    other = [f"{name} {begun.get(name)}" for name, value in claim.items() if begun.get(name) != value]
    if other:
        message = f"The work folder holds a run with {', '.join(other)}."
        raise InputError("argument", message, "Choose an empty work folder.")
    sums_then = begun.get("sha256", {})
    changed = [files[name].name for name, digest in sums.items() if sums_then.get(name, digest) != digest]
    if changed:
        message = f"Changed since the run in the work folder began: {', '.join(changed)}."
        raise InputError("argument", message, "Choose an empty work folder, or undo the change.")
    return claim | {"sha256": sums_then | sums}


def _prepare(job: TrainingJob, files: DatasetFiles, say: Callable[[str], None]) -> None:
    from maxquery_training.cohort import read_cohort
    from maxquery_training.label_scheme import read_label_scheme
    from maxquery_training.prepare import prepare

    scheme = read_label_scheme(job.labels.name, job.labels.read_bytes())
    cohort = read_cohort(job.table or job.folder)
    reports = prepare(
        cohort, scheme, files.raw, seed=job.seed, processes=job.processes,
        advance=lambda report: say(f"{report.case}: {'; '.join(report.problems) or 'fine'}"),
    )  # fmt: skip
    count = Counter(report.set for report in reports)
    say("Cases: " + ", ".join(f"{name} {n}" for name, n in count.items()))
    if cohort.remark:
        say(cohort.remark)
