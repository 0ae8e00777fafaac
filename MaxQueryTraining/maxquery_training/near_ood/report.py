"""`report.json`, `REPORT.md` and the pictures of a benchmark: every figure comes from what was measured."""

import json
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from maxquery_training.near_ood.config import Benchmark
from maxquery_training.near_ood.gallery import OURS, draw
from maxquery_training.near_ood.run import BenchmarkRun
from maxquery_training.near_ood.tables import against_best, localisation_row, methods, segmentation_row

_SEGMENTERS = ("nnunet", "swin", "transunet", "maxquery")
_TABLE_4 = {
    "category, post-softmax": ("category", "post"), "category, pre-softmax": ("category", "pre"),
    "query, post-softmax": ("query", "post"), "": ("query", "pre"),
}  # fmt: skip


def collect(benchmark: Benchmark, runs: Sequence[BenchmarkRun]) -> dict[str, Any]:
    """The document `report.json`, of the networks that every one of `runs` has measured."""
    ready = [network for network in benchmark.networks if all(run.is_measured(network) for run in runs)]
    rows = [localisation_row(method, benchmark.data.outliers) for network in ready for method in methods(runs, network)]
    of_table_4 = {", ".join(filter(None, (OURS, name))): levels for name, levels in _TABLE_4.items()}
    distributions = {n.name: n.changes["query_distribution"] for n in ready if "query_distribution" in n.changes}
    names = {n.name for n in ready}
    tables = {
        "1": [row for row in rows if row["kind"] != "maxquery" or row["method"] in names - set(distributions)],
        "2": [segmentation_row(network, runs) for network in ready if network.kind in _SEGMENTERS],
        "3": [row | {"distribution": distributions[row["method"]]} for row in rows if row["method"] in distributions],
        "4": [
            row | dict(zip(("level", "softmax"), of_table_4[row["method"]], strict=True))
            for row in rows if row["method"] in of_table_4
        ],
    }  # fmt: skip
    report: dict[str, Any] = {
        "benchmark": benchmark.name,
        "outliers": list(benchmark.data.outliers),
        "cases_are": benchmark.data.cases_are,
        "tables": tables,
        "runs": [run.describe() for run in runs],
        "networks": [
            {"name": n.name, "kind": n.kind, "changes": dict(n.changes),
             "training_seconds": [run.networks.seconds(n) for run in runs]} for n in ready
        ],
        "preset": benchmark.preset.to_json(),
        "environment": _environment(),
    }  # fmt: skip
    if any(row["method"] == OURS for row in tables["1"]) and any(row["kind"] != "maxquery" for row in rows):
        report["against_best"] = against_best(tables["1"], OURS)
    return report


def _environment() -> dict[str, str]:
    packages = {name: version(name) for name in ("maxquery", "torch", "nnunetv2", "numpy", "scipy")}
    git = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )  # fmt: skip
    return packages | {"python": platform.python_version(), "processor": _processor(), "commit": git.stdout.strip()}


def _processor() -> str:
    """With what decides how fast it is."""
    import os

    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()} CPU cores, {torch.backends.cpu.get_cpu_capability()}"


def write(benchmark: Benchmark, runs: Sequence[BenchmarkRun], folder: Path) -> None:
    """Report and pictures of what is measured so far; nothing before every run has measured a network."""
    report = collect(benchmark, runs)
    if not report["networks"]:
        return
    folder.mkdir(parents=True, exist_ok=True)
    report["figures"] = draw(benchmark, runs[0], report["tables"]["1"], folder)
    (folder / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "REPORT.md").write_text(markdown(report), encoding="utf-8")


def markdown(report: dict[str, Any]) -> str:
    tables, outliers = report["tables"], report["outliers"]
    parts = [f"# {report['benchmark']}", *_summary(report), "## Table 1: where is the outlier?", _how(report)]
    parts.append(_table(
        ("method", "AUROC ↑", "AUPR ↑", "FPR95 ↓", "case AUC ↑", "found ↑", "whole volume ↑", "real tumours"),
        [(row["method"], *(_percent(row[f]) for f in ("auroc", "aupr", "fpr95", "case_auc", "found_at_1_false_region")),
          _percent(row["whole_volume"]["auroc"]), _percent(row["real_tumours"]["auroc"])) for row in tables["1"]],
    ))  # fmt: skip
    parts += ["AUROC by type of outlier:", _table(
        ("method", *outliers),
        [(row["method"], *(_percent(row["by_type"][kind]["auroc"]) for kind in outliers)) for row in tables["1"]],
    )]  # fmt: skip
    parts += ["How many per cent of a new patient's known voxels lie below a percentile of the validation patients:",
              _table(("method", "90", "95", "99", "99.9"), [
                  (row["method"], *(_number(row["calibration"][p]) for p in ("90", "95", "99", "99.9")))
                  for row in tables["1"]])]  # fmt: skip
    labels = [name for name in tables["2"][0] if name not in ("method", "inliers")] if tables["2"] else []
    parts += ["## Table 2: are the known tumours segmented?", "DSC on cases without an outlier.", _table(
        ("network", *labels, "mean of types"),
        [(row["method"], *(_percent(row[label]) for label in labels), _percent(row["inliers"])) for row in tables["2"]],
    )]  # fmt: skip
    if tables["3"]:
        parts += ["## Table 3: how the queries are dealt out", _table(
            ("N1, N2, N3", "AUROC ↑", "AUPR ↑", "FPR95 ↓"),
            [(str(tuple(row["distribution"])), *(_percent(row[f]) for f in ("auroc", "aupr", "fpr95")))
             for row in tables["3"]])]  # fmt: skip
    parts += ["## Table 4: level and softmax", f"All of the network '{OURS}'.", _table(
        ("level", "softmax", "AUROC ↑", "AUPR ↑", "FPR95 ↓"),
        [(row["level"], row["softmax"], *(_percent(row[f]) for f in ("auroc", "aupr", "fpr95")))
         for row in tables["4"]])]  # fmt: skip
    parts += [f"## {title}\n\n![{title}]({file})" for file, title in report["figures"].items()]
    parts += ["## What was run", *_what_ran(report)]
    return "\n\n".join(parts) + "\n"


def _summary(report: dict[str, Any]) -> list[str]:
    """What holds and what does not, in sentences."""
    if "against_best" not in report:
        return []
    against, sentences = report["against_best"], []
    for figure, name, better in (("auroc", "AUROC", 1), ("aupr", "AUPR", 1), ("fpr95", "FPR95", -1)):
        margin, p = 100 * against[figure]["margin"], against[figure]["p"]
        word = "ahead of" if better * margin > 0 else "behind"
        tested = "" if p is None else f" (p = {p:.2f}, patients paired)"
        sentences.append(f"- **{name}**: {OURS} is {abs(margin):.1f} points {word} {against['best']}{tested}.")
    rows = {row["method"]: row for row in report["tables"]["1"]}
    for figure, name in (("case_auc", "Case AUC"), ("found_at_1_false_region", "Outliers found at 1 false region")):
        best = max(rows.values(), key=lambda row: row[figure]["mean"] or 0)
        sentences.append(f"- **{name}**: {OURS} {_percent(rows[OURS][figure])}; the best is {best['method']}, "
                         f"{_percent(best[figure])}.")  # fmt: skip
    return ["## What holds", f"Best method without queries by AUROC: {against['best']}.", "\n".join(sentences)]


def _how(report: dict[str, Any]) -> str:
    patients = sum(len(run["test_patients"]) for run in report["runs"])
    return (
        f"{len(report['runs'])} run(s), {patients} test patients in all, "
        f"{sum(run['test_cases'] for run in report['runs'])} cases: {report['cases_are']}. "
        "In per cent: mean over runs, in brackets the 95 % bootstrap interval by patient. Outlier "
        "voxels against voxels of organ and known tumours, all cases of a run pooled. *Found*: outliers at one false "
        "region a case. *Whole volume*: AUROC against every known voxel. *Real tumours*: AUROC of tumours of unknown "
        "type against organ; none says which way is right. Settings were chosen on the validation patients."
    )


def _what_ran(report: dict[str, Any]) -> list[str]:
    runs = [
        f"- seed {run['seed']}: validation {', '.join(run['validation_patients'])}; test "
        f"{', '.join(run['test_patients'])}; backbone {_minutes(run['backbone_seconds'])}" for run in report["runs"]
    ]  # fmt: skip
    networks = [
        f"- {network['name']}: {', '.join(map(_minutes, network['training_seconds']))} after the backbone"
        for network in report["networks"]
    ]
    environment = "; ".join(f"{name} {value}" for name, value in report["environment"].items())
    settings = [
        f"- {row['method']}: {', '.join(sorted(set(row['setting'])))}"
        for row in report["tables"]["1"] if set(row["setting"]) != {row["method"]}
    ]  # fmt: skip
    chosen = ["Settings chosen on validation patients:", "\n".join(settings)] if settings else []
    return ["\n".join(runs), "Training time:", "\n".join(networks), *chosen, f"Environment: {environment}."]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(estimate: dict[str, Any]) -> str:
    mean, interval = estimate["mean"], estimate["ci"]
    return _number({"mean": mean and 100 * mean, "ci": interval and [100 * end for end in interval]})


def _number(estimate: dict[str, Any]) -> str:
    if estimate["mean"] is None:
        return "–"
    interval = f" ({estimate['ci'][0]:.1f}–{estimate['ci'][1]:.1f})" if estimate["ci"] else ""
    return f"{estimate['mean']:.1f}{interval}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min"
