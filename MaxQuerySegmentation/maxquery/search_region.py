"""Where an anomaly is looked for: organ and tumours, and a little around them."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from maxquery.boxes import bounding_box

CLOSING_MM, DILATION_MM = 8.0, 3.0
LEAST_THICKNESS_MM = 5.0
MORPHOLOGY_SPACING_MM = 2.0


def search_region(
    inside: np.ndarray,
    spacing_zyx_mm: Sequence[float],
    closing_mm: float = CLOSING_MM,
    dilation_mm: float = DILATION_MM,
) -> np.ndarray:
    """`(Z, Y, X)` bool: `inside`, the organ and its tumours, closed, holes filled slice by slice, slightly dilated.

    What lies outside is not the model's subject, however strange. The region is closed by a radius of `closing_mm`,
    because a network often calls an outlier on the organ's rim background; bays up to about twice as wide are
    bridged. It grows by `dilation_mm`, as an outlier's own rim may bulge out of it. The morphology runs on voxels
    of about 2 mm, so its border is that coarse; voxels of `inside` always stay.
    """
    region = inside.copy()
    box = bounding_box(inside)
    if box is None:
        return region
    factors, coarse_mm, margin = _coarse_grid(spacing_zyx_mm, closing_mm, dilation_mm)
    coarse = np.pad(_block_majority(inside[box], factors), [(m, m) for m in margin])

    closed = _dilate(coarse, closing_mm, coarse_mm)
    closed = ~_dilate(~closed, closing_mm, coarse_mm) | coarse
    filled = ndimage.binary_fill_holes(closed, axes=(1, 2))  # so a lesion cut by the image's last slice is a hole too
    grown = _dilate(filled, dilation_mm, coarse_mm)

    # Back to the image: fine voxel i of axis a lies in coarse voxel (i - start) // factor + margin.
    where, indices = [], []
    for start, factor, m, size, coarse_size in zip(
        [side.start for side in box], factors, margin, inside.shape, coarse.shape, strict=True
    ):
        first = max(0, start - m * factor)
        last = min(size, start + (coarse_size - m) * factor)
        where.append(slice(first, last))
        indices.append((np.arange(first, last) - start) // factor + m)
    region[tuple(where)] |= grown[np.ix_(*indices)]
    return region


def search_reach(spacing_zyx_mm: Sequence[float], closing_mm: float, dilation_mm: float) -> tuple[int, int, int]:
    """How many voxels a search region can reach beyond the bounding box of what it was made of."""
    factors, _, margin = _coarse_grid(spacing_zyx_mm, closing_mm, dilation_mm)
    return tuple(int(n) for n in factors * (margin + 1))


def _coarse_grid(
    spacing_zyx_mm: Sequence[float], closing_mm: float, dilation_mm: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Voxels of the image in one of about 2 mm, the size of that, and how many of those to leave around: room for
    closing and dilation, beyond the image too, whose border would act as tissue otherwise."""
    spacing_mm = np.array(spacing_zyx_mm)
    factors = np.maximum(1, np.rint(MORPHOLOGY_SPACING_MM / spacing_mm)).astype(int)
    coarse_mm = spacing_mm * factors
    return factors, coarse_mm, np.ceil((closing_mm + dilation_mm) / coarse_mm).astype(int) + 1


def _block_majority(mask: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """One voxel for each block of `factors` voxels: whether at least half of the block is in the mask."""
    padded = np.pad(mask, [(0, -size % f) for size, f in zip(mask.shape, factors, strict=True)])
    z, y, x = (size // f for size, f in zip(padded.shape, factors, strict=True))
    blocks = padded.reshape(z, factors[0], y, factors[1], x, factors[2])
    return 2 * blocks.sum(axis=(1, 3, 5), dtype=np.uint16) >= factors.prod()


def _dilate(mask: np.ndarray, radius_mm: float, spacing_mm: np.ndarray) -> np.ndarray:
    if not mask.any():
        return mask
    return ndimage.distance_transform_edt(~mask, sampling=spacing_mm) <= radius_mm
