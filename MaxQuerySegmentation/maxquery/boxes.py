"""Parts of a volume with straight sides."""

from collections.abc import Sequence

import numpy as np

Box = tuple[slice, slice, slice]
"""Along z, y and x."""
WHOLE: Box = (slice(None),) * 3


def bounding_box(mask: np.ndarray) -> Box | None:
    """The smallest box that holds what is not 0 in `mask` `(Z, Y, X)`; None where all is."""
    sides = []
    for axis in range(3):
        hits = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if not hits.size:
            return None
        sides.append(slice(int(hits[0]), int(hits[-1]) + 1))
    return tuple(sides)


def grown(box: Box, more_zyx: Sequence[int], shape_zyx: Sequence[int]) -> Box:
    """By so many voxels to all sides, but not beyond a volume of that shape."""
    return tuple(
        slice(max(side.start - more, 0), min(side.stop + more, size))
        for side, more, size in zip(box, more_zyx, shape_zyx, strict=True)
    )


def shifted(box: Box, outer: Box) -> Box:
    """A box of what lies in `outer`, as one of the whole volume."""
    return tuple(
        slice(side.start + around.start, side.stop + around.start) for side, around in zip(box, outer, strict=True)
    )


def at_least(box: Box, least_zyx: Sequence[int], shape_zyx: Sequence[int]) -> Box:
    """Grown evenly to that size where it is smaller, as far as a volume of that shape goes.

    >>> at_least((slice(0, 1), slice(0, 1), slice(6, 9)), (1, 1, 5), (1, 1, 20))
    (slice(0, 1, None), slice(0, 1, None), slice(5, 10, None))
    """
    sides = []
    for side, least, size in zip(box, least_zyx, shape_zyx, strict=True):
        length = min(max(side.stop - side.start, least), size)
        first = min(max(side.start - (length - side.stop + side.start) // 2, 0), size - length)
        sides.append(slice(first, first + length))
    return tuple(sides)
