"""A tiny real network and bundle for tests: untrained, but every part is there."""

import numpy as np
import torch

from maxquery.bundle import Bundle, Channel, Normalisation
from maxquery.calibration import CalibrationTable
from maxquery.labels import Label, Query, QueryDistribution
from maxquery.network import Architecture, MaxQueryNet

BACKBONE = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 4,
        "features_per_stage": [4, 8, 8, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * 4,
        "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [1, 2, 2]],
        "n_conv_per_stage": [1] * 4,
        "n_conv_per_stage_decoder": [1] * 3,
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
}
LABELS = (
    Label(0, "background", "background", (0, 0, 0)),
    Label(1, "liver", "organ", (200, 120, 80)),
    Label(2, "cyst", "tumour", (80, 160, 240)),
)
DISTRIBUTION = QueryDistribution(4, 2, 2)
PATCH = (8, 16, 16)


def tiny_network(seed: int = 0, **changes) -> MaxQueryNet:
    torch.manual_seed(seed)
    sizes = {"query_channels": 16, "embedding_channels": 8} | changes
    network = MaxQueryNet(Architecture(BACKBONE, 1, len(LABELS), DISTRIBUTION, **sizes)).eval()
    for block in network.query_decoder.blocks:  # which begin with no say: a trained one's have
        for last in (block.from_gathered, block.self_attention.out_proj, block.feed_forward[-1]):
            last.reset_parameters()
    return network


def tiny_bundle(seed: int = 0) -> Bundle:
    """Untrained, on a grid of 4 × 3 × 3 mm."""
    network = tiny_network(seed)
    return Bundle(
        name="tiny",
        version="0",
        licence="Apache-2.0",
        description="untrained",
        training={"data": "none", "limits": "all", "command": "none", "seed": seed, "duration_seconds": 0},
        labels=LABELS,
        channels=(Channel("portal venous"),),
        spacing_zyx_mm=(4.0, 3.0, 3.0),
        normalisation=(Normalisation(-160, 240, 80, 40),),
        patch_zyx=PATCH,
        architecture={"backbone": BACKBONE, "query_channels": 16, "embedding_channels": 8, "heads": 8},
        query_distribution=DISTRIBUTION,
        calibration=CalibrationTable.from_samples(np.linspace(-8, 0, 1001)),
        metrics={},
        sources={},
        queries=tuple(Query(i, DISTRIBUTION.group_of(i), (0.4, 0.3, 0.3)) for i in range(DISTRIBUTION.total)),
        weights=network.state_dict(),
    )
