"""The patient's outline: air around the patient is strange to every model, and of no interest."""

import cc3d
import numpy as np
from scipy import ndimage

from maxquery.boxes import Box, at_least, bounding_box, grown

SKIN_HU = -300.0


def body_mask(image_hu: np.ndarray) -> np.ndarray:
    """`(Z, Y, X)` HU to bool: the largest connected piece above −300 HU, lungs and bowel gas filled slice by slice."""
    body = cc3d.largest_k(image_hu > SKIN_HU, k=1, connectivity=6) > 0
    return ndimage.binary_fill_holes(body, axes=(1, 2))


def body_box(body: np.ndarray, least_zyx: tuple[int, int, int]) -> Box:
    """The part of `body` `(Z, Y, X)` bool that holds it all, with a voxel of air around it where there is air; at
    least `least_zyx` large where the image is."""
    box = bounding_box(body) or tuple(slice(0, size) for size in body.shape)
    return at_least(grown(box, (1, 1, 1), body.shape), least_zyx, body.shape)
