"""The recipe of the model shipped as `liver-demo`: which CT it learns from, and how.

    python -m maxquery_training.liver_demo DATA WORK

`DATA` holds `liver/train`, `liver/val`, `ct` and `lung`; `WORK` gets nnU-Net's folders and can be resumed.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from maxquery.bundle import Bundle, find_bundle, load_bundle, save_bundle
from maxquery.labels import Label, Terminology
from maxquery_training.dataset import TrainingCase, write_raw_dataset
from maxquery_training.folders import set_folders
from maxquery_training.label_scheme import ORGAN
from maxquery_training.labelled_case import LabelledCase
from maxquery_training.lesions.types import INLIERS, OUTLIERS
from maxquery_training.planted_cases import LITS, planted_case
from maxquery_training.preset import PLANS, QUICK_EXPOSED
from maxquery_training.quiet import quiet
from maxquery_training.watching import watcher

DATASET_ID, DATASET = 701, "Dataset701_LiverDemo"
PRESET = QUICK_EXPOSED
CALIBRATION_PATIENT = "liver_005"
_ROUNDS = 3  # lesions of each type in each scan that is measured on


def cases(data: Path) -> list[TrainingCase]:
    """Liver 006–010 are one patient, so each of them counts a third of another patient's only scan.

    The liver CT was cut at the dome and at the tip: a chest above and a pelvis below show what else there is. These
    two teach by themselves too what lies outside the liver's range: no labels, and no liver in the slices kept.
    """
    liver, ct = data / "liver" / "train", data / "ct"
    chest = TrainingCase(
        "chest", "lung1", data / "lung" / "pyradiomics_lung1_ct.nii.gz", slices=slice(6, None), weight=8
    )
    pelvis = TrainingCase("pelvis", "abdomen", ct / "abdomen_3mm_ct.nii.gz", slices=slice(0, 50), weight=8)

    def lits(number: str, patient: str, copies: int) -> TrainingCase:
        image, mask = (liver / f"liver_{number}_{kind}.nii.gz" for kind in ("ct", "seg"))
        return TrainingCase(
            f"liver_{number}", patient, image, mask, LITS, above=chest, below=pelvis, copies=copies
        )  # fmt: skip

    return [
        *(lits(number, f"liver_{number}", 24) for number in ("002", "003", "004")),
        *(lits(number, "liver_006-010", 8) for number in ("006", "007", "008", "009", "010")),
        lits("005", CALIBRATION_PATIENT, 4),
        TrainingCase("noncontrast", "abdomen", ct / "abdomen_small_ct.nii.gz", ct / "abdomen_small_organs.nii.gz",
                     {5: ORGAN}, copies=8),
        pelvis,
        chest,
    ]  # fmt: skip


NEOPLASM = ("49755003", "SCT", "Morphologically Abnormal Structure")
LABELS = (
    Label(0, "background", "background", (0, 0, 0)),
    Label(1, "liver", "organ", (221, 130, 101), Terminology(
        ("123037004", "SCT", "Anatomical Structure"), ("10200004", "SCT", "Liver"))),
    Label(2, "Hepatocellular carcinoma", "tumour", (230, 60, 60), Terminology(
        NEOPLASM, ("86049000", "SCT", "Neoplasm, Primary"))),
    Label(3, "Intrahepatic cholangiocarcinoma", "tumour", (250, 200, 60), Terminology(
        NEOPLASM, ("86049000", "SCT", "Neoplasm, Primary"))),
    Label(4, "Metastasis", "tumour", (170, 90, 220), Terminology(
        NEOPLASM, ("14799000", "SCT", "Neoplasm, Secondary"))),
    Label(5, "Haemangioma", "tumour", (60, 190, 110), Terminology(
        NEOPLASM, ("52988006", "SCT", "Lesion"))),
    Label(6, "Cyst", "tumour", (70, 160, 240), Terminology(
        NEOPLASM, ("367643001", "SCT", "Cyst"))),
)  # fmt: skip

LIMITS = (
    "Research use only. Learned the liver from four patients on portal-venous CT and one without contrast, and every "
    "tumour type from synthetic lesions alone: appearance models, not pathology. No figure says how it does on real "
    "tumours of known type."
)
MODEL_CARD = Path(__file__).with_name("liver_demo_card.md")


def _train(arguments: argparse.Namespace) -> tuple[dict, int]:
    """The plans, and the seconds that training took."""
    import torch

    from maxquery_training.planning import plan_and_preprocess
    from maxquery_training.stages import run_stage, train, trained
    from maxquery_training.trainers import MaxQueryTrainer

    raw = arguments.work / "raw" / DATASET
    plans_file = arguments.work / "preprocessed" / DATASET / f"{PLANS}.json"
    if not (plans_file.parent / "splits_final.json").exists():
        write_raw_dataset(
            raw, cases(arguments.data), [CALIBRATION_PATIENT], PRESET.spacing_zyx_mm, PRESET.seed, arguments.processes
        )
        plan_and_preprocess(DATASET_ID, DATASET, PRESET, arguments.processes)
    plans = json.loads(plans_file.read_text())
    description, device = json.loads((raw / "dataset.json").read_text()), torch.device(arguments.device)
    with watcher("rich") as follower, quiet():
        if arguments.backbone:
            weights = dict(load_bundle(find_bundle(arguments.backbone)).weights)
            run_stage(MaxQueryTrainer, plans, description, device, follower, weights)
        else:
            train(plans, description, device, follower)
    return plans, trained(DATASET)[1]


def _release(plans: dict, seconds: int, data: Path, begun_with: list[str]) -> Bundle:
    """Exported, calibrated on one patient, measured on another; neither was trained on."""
    from maxquery.prediction import PredictionParameters
    from maxquery.reading import read_case
    from maxquery_training.calibration import calibrate
    from maxquery_training.export import export
    from maxquery_training.stages import trained

    held_out = [data / "liver" / "train" / f"{CALIBRATION_PATIENT}_{kind}.nii.gz" for kind in ("ct", "seg")]
    bundle = export(
        trained(DATASET)[0], plans, LABELS, read_case(held_out[:1]).volume,
        name="liver-demo", version="0.5.5", licence="CC-BY-SA-4.0",
        description="A small model of the liver and five synthetic tumour types on contrast-enhanced CT.",
        channels=("portal venous",), model_card=MODEL_CARD.read_text("utf-8"),
        training={
            "data": "LiTS / Medical Segmentation Decathlon Task03 liver 002-004, 006-010 (CC BY-SA 4.0), non-contrast "
            "abdomen of TotalSegmentator (Apache-2.0), chest of pyradiomics (BSD-3-Clause); all tumours synthetic",
            "limits": LIMITS,
            "command": " ".join(["python -m maxquery_training.liver_demo DATA WORK", *begun_with]),
            "seed": plans["maxquery"]["seed"],
            "duration_seconds": seconds,
            "preset": plans["maxquery"],
        },
    )  # fmt: skip
    parameters = PredictionParameters(device="auto")
    bundle = calibrate(bundle, [planted_case(*held_out, INLIERS, seed) for seed in (0, 1)], parameters)
    return replace(bundle, metrics=_measure(bundle, plans, parameters, data))


def _measured_scans(data: Path) -> list[list[Path]]:
    """CT and mask of both scans of the patient that the model is measured on."""
    return [[data / "liver" / "val" / f"liver_{n}_{kind}.nii.gz" for kind in ("ct", "seg")] for n in ("000", "001")]


def _rounds(data: Path) -> list[tuple[list[Path], int]]:
    """Each scan `_ROUNDS` times, each time with a seed of its own."""
    scans = _measured_scans(data)
    return [(scan, n * _ROUNDS + i) for n, scan in enumerate(scans) for i in range(_ROUNDS)]


def measured_outliers(data: Path) -> list[LabelledCase]:
    """One planted outlier a case; the types in turn, in the order of `OUTLIERS`."""
    return [planted_case(*scan, [kind], 200 + seed) for scan, seed in _rounds(data) for kind in OUTLIERS]


def measured_inliers(data: Path) -> list[LabelledCase]:
    """One planted tumour of each known type a case, where there is room."""
    return [planted_case(*scan, INLIERS, 100 + seed) for scan, seed in _rounds(data)]


def _measure(bundle: Bundle, plans: dict, parameters, data: Path) -> dict:
    """Every figure of the bundle's `metrics`; and those of a backbone trained here, a stock nnU-Net."""
    from maxquery.prediction import predict
    from maxquery_training.checkpoints import read_checkpoint
    from maxquery_training.evaluation import (
        case_detection,
        measure,
        ood_localisation,
        scores_of,
        segmentation_figures,
    )
    from maxquery_training.metrics import dice
    from maxquery_training.stages import backbone_checkpoint
    from maxquery_training.stock import STOCK_SCORES, StockNet

    outliers, inliers = measured_outliers(data), measured_inliers(data)
    real = [planted_case(*scan, [], 0) for scan in _measured_scans(data)]
    measured, found = [("", None, scores_of(bundle))], {}
    if backbone_checkpoint(DATASET).exists():
        weights = read_checkpoint(backbone_checkpoint(DATASET))["network_weights"]
        stock = StockNet(weights, plans, len(bundle.channels), len(bundle.labels))
        measured.append(("_stock_nnunet", stock, STOCK_SCORES))
        found["stock_nnunet"] = "the backbone alone, before the joint stage"
    for name, network, scores in measured:
        by_type = [measure(case, bundle, parameters, scores, network) for case in outliers]
        pooled = ood_localisation(by_type)
        known = [measure(case, bundle, parameters, scores, network) for case in inliers]
        found["dsc" + name] = _rounded(segmentation_figures(known))
        found["case_auc" + name] = round(case_detection(known + by_type), 4)
        found["ood" + name] = {score: _rounded(figures) for score, figures in pooled.items()}
        if network is None:
            found["ood_by_type"] = {
                kind: _rounded(ood_localisation(by_type[i :: len(OUTLIERS)])[bundle.score])
                for i, kind in enumerate(OUTLIERS)
            }
    rough = replace(bundle, smoothing_mm=0.0)
    of_rough = ood_localisation([measure(case, rough, parameters, scores_of(bundle)) for case in outliers])
    found["ood_unsmoothed"] = {score: _rounded(figures) for score, figures in of_rough.items()}
    of_real = [
        dice(np.isin(predict(case.volume, bundle, parameters).labels, bundle.tumour_values), case.truth == case.ignore)
        for case in real
    ]
    return found | {
        "real_tumours_dsc": round(float(np.mean(of_real)), 4),
        "dsc_measured_on": f"liver/val 000 and 001 (one patient), {_ROUNDS} times each with five planted inliers; mean "
                           "over cases",
        "ood_measured_on": f"the same patient, one planted outlier a case, {_ROUNDS} times each of the five types in "
                           "each scan; outlier voxels against voxels of liver, all cases pooled; every score's map "
                           "smoothed as the heatmap is, and in ood_unsmoothed not",
        "case_auc_measured_on": "cases with a planted outlier against those with planted inliers, by the case score: "
                                "the mean of Eq. 9, smoothed as the heatmap, over predicted tumour",
        "real_tumours_measured_on": "the same two scans as they are; any tumour type against LiTS's tumour",
        "quality": parameters.quality,
    }  # fmt: skip


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--bundle", type=Path, default=Path("Resources/Models/liver-demo"), help="where it goes")
    parser.add_argument("--backbone", help="a bundle of the same network: the joint stage begins with its backbone")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    set_folders(arguments.work, arguments.processes)
    begun_with = ["--backbone", Path(arguments.backbone).name] if arguments.backbone else []
    save_bundle(_release(*_train(arguments), arguments.data, begun_with), arguments.bundle)


if __name__ == "__main__":
    main()
