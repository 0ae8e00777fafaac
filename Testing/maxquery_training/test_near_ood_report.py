"""The committed reports: their text is made from their figures, none is typed by hand."""

import json
import re
from pathlib import Path

import pytest

from maxquery_training.near_ood.report_text import markdown

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks" / "near_ood"
REPORT = json.loads((FOLDER / "report.json").read_text("utf-8"))
TEXT = (FOLDER / "REPORT.md").read_text("utf-8")


@pytest.mark.parametrize("file", sorted(FOLDER.rglob("report.json")), ids=lambda file: file.parent.name)
def test_the_text_is_made_from_the_figures(file):
    assert markdown(json.loads(file.read_text("utf-8"))) == file.with_name("REPORT.md").read_text("utf-8")


def test_what_no_case_could_show_is_left_out_of_the_summary():
    nothing = {"mean": None, "ci": None, "sd_over_runs": None}
    rows = [row | {"mean_of_types": nothing} for row in REPORT["tables"]["1"]]
    text = markdown(REPORT | {"tables": REPORT["tables"] | {"1": rows}})
    assert "**AUROC, each type of outlier alike**" in TEXT and "**AUROC, each type of outlier alike**" not in text


def test_it_tells_how_far_runs_lie_apart():
    for row in REPORT["tables"]["1"]:
        told = re.search(rf"^\| {re.escape(row['method'])} \| ([\d.]+) ± ([\d.]+) \(", TEXT, re.MULTILINE)
        assert told, row["method"]
        assert told.groups() == tuple(f"{100 * row['auroc'][figure]:.1f}" for figure in ("mean", "sd_over_runs"))
