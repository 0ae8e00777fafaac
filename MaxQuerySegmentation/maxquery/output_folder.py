"""Whether a result can be written to a folder, said before a long run, and what the system refused, in words."""

import errno
import json
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from maxquery.errors import InputError, MachineError, MaxQueryError

FILES = (
    "segmentation.seg.nrrd",
    "anomaly.nrrd",
    "clusters.nrrd",
    "findings.csv",
    "preview.png",
    "scene.mrb",
    "report.json",
)
"""What a run leaves, some of it on request; report.json last."""

# Measured on abdominal CT: 1.6 bytes a voxel compressed, 4.5 with a scene; the rest is caution.
_BYTES_A_VOXEL = 3
_BYTES_A_VOXEL_WITH_SCENE = 8


def check_folder(directory: Path) -> None:
    """Say before a long run whether files can be written to `directory`, which need not be there yet.

    Raises InputError when the path is taken by a file, MachineError when nobody may write there. Leaves nothing
    behind.
    """
    try:
        existing = _existing(directory)
        if not existing.is_dir():
            raise InputError(
                "output_is_a_file",
                f"The output folder {directory} cannot be made: {existing} is a file.",
                "Choose another output folder.",
            )
        with tempfile.TemporaryDirectory(prefix=".maxquery-", dir=existing):
            pass
    except OSError as error:
        raise explained(error, directory) from error


def check_output(directory: Path, voxels: int, scene: bool = False) -> None:
    """Say before a long run whether its result, of `voxels` voxels, can be written to `directory`.

    Raises as `check_folder`, InputError too when somebody else's files would be replaced, MachineError when the disk
    is too full. Leaves nothing behind.
    """
    check_folder(directory)
    foreign = _not_ours(directory)
    if foreign:
        raise InputError(
            "output_in_use",
            f"{directory} holds {' and '.join(foreign)}, which no finished run of maxquery left there.",
            "Choose another output folder, so that nothing is replaced.",
        )
    needed = voxels * (_BYTES_A_VOXEL_WITH_SCENE if scene else _BYTES_A_VOXEL)
    free = _free_bytes(_existing(directory))
    if free < needed:
        raise MachineError(
            "disk_full",
            f"The result may need {needed / 1e6:.0f} MB, and the disk of {directory} "
            f"has {free / 1e6:.0f} MB free.",
            "Free some space or choose another output folder.",
        )


def check_output_file(file: Path) -> None:
    """Say before a long run whether `file` can be written: its folder must be there. Raises as `check_folder`."""
    if file.is_dir():
        raise InputError("output_is_a_folder", f"The output {file} is a folder.", "Give the name of a file in it.")
    if not file.parent.exists():
        raise InputError("output_folder", f"There is no folder {file.parent}.", "Make it, or choose another file.")
    check_folder(file.parent)


def explained(error: OSError, directory: Path) -> MaxQueryError:
    """What the operating system refused, in words for the person who chose `directory`."""
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return InputError(
            "output_is_a_file",
            f"The output folder {directory} cannot be made: part of its path is a file.",
            "Choose another output folder.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return MachineError(
            "output_not_writable",
            f"The output folder {directory} cannot be written: {error.strerror}.",
            "Choose a folder of yours, and close programs that have the older result open.",
        )
    free = _free_bytes(directory)
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG) or free < 1e6:
        return MachineError(
            "disk_full",
            f"There is no room left to write the result to {directory} ({free / 1e6:.0f} MB free).",
            "Free some space or choose another output folder; an older result there is as it was.",
        )
    return MachineError(
        "output_failed",
        f"The result could not be written to {directory}: {error}.",
        "Check the disk, or choose another output folder; an older result there is as it was.",
    )


def _existing(directory: Path) -> Path:
    """What there is of it: itself, or the nearest folder above that exists."""
    wanted = directory.absolute()
    return next(path for path in (wanted, *wanted.parents) if path.exists())


def _not_ours(directory: Path) -> list[str]:
    """Files in `directory` that a run would replace, unless an earlier run's report.json lies beside them."""
    report = directory / "report.json"
    with suppress(OSError, ValueError, TypeError):
        if {"bundle", "findings"} <= set(json.loads(report.read_text("utf-8"))):
            return []
    return [name for name in FILES if (directory / name).exists()]


def _free_bytes(directory: Path) -> float:
    try:
        return shutil.disk_usage(directory).free
    except OSError:
        return float("inf")
