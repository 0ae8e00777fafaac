"""Who hears of a run's progress: a person (bars), a program (JSON lines), or nobody."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TextIO

from maxquery.errors import MaxQueryError

Report = Callable[[str, float, str], None]
"""Hears of a stage, how far it has come (0…1), and a sentence."""
Style = Literal["rich", "jsonl", "none"]


def silent(stage: str, fraction: float, message: str) -> None:
    """A `Report` for nobody. One that raises `Cancelled` stops the run where it is."""


def json_reporter(stream: TextIO) -> Report:
    """One object a line: `{"stage", "fraction", "message"}`."""

    def report(stage: str, fraction: float, message: str) -> None:
        write_line(stream, {"stage": stage, "fraction": round(fraction, 4), "message": message})

    return report


def report_end(style: Style, error: MaxQueryError | None, stream: TextIO) -> None:
    """The last line for programs: done, cancelled or failed, with the error's code, message and hint."""
    if style != "jsonl":
        return
    if error is None:
        write_line(stream, {"stage": "done", "fraction": 1.0, "message": ""})
        return
    stage = "cancelled" if error.code == "cancelled" else "failed"
    details = {"code": error.code, "message": error.message, "hint": error.hint}
    write_line(stream, {"stage": stage, "error": details})


@contextmanager
def reporter(style: Style) -> Iterator[Report]:
    """The `Report` for a style. Bars go to stderr, so that stdout stays clean for programs."""
    if style == "jsonl":
        yield json_reporter(sys.stdout)
    elif style == "none":
        yield silent
    else:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description:<34}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True)) as bars:
            tasks: dict[str, int] = {}

            def report(stage: str, fraction: float, message: str) -> None:
                if stage not in tasks:
                    for task in tasks.values():
                        bars.update(task, completed=1.0)
                    tasks[stage] = bars.add_task(message, total=1.0)
                bars.update(tasks[stage], completed=fraction, description=message)

            yield report
            for task in tasks.values():
                bars.update(task, completed=1.0)


def write_line(stream: TextIO, line: dict) -> None:
    """One JSON object, which whoever reads gets at once."""
    stream.write(json.dumps(line) + "\n")
    stream.flush()
