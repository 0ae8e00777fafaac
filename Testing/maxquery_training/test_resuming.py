"""Training that is interrupted, damaged or misused, on real nnU-Net."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from maxquery.errors import InputError, MachineError
from maxquery_training import checkpoints
from maxquery_training.checkpoints import BEST, FINAL, LATEST, PREVIOUS, newest, read_checkpoint, write_whole
from maxquery_training.environment import environment
from maxquery_training.planning import with_preset

from .conftest import DATASET, SMALL

LONGER = replace(SMALL, backbone_epochs=3, joint_epochs=3)


@pytest.fixture
def run(planned, tmp_path, monkeypatch):
    """`run(backbone_rate=…)` trains both stages into an empty results folder, and goes on there when called again."""
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    from maxquery_training.stages import train

    def start(**changes):
        plans = with_preset(planned.read_plans(), replace(LONGER, **changes))
        train(plans, planned.read_description(), torch.device("cpu"))

    return start


def folder_of(results, trainer: str):
    return results / DATASET / f"{trainer}__MaxQueryPlans__3d_fullres" / "fold_0"


class Killed(BaseException):
    """Stands for a kill at that very moment: nothing in the product catches it."""


def kill_at(monkeypatch, trainer_class, step: int):
    """Ends the run at the trainer's `step`-th training batch."""
    steps, original = [], trainer_class.train_step

    def train_step(self, batch):
        steps.append(batch)
        if len(steps) == step:
            raise Killed
        return original(self, batch)

    monkeypatch.setattr(trainer_class, "train_step", train_step)


def state(folder) -> dict:
    """All that a stage leaves, but for the time of day."""
    checkpoint = read_checkpoint(folder / FINAL)
    for key in ("epoch_start_timestamps", "epoch_end_timestamps"):
        del checkpoint["logging"][key]
    return {key: checkpoint[key] for key in ("network_weights", "optimizer_state", "logging", "_best_ema")}


def assert_same(one, other):
    """Equal bit by bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other or (one != one and other != other)


@pytest.fixture(scope="module")
def undisturbed(planned, tmp_path_factory):
    """The results folder of both stages, trained in one go."""
    from maxquery_training.stages import train

    results = tmp_path_factory.mktemp("undisturbed")
    with environment(nnUNet_results=str(results)):
        train(with_preset(planned.read_plans(), LONGER), planned.read_description(), torch.device("cpu"))
    return results


@pytest.mark.parametrize("trainer", ["BackboneTrainer", "MaxQueryTrainer"])
def test_a_run_stopped_within_an_epoch_ends_as_if_it_had_not_been(run, undisturbed, tmp_path, monkeypatch, trainer):
    from maxquery_training import trainers

    with monkeypatch.context() as patch:
        kill_at(patch, getattr(trainers, trainer), step=4)
        with pytest.raises(Killed):
            run()
    assert not folder_of(tmp_path, trainer).joinpath(FINAL).exists()
    run()
    for name in ("BackboneTrainer", "MaxQueryTrainer"):
        assert_same(state(folder_of(tmp_path, name)), state(folder_of(undisturbed, name)))
        assert {path.name for path in folder_of(tmp_path, name).glob("checkpoint*")} == {BEST, FINAL}


def test_a_killed_process_goes_on_where_it_was(planned, undisturbed, tmp_path):
    plans = planned.plans
    before = plans.read_text()
    plans.write_text(json.dumps(with_preset(planned.read_plans(), LONGER)))
    results = planned.work / "results"
    command = [sys.executable, "-m", "maxquery_training.cli", "train", "--dataset", DATASET, "--work", planned.work]
    command += ["--device", "cpu", "--processes", "2"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not folder_of(results, "BackboneTrainer").joinpath(LATEST).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)
    plans.write_text(before)
    assert second.returncode == 0, second.stderr
    for name in ("BackboneTrainer", "MaxQueryTrainer"):
        assert_same(state(folder_of(results, name)), state(folder_of(undisturbed, name)))


def test_windows_are_the_same_whichever_process_draws_them(planned, monkeypatch):
    from maxquery_training.trainers import BackboneTrainer

    plans = with_preset(planned.read_plans(), replace(SMALL, batch_size=2)) | {"continue_training": False}
    drawn = {}
    for processes in (0, 2):
        monkeypatch.setenv("nnUNet_n_proc_DA", str(processes))
        trainer = BackboneTrainer(plans | {}, "3d_fullres", 0, planned.read_description(), torch.device("cpu"))
        plans["continue_training"] = False
        trainer.initialize()
        training, _ = trainer.get_dataloaders()
        drawn[processes] = [next(training) for _ in range(3)]
    for one, other in zip(*drawn.values(), strict=True):
        assert one["data"].shape == (2, 1, 8, 32, 32)
        assert_same(one, other)
    assert not torch.equal(drawn[0][0]["data"], drawn[0][1]["data"])


def test_drawing_windows_leaves_the_networks_randomness_alone(planned):
    from maxquery_training.trainers import BackboneTrainer

    plans = planned.read_plans() | {"continue_training": False}
    trainer = BackboneTrainer(plans, "3d_fullres", 0, planned.read_description(), torch.device("cpu"))
    trainer.initialize()
    training, _ = trainer.get_dataloaders()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = torch.rand(1)
    next(training)
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)


def test_a_loss_that_is_no_number_stops_the_run_with_what_to_do(run, tmp_path):
    with pytest.raises(MachineError, match=r"The loss became (nan|inf) in epoch \d.*lower rate"):
        run(backbone_rate=1e30)


def test_a_full_disk_stops_the_run_and_leaves_the_epoch_before(run, undisturbed, tmp_path, monkeypatch):
    from maxquery_training.trainers import BackboneTrainer

    def then_full(self):
        if self.current_epoch == 1:  # no file may grow beyond 10 kB, as if the disk were full
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        original(self)

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    original = BackboneTrainer.on_epoch_end
    with monkeypatch.context() as patch:
        patch.setattr(BackboneTrainer, "on_epoch_end", then_full)
        try:
            with pytest.raises(MachineError, match=r"could not be written.*Free some space"):
                run()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_checkpoint(newest(folder_of(tmp_path, "BackboneTrainer")))["current_epoch"] == 1
    assert not list(folder_of(tmp_path, "BackboneTrainer").glob("*.partial"))
    run()
    assert_same(state(folder_of(tmp_path, "MaxQueryTrainer")), state(folder_of(undisturbed, "MaxQueryTrainer")))


def test_two_runs_in_one_folder_are_refused(run, monkeypatch):
    from maxquery_training.trainers import BackboneTrainer

    second = []

    def train_step(self, batch):
        with pytest.raises(MachineError) as refused:
            run()
        second.append(refused.value.message)
        raise Killed

    monkeypatch.setattr(BackboneTrainer, "train_step", train_step)
    with pytest.raises(Killed):
        run()
    assert second[0].startswith("Another run is training in ")


class _RunsCode:
    def __reduce__(self):
        return os.system, ("touch ran",)


def test_a_checkpoint_that_could_run_code_is_refused_unless_trusted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"network_weights": {}, "extra": _RunsCode()}, tmp_path / "foreign.pth")
    with pytest.raises(InputError, match=r"could run code.*--trust-backbone"):
        read_checkpoint(tmp_path / "foreign.pth")
    assert not (tmp_path / "ran").exists()
    read_checkpoint(tmp_path / "foreign.pth", trusted=True)
    assert (tmp_path / "ran").exists()


def test_numbers_as_stock_nnunet_logs_them_are_data(tmp_path):
    torch.save({"logging": {"train_losses": [np.float32(0.5), np.float64(0.25)]}}, tmp_path / "stock.pth")
    assert read_checkpoint(tmp_path / "stock.pth")["logging"]["train_losses"] == [0.5, 0.25]


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path):
    for epoch in (1, 2):
        with write_whole(tmp_path / LATEST, keep=tmp_path / PREVIOUS) as file:
            torch.save({"epoch": epoch, "weights": torch.arange(100.0)}, file)
    assert read_checkpoint(newest(tmp_path))["epoch"] == 2
    content = bytearray((tmp_path / LATEST).read_bytes())
    content[content.index(torch.arange(100.0).numpy().tobytes()) + 7] ^= 1  # one bit of one weight
    (tmp_path / LATEST).write_bytes(content)
    assert read_checkpoint(newest(tmp_path))["epoch"] == 1
    (tmp_path / PREVIOUS).write_bytes((tmp_path / PREVIOUS).read_bytes()[:-100])
    with pytest.raises(InputError, match=r"latest\.pth and checkpoint_previous\.pth in .* Remove them"):
        newest(tmp_path)


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path):
    (tmp_path / LATEST).write_bytes(b"whole")
    with pytest.raises(OSError), write_whole(tmp_path / LATEST, keep=tmp_path / PREVIOUS) as file:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == [LATEST] and (tmp_path / LATEST).read_bytes() == b"whole"


def test_a_kill_between_two_renames_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    torch.save({"epoch": 1}, tmp_path / LATEST)
    moves, replace_path = [], checkpoints.Path.replace

    def once(self, target):
        moves.append(target)
        if len(moves) == 2:
            raise Killed
        return replace_path(self, target)

    monkeypatch.setattr(checkpoints.Path, "replace", once)
    with pytest.raises(Killed), write_whole(tmp_path / LATEST, keep=tmp_path / PREVIOUS) as file:
        torch.save({"epoch": 2}, file)
    assert read_checkpoint(newest(tmp_path))["epoch"] == 1
