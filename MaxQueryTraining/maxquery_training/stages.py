"""Both training stages, one after the other, each resumed where it was left."""

import random
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from nnunetv2.paths import nnUNet_results

from maxquery.errors import InputError
from maxquery_training.preset import CONFIGURATION, PLANS
from maxquery_training.trainers import BackboneTrainer, MaxQueryTrainer


def train(plans: dict, dataset_json: dict, device: torch.device) -> None:
    """Backbone, then joint training, of fold 0."""
    backbone = _run(BackboneTrainer, plans, dataset_json, device)
    _run(MaxQueryTrainer, plans, dataset_json, device, backbone)


def trained(dataset_name: str) -> tuple[Path, int]:
    """The final checkpoint, and the seconds of all epochs of both stages. InputError before both are done."""
    stages = [Path(nnUNet_results) / dataset_name / f"{trainer.__name__}__{PLANS}__{CONFIGURATION}" / "fold_0"
              / "checkpoint_final.pth" for trainer in (BackboneTrainer, MaxQueryTrainer)]  # fmt: skip
    for checkpoint in stages:
        if not checkpoint.exists():
            raise InputError("order", f"{checkpoint} is not there.", "Train both stages to their end first.")
    return stages[-1], round(sum(map(_seconds, stages)))


def _seconds(checkpoint: Path) -> float:
    """The sum over epochs, so that pauses between resumed runs do not count."""
    log = torch.load(checkpoint, map_location="cpu", weights_only=False)["logging"]
    return float(np.sum(np.subtract(log["epoch_end_timestamps"], log["epoch_start_timestamps"])))


def _run(trainer_class, plans: dict, dataset_json: dict, device: torch.device, backbone: Path | None = None) -> Path:
    seed = plans["maxquery"]["seed"]
    random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
    plans = deepcopy(plans)  # nnU-Net pops what it is told here
    plans["continue_training"] = False
    trainer = trainer_class(plans, CONFIGURATION, 0, dataset_json, device)
    final, latest = (Path(trainer.output_folder) / f"checkpoint_{name}.pth" for name in ("final", "latest"))
    if final.exists():
        return final
    trainer.initialize()
    if latest.exists():
        trainer.load_checkpoint(str(latest))
    elif backbone is not None:
        checkpoint = torch.load(backbone, map_location="cpu", weights_only=False)
        trainer.load_backbone(checkpoint["network_weights"])
    trainer.run_training()
    return final
