"""One case from files to a result folder: what `maxquery segment` does."""

import hashlib
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import maxquery
from maxquery.bundle import Bundle, weights_sha256
from maxquery.calibration import AnomalyUnits
from maxquery.output_folder import check_output
from maxquery.prediction import PredictionParameters, RunLog, predict
from maxquery.progress import Report, silent
from maxquery.reading import read_case
from maxquery.result import REPORT_FORMAT, Prediction
from maxquery.volume import Volume
from maxquery.writing import write_results


@dataclass(frozen=True)
class SegmentParameters:
    """Everything a person can choose about a run, beside the CT, the model and the output folder."""

    prediction: PredictionParameters = field(default_factory=PredictionParameters)
    units: AnomalyUnits = "percentile"
    preview: bool = False
    scene: bool = False


def segment_files(
    paths: Sequence[Path],
    bundle: Bundle,
    output: Path,
    parameters: SegmentParameters = SegmentParameters(),
    report: Report = silent,
) -> dict[str, Any]:
    """Reads the phases of one case, segments it, writes the result folder; returns what report.json says."""
    report("read", 0.0, "Reading the CT")
    start = time.perf_counter()
    case = read_case(paths)
    log = RunLog(seconds={"read": round(time.perf_counter() - start, 3)}, warnings=list(case.warnings))
    _, document = segment_volume(
        case.volume, bundle, output, parameters, report, log, source_kind=case.source_kind
    )
    return document


def segment_volume(
    volume: Volume,
    bundle: Bundle,
    output: Path,
    parameters: SegmentParameters,
    report: Report,
    log: RunLog,
    *,
    source_kind: str,
    planted: str = "",
) -> tuple[Prediction, dict[str, Any]]:
    """Segments a volume that has been read and writes the result folder.

    `planted` says, where that is so, that the CT contains a synthetic lesion; every output repeats it.
    """
    check_output(output, int(np.prod(volume.grid.shape_zyx)), parameters.scene)
    prediction = predict(volume, bundle, parameters.prediction, report, log)
    report("write", 0.0, "Writing the result")
    document = describe(volume, bundle, prediction, parameters, log, source_kind, planted)
    write_results(
        output, prediction, bundle.calibration, parameters.units, document,
        ct=volume, preview=parameters.preview, scene=parameters.scene,
        title=f"{bundle.name} {bundle.version}", planted=planted,
    )  # fmt: skip
    return prediction, document


def describe(
    volume: Volume,
    bundle: Bundle,
    prediction: Prediction,
    parameters: SegmentParameters,
    log: RunLog,
    source_kind: str,
    planted: str,
) -> dict[str, Any]:
    """report.json: what went in, what came out, and all that is needed to run it again. Names nobody.

    `seconds` begin with reading the CT and end before these files are written.
    """
    grid = volume.grid
    volumes_ml = prediction.volumes_ml()
    return {
        "format": REPORT_FORMAT,
        "input": {
            "kind": source_kind,
            "planted": planted,
            "phases": len(volume.array),
            "size_xyz": list(grid.size_xyz),
            "spacing_xyz_mm": list(grid.spacing_xyz_mm),
            "origin_lps_mm": list(grid.origin_lps_mm),
            "direction": np.asarray(grid.direction).tolist(),
            "voxels_sha256": _sha256(volume.array),
        },
        "bundle": {
            "name": bundle.name, "version": bundle.version, "licence": bundle.licence,
            "score": bundle.score, "smoothing_mm": bundle.smoothing_mm,
            "weights_sha256": weights_sha256(bundle.weights),
        },
        "device": log.device,
        "backend": log.backend,
        "seconds": log.seconds | {"total": round(sum(log.seconds.values()), 3)},
        "peak_memory_mb": peak_memory_mb(),
        "case_score": asdict(prediction.case_score) if prediction.case_score else None,
        "volumes_ml": {
            label.name: round(float(volumes_ml[label.value]), 3)
            for label in bundle.labels
            if label.role != "background"
        },
        "findings": [asdict(finding) for finding in prediction.findings],
        "warnings": log.warnings,
        "parameters": asdict(parameters),
        "versions": {
            "maxquery": maxquery.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "platform": platform.system(),
        },
        "use": "Research use only. Not for diagnosis.",
        "calibration": bundle.calibration.to_json(),
        "queries": [asdict(query) for query in bundle.queries],
    }


def _sha256(array: np.ndarray) -> str:
    """Of the values `(C, Z, Y, X)` as float32, however they are held."""
    digest = hashlib.sha256()
    for channel in array:
        for plane in channel:
            digest.update(np.ascontiguousarray(plane, np.float32))
    return digest.hexdigest()


def peak_memory_mb() -> float:
    """The most memory this process has held so far."""
    if sys.platform == "win32":
        import psutil

        return round(psutil.Process().memory_info().peak_wset / 1e6, 1)
    if sys.platform == "linux":  # where getrusage counts what the program held that started this one, such as Slicer
        status = Path("/proc/self/status").read_text()
        return round(int(status.split("VmHWM:")[1].split()[0]) * 1.024e-3, 1)
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 1)
