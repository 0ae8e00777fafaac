"""Checkpoints that a kill cannot damage and that cannot run code when they are loaded."""

import os
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from maxquery.errors import InputError
from maxquery_training.environment import environment

LATEST, PREVIOUS, BEST, FINAL = (f"checkpoint_{name}.pth" for name in ("latest", "previous", "best", "final"))
"""What nnU-Net calls them; the previous one is ours."""

# Stock nnU-Net logs losses as numpy's numbers. They are data, and run nothing.
_NUMBERS = [
    np.dtype,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
    np._core.multiarray.scalar,
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # as numpy 1 wrote it
]


@contextmanager
def write_whole(path: Path, keep: Path | None = None) -> Iterator[BinaryIO]:
    """A file that appears at `path` once it is complete and on the disk; the one before it moves to `keep`.

    An error while writing leaves everything as it was.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if keep is not None and path.exists():
        path.replace(keep)
    partial.replace(path)


@contextmanager
def no_code() -> Iterator[None]:
    """Within, `torch.load` builds tensors, numbers and plain containers only, even if it is asked for anything."""
    with environment(TORCH_FORCE_WEIGHTS_ONLY_LOAD="1"), torch.serialization.safe_globals(_NUMBERS):
        yield


def read_checkpoint(path: Path, trusted: bool = False) -> dict[str, Any]:
    """A checkpoint of ours or of stock nnU-Net, on the CPU. Raises InputError.

    One that holds anything but tensors and plain values is refused unless it is `trusted`: such a file can
    run code when it is loaded.
    """
    if not path.is_file():
        raise InputError("missing", f"There is no checkpoint {path}.", "Check the path.")
    if not is_whole(path):
        raise InputError("damaged", f"{path} is incomplete or damaged.", "Take another copy of it.")
    if trusted:
        return torch.load(path, map_location="cpu", weights_only=False)
    try:
        with no_code():
            return torch.load(path, map_location="cpu")
    except pickle.UnpicklingError as error:
        hint = "Use it only if you know who made it: --trust-backbone."
        raise InputError(
            "pickle", f"{path} holds more than weights and numbers, and could run code when it is loaded.", hint
        ) from error


def is_whole(path: Path) -> bool:
    """Whether every byte is what was written: torch's files are zips, with a checksum for each part."""
    try:
        with zipfile.ZipFile(path) as parts:
            return parts.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def newest(folder: Path) -> Path | None:
    """The last whole checkpoint to resume from; None where training has not begun.

    Raises InputError when there are some and all are damaged.
    """
    there = [path for path in (folder / LATEST, folder / PREVIOUS) if path.exists()]
    for path in there:
        if is_whole(path):
            return path
    if there:
        listed = " and ".join(path.name for path in there)
        raise InputError("damaged", f"{listed} in {folder} cannot be read.", "Remove them to begin this stage anew.")
    return None


def plain(value: Any) -> Any:
    """Dicts and lists with numpy's numbers as Python's."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value
