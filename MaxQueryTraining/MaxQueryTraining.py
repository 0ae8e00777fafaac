#!/usr/bin/env python-real
"""Trains a MaxQuery model from images and masks. Slicer makes a panel of its parameters and runs it as a process."""

import argparse
import sys
import traceback
from dataclasses import fields
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Beside this file in the repository, and where an installed extension keeps its scripted modules.
LIBRARIES = (HERE, HERE.parent / "MaxQuerySegmentation", HERE.parent / "qt-scripted-modules")


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, 2 for the input or arguments, 3 for the machine; stderr stays empty when all is well."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--xml"]:
        sys.stdout.write(HERE.joinpath("MaxQueryTraining.xml").read_text("utf-8"))
        return 0
    sys.path[:0] = [str(folder) for folder in LIBRARIES if folder.is_dir()]
    try:
        from maxquery.errors import MachineError, MaxQueryError, unforeseen
        from maxquery_training.job import run
        from maxquery_training.quiet import quiet
        from maxquery_training.watching import SlicerProgress
    except ModuleNotFoundError as error:
        print(f"The Python package '{error.name}' is missing.", file=sys.stderr)
        return 3
    (job, traced), stdout = _job(arguments), sys.stdout

    def say(text: str) -> None:
        stdout.write(f"{text}\n")
        stdout.flush()

    try:
        with quiet():
            folder = run(job, SlicerProgress(stdout), say)
    except ModuleNotFoundError as error:
        hint = "Install nnunetv2 into this Python."
        failure = MachineError("package", f"The Python package '{error.name}' is missing.", hint)
    except MaxQueryError as error:
        failure = error
    except Exception as error:
        failure = unforeseen(error)
        if traced:
            traceback.print_exc()
    else:
        say(f"<filter-progress>1</filter-progress>\nModel in {folder}")
        return 0
    print(failure, file=sys.stderr)
    return failure.exit_code


def _job(arguments: list[str]):
    """The `TrainingJob`, and whether a traceback is asked for."""
    from maxquery_training.job import TrainingJob

    parser = argparse.ArgumentParser(prog="MaxQueryTraining", description=__doc__)
    parser.add_argument("--xml", action="store_true", help="print the description that Slicer makes its panel of")
    parser.add_argument("--traceback", action="store_true", help="print where an unexpected error came from")
    groups: dict[str, argparse._ArgumentGroup] = {}
    for item in fields(TrainingJob):  # flags with underscores: Slicer drops a parameter whose flag has a hyphen
        kind = item.metadata
        if kind["group"] not in groups:
            groups[kind["group"]] = parser.add_argument_group(kind["group"])
        is_path = "file" in kind or "folder" in kind
        groups[kind["group"]].add_argument(
            f"--{item.name}", type=_path if is_path else type(item.default), default=item.default,
            choices=kind.get("choices"), help=kind["text"],
        )  # fmt: skip
    values = vars(parser.parse_args(arguments))
    values.pop("xml")
    traced = values.pop("traceback")
    return TrainingJob(**values), traced


def _path(text: str) -> Path | None:
    return Path(text) if text else None


if __name__ == "__main__":
    sys.exit(main())
