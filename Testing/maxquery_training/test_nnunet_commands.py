"""nnU-Net's own command trains with our trainers."""

import os
import subprocess
import sys
from pathlib import Path

import maxquery_training
from maxquery_training.checkpoints import FINAL

from .conftest import DATASET, DATASET_ID

TRAINERS = Path(maxquery_training.__file__).parent / "nnunet_trainers"

# The registry's torchvision does not fit a CPU torch, and nnU-Net imports it with its own trainers: it misses two
# operators that nothing here calls. A healthy installation never comes to the second line.
NNUNET_TRAIN = """
try:
    import torchvision
except RuntimeError:
    import sys, torch
    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision
from nnunetv2.run.run_training import run_training_entry
run_training_entry()
"""


def nnunet_train(trainer: str) -> subprocess.CompletedProcess:
    arguments = [str(DATASET_ID), "3d_fullres", "0", "-p", "MaxQueryPlans", "-tr", trainer, "-device", "cpu"]
    environment = os.environ | {"nnUNet_extTrainer": str(TRAINERS)}
    command = [sys.executable, "-c", NNUNET_TRAIN, *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300, env=environment)


def test_both_stages_train_by_name_and_validate(planned):
    for trainer in ("BackboneTrainer", "MaxQueryTrainer"):
        done = nnunet_train(trainer)
        assert done.returncode == 0, done.stderr[-2000:]
        folder = planned.results / f"{trainer}__MaxQueryPlans__3d_fullres" / "fold_0"
        assert (folder / FINAL).exists() and (folder / "validation" / "summary.json").exists()
    assert planned.results.name == DATASET
