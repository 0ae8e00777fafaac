"""nnU-Net's training loop, made to survive: killed at any moment and resumed, it ends where it would have ended."""

from collections.abc import Iterator
from pathlib import Path
from time import time

import numpy as np
import torch
import torch.distributed as dist
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from torch import nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DistributedDataParallel

from maxquery.errors import MachineError
from maxquery_training.checkpoints import BEST, LATEST, PREVIOUS, no_code, plain, write_whole
from maxquery_training.depth_padding import pad_depth_first
from maxquery_training.distributed import everyones, own_share, rank
from maxquery_training.environment import environment
from maxquery_training.pictures import draw_curves
from maxquery_training.preset import Preset
from maxquery_training.sampling import SeededWindows, batches, seed_all
from maxquery_training.watching import STAGES, Epoch, Watcher

_PICTURE_EVERY = 5  # epochs


class ResumableTrainer(nnUNetTrainer):
    """Each epoch leaves a whole checkpoint; what is random in an epoch follows from seed, stage and epoch alone.

    A `watcher` hears of every batch and every epoch, and a picture of the curves lies beside the checkpoints.
    """

    stage = "backbone"

    def __init__(self, plans: dict, configuration: str, fold: int, dataset_json: dict,
                 device: torch.device = torch.device("cuda")):  # fmt: skip
        super().__init__(plans, configuration, fold, dataset_json, device)
        if self.is_ddp and device.type == "cpu":  # nnU-Net takes several processes to mean several GPUs
            self.device, self.grad_scaler = device, None
        self.preset = Preset.from_json(plans["maxquery"])
        self.watcher = Watcher()
        self.logger.local_logger.my_fantastic_logging["loss_terms"] = []

    @property
    def folder(self) -> Path:
        return Path(self.output_folder)

    @property
    def bare_network(self) -> nn.Module:
        """The network without what DDP and, on a GPU, torch's compiler wrap around it."""
        network = self.network.module if isinstance(self.network, DistributedDataParallel) else self.network
        return network._orig_mod if isinstance(network, OptimizedModule) else network

    @property
    def bfloat16_on_cpu(self) -> bool:
        """Whether it trains on a CPU that multiplies bfloat16 matrices in hardware, many times faster than 32 bit."""
        return self.device.type == "cpu" and torch.cpu._is_amx_tile_supported()

    def initialize(self) -> None:
        self._seed()
        several, self.is_ddp = self.is_ddp, False  # nnU-Net would wrap it for GPUs, and want every weight used
        super().initialize()
        self.is_ddp = several
        if self.bfloat16_on_cpu:  # its convolutions are only fast with channels last
            self.network.to(memory_format=torch.channels_last_3d)
        elif self.device.type == "cpu":
            pad_depth_first(self.network)
        if several:
            devices = [self.device] if self.device.type == "cuda" else None
            self.network = DistributedDataParallel(self.network, device_ids=devices, find_unused_parameters=True)

    def _build_loss(self) -> nn.Module:
        several, self.is_ddp = self.is_ddp, dist.is_initialized()
        loss = super()._build_loss()
        self.is_ddp = several
        return loss

    def _seed(self, *numbers: int) -> None:
        seed_all(self.preset.seed, STAGES.index(self.stage), *numbers)

    def get_dataloaders(self) -> tuple[Iterator[dict], Iterator[dict]]:
        processes = get_allowed_n_proc_DA()
        with environment(nnUNet_n_proc_DA="0"):  # nnU-Net's own processes draw at random
            stock = super().get_dataloaders()
        size, share = self.configuration_manager.batch_size, self.oversample_foreground_percent
        batches_an_epoch = self.num_iterations_per_epoch, self.num_val_iterations_per_epoch
        loaders = []
        for purpose, (augmenter, count) in enumerate(zip(stock, batches_an_epoch, strict=True)):
            seed = self.preset.seed, STAGES.index(self.stage), purpose
            windows = SeededWindows(augmenter.data_loader, size, share, seed)
            first, pin_memory = self.current_epoch * count, self.device.type == "cuda"
            drawing = (processes + 1) // 2 if purpose else processes  # half as many for validation, as in nnU-Net
            loaders.append(batches(windows, first, own_share(size), drawing, pin_memory))
        return tuple(loaders)

    def on_train_epoch_start(self) -> None:
        # With windows and these seeds, an epoch depends on the checkpoint before it alone.
        self._seed(1 + self.current_epoch, rank())
        self.batches_done = self.current_epoch * self.num_iterations_per_epoch
        super().on_train_epoch_start()

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        super().on_train_epoch_end(train_outputs)
        steps = [step for outputs in everyones(train_outputs) for step in outputs]
        terms = {name: float(np.mean([step[name] for step in steps])) for name in steps[0]}
        self.logger.log("loss_terms", {"total": terms.pop("loss")} | terms, self.current_epoch)

    def on_epoch_end(self) -> None:
        self.logger.log("epoch_end_timestamps", time(), self.current_epoch)
        dice = self.logger.get_value("ema_fg_dice", step=-1)
        if self._best_ema is None or dice > self._best_ema:
            self._best_ema = float(dice)
            self.save_checkpoint(self.folder / BEST)
        self.save_checkpoint(self.folder / LATEST)
        self.current_epoch += 1
        if rank() == 0:
            if self.current_epoch % _PICTURE_EVERY == 0 or self.current_epoch == self.num_epochs:
                self.draw()
            self.watcher.finish(self.epochs[-1])

    def draw(self) -> None:
        """Pictures of the run so far, beside its checkpoints."""
        draw_curves(self.epochs, self.folder / "curves.png")

    @property
    def label_names(self) -> list[str]:
        """In the order of their values, without what is to be ignored."""
        return [name for name in self.dataset_json["labels"] if name != "ignore"]

    @property
    def epochs(self) -> list[Epoch]:
        """Of this stage, so far."""
        log = self.logger.get_checkpoint()
        measured = zip(
            log["loss_terms"], log["val_losses"], log["dice_per_class_or_region"], log["lrs"],
            log["epoch_start_timestamps"], log["epoch_end_timestamps"], strict=True,
        )  # fmt: skip
        return [
            Epoch(
                self.stage, number, self.num_epochs, losses, float(validation),
                {n: None if np.isnan(d) else float(d) for n, d in zip(self.label_names[1:], dice, strict=True)},
                float(rate), end - start,
            )
            for number, (losses, validation, dice, rate, start, end) in enumerate(measured)
        ]  # fmt: skip

    def on_train_end(self) -> None:
        super().on_train_end()
        if rank() == 0:
            (self.folder / PREVIOUS).unlink(missing_ok=True)
        self.dataloader_train = self.dataloader_val = None  # ends their processes

    def save_checkpoint(self, filename: str | Path) -> None:
        if rank() > 0:
            return
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
        self.batches_done += 1
        fraction = self.batches_done / (self.num_epochs * self.num_iterations_per_epoch)
        where = f"{self.stage} stage, epoch {self.current_epoch + 1}/{self.num_epochs}"
        self.watcher.advance(self.stage, fraction, where)
        return result
