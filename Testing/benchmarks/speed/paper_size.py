"""The paper's liver model in size, and nnU-Net's own network beside it; neither is trained.

They compute what trained ones would. What they say of the organ is overruled by a rule that the benchmark's CT is made
for, in which the liver is as bright as nothing else: so there is an organ to find, at the cost of one comparison.
"""

from collections.abc import Iterator
from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import Tensor, nn

from maxquery.bundle import Bundle
from maxquery.labels import Label
from maxquery.network import Architecture, MaxQueryNet, Output

SPACING_ZYX_MM, PATCH_ZYX = (3.0, 0.76, 0.76), (40, 192, 224)
ORGAN_HU, OTHERS_AT_MOST_HU = 130.0, 110.0
MEAN_HU, STD_HU, WINDOW_HU = 75.0, 60.0, (-160.0, 240.0)
LABELS = (Label(0, "background", "background", (0, 0, 0)), Label(1, "liver", "organ", (221, 130, 101)),
          *(Label(k, f"type {k}", "tumour", (200, 60, 60)) for k in range(2, 7)))  # fmt: skip
_BETWEEN = ((ORGAN_HU + OTHERS_AT_MOST_HU) / 2 - MEAN_HU) / STD_HU
PLAN: dict[str, Any] = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 6,
        "features_per_stage": [32, 64, 128, 256, 320, 320],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[1, 3, 3], *[[3, 3, 3]] * 5],
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2]],
        "n_conv_per_stage": [2] * 6,
        "n_conv_per_stage_decoder": [2] * 5,
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
}


def overruled(logits: Tensor, image: Tensor) -> Tensor:
    """`logits` `(B, K, Z, Y, X)`, in which what is as bright as the liver is organ, and all else background."""
    organ = 100.0 * (image > _BETWEEN)
    rule = torch.cat([100.0 - organ, organ], dim=1)
    return torch.cat([logits[:, :2] + rule, logits[:, 2:]], dim=1)


class PaperNet(MaxQueryNet):
    """MaxQuery, overruled; an `Output` whose segmentation is given."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(Architecture(PLAN, 1, len(LABELS), query_channels=256, embedding_channels=128))
        self.eval()

    def in_slabs(self, image: Tensor) -> Iterator[Output]:
        first = 0
        for output in super().in_slabs(image):
            last = first + output.responses.shape[2]
            output.__dict__["segmentation"] = overruled(output.segmentation, image[:, :, first:last])
            first = last
            yield output


class StockNet(nn.Module):
    """nnU-Net's network for the same plan, overruled."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        kwargs = PLAN["arch_kwargs"] | {
            "conv_op": nn.Conv3d, "norm_op": nn.InstanceNorm3d, "nonlin": nn.LeakyReLU,
        }  # fmt: skip
        self.unet = PlainConvUNet(input_channels=1, num_classes=len(LABELS), **kwargs)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        return overruled(self.unet(image), image)


def plans() -> dict[str, Any]:
    """nnU-Net's plans for it, with nnU-Net's own defaults."""
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "x", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2,
        "patch_size": list(PATCH_ZYX), "spacing": list(SPACING_ZYX_MM), "batch_dice": False,
        "normalization_schemes": ["CTNormalization"], "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape", "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": resampling | {"is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resampling | {"order": 1},
        "architecture": PLAN | {"_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"]},
    }  # fmt: skip
    intensities = {"mean": MEAN_HU, "std": STD_HU, "percentile_00_5": WINDOW_HU[0], "percentile_99_5": WINDOW_HU[1]}
    return {
        "dataset_name": "Dataset999_Speed", "plans_name": "nnUNetPlans", "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2], "label_manager": "LabelManager", "image_reader_writer": "SimpleITKIO",
        "foreground_intensity_properties_per_channel": {"0": intensities},
        "configurations": {"3d_fullres": configuration},
    }  # fmt: skip


def dataset_json() -> dict[str, Any]:
    labels = {label.name: label.value for label in LABELS}
    return {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"}


def bundle() -> Bundle:
    """What `infer` asks of a model, but for the weights."""
    from maxquery_training.export import plans_bundle
    from maxquery_training.preset import PAPER_LIVER

    return plans_bundle(plans() | {"maxquery": PAPER_LIVER.to_json()}, LABELS, ["CT"])
