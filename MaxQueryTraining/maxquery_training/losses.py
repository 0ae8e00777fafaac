"""What the network is trained on: L = L_seg + λ·L_qd (Eq. 5–8), and the same for each block's attention."""

import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import Tensor, nn
from torch.nn import functional

from maxquery.labels import QueryDistribution
from maxquery.network import Output, aggregate, cluster_assignment
from maxquery_training.exposure import EXPOSED, exposure_loss, unexposed


def merged_log_assignment(responses: Tensor, distribution: QueryDistribution) -> Tensor:
    """log M̃ (Eq. 5): `(B, N, Z, Y, X)` to `(B, 3, Z, Y, X)`.

    The softmax of Eq. 3, summed over a group, is the softmax over groups of their log-sum-exp: no M, no underflow.
    """
    groups = responses.split(distribution.sizes, dim=1)
    return torch.stack([group.logsumexp(dim=1) for group in groups], dim=1).log_softmax(dim=1)


def merged_labels(target: Tensor, ignore_label: int | None) -> Tensor:
    """G̃ (Eq. 6) as indices: 0 background, 1 organ, 2 any tumour; −1 where the label is to be ignored."""
    merged = target.clamp(max=2)
    return merged if ignore_label is None else merged.masked_fill(target == ignore_label, -1)


def query_distribution_loss(
    responses: Tensor, target: Tensor, distribution: QueryDistribution, ignore_label: int | None = None
) -> Tensor:
    """L_qd (Eq. 7), the mean over voxels: `responses` `(B, N, Z, Y, X)`, `target` `(B, Z, Y, X)` labels."""
    return _merged_nll(merged_log_assignment(responses, distribution), merged_labels(target.long(), ignore_label))


def _merged_nll(log_merged: Tensor, merged: Tensor) -> Tensor:
    losses = functional.nll_loss(log_merged, merged, ignore_index=-1, reduction="sum")
    return losses / (merged >= 0).sum().clamp(min=1)


def segmentation_loss(
    batch_dice: bool, class_weights: Tensor | None = None, ignore_label: int | None = None,
    several_processes: bool = False,
) -> nn.Module:  # fmt: skip
    """L_seg: nnU-Net's Dice + cross-entropy, the latter with a weight a class `(K,)`; the paper's has none.

    On a coarse grid a lesion is one voxel in a hundred or less, which a short training with equal weights never
    parts from the organ. Of `several_processes`, Dice is that of all batches together.
    """
    dice = {"batch_dice": batch_dice, "smooth": 1e-5, "do_bg": False, "ddp": several_processes}
    return DC_and_CE_loss(
        dice, {"weight": class_weights}, ignore_label=ignore_label, dice_class=MemoryEfficientSoftDiceLoss
    )


class MaxQueryLoss(nn.Module):
    """Eq. 8 on the final output plus, weighted, on each block's k-means attention.

    Attention is brought to the finest block's grid for it (kMaX-DeepLab: to the image's), as a lesion is less than a
    pixel of the coarsest.

    `forward` takes the network's `Output` and the target `(B, 1, Z, Y, X)`.
    """

    def __init__(
        self,
        distribution: QueryDistribution,
        *,
        qd_weight: float = 0.1,
        attention_weight: float = 1.0,
        exposure_weight: float = 0.0,
        batch_dice: bool = False,
        class_weights: Tensor | None = None,
        ignore_label: int | None = None,
        several_processes: bool = False,
    ):
        super().__init__()
        self.distribution, self.ignore_label = distribution, ignore_label
        self.qd_weight, self.attention_weight = qd_weight, attention_weight
        self.exposure_weight = exposure_weight
        self.segmentation_loss = segmentation_loss(batch_dice, class_weights, ignore_label, several_processes)

    def terms(self, output: Output, target: Tensor) -> dict[str, Tensor]:
        """Each term unweighted: `seg` and `qd` of the final output, `attention` the mean over blocks, and
        `exposure` where it has a weight."""
        terms = {}
        if self.exposure_weight:
            terms["exposure"] = exposure_loss(output.segmentation, target[:, 0] == EXPOSED)
        seg, qd = self._both(output.responses, output.segmentation, target)
        size = output.attention[-1].shape[2:]
        small = functional.interpolate(target.float(), size=size, mode="nearest").to(target.dtype)
        per_block = []
        for coarse in output.attention:
            logits = functional.interpolate(coarse, size=size, mode="trilinear")
            block_segmentation = aggregate(output.classification, cluster_assignment(logits))
            block_seg, block_qd = self._both(logits, block_segmentation, small)
            per_block.append(block_seg + self.qd_weight * block_qd)
        return {"seg": seg, "qd": qd, "attention": torch.stack(per_block).mean()} | terms

    def forward(self, output: Output, target: Tensor) -> Tensor:
        return self.total(self.terms(output, target))

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """Eq. 8, and the attention."""
        total = terms["seg"] + self.qd_weight * terms["qd"] + self.attention_weight * terms["attention"]
        return total + self.exposure_weight * terms["exposure"] if "exposure" in terms else total

    def _both(self, responses: Tensor, segmentation: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        qd = query_distribution_loss(responses, target[:, 0], self.distribution, self.ignore_label)
        if self.exposure_weight:  # a strange lesion is a tumour to L_qd, and of no type to L_seg
            target = unexposed(target, self.ignore_label)
        return self.segmentation_loss(segmentation, target), qd
