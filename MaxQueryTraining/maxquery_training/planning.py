"""nnU-Net plans and preprocesses the dataset; the preset has the last word on grid and network."""

import json
import shutil
from pathlib import Path
from typing import Any

from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprint_dataset, plan_experiment_dataset
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw

from maxquery.errors import InputError
from maxquery_training.folders import DatasetFiles
from maxquery_training.preprocessing import ModelGridPreprocessor
from maxquery_training.preset import CONFIGURATION, PLANS, Preset


def plan_and_preprocess(dataset_id: int, dataset_name: str, preset: Preset, processes: int) -> dict:
    """The plans, as nnU-Net reads them, with the preset under `maxquery` and the dataset's digest under `prepared`; the
    data lie preprocessed.

    Raises InputError when there is nothing to train or to validate on.
    """
    cases = json.loads((Path(nnUNet_raw) / dataset_name / "cases.json").read_text("utf-8"))
    if not (cases["train"] and cases["val"]):
        found = f"{dataset_name} holds {len(cases['train'])} cases to train on and {len(cases['val'])} to validate on."
        raise InputError("cases", found, "Prepare it from three or more patients with labels and without an outlier.")
    preprocessed = Path(nnUNet_preprocessed) / dataset_name
    (preprocessed / "splits_final.json").unlink(missing_ok=True)  # written last: without it nothing is planned
    extract_fingerprint_dataset(dataset_id, num_processes=processes, show_progress_bar=False)
    plan_experiment_dataset(
        dataset_id, overwrite_target_spacing=preset.spacing_zyx_mm, overwrite_plans_name=PLANS
    )
    plans_file = preprocessed / f"{PLANS}.json"
    plans = with_preset(json.loads(plans_file.read_text()), preset)
    plans["prepared"] = DatasetFiles(Path(nnUNet_raw).parent, dataset_name).digest()
    plans_file.write_text(json.dumps(plans, indent=2))
    preprocessor = ModelGridPreprocessor(verbose=False)
    preprocessor.show_progress_bar = False
    preprocessor.run(dataset_id, CONFIGURATION, PLANS, processes)
    # nnU-Net's own command compares with these at the end of a training.
    shutil.copytree(Path(nnUNet_raw) / dataset_name / "labelsTr", preprocessed / "gt_segmentations", dirs_exist_ok=True)

    # A case of weight 3 is named three times: nnU-Net draws uniformly from the list.
    train = [name for name, weight in cases["train"].items() for _ in range(weight)]
    (preprocessed / "splits_final.json").write_text(json.dumps([{"train": train, "val": list(cases["val"])}]))
    return plans


def with_preset(plans: dict, preset: Preset) -> dict:
    """nnU-Net's `plans`, changed in place to the preset's windows, normalisation, resampling and network."""
    plans["maxquery"] = preset.to_json()
    configuration = plans["configurations"][CONFIGURATION]
    configuration["patch_size"] = list(preset.patch_zyx)
    configuration["batch_size"] = preset.batch_size
    for kind in ("data", "seg", "probabilities"):
        # Trilinear, as the engine's way back; the way in is `ModelGridPreprocessor`'s.
        configuration[f"resampling_fn_{kind}"] = "resample_torch_fornnunet"
        configuration[f"resampling_fn_{kind}_kwargs"] = {
            "is_seg": kind == "seg", "force_separate_z": False, "memefficient_seg_resampling": False,
        }  # fmt: skip
    if preset.window_hu is not None:
        lower, upper = preset.window_hu
        for channel in plans["foreground_intensity_properties_per_channel"].values():
            channel["percentile_00_5"], channel["percentile_99_5"] = lower, upper
    kwargs = configuration["architecture"]["arch_kwargs"]
    if preset.features is None:
        kwargs.update(_network_of(preset))
    else:
        strides = [list(s) for s in preset.strides]
        kwargs.update(
            n_stages=len(preset.features),
            features_per_stage=list(preset.features),
            strides=strides,
            # As nnU-Net plans it: no convolution across slices where they are much thicker than pixels.
            kernel_sizes=[[3 if strides[1][0] > 1 else 1, 3, 3]] + [[3, 3, 3]] * (len(strides) - 1),
            n_conv_per_stage=list(preset.convolutions),
            n_conv_per_stage_decoder=[1] * (len(strides) - 1),
        )
    return plans


def _network_of(preset: Preset) -> dict[str, Any]:
    """What nnU-Net plans for the preset's windows and spacing. What it has planned is for windows of its own choice,
    which the strides may divide where they do not divide the preset's."""
    _, strides, kernels, _, _ = get_pool_and_conv_props(preset.spacing_zyx_mm, preset.patch_zyx, 4, 999_999)
    stages = len(strides)
    return {
        "n_stages": stages,
        "features_per_stage": [min(320, 32 * 2**stage) for stage in range(stages)],
        "strides": [list(each) for each in strides],
        "kernel_sizes": [list(each) for each in kernels],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
    }


def with_schedule(plans: dict, backbone_epochs: int | None, joint_epochs: int | None, seed: int | None) -> dict:
    """nnU-Net's `plans` with other lengths or another seed than their preset's; None: as it has them."""
    preset = Preset.from_json(plans["maxquery"]).with_schedule(backbone_epochs, joint_epochs, seed)
    return plans | {"maxquery": preset.to_json()}
