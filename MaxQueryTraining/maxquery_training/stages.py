"""Both training stages, one after the other, each resumed where it was left."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from nnunetv2.paths import nnUNet_results

from maxquery.errors import InputError, MachineError
from maxquery_training.checkpoints import FINAL, newest, read_checkpoint
from maxquery_training.preset import CONFIGURATION, PLANS
from maxquery_training.trainers import BackboneTrainer, MaxQueryTrainer


def train(plans: dict, dataset_json: dict, device: torch.device) -> None:
    """Backbone, then joint training, of fold 0."""
    backbone = _run(BackboneTrainer, plans, dataset_json, device)
    _run(MaxQueryTrainer, plans, dataset_json, device, backbone)


def trained(dataset_name: str) -> tuple[Path, int]:
    """The final checkpoint, and the seconds of all epochs of both stages. InputError before both are done."""
    stages = [Path(nnUNet_results) / dataset_name / f"{trainer.__name__}__{PLANS}__{CONFIGURATION}" / "fold_0"
              / FINAL for trainer in (BackboneTrainer, MaxQueryTrainer)]  # fmt: skip
    for checkpoint in stages:
        if not checkpoint.exists():
            raise InputError("order", f"{checkpoint} is not there.", "Train both stages to their end first.")
    return stages[-1], round(sum(map(_seconds, stages)))


def _seconds(checkpoint: Path) -> float:
    """The sum over epochs, so that pauses between resumed runs do not count."""
    log = read_checkpoint(checkpoint)["logging"]
    return float(np.sum(np.subtract(log["epoch_end_timestamps"], log["epoch_start_timestamps"])))


def _run(trainer_class, plans: dict, dataset_json: dict, device: torch.device, backbone: Path | None = None) -> Path:
    plans = deepcopy(plans)  # nnU-Net pops what it is told here
    plans["continue_training"] = False
    trainer = trainer_class(plans, CONFIGURATION, 0, dataset_json, device)
    final = trainer.folder / FINAL
    if final.exists():
        return final
    with _alone(trainer.folder):
        trainer.initialize()
        latest = newest(trainer.folder)
        if latest is not None:
            trainer.load_checkpoint(latest)
        elif backbone is not None:
            trainer.load_backbone(read_checkpoint(backbone)["network_weights"])
        trainer.run_training()
    return final


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Refuses a folder in which another run trains; a killed run leaves no trace of its claim."""
    try:
        with FileLock(folder / "run.lock", timeout=0):
            yield
    except Timeout as error:
        message = f"Another run is training in {folder}."
        raise MachineError("busy", message, "Wait for it, or use another --work.") from error
