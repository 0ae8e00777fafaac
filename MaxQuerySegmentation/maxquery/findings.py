"""From maps to a list: tumours by type, and regions unlike anything the model has learned."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cc3d
import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

from maxquery.labels import Label
from maxquery.result import Finding
from maxquery.volume import Grid

OOD_LABEL = "OOD region"
OOD_SHARE = 0.5
OWNING_SHARE = 0.1
MORPHOLOGY_SPACING_MM = 2.0
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class FindingParameters:
    """What counts as a finding.

    ood_percentile: a voxel is out of distribution from this anomaly percentile on. At 99, one in a
        hundred inlier voxels is too; most of those are specks below the minimum volume.
    minimum_volume_ml: smaller components are not listed. 0.1 ml is a ball of 6 mm, about the smallest
        lesion that a report measures.
    minimum_thickness_mm: an OOD region that nowhere holds a ball of this diameter is not listed. Along the
        organ's border, where one tissue's queries hand over to another's, scores are high in a thin sheet.
    closing_mm: the organ is closed by this radius before the search, because a network often calls an
        outlier on the organ's rim background; bays up to about twice as wide are bridged.
    dilation_mm: the closed organ grows by this much, as an outlier's own rim may bulge out of it.
    """

    ood_percentile: float = 99.0
    minimum_volume_ml: float = 0.1
    minimum_thickness_mm: float = 5.0
    closing_mm: float = 8.0
    dilation_mm: float = 3.0


def find(
    labels: np.ndarray,
    percentile: np.ndarray,
    clusters: np.ndarray,
    grid: Grid,
    label_table: tuple[Label, ...],
    parameters: FindingParameters = FindingParameters(),
) -> tuple[Finding, ...]:
    """The findings of one case, OOD first, then the larger first, numbered from 1.

    `labels` uint8, `percentile` float32 0…100 and `clusters` uint8 (owning query + 1) are `(Z, Y, X)`.
    A tumour is a 26-connected component of one class; it is OOD when at least half of its voxels reach
    the OOD percentile (a mean could hardly, as nothing scores above 100 to make up for a familiar rim).
    OOD regions are the thick enough components of `ood_mask`. A tumour and an OOD region may cover the same place, and
    both are listed: the one is the network's opinion of a type, the other says how far to trust it.
    """
    tumours = _role_mask(labels, label_table, "tumour")
    suspicious = ood_mask(percentile, labels, label_table, grid, parameters)
    names = {label.value: label.name for label in label_table}
    least = parameters.minimum_volume_ml / grid.voxel_volume_ml

    found = []
    for box, mask in _components(np.where(tumours, labels, 0), least):
        finding = _finding(names[int(labels[box][mask][0])], box, mask, percentile, clusters, grid)
        ood_share = np.mean(percentile[box][mask] >= parameters.ood_percentile)
        found.append(replace(finding, ood=bool(ood_share >= OOD_SHARE)))
    for box, mask in _components(suspicious, least):
        if _holds_ball(mask, parameters.minimum_thickness_mm, grid.spacing_xyz_mm):
            found.append(replace(_finding(OOD_LABEL, box, mask, percentile, clusters, grid), ood=True))
    found.sort(key=lambda finding: (not finding.ood, -finding.volume_ml))
    return tuple(replace(finding, id=number) for number, finding in enumerate(found, start=1))


def ood_mask(
    percentile: np.ndarray,
    labels: np.ndarray,
    label_table: tuple[Label, ...],
    grid: Grid,
    parameters: FindingParameters = FindingParameters(),
) -> np.ndarray:
    """`(Z, Y, X)` bool: the voxels of the search region that reach the OOD percentile."""
    mask = search_region(labels, label_table, grid, parameters)
    mask &= percentile >= parameters.ood_percentile
    return mask


def search_region(
    labels: np.ndarray,
    label_table: tuple[Label, ...],
    grid: Grid,
    parameters: FindingParameters = FindingParameters(),
) -> np.ndarray:
    """`(Z, Y, X)` bool: organ and tumours, closed, holes filled slice by slice, and slightly dilated.

    What lies outside is not the model's subject, however strange. The morphology runs on voxels of
    about 2 mm, so its border is that coarse; voxels labelled organ or tumour are always inside.
    """
    inside = _role_mask(labels, label_table, "organ", "tumour")
    box = _bounding_box(inside)
    if box is None:
        return inside
    spacing_mm = np.array(grid.spacing_xyz_mm[::-1])
    factors = np.maximum(1, np.rint(MORPHOLOGY_SPACING_MM / spacing_mm)).astype(int)
    coarse_mm = spacing_mm * factors
    # Room for closing and dilation, beyond the image too: otherwise its border would act as tissue.
    margin = np.ceil((parameters.closing_mm + parameters.dilation_mm) / coarse_mm).astype(int) + 1
    coarse = np.pad(_block_majority(inside[box], factors), [(m, m) for m in margin])

    closed = _dilate(coarse, parameters.closing_mm, coarse_mm)
    closed = ~_dilate(~closed, parameters.closing_mm, coarse_mm) | coarse
    filled = ndimage.binary_fill_holes(closed, axes=(1, 2))  # so a lesion cut by the image's last slice is a hole too
    grown = _dilate(filled, parameters.dilation_mm, coarse_mm)

    # Back to the image: fine voxel i of axis a lies in coarse voxel (i - start) // factor + margin.
    where, indices = [], []
    for start, factor, m, size, coarse_size in zip(
        [side.start for side in box], factors, margin, labels.shape, coarse.shape, strict=True
    ):
        first = max(0, start - m * factor)
        last = min(size, start + (coarse_size - m) * factor)
        where.append(slice(first, last))
        indices.append((np.arange(first, last) - start) // factor + m)
    inside[tuple(where)] |= grown[np.ix_(*indices)]
    return inside


def _role_mask(labels: np.ndarray, label_table: tuple[Label, ...], *roles: str) -> np.ndarray:
    lookup = np.zeros(256, bool)
    lookup[[label.value for label in label_table if label.role in roles]] = True
    return lookup[labels]


def _bounding_box(mask: np.ndarray) -> Box | None:
    sides = []
    for axis in range(3):
        hits = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if not hits.size:
            return None
        sides.append(slice(int(hits[0]), int(hits[-1]) + 1))
    return tuple(sides)


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


def _components(image: np.ndarray, least_voxels: float) -> Iterator[tuple[Box, np.ndarray]]:
    """Box and mask (of the box) of each 26-connected component of equal, non-zero value in `image`."""
    outer = _bounding_box(image != 0)
    if outer is None:
        return
    components = cc3d.connected_components(np.ascontiguousarray(image[outer]), connectivity=26)
    statistics = cc3d.statistics(components)
    for number in range(1, len(statistics["voxel_counts"])):
        if statistics["voxel_counts"][number] >= least_voxels:
            box = statistics["bounding_boxes"][number]
            shifted = tuple(
                slice(side.start + start.start, side.stop + start.start)
                for side, start in zip(box, outer, strict=True)
            )
            yield shifted, components[box] == number


def _holds_ball(mask: np.ndarray, diameter_mm: float, spacing_xyz_mm: tuple[float, float, float]) -> bool:
    """Whether a ball fits into `mask` `(Z, Y, X)`, to within half a voxel: slices cannot tell more."""
    to_outside_mm = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing_xyz_mm[::-1])
    return bool(2 * to_outside_mm.max() >= diameter_mm)


def _finding(
    label: str, box: Box, mask: np.ndarray, percentile: np.ndarray, clusters: np.ndarray, grid: Grid
) -> Finding:
    """A finding that has no number yet, and is not yet called OOD. The peak is the maximum."""
    scores = percentile[box][mask]
    longest, perpendicular = diameters_mm(mask, grid.spacing_xyz_mm[:2])
    centroid = np.argwhere(mask).mean(axis=0) + [side.start for side in box]
    return Finding(
        id=0,
        label=label,
        ood=False,
        volume_ml=scores.size * grid.voxel_volume_ml,
        longest_diameter_mm=longest,
        perpendicular_diameter_mm=perpendicular,
        centroid_ras_mm=tuple(grid.ras_mm(centroid).tolist()),
        mean_percentile=float(scores.mean(dtype=np.float64)),
        peak_percentile=float(scores.max()),
        queries=_owners(clusters[box][mask]),
    )


def _owners(clusters: np.ndarray) -> tuple[int, ...]:
    """Queries that own at least a tenth of the voxels, the largest share first."""
    counts = np.bincount(clusters, minlength=2)[1:]
    order = np.argsort(-counts, kind="stable")
    return tuple(
        int(query) for query in order if counts[query] and counts[query] >= OWNING_SHARE * clusters.size
    )


def diameters_mm(mask: np.ndarray, spacing_xy_mm: tuple[float, float]) -> tuple[float, float]:
    """The longest diameter in any slice of `mask` `(Z, Y, X)`, and the widest extent across it there.

    Measured on the convex hull of the midpoints of the pixels' sides: along a row n pixels count as n
    pixels wide, and a single pixel as wide as it is.
    """
    longest, perpendicular = 0.0, 0.0
    for plane in mask:
        rows = np.flatnonzero(plane.any(axis=1))
        if not rows.size:
            continue
        first, last = plane[rows].argmax(axis=1), plane.shape[1] - 1 - plane[rows, ::-1].argmax(axis=1)
        ends = np.stack([np.tile(rows, 2), np.concatenate([first, last])], axis=1)
        sides = ends[:, None] + [(-0.5, 0), (0.5, 0), (0, -0.5), (0, 0.5)]
        points = sides.reshape(-1, 2) * spacing_xy_mm[::-1]
        hull = points[ConvexHull(points).vertices]
        distances = squareform(pdist(hull))
        a, b = np.unravel_index(distances.argmax(), distances.shape)
        if distances[a, b] > longest:
            longest = float(distances[a, b])
            along = (hull[b] - hull[a]) / longest
            perpendicular = float(np.ptp(hull @ [-along[1], along[0]]))
    return longest, perpendicular
