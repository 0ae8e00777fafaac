"""What a network says of voxels that it was trained on: what scores with statistics are fitted to."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maxquery.bundle import Bundle
from maxquery.lattice import cut, padded
from maxquery.model_grid import ModelGrid
from maxquery.network_run import model_input
from maxquery_training.label_scheme import ORGAN
from maxquery_training.labelled_case import LabelledCase, model_labels

_A_LABEL = 2000  # voxels of each label in one window


@dataclass(frozen=True, eq=False)
class Voxels:
    """`features` `(M, C)`, `logits` `(M, K)`, `labels` `(M,)`, in an order drawn at random and rare labels more often
    than they occur; `shares` `(K,)`: how often they occur."""

    features: Tensor
    logits: Tensor
    labels: Tensor
    shares: Tensor


@torch.inference_mode()
def training_voxels(network: nn.Module, cases: list[LabelledCase], bundle: Bundle, seed: int) -> Voxels:
    """Of all windows of the `cases` that show the organ, up to 2000 voxels of each label."""
    generator = torch.Generator().manual_seed(seed)
    device = next(network.parameters()).device
    found, occurring = [], torch.zeros(len(bundle.labels))
    for case in cases:
        for window, labels in _windows(case, bundle):
            output = network(window[None].to(device))
            for label in range(case.ignore):
                where = (labels == label).nonzero()
                occurring[label] += len(where)
                where = where[torch.randperm(len(where), generator=generator)[:_A_LABEL]]
                z, y, x = where.T
                maps = (maps[0, :, z, y, x].T.float().cpu() for maps in (output.features, output.segmentation))
                found.append((*maps, torch.full((len(where),), label)))
    features, logits, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = torch.randperm(len(labels), generator=generator)
    return Voxels(features[order], logits[order], labels[order], occurring / occurring.sum())


def _windows(case: LabelledCase, bundle: Bundle) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised windows `(C, z, y, x)` and their labels `(z, y, x)`."""
    grid = ModelGrid.of(case.volume.grid, bundle.spacing_zyx_mm)
    image, _ = model_input(case.volume, bundle, grid)
    labels = padded(model_labels(grid, case.truth)[None], bundle.patch_zyx, fill=case.ignore)  # of no tissue
    cuts = (cut(array, bundle.patch_zyx, 0.7) for array in (image, labels))
    for (_, window), (_, marked) in zip(*cuts, strict=True):
        if (marked == ORGAN).any():
            yield window, marked[0]
