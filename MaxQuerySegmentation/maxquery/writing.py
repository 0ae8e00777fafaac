"""The result folder: every file of a run appears whole, or the folder stays as it was.

Files are written into a hidden folder inside the output folder (so on the same disk), then renamed into
place. A rename replaces one file at a time, so the order keeps the folder honest: the older
report.json leaves first and the new one arrives last. A folder with a report.json therefore holds one
run's complete result, even after a power cut; a failure on the way brings the older files back.
"""

import csv
import errno
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from maxquery.calibration import AnomalyUnits, CalibrationTable, planes_in_units
from maxquery.errors import InputError, MachineError, MaxQueryError
from maxquery.findings_table import findings_rows
from maxquery.nrrd import write_nrrd
from maxquery.result import Prediction
from maxquery.scene import SceneFiles, write_scene
from maxquery.segmentation_file import write_segmentation
from maxquery.volume import Volume

FILES = (
    "segmentation.seg.nrrd",
    "anomaly.nrrd",
    "clusters.nrrd",
    "findings.csv",
    "preview.png",
    "scene.mrb",
    "report.json",
)

# Measured on abdominal CT: 1.6 bytes a voxel compressed, 4.5 with a scene; the rest is caution.
_BYTES_A_VOXEL = 3
_BYTES_A_VOXEL_WITH_SCENE = 8
_OLDER = "older"


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
        raise _explained(error, directory) from error


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


def write_results(
    directory: Path,
    prediction: Prediction,
    calibration: CalibrationTable,
    units: AnomalyUnits,
    report: Mapping,
    *,
    ct: Volume | None = None,
    preview: bool = False,
    scene: bool = False,
    title: str = "",
    planted: str = "",
) -> list[Path]:
    """Write a run's result into `directory`, made if need be, and return the files' paths.

    The anomaly goes to anomaly.nrrd in `units`; pictures show percentiles of `calibration`, whatever
    those are. `preview` and `scene` need the `ct`, on the prediction's grid. `title` goes to the
    preview, `planted` (see `write_preview`) there and into the metadata of every volume; no file is named after a
    patient.

    Older files of these names are replaced, or removed where this run makes none: a folder never
    mixes two runs. Raises InputError or MachineError when it cannot be done; then nothing has changed.
    """
    directory = Path(directory)
    check_output(directory, prediction.labels.size, scene)
    made = not directory.exists()
    staged = None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=".maxquery-", dir=directory))
        (staged / "report.json").write_text(_as_json(report), encoding="utf-8")
        grid, said = prediction.grid, {"planted": planted} if planted else {}
        write_segmentation(staged / "segmentation.seg.nrrd", prediction.labels, grid, prediction.label_table, said)
        _write_anomaly(staged / "anomaly.nrrd", prediction, units, calibration, said)
        write_nrrd(staged / "clusters.nrrd", prediction.clusters, grid, {"units": "query index + 1"} | said)
        with (staged / "findings.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(findings_rows(prediction.findings))
        if preview:
            from maxquery.preview import write_preview  # matplotlib, which Slicer's Python need not have

            write_preview(staged / "preview.png", ct, prediction, calibration, title=title, planted=planted)
        if scene:
            heat = staged / "anomaly.nrrd"
            if units != "percentile":
                heat = staged / "percentile.nrrd"
                _write_anomaly(heat, prediction, "percentile", calibration, said)
            files = SceneFiles(heat, staged / "segmentation.seg.nrrd")
            write_scene(staged / "scene.mrb", ct, prediction, files, report, planted=planted)
            (staged / "percentile.nrrd").unlink(missing_ok=True)
        for file in staged.iterdir():
            _flush(file)
        return _publish(staged, directory)
    except OSError as error:
        raise _explained(error, directory) from error
    finally:
        _clean_up(staged, directory if made else None)


def remove_results(directory: Path, *others: str) -> None:
    """Remove an older result from `directory`, and the files `others`; nobody else's. Raises as `write_results`."""
    check_output(directory, 0)
    try:
        for name in (*reversed(FILES), *others):
            (directory / name).unlink(missing_ok=True)
    except OSError as error:
        raise _explained(error, directory) from error


def part_of(file: Path) -> Path:
    """Where `file` is written, to be renamed once it is whole."""
    return file.parent / f"{file.name}.part"


def discard_part(file: Path) -> None:
    """Remove what a run that is being stopped has written of `file`."""
    with suppress(OSError):
        part_of(file).unlink()


def discard_unfinished(directory: Path, made: bool) -> None:
    """Remove what a run that is being stopped has staged in `directory`; and that folder, if the run `made` it and
    nothing else is in it.

    A swap that has begun is over in milliseconds; it is left to finish. What cannot be removed stays.
    """
    deadline = time.monotonic() + 0.5
    with suppress(OSError):
        for staged in directory.glob(".maxquery-*"):
            while (staged / _OLDER).exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            if not (staged / _OLDER).exists():
                shutil.rmtree(staged, ignore_errors=True)
        if made:
            directory.rmdir()


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


def _write_anomaly(
    path: Path, prediction: Prediction, units: AnomalyUnits, calibration: CalibrationTable, said: Mapping[str, str]
) -> None:
    planes = planes_in_units(prediction.anomaly, units, calibration)
    write_nrrd(path, planes, prediction.grid, {"units": units} | said)


def _as_json(report: Mapping) -> str:
    return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _flush(file: Path) -> None:
    """Wait until the file is on the disk: some disks say only then that they are full."""
    with file.open("rb+") as handle:
        os.fsync(handle.fileno())


def _publish(staged: Path, directory: Path) -> list[Path]:
    """Swap `staged` for the older result, which comes back if anything stops the swap."""
    older = staged / _OLDER
    older.mkdir()
    new = [name for name in FILES if (staged / name).exists()]
    try:
        for name in reversed(FILES):
            if (directory / name).exists():
                os.replace(directory / name, older / name)
        for name in new:
            os.replace(staged / name, directory / name)
    except BaseException:
        for name in FILES:
            if (older / name).exists():
                os.replace(older / name, directory / name)
            elif name in new and not (staged / name).exists():
                (directory / name).unlink()
        raise
    shutil.rmtree(older)
    return [directory / name for name in new]


def _clean_up(staged: Path | None, made: Path | None) -> None:
    """Remove the hidden folder, unless it holds older files that could not be brought back."""
    older = staged / _OLDER if staged else None
    if staged and not (older.exists() and any(older.iterdir())):
        shutil.rmtree(staged, ignore_errors=True)
    if made and made.exists() and not any(made.iterdir()):
        made.rmdir()


def _explained(error: OSError, directory: Path) -> MaxQueryError:
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


def _free_bytes(directory: Path) -> float:
    try:
        return shutil.disk_usage(directory).free
    except OSError:
        return float("inf")
