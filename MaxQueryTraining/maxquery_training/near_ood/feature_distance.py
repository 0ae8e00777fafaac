"""How far a voxel's features lie from those of training voxels."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from maxquery.anomaly import tumour_probability
from maxquery_training.near_ood.training_voxels import Voxels
from maxquery_training.stock import Logits

_CHUNK = 1 << 9  # voxels: their similarities to the bank stay in a processor's cache


@dataclass(frozen=True)
class Mahalanobis:
    """The distance to the nearest class's mean, in units of the covariance that all share (Lee et al., NeurIPS 2018).

    Of the last layer alone, and of the image as it is: no other layers, no perturbed input. `means` `(K, C)`,
    `precision` `(C, C)`.
    """

    means: Tensor
    precision: Tensor

    @classmethod
    def fit(cls, voxels: Voxels) -> "Mahalanobis":
        """A class counts for the covariance as often as it occurs."""
        labels = voxels.labels.unique()
        groups = [voxels.features[voxels.labels == k].double() for k in labels]
        means = torch.stack([group.mean(dim=0) for group in groups])
        scatter = [(g - m).T @ (g - m) / len(g) for g, m in zip(groups, means, strict=True)]
        covariance = torch.einsum("k,kcd->cd", voxels.shares[labels].double(), torch.stack(scatter))
        ridge = 1e-4 * covariance.diagonal().mean() * torch.eye(len(covariance))
        return cls(means.float(), torch.linalg.inv(covariance + ridge).float())

    def __call__(self, output: Logits) -> Tensor:
        features = output.features.float().movedim(1, -1)
        means, precision = self.means.to(features), self.precision.to(features)
        distances = (((features - mean) @ precision * (features - mean)).sum(dim=-1) for mean in means)
        return torch.stack(list(distances)).amin(dim=0).sqrt()


@dataclass(frozen=True)
class Neighbours:
    """The distance to the k-th nearest of training voxels, all features at unit length (Sun et al., ICML 2022).

    `bank` `(M, C)`.
    """

    bank: Tensor
    k: int

    @classmethod
    def fit(cls, voxels: Voxels, k: int = 10, size: int = 1400, alike: bool = False) -> "Neighbours":
        """The bank has about `size` voxels, of each class as many as occur, or `alike`: as many as of every other."""
        return cls(_bank(voxels, size, alike), k)

    def __call__(self, output: Logits) -> Tensor:
        return _distance(output.features, self.bank, self.k)


@dataclass(frozen=True)
class TumourNeighbours(Neighbours):
    """√(P(tumour) · that distance). Ours: what `maxquery.anomaly.tumour_maxquery` is to Eq. 9."""

    def __call__(self, output: Logits) -> Tensor:
        return (tumour_probability(output) * super().__call__(output)).sqrt()


# Both scores read the same distances, each of two banks, window after window, and nothing takes longer.


@lru_cache(maxsize=2)
def _bank(voxels: Voxels, size: int, alike: bool) -> Tensor:
    shares = (voxels.shares > 0) / (voxels.shares > 0).sum() if alike else voxels.shares
    counts = (size * shares).round().long().tolist()
    chosen = torch.cat([(voxels.labels == label).nonzero()[:count, 0] for label, count in enumerate(counts)])
    return functional.normalize(voxels.features[chosen].float(), dim=1)


@lru_cache(maxsize=2)
def _distance(features: Tensor, bank: Tensor, k: int) -> Tensor:
    features = functional.normalize(features.float(), dim=1).movedim(1, -1)
    bank = bank.to(features)
    chunks = features.reshape(-1, features.shape[-1]).split(_CHUNK)
    nearest = torch.cat([(chunk @ bank.T).topk(k, sorted=False).values.amin(dim=1) for chunk in chunks])
    return (2 - 2 * nearest).clamp(min=0).sqrt().reshape(features.shape[:-1])
