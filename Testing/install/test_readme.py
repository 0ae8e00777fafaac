"""The README's figures of speed are those of the report."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_of_speed_is_the_reports():
    report = json.loads((ROOT / "Testing" / "benchmarks" / "speed" / "report.json").read_text("utf-8"))
    rows = re.findall(r"^\| [^|]+\| `(\w+)` \| ([\d.]+) \|", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert len(rows) >= 6
    for key, figure in rows:
        digits = len(figure.partition(".")[2])
        assert figure == f"{report[key]['median']:.{digits}f}", key
