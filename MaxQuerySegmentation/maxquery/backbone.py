"""nnU-Net's U-Net as the pixel backbone, described as nnU-Net's plans describe it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import Tensor, nn

from maxquery.errors import InputError

# A plan names classes by their import path. Only these are looked up, so a plan cannot run code.
_NETWORKS = {
    f"dynamic_network_architectures.architectures.unet.{c.__name__}": c for c in (PlainConvUNet, ResidualEncoderUNet)
}
_MODULES = {
    **{f"torch.nn.modules.conv.{c.__name__}": c for c in (nn.Conv3d,)},
    **{f"torch.nn.modules.instancenorm.{c.__name__}": c for c in (nn.InstanceNorm3d,)},
    **{f"torch.nn.modules.batchnorm.{c.__name__}": c for c in (nn.BatchNorm3d,)},
    **{f"torch.nn.modules.dropout.{c.__name__}": c for c in (nn.Dropout3d,)},
    **{f"torch.nn.{c.__name__}": c for c in (nn.LeakyReLU, nn.ReLU, nn.GELU)},
    **{f"torch.nn.modules.activation.{c.__name__}": c for c in (nn.LeakyReLU, nn.ReLU, nn.GELU)},
}


def build_backbone(class_name: str, arch_kwargs: Mapping[str, Any], input_channels: int) -> nn.Module:
    """The U-Net of a plan's `architecture`: its `network_class_name` and `arch_kwargs`.

    Module classes in `arch_kwargs` are import paths, as in nnU-Net's plans. Raises InputError for a
    class that is not a 3D plain or residual-encoder U-Net.
    """
    if class_name not in _NETWORKS:
        raise InputError(
            "architecture", f"The backbone '{class_name}' is not known.", f"Known are: {', '.join(_NETWORKS)}."
        )
    kwargs = {key: _resolve(key, value) for key, value in arch_kwargs.items()}
    # Our queries take the place of the segmentation layers, so these get a single channel.
    return _NETWORKS[class_name](input_channels=input_channels, num_classes=1, deep_supervision=False, **kwargs)


def pixel_features(decoder: nn.Module, skips: Sequence[Tensor]) -> list[Tensor]:
    """Features of every scale of nnU-Net's `decoder`, the bottleneck first, from its encoder's, the bottleneck last."""
    features = [skips[-1]]
    for upsample, stage, skip in zip(decoder.transpconvs, decoder.stages, skips[-2::-1], strict=True):
        features.append(stage(torch.cat((upsample(features[-1]), skip), dim=1)))
    return features


def _resolve(key: str, value: Any) -> Any:
    if key not in ("conv_op", "norm_op", "dropout_op", "nonlin") or value is None:
        return value
    if value not in _MODULES:
        raise InputError("architecture", f"The backbone's {key} '{value}' is not known.", f"Known: {list(_MODULES)}.")
    return _MODULES[value]


def cumulative_strides(strides: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Output stride (z, y, x) of each decoder scale, coarsest first.

    >>> cumulative_strides([[1, 1, 1], [1, 2, 2], [2, 2, 2]])
    [(2, 4, 4), (1, 2, 2), (1, 1, 1)]
    """
    return [tuple(int(s) for s in row) for row in np.cumprod(np.asarray(strides), axis=0)[::-1]]


def attended_scales(strides: Sequence[Sequence[int]], blocks: int = 4, finest_stride: int = 4) -> list[int]:
    """Which decoder scales (0 = bottleneck) carry a transformer block (Sec. 4.2: strides 32, 16, 8, 4).

    The last `blocks` scales down to in-plane output stride 4. A U-Net too shallow for that gives its
    coarsest `blocks` scales.

    >>> attended_scales([[1, 1, 1]] + [[2, 2, 2]] * 5)
    [0, 1, 2, 3]
    >>> attended_scales([[1, 1, 1]] + [[1, 2, 2]] * 6)
    [1, 2, 3, 4]
    """
    in_plane = [s[-1] for s in cumulative_strides(strides)]
    coarse = [i for i, stride in enumerate(in_plane) if stride >= finest_stride]
    return coarse[-blocks:] if len(coarse) >= blocks else list(range(min(blocks, len(in_plane))))
