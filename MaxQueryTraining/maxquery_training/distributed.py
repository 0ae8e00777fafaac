"""Several devices, one process each, as `torchrun` starts them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist

from maxquery.errors import InputError


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Within, the processes that `torchrun` started know each other; without `torchrun` there is one."""
    if "LOCAL_RANK" not in os.environ:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def own_share(batch_size: int) -> range:
    """Which windows of each batch this process takes. Raises InputError where they cannot be dealt out evenly."""
    world = dist.get_world_size() if dist.is_initialized() else 1
    if batch_size % world:
        message = f"A batch of {batch_size} cannot be dealt out evenly to {world} processes."
        raise InputError("batch", message, "Start torchrun with --nproc-per-node that divides it.")
    share = batch_size // world
    return range(rank() * share, (rank() + 1) * share)


def everyones(value: Any) -> list[Any]:
    """What each process gives, in the order of their ranks."""
    if not dist.is_initialized():
        return [value]
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
