"""P, the pixel features that cluster centres are compared with: as a whole for training, slab by slab for a CT."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

_SLAB_VOXELS = 2**16


class PixelEmbedding(nn.Sequential):
    """A projection of the finest features `(B, F, Z, Y, X)` to C channels, normalised over the window (Sec. 4.2)."""

    def __init__(self, features: int, embedding: int):
        super().__init__(nn.Conv3d(features, embedding, 1), nn.InstanceNorm3d(embedding, affine=True))

    def in_slabs(self, finest: Tensor) -> Iterator[Tensor]:
        """The same numbers, a few slices (Z) at a time.

        Statistics are the whole window's: the mean of the features, and standard deviations that follow from their
        covariance `(F, F)`, so that they are known before any voxel is projected.
        """
        projection, norm = self
        weight = projection.weight.flatten(1)
        slabs = finest.split(max(1, _SLAB_VOXELS // finest[0, 0, 0].numel()), dim=2)
        with torch.autocast(finest.device.type, enabled=False):
            mean = finest.float().mean(dim=(2, 3, 4), keepdim=True)
            covariance = sum(_scatter(slab - mean) for slab in slabs) / finest[0, 0].numel()
            variance = torch.einsum("cf,bfg,cg->bc", weight, covariance, weight)
            scaled = weight * (norm.weight * (variance + norm.eps).rsqrt())[..., None]
            for slab in slabs:
                yield (scaled @ (slab - mean).flatten(2) + norm.bias[:, None]).unflatten(2, slab.shape[2:])


def _scatter(centred: Tensor) -> Tensor:
    """Sum of the products of any two channels: `(B, F, Z, Y, X)` to `(B, F, F)`."""
    pixels = centred.flatten(2)
    return pixels @ pixels.transpose(1, 2)
