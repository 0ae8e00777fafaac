"""What a benchmark leaves: `report.json`, `REPORT.md` and pictures; every figure comes from what was measured."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from maxquery_training.near_ood.config import Benchmark
from maxquery_training.near_ood.gallery import draw
from maxquery_training.near_ood.methods import CHOSEN, IN_TUMOURS, P_TUMOUR, SEGMENTERS
from maxquery_training.near_ood.report_text import markdown
from maxquery_training.near_ood.run import BenchmarkRun
from maxquery_training.near_ood.statistics import has_outliers
from maxquery_training.near_ood.tables import (
    HELD_AGAINST,
    OURS,
    against_best,
    localisation_row,
    measured_methods,
    segmentation_row,
)

_TABLE_4 = {
    "category, post-softmax": ("category", "post"), "category, pre-softmax": ("category", "pre"),
    "query, post-softmax": ("query", "post"), "": ("query", "pre"),
}  # fmt: skip


def collect(benchmark: Benchmark, runs: Sequence[BenchmarkRun]) -> dict[str, Any]:
    """The document `report.json`, of the networks that every one of `runs` has measured."""
    ready = [network for network in benchmark.networks if all(run.is_measured(network) for run in runs)]
    rows = [
        localisation_row(method, benchmark.data.outliers)
        for network in ready for method in measured_methods(runs, network)
    ]  # fmt: skip
    of_table_4 = {", ".join(filter(None, (OURS, name))): levels for name, levels in _TABLE_4.items()}
    distributions = {n.name: list(n.changes["query_distribution"]) for n in ready if "query_distribution" in n.changes}
    names = {n.name for n in ready} - set(distributions)
    names |= {f"{name}, {score}" for name in names for score in (IN_TUMOURS, P_TUMOUR, CHOSEN)}
    if distributions:
        distributions[OURS] = list(benchmark.preset.query_distribution)
    table_2 = {n.name: segmentation_row(n, runs) for n in ready if n.kind in SEGMENTERS}
    tables = {
        "1": [row for row in rows if row["kind"] != "maxquery" or row["method"] in names],
        "2": list(table_2.values()),
        "3": [
            row | {"distribution": distributions[row["method"]], "inliers": table_2[row["method"]]["inliers"]}
            for row in rows if row["method"] in distributions
        ],
        "4": [
            row | dict(zip(("level", "softmax"), of_table_4[row["method"]], strict=True))
            for row in rows if row["method"] in of_table_4
        ],
    }  # fmt: skip
    report: dict[str, Any] = {
        "benchmark": benchmark.name,
        "outliers": list(benchmark.data.outliers),
        "cases_are": benchmark.data.cases_are,
        "chosen_by_validation": all(has_outliers(run.results(ready[0], "val")) for run in runs),
        "tables": tables,
        "runs": [run.describe() | {"test_cases": len(run.results(ready[0], "test"))} for run in runs],
        "networks": [
            {"name": n.name, "kind": n.kind, "changes": dict(n.changes),
             "training_seconds": [run.networks.seconds(n) for run in runs]} for n in ready
        ],
        "preset": benchmark.preset.to_json(),
        "environment": _environment(),
    }  # fmt: skip
    ours = [row["method"] for row in tables["1"] if row["method"] in HELD_AGAINST]
    held = {name: against_best(tables["1"], name) for name in ours}
    return report | {"against_best": {name: found for name, found in held.items() if found}}


def _environment() -> dict[str, str]:
    names = ("maxquery", "torch", "nnunetv2", "numpy", "scipy", *(("openvino",) if find_spec("openvino") else ()))
    packages = {name: version(name) for name in names}
    git = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return packages | {"python": platform.python_version(), "processor": _processor(), "commit": git.stdout.strip()}


def _processor() -> str:
    """With what decides how fast it is, and what it trains in."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    amx = " and AMX (training in bfloat16)" if torch.cpu._is_amx_tile_supported() else ""
    return f"{os.cpu_count()} CPU cores, {torch.backends.cpu.get_cpu_capability()}{amx}"


def write(benchmark: Benchmark, runs: Sequence[BenchmarkRun], folder: Path) -> None:
    """Report and pictures of the networks that every run has measured."""
    report = collect(benchmark, runs)
    folder.mkdir(parents=True, exist_ok=True)
    report["figures"] = draw(benchmark, runs[0], report["tables"]["1"], folder)
    (folder / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "REPORT.md").write_text(markdown(report), encoding="utf-8")
