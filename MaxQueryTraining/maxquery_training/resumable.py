"""nnU-Net's training loop, made to survive: killed at any moment and resumed, it ends where it would have ended."""

from collections.abc import Iterator
from pathlib import Path
from time import time

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

from maxquery.errors import MachineError
from maxquery_training.checkpoints import BEST, LATEST, PREVIOUS, no_code, plain, write_whole
from maxquery_training.preset import Preset
from maxquery_training.sampling import SeededWindows, batches, nnunet_loads_here, seed_all


class ResumableTrainer(nnUNetTrainer):
    """Each epoch leaves a whole checkpoint; what is random in an epoch follows from seed, stage and epoch alone."""

    stage = 0

    def __init__(self, plans: dict, configuration: str, fold: int, dataset_json: dict,
                 device: torch.device = torch.device("cuda")):  # fmt: skip
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.preset = Preset.from_json(plans["maxquery"])

    @property
    def folder(self) -> Path:
        return Path(self.output_folder)

    def initialize(self) -> None:
        self._seed()
        super().initialize()

    def _seed(self, *numbers: int) -> None:
        seed_all(self.preset.seed, self.stage, *numbers)

    def get_dataloaders(self) -> tuple[Iterator[dict], Iterator[dict]]:
        processes = get_allowed_n_proc_DA()
        with nnunet_loads_here():
            stock = super().get_dataloaders()
        size, share = self.configuration_manager.batch_size, self.preset.foreground_share
        batches_an_epoch = self.num_iterations_per_epoch, self.num_val_iterations_per_epoch
        loaders = []
        for purpose, (augmenter, count) in enumerate(zip(stock, batches_an_epoch, strict=True)):
            windows = SeededWindows(augmenter.data_loader, size, share, (self.preset.seed, self.stage, purpose))
            pin_memory = self.device.type == "cuda"
            loaders.append(batches(windows, self.current_epoch * count, range(size), processes, pin_memory))
        return tuple(loaders)

    def on_train_epoch_start(self) -> None:
        # With windows and these seeds, an epoch depends on the checkpoint before it alone.
        self._seed(1 + self.current_epoch)
        super().on_train_epoch_start()

    def on_epoch_end(self) -> None:
        self.logger.log("epoch_end_timestamps", time(), self.current_epoch)
        dice = self.logger.get_value("ema_fg_dice", step=-1)
        if self._best_ema is None or dice > self._best_ema:
            self._best_ema = float(dice)
            self.save_checkpoint(self.folder / BEST)
        self.save_checkpoint(self.folder / LATEST)
        self.current_epoch += 1

    def on_train_end(self) -> None:
        super().on_train_end()
        (self.folder / PREVIOUS).unlink(missing_ok=True)
        self.dataloader_train = self.dataloader_val = None  # ends their processes

    def save_checkpoint(self, filename: str | Path) -> None:
        self.logger.load_checkpoint(plain(self.logger.get_checkpoint()))
        path = Path(filename)
        try:
            with write_whole(path, keep=self.folder / PREVIOUS if path.name == LATEST else None) as file:
                super().save_checkpoint(file)
        except (OSError, RuntimeError) as error:  # the latter from torch's writer, on a full disk
            message = f"The checkpoint {path} could not be written: {error}."
            raise MachineError("output_failed", message, "Free some space there; it resumes an epoch back.") from error

    def load_checkpoint(self, filename_or_checkpoint: str | Path) -> None:
        with no_code():
            super().load_checkpoint(str(filename_or_checkpoint))

    def train_step(self, batch: dict) -> dict:
        result = super().train_step(batch)
        if not np.isfinite(result["loss"]):
            raise MachineError(
                "not-finite", f"The loss became {result['loss']} in epoch {self.current_epoch}.",
                f"The state before that epoch is in {self.folder}. Train with a lower rate, or in 32 bit.",
            )  # fmt: skip
        return result
