"""The README's figures, and the model's page's, are what was measured."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def report_of(benchmark: str) -> dict:
    return json.loads((ROOT / "Testing" / "benchmarks" / benchmark / "report.json").read_text("utf-8"))


def test_the_table_of_speed_is_the_reports():
    report = report_of("speed")
    rows = re.findall(r"^\| [^|]+\| `(\w+)` \| ([\d.]+) \|", README, re.MULTILINE)
    assert len(rows) >= 6
    for key, figure in rows:
        digits = len(figure.partition(".")[2])
        assert figure == f"{report[key]['median']:.{digits}f}", key


def test_the_table_of_methods_is_the_reports():
    table_1 = {row["method"]: row for row in report_of("near_ood")["tables"]["1"]}
    rows = re.findall(r"^\| ([^|`]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", README, re.MULTILINE)
    assert len(rows) >= 4
    for method, *figures in rows:
        expected = [100 * table_1[method][figure]["mean"] for figure in ("auroc", "aupr", "fpr95")]
        assert figures == [f"{value:.1f}" for value in expected], method


def test_the_table_of_liver_demos_scores_is_its_bundles():
    bundle = ROOT / "Resources" / "Models" / "liver-demo" / "bundle.json"
    measured = json.loads(bundle.read_text("utf-8"))["metrics"]["ood"]
    page = (ROOT / "Resources" / "liver-demo.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)`[^|]* \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE)
    assert {score for score, *_ in rows} == set(measured)
    for score, *figures in rows:
        assert figures == [f"{measured[score][figure]:.3f}" for figure in ("auroc", "aupr", "fpr95")], score
