"""The patient's outline: air around the patient is strange to every model, and of no interest."""

import cc3d
import numpy as np
from scipy import ndimage

SKIN_HU = -300.0


def body_mask(image_hu: np.ndarray) -> np.ndarray:
    """`(Z, Y, X)` HU to bool: the largest connected piece above −300 HU, lungs and bowel gas filled slice by slice."""
    pieces = cc3d.connected_components(image_hu > SKIN_HU, connectivity=6)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    body = (pieces == sizes.argmax()) & (pieces > 0)
    in_slice = ndimage.generate_binary_structure(3, 1)
    in_slice[[0, 2]] = False
    return ndimage.binary_fill_holes(body, in_slice)
