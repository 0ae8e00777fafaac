"""The committed report: its text is made from its figures, none is typed by hand."""

import json
import re
from pathlib import Path

from maxquery_training.near_ood.report_text import markdown

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "near_ood"
REPORT = json.loads((FOLDER / "report.json").read_text("utf-8"))
TEXT = (FOLDER / "REPORT.md").read_text("utf-8")


def test_its_text_is_made_from_its_figures():
    assert markdown(REPORT) == TEXT


def test_it_tells_how_far_runs_lie_apart():
    for row in REPORT["tables"]["1"]:
        told = re.search(rf"^\| {re.escape(row['method'])} \| ([\d.]+) ± ([\d.]+) \(", TEXT, re.MULTILINE)
        assert told, row["method"]
        assert told.groups() == tuple(f"{100 * row['auroc'][figure]:.1f}" for figure in ("mean", "sd_over_runs"))
