"""The result folder: every file of a run appears whole, or the folder stays as it was.

Files are written into a hidden folder inside the output folder (so on the same disk), then renamed into
place. A rename replaces one file at a time, so the order keeps the folder honest: the older
report.json leaves first and the new one arrives last. A folder with a report.json therefore holds one
run's complete result, even after a power cut; a failure on the way brings the older files back.
"""

import csv
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from maxquery.calibration import AnomalyUnits, CalibrationTable, planes_in_units
from maxquery.findings_table import findings_rows
from maxquery.nrrd import write_nrrd
from maxquery.output_folder import FILES, check_output, explained
from maxquery.result import Prediction
from maxquery.scene import SceneFiles, write_scene
from maxquery.segmentation_file import write_segmentation
from maxquery.volume import Volume

_OLDER = "older"


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
        raise explained(error, directory) from error
    finally:
        _clean_up(staged, directory if made else None)


def remove_results(directory: Path, *others: str) -> None:
    """Remove an older result from `directory`, and the files `others`; nobody else's. Raises as `write_results`."""
    check_output(directory, 0)
    try:
        for name in (*reversed(FILES), *others):
            (directory / name).unlink(missing_ok=True)
    except OSError as error:
        raise explained(error, directory) from error


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
