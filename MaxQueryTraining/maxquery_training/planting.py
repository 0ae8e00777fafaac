"""Synthetic lesions inside the data loader: each patch gets new ones, before any other augmentation."""

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform

from maxquery_training.dataset import TYPE_LABELS
from maxquery_training.label_scheme import BACKGROUND, ORGAN
from maxquery_training.lesions.planting import plant

_SCANNED_HU = (-160.0, 240.0)  # training CT is clipped to this; a planted lesion must not betray itself
# Log-uniform for every type. As patients have them, most cysts and metastases are a few voxels of a coarse
# grid: a hundredth of a percent of what the network sees, and it does not learn them.
_DIAMETERS_MM = (12.0, 50.0)


class PlantLesions(BasicTransform):
    """Plants up to `most` inlier lesions into the liver of a normalised patch `(1, Z, Y, X)`.

    `mean_hu` and `std_hu` undo the normalisation. Each type is drawn equally often and equally large.
    Voxels of an unknown tumour stay as they are.
    """

    def __init__(self, spacing_zyx_mm, mean_hu: float, std_hu: float, probability: float, most: int = 16):
        super().__init__()
        self.spacing_zyx_mm = tuple(spacing_zyx_mm)
        self.mean_hu, self.std_hu = mean_hu, std_hu
        self.probability, self.most = probability, most

    def apply(self, data_dict: dict, **params) -> dict:
        labels = data_dict["segmentation"][0].numpy()
        if np.random.uniform() >= self.probability or not (labels == ORGAN).any():
            return data_dict
        # nnU-Net's workers each seed numpy's global state; take ours from there.
        rng = np.random.default_rng(np.random.randint(2**31))
        image = data_dict["image"][0].numpy() * self.std_hu + self.mean_hu
        labels = labels.copy()
        kinds = rng.choice(list(TYPE_LABELS), size=rng.integers(1, self.most + 1))
        for kind in kinds:
            planted = plant(
                image, labels == ORGAN, self.spacing_zyx_mm, str(kind), rng, forbidden=labels > ORGAN,
                diameter_mm=float(np.exp(rng.uniform(*np.log(_DIAMETERS_MM)))),
            )  # fmt: skip
            if planted is not None:
                image = planted.image
                labels[planted.mask & (labels <= ORGAN) & (labels >= BACKGROUND)] = TYPE_LABELS[str(kind)]
        image = (np.clip(image, *_SCANNED_HU) - self.mean_hu) / self.std_hu
        data_dict["image"] = torch.from_numpy(image.astype(np.float32))[None]
        data_dict["segmentation"] = torch.from_numpy(labels)[None]
        return data_dict
