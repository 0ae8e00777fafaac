"""The engine as a child process: what it says, how it fails, and that nothing of it survives a cancel."""

import os
import sys
import time
import venv
from pathlib import Path

import psutil
import pytest

import maxquery
from maxquery.cli import build_parser
from MaxQuerySegmentationLib.child import Child, End, Progress
from MaxQuerySegmentationLib.engine import Engine, about_python
from MaxQuerySegmentationLib.engine_arguments import (
    DEVICES,
    QUALITIES,
    RunParameters,
    responses_arguments,
    segment_arguments,
)

ENGINE = Engine(Path(sys.executable))


def finish(child: Child, seconds: float = 120.0) -> tuple[list[Progress], End]:
    events, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        events += child.poll()
        if events and isinstance(events[-1], End):
            return events[:-1], events[-1]
        time.sleep(0.02)
    raise AssertionError("it did not end")


def python(code: str) -> Child:
    return Child([sys.executable, "-c", code], os.environ)


@pytest.mark.parametrize("arguments", [
    segment_arguments([Path("ct.nrrd")], Path("out"), RunParameters()),
    responses_arguments([Path("ct.nrrd")], Path("out.npz"), RunParameters(), (1.0, -2.5, 3.0), 80.0),
], ids=["segment", "responses"])  # fmt: skip
def test_the_panels_parameters_are_those_of_the_command_line(arguments):
    (commands,) = (action for action in build_parser()._actions if isinstance(action.choices, dict))
    options = {action.dest: action for action in commands.choices[arguments[0]]._actions}
    chosen = build_parser().parse_args(arguments)
    assert RunParameters(chosen.bundle, chosen.device, getattr(chosen, "quality", "fast")) == RunParameters()
    assert options["bundle"].default == RunParameters().bundle and options["device"].default == RunParameters().device
    assert set(options["device"].choices) == set(DEVICES)
    if "quality" in options:
        assert set(options["quality"].choices) == set(QUALITIES)
        assert options["quality"].default == RunParameters().quality


def test_a_real_run_reports_its_progress_and_leaves_a_result(case_files, tiny_model, tmp_path):
    output = tmp_path / "Ergebnis für ä"
    parameters = RunParameters(bundle=str(tiny_model), device="cpu")
    progress, end = finish(Child(ENGINE.command(*segment_arguments([case_files.ct], output, parameters)),
                                 ENGINE.child_environment()))  # fmt: skip
    assert end == End("done", details=end.details)
    assert {"read", "network", "write"} <= {each.stage for each in progress}
    assert (output / "segmentation.seg.nrrd").exists()


def test_the_engines_own_words_say_what_was_wrong(tiny_model, tmp_path):
    arguments = segment_arguments([tmp_path / "gone.nrrd"], tmp_path / "out", RunParameters(bundle=str(tiny_model)))
    _, end = finish(Child(ENGINE.command(*arguments), ENGINE.child_environment()))
    assert (end.outcome, end.message, end.hint) == ("failed", "There is no file gone.nrrd.", "Check the path.")


def test_a_child_that_dies_of_something_else_is_quoted(tmp_path):
    _, end = finish(python("import sys; print('noise'); sys.exit('libfoo.so: cannot open shared object file')"))
    assert end.outcome == "failed" and "libfoo.so: cannot open" in end.message
    assert "noise" in end.details


def test_a_python_that_is_not_there_is_said(tmp_path):
    _, end = finish(Child([str(tmp_path / "python")], os.environ))
    assert end.outcome == "failed" and "cannot be started" in end.message and "Advanced" in end.hint


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL that a child could die of")
def test_a_child_that_the_system_kills_most_likely_lacked_memory():
    _, end = finish(python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))
    assert end.outcome == "failed" and "memory" in end.hint


def test_so_does_one_whose_launcher_says_so():
    _, end = finish(python("import sys; print('error: [python-real] exit abnormally - Report the problem.', "
                           "file=sys.stderr); sys.exit(1)"))  # fmt: skip
    assert end.outcome == "failed" and "memory" in end.hint


def test_cancel_ends_the_whole_tree_within_two_seconds_even_if_it_does_not_listen():
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    parent = python(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {stubborn!r}])")
    tree = []
    while len(tree) < 1:
        tree = psutil.Process(parent._process.pid).children(recursive=True)
        time.sleep(0.05)
    time.sleep(0.5)
    parent.cancel()
    start = time.monotonic()
    _, end = finish(parent)
    assert end.outcome == "cancelled" and time.monotonic() - start < 2
    psutil.wait_procs(tree, timeout=1)
    assert not [each for each in tree if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def test_kill_leaves_nothing_behind():
    child = python("import time; time.sleep(60)")
    process = psutil.Process(child._process.pid)
    child.kill()
    assert not process.is_running()


def test_another_python_is_asked_what_it_has(tmp_path):
    assert about_python(Path(sys.executable), os.environ) == f"maxquery {maxquery.__version__} is installed there."
    assert about_python(tmp_path / "python", os.environ) == "No program lies there."
    bare = tmp_path / "env"
    venv.create(bare)
    python = bare / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    missing = "maxquery is not installed there: ModuleNotFoundError: No module named 'maxquery'"
    assert about_python(python, os.environ) == missing
    not_python = tmp_path / "notes.txt"
    not_python.write_text("no program")
    assert about_python(not_python, os.environ).startswith("It cannot be used: ")


def test_another_python_hears_nothing_of_slicers(monkeypatch):
    monkeypatch.setenv("PYTHONHOME", "/slicer/lib/Python")
    assert "PYTHONHOME" in Engine(Path(sys.executable)).child_environment()
    assert not {"PYTHONHOME", "PYTHONPATH"} & Engine(Path(sys.executable), None).child_environment().keys()


def test_a_crash_is_told_by_its_error_and_not_by_what_follows_it():
    code = "import sys; sys.exit('ValueError: the file is empty\\n\\nCurrent thread:\\n  <no Python frame>')"
    _, end = finish(python(code))
    assert end.message == "The engine stopped: ValueError: the file is empty."
