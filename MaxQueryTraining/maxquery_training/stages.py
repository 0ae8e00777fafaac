"""Both training stages, one after the other, each resumed where it was left."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from filelock import FileLock, Timeout
from nnunetv2.paths import nnUNet_results

from maxquery.errors import InputError, MachineError
from maxquery_training.checkpoints import FINAL, newest, read_checkpoint
from maxquery_training.distributed import rank
from maxquery_training.preset import CONFIGURATION, PLANS
from maxquery_training.trainers import BackboneTrainer, MaxQueryTrainer
from maxquery_training.watching import Watcher


def train(
    plans: dict,
    dataset_json: dict,
    device: torch.device,
    watcher: Watcher | None = None,
    stage: Literal["both", "backbone", "joint"] = "both",
    backbone: Path | None = None,
    trust_backbone: bool = False,
) -> Path:
    """Backbone, then joint training, of fold 0, each resumed where it was left; or one `stage` of them.

    With `backbone`, a checkpoint of stock nnU-Net on the same plans, the joint stage is all there is to do. Gives the
    last stage's final checkpoint. Raises InputError for what cannot be used, MachineError for what stops a run.
    """
    if backbone is None and stage != "joint":
        final = run_stage(BackboneTrainer, plans, dataset_json, device, watcher)
        if stage == "backbone":
            return final
    weights = read_checkpoint(backbone, trust_backbone)["network_weights"] if backbone else None
    return run_stage(MaxQueryTrainer, plans, dataset_json, device, watcher, weights)


def trained(dataset_name: str) -> tuple[Path, int]:
    """The final checkpoint, and the seconds of all epochs of the stages trained here. InputError before it is done."""
    backbone, joint = (final_checkpoint(trainer, dataset_name) for trainer in (BackboneTrainer, MaxQueryTrainer))
    if not joint.exists():
        raise InputError("order", f"{joint} is not there.", "Train both stages to their end first.")
    return joint, math.ceil(sum(seconds(stage) for stage in (backbone, joint) if stage.exists()))


def finished(dataset_name: str, stage: Literal["both", "backbone", "joint"] = "both") -> Path | None:
    """The final checkpoint of a stage that has ended; None before."""
    final = final_checkpoint(BackboneTrainer if stage == "backbone" else MaxQueryTrainer, dataset_name)
    return final if final.exists() else None


def backbone_checkpoint(dataset_name: str) -> Path:
    """What the backbone stage ended with: a stock nnU-Net."""
    return final_checkpoint(BackboneTrainer, dataset_name)


def final_checkpoint(trainer: type, dataset_name: str, plans_name: str = PLANS) -> Path:
    """Where a stage leaves its last checkpoint."""
    return Path(nnUNet_results) / dataset_name / f"{trainer.__name__}__{plans_name}__{CONFIGURATION}" / "fold_0" / FINAL


def seconds(checkpoint: Path) -> float:
    """Of a finished stage: the sum over epochs, so that pauses between resumed runs do not count."""
    log = read_checkpoint(checkpoint)["logging"]
    return float(np.sum(np.subtract(log["epoch_end_timestamps"], log["epoch_start_timestamps"])))


def run_stage(
    trainer_class: type[BackboneTrainer], plans: dict, dataset_json: dict, device: torch.device,
    watcher: Watcher | None = None, weights: dict[str, torch.Tensor] | None = None,
) -> Path:  # fmt: skip
    """One stage of fold 0, resumed where it was left and begun with a backbone's `weights`; its final checkpoint.

    Runs with plans of different `plans_name` keep apart. Raises InputError and MachineError.
    """
    plans = deepcopy(plans)  # nnU-Net pops what it is told here
    plans["continue_training"] = False
    final = final_checkpoint(trainer_class, plans["dataset_name"], plans["plans_name"])
    if final.exists():
        return final
    trainer = trainer_class(plans, CONFIGURATION, 0, dataset_json, device)
    trainer.watcher, trainer.backbone_weights = watcher or trainer.watcher, weights
    with _alone(trainer.folder), _told_when_memory_ends():
        trainer.initialize()
        latest = newest(trainer.folder)
        if latest is not None:
            trainer.load_checkpoint(latest)
        trainer.run_training()
    return final


@contextmanager
def _told_when_memory_ends() -> Iterator[None]:
    hint = "Use a preset with smaller windows, or fewer --processes; it resumes an epoch back."
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error)
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in text:
            raise MachineError("memory", "The device ran out of memory.", hint) from error
        if "DataLoader worker" in text:
            raise MachineError("memory", "A process that draws windows was killed.", hint) from error
        raise


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Refuses a folder in which another run trains; a killed run leaves no trace of its claim."""
    if rank() > 0:  # the first process of a run claims it for all
        yield
        return
    try:
        with FileLock(folder / "run.lock", timeout=0):
            yield
    except Timeout as error:
        message = f"Another run is training in {folder}."
        raise MachineError("busy", message, "Wait for it, or use another --work.") from error
