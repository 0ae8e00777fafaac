"""The recipe of the model shipped as `liver-demo`: which CT it learns from, and how.

    python -m maxquery_training.liver_demo DATA WORK

`DATA` holds `liver/train`, `liver/val`, `ct` and `lung`; `WORK` gets nnU-Net's folders and can be resumed.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from maxquery.bundle import Bundle, load_bundle, save_bundle
from maxquery.labels import Label, Terminology
from maxquery_training.dataset import TrainingCase, write_raw_dataset
from maxquery_training.folders import set_folders
from maxquery_training.label_scheme import ORGAN
from maxquery_training.lesions.types import INLIERS, OUTLIERS
from maxquery_training.planting import UNKNOWN_TUMOUR
from maxquery_training.preset import PLANS, QUICK
from maxquery_training.quiet import quiet
from maxquery_training.watching import watcher

DATASET_ID, DATASET = 701, "Dataset701_LiverDemo"
LITS = {1: ORGAN, 2: UNKNOWN_TUMOUR}
CALIBRATION_PATIENT = "liver_005"


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
    "tumour type from synthetic lesions alone: appearance models, not pathology. Types whose Dice is 0 in the metrics "
    "are not found at all. No figure says how it does on real tumours of known type."
)
MODEL_CARD = Path(__file__).with_name("liver_demo_card.md")


def _train(arguments: argparse.Namespace) -> tuple[Path, dict, int]:
    """The final checkpoint, the plans, and the seconds that training took."""
    import torch

    from maxquery_training.planning import plan_and_preprocess
    from maxquery_training.stages import train, trained

    raw = arguments.work / "raw" / DATASET
    plans_file = arguments.work / "preprocessed" / DATASET / f"{PLANS}.json"
    if not (plans_file.parent / "splits_final.json").exists():
        write_raw_dataset(
            raw, cases(arguments.data), [CALIBRATION_PATIENT], QUICK.spacing_zyx_mm, QUICK.seed, arguments.processes
        )
        plan_and_preprocess(DATASET_ID, DATASET, QUICK, arguments.processes)
    plans = json.loads(plans_file.read_text())
    description, device = json.loads((raw / "dataset.json").read_text()), torch.device(arguments.device)
    begin_with = dict(load_bundle(arguments.begin_with).weights) if arguments.begin_with else None
    with watcher("rich") as follower, quiet():
        train(plans, description, device, follower, begin_with=begin_with)
    checkpoint, seconds = trained(DATASET)
    return checkpoint, plans, seconds


def _release(checkpoint: Path, plans: dict, seconds: int, data: Path) -> Bundle:
    """Exported, calibrated on one patient, measured on another; neither was trained on."""
    from maxquery.prediction import PredictionParameters
    from maxquery.reading import read_case
    from maxquery_training.calibration import calibrate
    from maxquery_training.evaluation import measure, ood_localisation, segmentation_figures
    from maxquery_training.export import export
    from maxquery_training.planted_cases import planted_case

    held_out = [data / "liver" / "train" / f"{CALIBRATION_PATIENT}_{kind}.nii.gz" for kind in ("ct", "seg")]
    bundle = export(
        checkpoint, plans, LABELS, read_case(held_out[:1]).volume,
        name="liver-demo", version="0.2.0", licence="CC-BY-SA-4.0",
        description="A small model of the liver on contrast-enhanced CT; "
        "two of its five tumour types are not learned yet.",
        channels=("portal venous",), model_card=MODEL_CARD.read_text("utf-8"),
        training={
            "data": "LiTS / Medical Segmentation Decathlon Task03 liver 002-004, 006-010 (CC BY-SA 4.0), non-contrast "
            "abdomen of TotalSegmentator (Apache-2.0), chest of pyradiomics (BSD-3-Clause); all tumours synthetic",
            "limits": LIMITS,
            "command": "python -m maxquery_training.liver_demo DATA WORK",
            "seed": plans["maxquery"]["seed"],
            "duration_seconds": seconds,
            "preset": plans["maxquery"],
        },
    )  # fmt: skip
    parameters = PredictionParameters(device="auto")
    bundle = calibrate(bundle, [planted_case(*held_out, INLIERS, 0)], parameters)

    pairs = [[data / "liver" / "val" / f"liver_{n}_{kind}.nii.gz" for kind in ("ct", "seg")] for n in ("000", "001")]
    inliers = [measure(planted_case(*pair, INLIERS, 100), bundle, parameters) for pair in pairs]
    outliers = [
        measure(planted_case(*pairs[i % 2], [kind], 200), bundle, parameters) for i, kind in enumerate(OUTLIERS)
    ]
    return replace(
        bundle,
        metrics={
            "dsc": _rounded(segmentation_figures(inliers)),
            "dsc_measured_on": "liver/val 000 and 001 (one patient), five planted inliers each; mean over cases",
            "ood": {score: _rounded(values) for score, values in ood_localisation(outliers).items()},
            "ood_measured_on": "the same patient, one planted outlier a case, each of the five types; outlier voxels "
                               "against voxels of liver, all cases pooled",
            "quality": parameters.quality,
        },
    )  # fmt: skip


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--bundle", type=Path, default=Path("Resources/Models/liver-demo"), help="where it goes")
    parser.add_argument("--begin-with", help="a bundle of the same network: its backbone is trained on, not a new one")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    set_folders(arguments.work, arguments.processes)
    save_bundle(_release(*_train(arguments), arguments.data), arguments.bundle)


if __name__ == "__main__":
    main()
