"""What classes weigh in cross-entropy while a network learns, and how its answer is freed of that."""

from collections.abc import Mapping

import torch
from torch import Tensor

from maxquery_training.preset import Preset

CLASS_CONSTANT = "decoder.seg_layers.class_prior"
"""In a MaxQueryNet's weights: what C_K contains of each class, whatever the image is."""


def class_weights(preset: Preset, classes: int) -> Tensor:
    """`(K,)`: of background, organ, and each type of tumour.

    >>> class_weights(Preset(group_weights=(1.0, 3.0, 15.0)), 4)
    tensor([ 1.,  3., 15., 15.])
    """
    background, organ, tumour = preset.group_weights
    return torch.tensor([background, organ] + [tumour] * (classes - 2))


def unweighted(weights: Mapping[str, Tensor], constant: str, preset: Preset) -> dict[str, Tensor]:
    """A network's `weights` where the tensor `constant` `(…, K)`, a part of its logits, is less log `class_weights`.

    Ours; compare the logit adjustment of Menon et al. (ICLR 2021). Weighted cross-entropy is least where each class is
    as many times too probable as it weighs. So a short training learns a rare lesion at all; in use there would be
    too many lesions, and too large ones.
    """
    log = class_weights(preset, weights[constant].shape[-1]).log()
    return {**weights, constant: weights[constant] - log.to(weights[constant])}
