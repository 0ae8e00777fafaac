"""Outlier exposure (Hendrycks et al., ICLR 2019) for MaxQuery: lesions of arbitrary looks, planted into windows.

Ours, not the paper's: a lesion that nobody has a name for is labelled a tumour, and of no type more than of another.
Where the types' probabilities disagree, `maxquery.anomaly.type_entropy` is high.
"""

from collections.abc import Sequence

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from torch import Tensor

from maxquery.errors import InputError
from maxquery_training.label_scheme import ORGAN
from maxquery_training.lesions.arbitrary import ARBITRARY
from maxquery_training.planting import plant_lesions

EXPOSED = 253
"""In targets: a lesion that was planted to be strange. No loss but the exposure's is to see it."""

_MOST = 5  # in one window


class PlantExposure(BasicTransform):
    """Plants up to five arbitrary lesions into a window's organ: `image` `(1, Z, Y, X)`, `segmentation` the same.

    `intensities`: nnU-Net's of the channel, whose normalisation the lesions share.
    """

    def __init__(self, spacing_zyx_mm: tuple[float, ...], intensities: dict[str, float]):
        super().__init__()
        self.spacing_zyx_mm, self.intensities = spacing_zyx_mm, intensities

    def apply(self, data_dict: dict, **params) -> dict:
        image, labels = data_dict["image"][0].numpy(), data_dict["segmentation"][0].numpy()
        if not (labels == ORGAN).any():
            return data_dict
        rng = np.random.default_rng(np.random.randint(1 << 31))  # nnU-Net's windows are drawn from numpy's own state
        mean, deviation = self.intensities["mean"], max(self.intensities["std"], 1e-8)
        hu = image * deviation + mean
        kinds = [ARBITRARY] * int(rng.integers(_MOST + 1))
        planted, exposed = plant_lesions(hu, labels, self.spacing_zyx_mm, kinds, rng, {ARBITRARY.key: EXPOSED})
        planted = planted.clip(self.intensities["percentile_00_5"], self.intensities["percentile_99_5"])
        painted = np.where(planted != hu, (planted - mean) / deviation, image)
        data_dict["image"] = torch.from_numpy(painted[None].astype(np.float32))
        data_dict["segmentation"] = torch.from_numpy(exposed[None])
        return data_dict


def check_exposable(phases: int, labels: Sequence[str]) -> None:
    """Raises InputError for a dataset in which no type could be doubted, or no lesion be planted.

    >>> check_exposable(1, ["background", "liver", "HCC", "cyst", "ignore"])
    """
    types = [name for name in labels[ORGAN + 1 :] if name != "ignore"]
    if phases > 1 or len(types) < 2 or "ignore" not in labels:
        raise InputError(
            "exposure",
            "Outlier exposure needs one phase, two types of tumour or more, and the label 'ignore'; found "
            f"{phases} phase(s) and the labels {', '.join(labels)}.",
            "Plan with a preset that has no exposure, such as quick.",
        )


def unexposed(target: Tensor, ignore_label: int) -> Tensor:
    """A target, any shape, as every other loss of the segmentation is to see it."""
    return target.masked_fill(target == EXPOSED, ignore_label)


def exposure_loss(segmentation: Tensor, exposed: Tensor) -> Tensor:
    """Cross-entropy to a tumour of any type, all types alike, summed over `exposed` `(B, Z, Y, X)`, over all voxels.

    `segmentation`: logits `(B, K, Z, Y, X)`, of background, organ, and at least one type. Hendrycks et al. ask for no
    preference among all classes; here a strange lesion is still a tumour, and no tissue is to look like one of those.
    """
    per_voxel = -segmentation.log_softmax(dim=1)[:, ORGAN + 1 :].mean(dim=1)
    return per_voxel[exposed].sum() / exposed.numel()
