"""Several answers to one image, of one network or of several, and how far they disagree."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maxquery_training.stock import Logits


@dataclass(frozen=True)
class Samples(Logits):
    """The log of the mean probabilities for its logits, and the probabilities of each answer `(T, B, K, Z, Y, X)`."""

    probabilities: Tensor


def samples_of(answers: Sequence[Logits]) -> Samples:
    """The features are those of the first."""
    probabilities = torch.stack([answer.segmentation.float().softmax(dim=1) for answer in answers])
    mean = probabilities.mean(dim=0).clamp(min=torch.finfo(torch.float32).tiny)
    return Samples(mean.log(), answers[0].features, probabilities)


def predictive_entropy(samples: Samples) -> Tensor:
    """H of the mean prediction: uncertainty of any kind."""
    return _entropy(samples.probabilities.mean(dim=0), dim=1)


def mutual_information(samples: Samples) -> Tensor:
    """H of the mean less the mean H: what the answers disagree on, the model's own uncertainty."""
    return predictive_entropy(samples) - _entropy(samples.probabilities, dim=2).mean(dim=0)


def _entropy(probabilities: Tensor, dim: int) -> Tensor:
    return -torch.special.xlogy(probabilities, probabilities).sum(dim=dim)
