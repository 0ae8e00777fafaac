"""One run in a process of its own, so that its memory is its own: prints its seconds by stage and its peak memory.

    python child.py WHAT VOLUME.npz          WHAT: stock, or one of `speed.OURS`
    python child.py segment CT.nrrd          the shipped model as a person calls it, from file to files
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
import paper_size

from maxquery import backend
from maxquery.anomaly import SCORES
from maxquery.calibration import CalibrationTable
from maxquery.cli import main
from maxquery.findings import find, search_box
from maxquery.organ import keep_organ
from maxquery.prediction import PredictionParameters, RunLog, infer
from maxquery.progress import silent
from maxquery.segment import peak_memory_mb
from maxquery.volume import Grid, Volume


def volume_of(array: np.ndarray, spacing_zyx_mm: np.ndarray) -> Volume:
    grid = Grid(array.shape[::-1], tuple(spacing_zyx_mm[::-1].tolist()), (0.0, 0.0, 0.0), np.eye(3))
    return Volume(array[None], grid)


def stock(array: np.ndarray, spacing_zyx_mm: np.ndarray) -> dict[str, float]:
    """nnU-Net's predictor with its own defaults but for mirroring, each of its three stages timed."""
    from nnunetv2.inference import predict_from_raw_data as nnunet
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(paper_size.plans())
    predictor = nnunet.nnUNetPredictor(use_mirroring=False, perform_everything_on_device=False, allow_tqdm=False,
                                       device=torch.device("cpu"))  # fmt: skip
    network = paper_size.StockNet()
    predictor.manual_initialization(
        network, manager, manager.get_configuration("3d_fullres"), [network.state_dict()], paper_size.dataset_json(),
        "nnUNetTrainer", None,
    )  # fmt: skip
    seconds: dict[str, float] = {}

    def timed(name: str, function):
        def run(*args, **kwargs):
            start = time.perf_counter()
            result = function(*args, **kwargs)
            seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start
            return result

        return run

    predictor.predict_logits_from_preprocessed_data = timed("network", predictor.predict_logits_from_preprocessed_data)
    nnunet.convert_predicted_logits_to_segmentation_with_correct_shape = timed(
        "restore", nnunet.convert_predicted_logits_to_segmentation_with_correct_shape
    )
    start = time.perf_counter()
    predictor.predict_single_npy_array(array[None].astype(np.float32), {"spacing": spacing_zyx_mm.tolist()})
    total = time.perf_counter() - start
    return {"prepare": total - sum(seconds.values()), **seconds, "total": total}


def ours(
    array: np.ndarray, spacing_zyx_mm: np.ndarray, parameters: PredictionParameters, ood: bool
) -> dict[str, float]:
    """The engine from the volume in memory to labels, and with `ood` to anomaly, percentile and findings."""
    # An untrained network has clusters of a voxel or two, which rounding decides on: it may differ, and takes as long.
    backend.LEAST_RANK_CORRELATION = 0.0
    volume, bundle, log = volume_of(array, spacing_zyx_mm), paper_size.bundle(), RunLog()
    network = paper_size.PaperNet()
    start = time.perf_counter()
    scores = [SCORES["maxquery"]] if ood else []
    labels, maps, clusters = infer(volume, bundle, scores, parameters, silent, log, network)
    keep_organ(labels, bundle.labels, volume.grid.voxel_volume_ml, log.warnings)
    if ood:
        began = time.perf_counter()
        table = CalibrationTable.from_samples(maps[0][labels > 0])
        near = search_box(labels, volume.grid)
        find(labels[near], table.percentile(maps[0][near]), clusters[near], volume.grid.cropped(near), bundle.labels)
        log.seconds["findings"] = time.perf_counter() - began
    return log.seconds | {"total": time.perf_counter() - start, "backend": log.backend, "warnings": log.warnings}


def segment(ct: str) -> dict[str, float]:
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as output:
        main(["segment", ct, "--output", f"{output}/result", "--preview", "--scene", "--progress", "none"])
    return {"total": time.perf_counter() - start}


def in_memory(what: str, file: str) -> dict[str, float]:
    with np.load(file) as given:
        array, spacing = given["array"], given["spacing_zyx_mm"]
    if what == "stock":
        return stock(array, spacing)
    parameters = PredictionParameters(
        device="cpu", quality="accurate" if what == "fp32" else "fast", roi="organ" if what == "organ" else "whole"
    )
    return ours(array, spacing, parameters, ood=what != "segmentation")


if __name__ == "__main__":
    what, file = sys.argv[1:3]
    found = segment(file) if what == "segment" else in_memory(what, file)
    print(json.dumps({"seconds": found, "peak_gb": round(peak_memory_mb() / 1e3, 3)}))
