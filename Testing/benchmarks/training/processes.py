"""Trains on the same batches in one process and in two (gloo, on CPUs), and compares the losses of the backbone stage.

    python Testing/benchmarks/training/processes.py

Writes `processes` into report.json beside this file: the largest relative difference between the two loss curves. In
the joint stage drop path draws its own numbers in each process, so its curves are not the same.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from kills import DATASET, SHORT_EPOCHS, planned, train_command  # noqa: E402

from maxquery_training.checkpoints import FINAL, read_checkpoint  # noqa: E402
from maxquery_training.planning import with_preset  # noqa: E402

TWO_WINDOWS = replace(SHORT_EPOCHS, batch_size=2, backbone_epochs=10)


def losses(work: Path, processes: int) -> np.ndarray:
    command = train_command(work, "train", "--device", "cpu", "--progress", "none", "--stage", "backbone")
    if processes > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [command[0], *launcher, *command[1:]]
    subprocess.run(command, check=True)
    results = work / "results"
    folder = results / DATASET / "BackboneTrainer__MaxQueryPlans__3d_fullres" / "fold_0"
    log = read_checkpoint(folder / FINAL)["logging"]
    results.rename(work / f"with-{processes}")
    return np.array([log["train_losses"], log["val_losses"]])


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        work = planned(Path(temporary))
        plans = work / "preprocessed" / DATASET / "MaxQueryPlans.json"
        plans.write_text(json.dumps(with_preset(json.loads(plans.read_text()), TWO_WINDOWS)))
        one, two = (losses(work, processes) for processes in (1, 2))
    report = HERE / "report.json"
    document = json.loads(report.read_text()) if report.exists() else {}
    document["processes"] = {
        "compared": [1, 2], "epochs": one.shape[1],
        "largest_relative_difference": float(np.abs(two / one - 1).max()),
    }  # fmt: skip
    report.write_text(json.dumps(document, indent=2) + "\n")
    print(document["processes"])


if __name__ == "__main__":
    main()
