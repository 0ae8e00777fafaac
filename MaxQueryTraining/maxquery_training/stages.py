"""Both training stages, one after the other, each resumed where it was left."""

import random
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch

from maxquery_training.preset import CONFIGURATION
from maxquery_training.trainers import BackboneTrainer, MaxQueryTrainer


def train(plans: dict, dataset_json: dict, device: torch.device) -> tuple[Path, int]:
    """Backbone, then joint training, of fold 0. Returns the final checkpoint and the seconds of all epochs."""
    backbone = _run(BackboneTrainer, plans, dataset_json, device)
    joint = _run(MaxQueryTrainer, plans, dataset_json, device, backbone)
    return joint, round(_seconds(backbone) + _seconds(joint))


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
