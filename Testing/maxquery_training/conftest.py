"""A small dataset, planned and preprocessed by nnU-Net, for the tests that train on it."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from maxquery_training.dataset import write_raw_dataset
from maxquery_training.environment import environment
from maxquery_training.folders import DatasetFiles
from maxquery_training.preset import Preset

from .phantoms import training_case

SMALL = Preset(
    spacing_zyx_mm=(4.0, 3.0, 3.0), patch_zyx=(8, 32, 32), features=(4, 8, 8, 8),
    strides=((1, 1, 1), (1, 2, 2), (2, 2, 2), (1, 2, 2)), convolutions=(1, 1, 1, 1), query_channels=16,
    embedding_channels=8, iterations=2, validation_iterations=1, backbone_epochs=1, joint_epochs=2, frozen_epochs=1,
    mirror=False, rotation_degrees=15.0, window_hu=(-160.0, 240.0),
)  # fmt: skip
DATASET_ID, DATASET = 998, "Dataset998_Phantom"


@dataclass(frozen=True)
class Planned(DatasetFiles):
    """A dataset whose work folder nnU-Net's environment points to; `images` are those that it was made of."""

    images: Path


@pytest.fixture(scope="module")
def planned(_planned_once, tmp_path_factory) -> Iterator[Planned]:
    """Three patients, the third held out for validation; each module of tests has its own results."""
    images, made = _planned_once
    work = tmp_path_factory.mktemp("training")
    for name in ("raw", "preprocessed"):
        shutil.copytree(made / name, work / name)
    with environment(**_folders(work), nnUNet_n_proc_DA="0"):  # load and augment in this process
        yield Planned(work, DATASET, images)


@pytest.fixture(scope="session")
def _planned_once(tmp_path_factory) -> tuple[Path, Path]:
    from maxquery_training.planning import plan_and_preprocess

    work, images = tmp_path_factory.mktemp("planned"), tmp_path_factory.mktemp("images")
    with environment(**_folders(work)):
        cases = [training_case(images, f"case{i}", i) for i in (1, 2, 3)]
        write_raw_dataset(work / "raw" / DATASET, cases, ["case3"], SMALL.spacing_zyx_mm)
        plan_and_preprocess(DATASET_ID, DATASET, SMALL, processes=1)
    return images, work


def _folders(work: Path) -> dict[str, str]:
    (work / "results").mkdir(exist_ok=True)
    return {f"nnUNet_{name}": str(work / name) for name in ("raw", "preprocessed", "results")}
