"""Training on several devices: here two processes on CPUs (gloo), as `torchrun` starts them."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from maxquery_training.checkpoints import FINAL, read_checkpoint
from maxquery_training.planning import with_preset

from .conftest import DATASET, SMALL

TWO_WINDOWS = replace(SMALL, batch_size=2, iterations=3, backbone_epochs=2, joint_epochs=2)


def trained_log(planned, processes: int) -> dict[str, dict]:
    """What both stages logged, trained by that many processes."""
    plans = planned.plans
    plans.write_text(json.dumps(with_preset(planned.read_plans(), TWO_WINDOWS)))
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(launcher if processes > 1 else []), "-m", "maxquery_training.cli", "train"]
    options = ["--dataset", DATASET, "--work", str(planned.work), "--device", "cpu", "--processes", "1"]
    done = subprocess.run([*command, *options], capture_output=True, encoding="utf-8", timeout=500, env=os.environ)
    assert done.returncode == 0, done.stderr
    logs, results = {}, planned.work / "results" / DATASET
    for trainer in ("BackboneTrainer", "MaxQueryTrainer"):
        checkpoint = results / f"{trainer}__MaxQueryPlans__3d_fullres" / "fold_0" / FINAL
        logs[trainer] = read_checkpoint(checkpoint)["logging"]
    results.rename(results.with_name(f"with-{processes}"))
    return logs


@pytest.fixture(scope="module")
def logs(planned) -> dict[int, dict]:
    return {processes: trained_log(planned, processes) for processes in (1, 2)}


def test_two_processes_learn_what_one_learns_from_the_same_batches(logs):
    one, two = (logs[n]["BackboneTrainer"] for n in (1, 2))
    assert len(one["train_losses"]) == 2
    assert two["train_losses"] == pytest.approx(one["train_losses"], rel=1e-3)
    assert two["val_losses"] == pytest.approx(one["val_losses"], rel=1e-3)


def test_the_joint_stage_runs_on_two_processes_through_freeze_and_thaw(logs):
    # Not the same curve: drop path draws its own numbers in each process.
    one, two = (logs[n]["MaxQueryTrainer"]["loss_terms"] for n in (1, 2))
    assert [set(terms) for terms in two] == [{"total", "seg", "qd", "attention"}] * 2
    assert two[0]["total"] == pytest.approx(one[0]["total"], rel=0.2)


def test_a_batch_that_cannot_be_dealt_out_evenly_is_refused(monkeypatch):
    import torch.distributed as dist

    from maxquery.errors import InputError
    from maxquery_training.distributed import own_share

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    with pytest.raises(InputError, match="A batch of 2 cannot be dealt out evenly to 3 processes"):
        own_share(2)
