"""Kills a training run again and again, at random moments, and compares what it ends with to an undisturbed run.

    python Testing/benchmarks/training/kills.py [--kills 20]

Writes `kills` {`tried`, `survived`} into report.json beside this file. A run survives its kills if every tensor of
weights and optimiser, and every logged figure but the time of day, is the same bit by bit.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2]))

from Testing.maxquery_training.phantoms import write_pairs  # noqa: E402
from Testing.maxquery_training.test_train_cli import TINY  # noqa: E402

from maxquery_training.checkpoints import FINAL, read_checkpoint  # noqa: E402
from maxquery_training.planning import with_preset  # noqa: E402

DATASET = "Dataset042_Liver"
SHORT_EPOCHS = replace(TINY, iterations=4, validation_iterations=1, backbone_epochs=15, joint_epochs=15)


def train_command(work: Path, command: str = "train", *options: str) -> list[str]:
    common = ["--dataset", DATASET, "--work", str(work)]
    return [sys.executable, "-m", "maxquery_training.cli", command, *common, *options]


def planned(folder: Path) -> Path:
    """A work folder with four phantoms, prepared and planned for a tiny network."""
    cases = write_pairs(folder, (2, 3, 2, 3))
    work = folder / "work"
    prepare = train_command(work, "prepare", str(cases), "--labels", str(folder / "labels.json"))
    subprocess.run(prepare, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(train_command(work, "plan", "--preset", "quick"), check=True, stdout=subprocess.DEVNULL)
    plans = work / "preprocessed" / DATASET / "MaxQueryPlans.json"
    plans.write_text(json.dumps(with_preset(json.loads(plans.read_text()), SHORT_EPOCHS)))
    return work


def run(work: Path, kill_after: float | None) -> bool:
    """Trains; killed that many seconds after the first batch. Whether it was killed."""
    command = train_command(work, "train", "--device", "cpu", "--progress", "jsonl")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
    if kill_after is not None and process.stdout.readline().startswith('{"stage": "'):
        time.sleep(kill_after)
        process.send_signal(signal.SIGKILL)
    _, errors = process.communicate()
    if process.returncode == -signal.SIGKILL:
        return True
    if process.returncode:
        sys.exit(f"Training failed: {errors}")
    return False


def state(results: Path) -> dict:
    """All that both stages left, but for the time of day."""
    kept = {}
    for trainer in ("BackboneTrainer", "MaxQueryTrainer"):
        folder = results / DATASET / f"{trainer}__MaxQueryPlans__3d_fullres" / "fold_0"
        checkpoint = read_checkpoint(folder / FINAL)
        for key in ("epoch_start_timestamps", "epoch_end_timestamps"):
            del checkpoint["logging"][key]
        kept[trainer] = {key: checkpoint[key] for key in ("network_weights", "optimizer_state", "logging")}
    return kept


def same(one, other) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return one == other or (one != one and other != other)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    wanted = parser.parse_args().kills
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as temporary:
        work = planned(Path(temporary))
        began = time.monotonic()
        run(work, None)
        undisturbed_seconds = time.monotonic() - began
        undisturbed = state((work / "results").rename(work / "undisturbed"))
        tried = survived = 0
        rng = random.Random(0)
        while tried < wanted:
            kills = 0
            # Short enough that a run takes several kills, long enough that it gets on between them.
            while run(work, rng.uniform(0, undisturbed_seconds / 4) if tried + kills < wanted else None):
                kills += 1
                print(f"killed {tried + kills} times", flush=True)
            tried += kills
            survived += kills if same(undisturbed, state((work / "results").rename(work / f"killed-{tried}"))) else 0
    report = HERE / "report.json"
    document = json.loads(report.read_text()) if report.exists() else {}
    document["kills"] = {"tried": tried, "survived": survived}
    report.write_text(json.dumps(document, indent=2) + "\n")
    print(document["kills"])


if __name__ == "__main__":
    main()
