"""Windows as nnU-Net draws them, each from a seed of its own.

The n-th window of a stage is the same whoever draws it: one process or many, one device or several, in one
go or resumed in the middle. Nothing has to be remembered but n.
"""

import random
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from torch.utils.data import DataLoader, Dataset


def seed_all(*numbers: int) -> None:
    """Seeds Python's, numpy's and torch's generators from `numbers`."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1)[0])
    random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)


class SeededWindows(Dataset):
    """`self[n]` is the n-th augmented window, a batch of one, drawn by nnU-Net's `loader` from `(*seed, n)`.

    Of every `batch_size` windows the last `foreground_share`, rounded, show foreground for certain, as
    nnU-Net has it; a batch of one does so by chance.
    """

    def __init__(self, loader: nnUNetDataLoader, batch_size: int, foreground_share: float, seed: Sequence[int]):
        self.loader, self.batch_size, self.seed = loader, batch_size, tuple(seed)
        self.foreground_share = foreground_share
        loader.batch_size = 1

    def __getitem__(self, number: int) -> dict:
        states = random.getstate(), np.random.get_state()
        with torch.random.fork_rng(devices=[]):
            seed_all(*self.seed, number)
            self.loader.oversample_foreground_percent = float(self._forced(number % self.batch_size))
            window = self.loader.generate_train_batch()
        random.setstate(states[0]), np.random.set_state(states[1])
        return window

    def _forced(self, position: int) -> bool:
        if self.batch_size == 1:
            return np.random.uniform() < self.foreground_share
        return position >= round(self.batch_size * (1 - self.foreground_share))


def batches(windows: SeededWindows, first: int, positions: range, processes: int, pin_memory: bool) -> Iterator[dict]:
    """Batches without end, from number `first` on, drawn ahead by `processes`; this device's `positions` of each."""

    def numbers() -> Iterator[list[int]]:
        batch = first
        while True:
            yield [batch * windows.batch_size + position for position in positions]
            batch += 1

    return iter(
        DataLoader(windows, batch_sampler=numbers(), num_workers=processes, collate_fn=_join, pin_memory=pin_memory)
    )


def _join(windows: list[dict]) -> dict:
    """nnU-Net's batch: `data` `(B, C, Z, Y, X)` and `target`, one tensor or one a scale."""
    targets = [window["target"] for window in windows]
    several = isinstance(targets[0], list)
    target = [torch.cat(scale) for scale in zip(*targets, strict=True)] if several else torch.cat(targets)
    return {"data": torch.cat([window["data"] for window in windows]), "target": target}
