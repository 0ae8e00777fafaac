"""K-means cross-attention (Eq. 2): pixels choose a cluster, clusters gather their pixels.

Yu et al., "k-means Mask Transformer", ECCV 2022; used by the paper in Sec. 3.1.
"""

import torch
from dynamic_network_architectures.building_blocks.regularization import DropPath
from torch import Tensor, nn
from torch.nn import functional


def assign(logits: Tensor) -> Tensor:
    """Cluster-wise argmax: `(B, N, L)` affinities to one-hot `(B, N, L)`; each pixel has one cluster.

    No gradient passes; what trains queries and keys is the supervision of the logits.
    """
    owner = logits.max(dim=1, keepdim=True).indices  # on a CPU three times as fast as `argmax` is
    return torch.zeros_like(logits).scatter_(1, owner, 1.0)


def gather(assignment: Tensor, values: Tensor) -> Tensor:
    """Sum of the values that each cluster owns: `(B, N, L)` × `(B, L, C)` to `(B, N, C)`."""
    return torch.einsum("bnl,blc->bnc", assignment, values)


def affinity(queries: Tensor, pixels: Tensor, to_key: nn.Conv3d, norm: nn.InstanceNorm3d) -> Tensor:
    """`queries · norm(to_key(pixels))`: `(B, N, C)` and `(B, F, L)` to `(B, N, L)`, without C numbers for each pixel.

    Both are linear but for the standard deviations, and those follow from the pixels' covariance `(F, F)`. So they are
    folded into the queries: the same numbers from F (F + N) products a pixel in place of C (F + N).
    """
    weight = to_key.weight.flatten(1)
    centred = pixels - pixels.mean(dim=2, keepdim=True)
    covariance = centred @ centred.transpose(1, 2) / centred.shape[2]
    variance = torch.einsum("cf,bfg,cg->bc", weight, covariance, weight)
    scaled = queries * (norm.weight * (variance + norm.eps).rsqrt())[:, None]
    return (scaled @ weight) @ centred + (queries @ norm.bias)[..., None]


def gather_values(assignment: Tensor, pixels: Tensor, to_value: nn.Conv3d) -> Tensor:
    """`gather(assignment, to_value(pixels))`, each cluster's pixels summed first: pixels `(B, F, L)` to `(B, N, C)`."""
    summed, count = gather(assignment, pixels.transpose(1, 2)), assignment.sum(dim=2, keepdim=True)
    return functional.linear(summed, to_value.weight.flatten(1)) + count * to_value.bias


class KMeansBlock(nn.Module):
    """One transformer decoder block: k-means cross-attention, self-attention, feed-forward.

    `forward` takes queries `(B, N, C)` and pixel features `(B, F, z, y, x)` of one decoder scale and
    returns the updated queries and the attention logits `(B, N, z, y, x)`.
    """

    def __init__(self, pixel_channels: int, query_channels: int, *, heads: int, drop_path: float):
        super().__init__()
        self.to_query = nn.Linear(query_channels, query_channels)
        self.to_key = nn.Conv3d(pixel_channels, query_channels, 1)
        self.to_value = nn.Conv3d(pixel_channels, query_channels, 1)
        self.key_norm = nn.InstanceNorm3d(query_channels, affine=True)
        self.query_norm = nn.LayerNorm(query_channels)
        # Eq. 2 sums over all pixels of a cluster, thousands or none: normalise before adding.
        self.gathered_norm = nn.LayerNorm(query_channels)
        self.from_gathered = nn.Linear(query_channels, query_channels)
        self.self_attention = nn.MultiheadAttention(query_channels, heads, batch_first=True)
        self.self_attention_norm = nn.LayerNorm(query_channels)
        self.feed_forward = nn.Sequential(
            nn.Linear(query_channels, 4 * query_channels), nn.GELU(), nn.Linear(4 * query_channels, query_channels)
        )
        self.feed_forward_norm = nn.LayerNorm(query_channels)
        self.drop_path = DropPath(drop_path)
        # As theirs, a block begins by leaving queries what they are, so that they do not begin alike.
        for last in (self.from_gathered, self.self_attention.out_proj, self.feed_forward[-1]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, queries: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        q = self.to_query(self.query_norm(queries))
        with torch.autocast(q.device.type, enabled=False):  # an argmax is decided here
            p = pixels.float().flatten(2)
            # The scale changes no argmax; it keeps the softmax that supervises these logits soft.
            logits = affinity(q.float(), p, self.to_key, self.key_norm) * q.shape[-1] ** -0.5
            gathered = gather_values(assign(logits), p, self.to_value)
            logits = logits.unflatten(2, pixels.shape[2:])
        queries = queries + self.drop_path(self.from_gathered(self.gathered_norm(gathered)))  # Eq. 2

        x = self.self_attention_norm(queries)
        queries = queries + self.drop_path(self.self_attention(x, x, x, need_weights=False)[0])
        queries = queries + self.drop_path(self.feed_forward(self.feed_forward_norm(queries)))
        return queries, logits
