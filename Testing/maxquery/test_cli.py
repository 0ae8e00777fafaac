"""The command as a process: results, exit codes, progress, and signals."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import SimpleITK as sitk

from maxquery import cli
from maxquery.bundle import load_bundle, weights_sha256
from maxquery.cli import build_parser, run_parameters
from maxquery.errors import unforeseen
from maxquery.interruption import run_cancellable, sigterm_interrupts
from maxquery.parameters import PredictionParameters
from maxquery.segment import SegmentParameters

RESULT = ["anomaly.nrrd", "clusters.nrrd", "findings.csv", "report.json", "segmentation.seg.nrrd"]


def run(*arguments, **environment) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "maxquery", *map(str, arguments)]
    environment = os.environ | environment
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=300, env=environment)


@pytest.fixture(scope="module")
def ct(tmp_path_factory) -> Path:
    """A CT-like phantom, oblique, named after a patient as files often are."""
    rng = np.random.default_rng(0)
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in (16, 40, 44)], indexing="ij")
    hu = np.where(y**2 + x**2 < 0.8, rng.normal(60, 30, z.shape), -1000.0)
    hu[(y - 0.2) ** 2 + (x + 0.3) ** 2 + z**2 < 0.1] = -80
    image = sitk.GetImageFromArray(hu.astype(np.int16))
    image.SetSpacing((2.5, 2.5, 5.0))
    image.SetOrigin((12.5, -30.25, 7.0))
    c, s = np.cos(0.2), np.sin(0.2)
    image.SetDirection((c, -s, 0, s, c, 0, 0, 0, 1))
    path = tmp_path_factory.mktemp("ct") / "Doe_Jane_19500101.nii.gz"
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture(scope="module")
def result(ct, tiny_model, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    output = tmp_path_factory.mktemp("out") / "case"
    done = run("segment", ct, "--bundle", tiny_model, "--output", output, "--device", "cpu", "--progress", "jsonl")
    assert done.returncode == 0, done.stderr
    return output, done


def test_a_run_leaves_the_five_files_on_the_cts_exact_grid(ct, result):
    output, _ = result
    assert sorted(p.name for p in output.iterdir()) == RESULT
    source = sitk.ReadImage(str(ct))
    for name in ("segmentation.seg.nrrd", "anomaly.nrrd", "clusters.nrrd"):
        image = sitk.ReadImage(str(output / name))
        assert image.GetSize() == source.GetSize()
        for ours, theirs in ((image.GetSpacing(), source.GetSpacing()), (image.GetOrigin(), source.GetOrigin()),
                             (image.GetDirection(), source.GetDirection())):  # fmt: skip
            np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_progress_for_programs_is_json_lines_that_end_with_done(result):
    lines = [json.loads(line) for line in result[1].stdout.splitlines()]
    assert lines[-1]["stage"] == "done"
    assert {"read", "network", "write"} <= {line["stage"] for line in lines}
    assert all(0 <= line["fraction"] <= 1 for line in lines)


def test_the_report_can_repeat_the_run_and_names_nobody(result, tiny_model):
    output, done = result
    report = json.loads((output / "report.json").read_text("utf-8"))
    expected = {"input", "bundle", "device", "backend", "seconds", "peak_memory_mb", "case_score", "volumes_ml",
                "findings", "warnings", "parameters", "versions"}  # fmt: skip
    assert expected <= set(report)
    assert report["bundle"]["weights_sha256"] == weights_sha256(load_bundle(tiny_model).weights)
    assert report["seconds"]["total"] > 0 and report["peak_memory_mb"] > 50
    for finding in report["findings"]:
        assert {"id", "label", "ood", "volume_ml", "centroid_ras_mm"} <= set(finding)
    written = "".join(p.read_text("utf-8") for p in output.iterdir() if p.suffix in (".json", ".csv")) + done.stdout
    assert "Doe" not in written and "Jane" not in written and "1950" not in written
    assert not any("Doe" in p.name for p in output.parent.rglob("*"))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing.nii.gz"], 2, "no file"),
        (["{ct}", "--bundle", "nonsense"], 2, "No bundle is called"),
        (["{ct}", "{ct}"], 2, "takes 1 image"),
        (["{ct}", "--output", "{ct}"], 2, "is a file"),
        (["{ct}", "--device", "cuda"], 3, "no usable 'cuda' device"),
    ],
)
def test_what_cannot_work_is_said_in_a_sentence_with_its_exit_code(arguments, code, words, ct, tiny_model, tmp_path):
    import torch

    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("a GPU is there")
    arguments = [a.format(ct=ct) for a in arguments]
    for option, value in (("--bundle", tiny_model), ("--output", tmp_path / "out")):
        if option not in arguments:
            arguments += [option, value]
    done = run("segment", *arguments, "--progress", "none")
    assert done.returncode == code
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_failed_run_leaves_an_older_result_as_it_was(result, tiny_model):
    output, _ = result
    before = {p.name: p.read_bytes() for p in output.iterdir()}
    done = run("segment", "missing.nii", "--bundle", tiny_model, "--output", output)
    assert done.returncode == 2
    assert {p.name: p.read_bytes() for p in output.iterdir()} == before


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number, there", [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_a_signal_stops_the_run_within_two_seconds_and_leaves_what_was_there(number, there, tmp_path, tiny_model):
    if there:
        (tmp_path / "out").mkdir()
    rng = np.random.default_rng(0)
    large = sitk.GetImageFromArray(rng.normal(0, 300, (120, 160, 160)).astype(np.int16))
    large.SetSpacing((2.0, 2.0, 3.0))
    sitk.WriteImage(large, str(tmp_path / "large.mha"))
    command = [sys.executable, "-m", "maxquery", "segment", tmp_path / "large.mha", "--bundle", tiny_model,
               "--output", tmp_path / "out", "--device", "cpu", "--quality", "accurate",
               "--progress", "jsonl"]  # fmt: skip
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    process = subprocess.Popen(list(map(str, command)), **pipes)
    for line in process.stdout:
        if json.loads(line)["stage"] == "network":
            break
    start = time.monotonic()
    process.send_signal(number)
    rest, _ = process.communicate(timeout=30)
    assert time.monotonic() - start < 2.0
    assert process.returncode == 130
    assert json.loads(rest.splitlines()[-1])["stage"] == "cancelled"
    assert (tmp_path / "out").exists() == there and not list(tmp_path.glob("out/*"))


def test_sigterm_is_an_interrupt_where_that_is_asked_for_and_only_there():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), sigterm_interrupts():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_run_has_begun_cancels_it_too(number, monkeypatch, capsys):
    monkeypatch.setattr(cli, "_segment", lambda options: signal.raise_signal(number))
    assert cli.main(["segment", "ct.nii.gz", "--output", "out", "--progress", "jsonl"]) == 130
    assert json.loads(capsys.readouterr().out)["stage"] == "cancelled"


def test_a_run_hears_signals_before_it_loads_torch():
    needed = "maxquery.cli, maxquery.interruption, maxquery.progress, maxquery.writing"
    code = f"import sys, {needed}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_run_that_is_done_before_a_signal_stops_it_is_done():
    def work(stop):
        signal.raise_signal(signal.SIGTERM)
        assert stop.wait(10)
        return "written"

    assert run_cancellable(work, lambda: pytest.fail("cancelled")) == "written"


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
def test_a_closed_output_stops_nothing(ct, tiny_model, tmp_path):
    command = [sys.executable, "-m", "maxquery", "segment", ct, "--bundle", tiny_model, "--output", tmp_path / "out"]
    done = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *map(str, command)], stderr=subprocess.PIPE)
    assert done.returncode == 0 and (tmp_path / "out" / "report.json").exists()


def test_a_machine_without_memory_is_no_mistake_of_ours():
    words = "[enforce fail at alloc_cpu.cpp:115] err == 0. DefaultCPUAllocator: can't allocate memory"
    assert unforeseen(RuntimeError(words)).code == "memory"


def test_options_are_the_parameters_with_their_defaults_and_choices():
    parser = build_parser()
    assert run_parameters(parser.parse_args(["segment", "ct.nii", "--output", "out"])) == SegmentParameters()
    (commands,) = parser._subparsers._group_actions
    options = {option.dest: option.choices for option in commands.choices["segment"]._actions}
    for kind in (PredictionParameters, SegmentParameters):
        for name, of_type in get_type_hints(kind).items():
            if get_args(of_type) and name in options:
                assert set(options[name]) == set(get_args(of_type)), name


def test_info_says_what_a_model_is_and_where_it_ends(tiny_model):
    done = run("info", tiny_model)
    assert done.returncode == 0
    for words in ("tiny", "liver", "Limits", "Queries"):
        assert words in done.stdout


def test_a_reader_that_leaves_ends_the_run_without_a_word_as_in_any_shell(tiny_model):
    command = [sys.executable, "-m", "maxquery", "info", str(tiny_model)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert (process.stderr.read(), process.wait(60)) == (b"", 141)


def test_models_and_samples_can_be_listed():
    bundles, samples = run("bundles"), run("samples")
    assert (bundles.returncode, samples.returncode) == (0, 0)
    assert "liver-demo" in bundles.stdout
    assert "abdomen" in samples.stdout


def test_a_terminal_that_only_knows_ascii_is_no_obstacle():
    done = run("samples", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert done.returncode == 0, done.stderr
    assert "512 ? 512 ? 133" in done.stdout


def test_peak_memory_is_not_that_of_the_program_that_started_it():
    """Slicer holds gigabytes when it starts the engine; `held` stands for that."""
    child = "from maxquery.segment import peak_memory_mb; print(peak_memory_mb())"
    parent = (
        "import subprocess, sys; held = b'x' * 2_000_000_000; "
        f"print(subprocess.run([sys.executable, '-c', {child!r}], capture_output=True, text=True).stdout)"
    )
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True)
    assert 50 < float(done.stdout) < 1500, done.stderr
