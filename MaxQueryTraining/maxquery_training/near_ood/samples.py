"""Several answers to one image, of one network or of several, and how far they disagree."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maxquery_training.stock import Logits


@dataclass(frozen=True)
class Samples(Logits):
    """Mean logits, and the probabilities of each answer `(T, B, K, Z, Y, X)`."""

    probabilities: Tensor


def samples_of(answers: Sequence[Logits]) -> Samples:
    """The features are those of the first."""
    logits = torch.stack([answer.segmentation for answer in answers])
    return Samples(logits.mean(dim=0), answers[0].features, logits.float().softmax(dim=2))


def predictive_entropy(samples: Samples) -> Tensor:
    """H of the mean prediction: uncertainty of any kind."""
    return _entropy(samples.probabilities.mean(dim=0), dim=1)


def mutual_information(samples: Samples) -> Tensor:
    """H of the mean less the mean H: what the answers disagree on, the model's own uncertainty."""
    return predictive_entropy(samples) - _entropy(samples.probabilities, dim=2).mean(dim=0)


def _entropy(probabilities: Tensor, dim: int) -> Tensor:
    return -torch.special.xlogy(probabilities, probabilities).sum(dim=dim)
