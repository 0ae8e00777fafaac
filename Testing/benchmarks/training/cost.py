"""What a training epoch costs beside one of the stock nnU-Net trainer: seconds and memory, on the same plans.

    python Testing/benchmarks/training/cost.py WORK DATASET [--batches 20] [--rounds 3]

WORK is a folder in which `maxquery-train plan`, or the recipe of a shipped model, has planned DATASET. Each trainer
runs in a process of its own, in turn, round after round. Writes `epoch` into report.json beside this file.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
TRAINERS = ("stock", "backbone", "joint")


def one_epoch(name: str, work: Path, dataset: str, batches: int) -> None:
    """Trains two epochs, the first to warm up, and prints the second's seconds and the most memory held, as JSON."""
    from maxquery_training.folders import set_folders

    set_folders(work, processes=2)
    with tempfile.TemporaryDirectory() as results:
        os.environ["nnUNet_results"] = results
        import psutil
        import torch
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

        from maxquery_training.folders import DatasetFiles
        from maxquery_training.preset import CONFIGURATION
        from maxquery_training.quiet import quiet
        from maxquery_training.trainers import BackboneTrainer, MaxQueryTrainer

        files = DatasetFiles(work, dataset)
        kind = {"stock": nnUNetTrainer, "backbone": BackboneTrainer, "joint": MaxQueryTrainer}[name]
        plans = files.read_plans() | {"continue_training": False}
        plans["maxquery"]["frozen_epochs"] = 0  # the dearer part of the joint stage
        trainer = kind(plans, CONFIGURATION, 0, files.read_description(), torch.device("cpu"))
        trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 2, batches, 1
        trainer.backbone_weights = {}
        trainer.load_backbone = lambda weights: None  # where training starts does not change what it costs
        held = 0

        def watched(step):
            def wrapped(batch):
                nonlocal held
                tree = [psutil.Process(), *psutil.Process().children(recursive=True)]
                held = max(held, sum(process.memory_info().rss for process in tree))
                return step(batch)

            return wrapped

        trainer.train_step = watched(trainer.train_step)
        trainer.perform_actual_validation = lambda *_: None
        with quiet():
            trainer.run_training()
        log = trainer.logger.get_checkpoint()
        seconds = log["epoch_end_timestamps"][-1] - log["epoch_start_timestamps"][-1]
    print(json.dumps({"seconds": seconds, "peak_memory_mb": held / 1e6}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("dataset")
    parser.add_argument("--batches", type=int, default=20, help="of an epoch (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trainer", choices=TRAINERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.trainer:
        one_epoch(options.trainer, options.work.resolve(), options.dataset, options.batches)
        return
    measured: dict[str, list[dict]] = {name: [] for name in TRAINERS}
    for _ in range(options.rounds):
        for name in TRAINERS:
            command = [sys.executable, *sys.argv, "--trainer", name]
            done = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=True)
            measured[name].append(json.loads(done.stdout.splitlines()[-1]))
            print(name, measured[name][-1], flush=True)
    figures = {
        name: {key: round(median(run[key] for run in runs), 1) for key in runs[0]} for name, runs in measured.items()
    }
    for name in TRAINERS[1:]:  # of pairs in one round: the machine's speed drifts
        pairs = zip(measured[name], measured["stock"], strict=True)
        figures[name]["seconds_to_stock"] = round(median(own["seconds"] / stock["seconds"] for own, stock in pairs), 2)
    report = HERE / "report.json"
    document = json.loads(report.read_text()) if report.exists() else {}
    document["epoch"] = {"batches": options.batches, "rounds": options.rounds, **figures}
    report.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(document["epoch"], indent=2))


if __name__ == "__main__":
    main()
