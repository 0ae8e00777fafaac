"""The patient's outline: air around the patient is strange to every model, and of no interest."""

import cc3d
import numpy as np
from scipy import ndimage

SKIN_HU = -300.0


def body_mask(image_hu: np.ndarray) -> np.ndarray:
    """`(Z, Y, X)` HU to bool: the largest connected piece above −300 HU, lungs and bowel gas filled slice by slice."""
    body = cc3d.largest_k(image_hu > SKIN_HU, k=1, connectivity=6) > 0
    return ndimage.binary_fill_holes(body, axes=(1, 2))
