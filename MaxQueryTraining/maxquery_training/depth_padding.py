"""Convolutions that train faster on a CPU with AVX2 alone."""

import torch
from torch import Tensor, nn
from torch.nn import functional

_BLOCK = 8  # channels that AVX2 holds at once, 32 bit each


class DepthPaddedConv3d(nn.Conv3d):
    """The same convolution of an image that was padded in depth before.

    For AVX2 oneDNN (3.12) has a direct kernel of the weights' gradient, but not for what it pads in depth itself:
    there it unrolls the image into a matrix.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        z, y, x = self.padding
        padded = functional.pad(input, (0, 0, 0, 0, z, z))
        return functional.conv3d(padded, weight, bias, self.stride, (0, y, x), self.dilation, self.groups)


def pad_depth_first(network: nn.Module) -> None:
    """Makes `network`'s convolutions such, where that is faster; weights stay, results but for rounding."""
    if torch.backends.cpu.get_cpu_capability() != "AVX2":
        return
    for module in network.modules():
        if type(module) is nn.Conv3d and module.padding == (1, 1, 1) and module.in_channels % _BLOCK == 0:
            module.__class__ = DepthPaddedConv3d
