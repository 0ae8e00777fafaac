"""The patient's outline: air around the patient is strange to every model, and of no interest."""

import cc3d
import numpy as np
from scipy import ndimage

SKIN_HU = -300.0


def body_mask(image_hu: np.ndarray) -> np.ndarray:
    """`(Z, Y, X)` HU to bool: the largest connected piece above −300 HU, lungs and bowel gas filled slice by slice."""
    body = cc3d.largest_k(image_hu > SKIN_HU, k=1, connectivity=6) > 0
    return ndimage.binary_fill_holes(body, axes=(1, 2))


def body_box(body: np.ndarray, least_zyx: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    """The part of `body` `(Z, Y, X)` bool that holds it all with a voxel of air around it, at least `least_zyx` large
    where there is so much.

    >>> body_box(np.arange(20).reshape(1, 1, 20) == 7, (1, 1, 5))
    (slice(0, 1, None), slice(0, 1, None), slice(5, 10, None))
    """
    sides = []
    for axis, (size, least) in enumerate(zip(body.shape, least_zyx, strict=True)):
        hits = np.flatnonzero(body.any(axis=tuple(other for other in range(3) if other != axis)))
        first, last = (max(hits[0] - 1, 0), min(hits[-1] + 2, size)) if len(hits) else (0, size)
        missing = max(least - (last - first), 0)
        first = max(min(first - missing // 2, size - max(least, last - first)), 0)
        sides.append(slice(int(first), int(min(max(last, first + least), size))))
    return tuple(sides)
