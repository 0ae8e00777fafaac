"""From maps to a list: tumours by type, and regions unlike anything the model has learned."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import cc3d
import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

from maxquery.boxes import Box, bounding_box, grown, shifted
from maxquery.labels import Label
from maxquery.result import Finding
from maxquery.search_region import (
    CLOSING_MM,
    DILATION_MM,
    LEAST_THICKNESS_MM,
    search_reach,
    search_region,
)
from maxquery.volume import Grid

OOD_LABEL = "OOD region"
OOD_SHARE = 0.5
OWNING_SHARE = 0.1


@dataclass(frozen=True)
class FindingParameters:
    """What counts as a finding.

    ood_percentile: a voxel is out of distribution from this anomaly percentile on. At 99, one in a
        hundred inlier voxels is too; most of those are specks below the minimum volume.
    minimum_volume_ml: smaller components are not listed. 0.1 ml is a ball of 6 mm, about the smallest
        lesion that a report measures.
    minimum_thickness_mm: an OOD region that nowhere holds a ball of this diameter is not listed. Along the
        organ's border, where one tissue's queries hand over to another's, scores are high in a thin sheet.
    closing_mm, dilation_mm: see `search_region`.
    """

    ood_percentile: float = 99.0
    minimum_volume_ml: float = 0.1
    minimum_thickness_mm: float = LEAST_THICKNESS_MM
    closing_mm: float = CLOSING_MM
    dilation_mm: float = DILATION_MM


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
    OOD regions are the `ood_regions` of `ood_mask`. A tumour and an OOD region may cover the same place, and
    both are listed: the one is the network's opinion of a type, the other says how far to trust it.
    """
    tumours = np.isin(labels, [label.value for label in label_table if label.role == "tumour"])
    suspicious = ood_mask(percentile, labels, grid, parameters)
    names = {label.value: label.name for label in label_table}
    least = parameters.minimum_volume_ml / grid.voxel_volume_ml

    found = []
    for box, mask in _components(np.where(tumours, labels, 0), least):
        finding = _finding(names[int(labels[box][mask][0])], box, mask, percentile, clusters, grid)
        ood_share = np.mean(percentile[box][mask] >= parameters.ood_percentile)
        found.append(replace(finding, ood=bool(ood_share >= OOD_SHARE)))
    for box, mask in ood_regions(suspicious, grid, parameters):
        found.append(replace(_finding(OOD_LABEL, box, mask, percentile, clusters, grid), ood=True))
    found.sort(key=lambda finding: (not finding.ood, -finding.volume_ml))
    return tuple(replace(finding, id=number) for number, finding in enumerate(found, start=1))


def search_box(inside: np.ndarray, grid: Grid, parameters: FindingParameters = FindingParameters()) -> Box:
    """The part of `inside` `(Z, Y, X)` that holds the search region of what is not 0 there, organ and tumours; empty
    where all is."""
    box = bounding_box(inside)
    if box is None:
        return (slice(0, 0),) * 3
    reach = search_reach(grid.spacing_xyz_mm[::-1], parameters.closing_mm, parameters.dilation_mm)
    return grown(box, reach, inside.shape)


def ood_mask(
    percentile: np.ndarray,
    labels: np.ndarray,
    grid: Grid,
    parameters: FindingParameters = FindingParameters(),
) -> np.ndarray:
    """`(Z, Y, X)` bool: the voxels of the search region that reach the OOD percentile."""
    mask = search_region(labels > 0, grid.spacing_xyz_mm[::-1], parameters.closing_mm, parameters.dilation_mm)
    mask &= percentile >= parameters.ood_percentile
    return mask


def ood_regions(
    suspicious: np.ndarray, grid: Grid, parameters: FindingParameters = FindingParameters()
) -> Iterator[tuple[Box, np.ndarray]]:
    """Box and mask (of the box) of each component of `suspicious` `(Z, Y, X)` that is large and thick enough."""
    for box, mask in _components(suspicious, parameters.minimum_volume_ml / grid.voxel_volume_ml):
        if _holds_ball(mask, parameters.minimum_thickness_mm, grid.spacing_xyz_mm):
            yield box, mask


def _components(image: np.ndarray, least_voxels: float) -> Iterator[tuple[Box, np.ndarray]]:
    """Box and mask (of the box) of each 26-connected component of equal, non-zero value in `image`."""
    outer = bounding_box(image != 0)
    if outer is None:
        return
    components = cc3d.connected_components(np.ascontiguousarray(image[outer]), connectivity=26)
    statistics = cc3d.statistics(components)
    for number in range(1, len(statistics["voxel_counts"])):
        if statistics["voxel_counts"][number] >= least_voxels:
            box = statistics["bounding_boxes"][number]
            yield shifted(box, outer), components[box] == number


def _holds_ball(mask: np.ndarray, diameter_mm: float, spacing_xyz_mm: tuple[float, float, float]) -> bool:
    """Whether a ball fits into `mask` `(Z, Y, X)`: round a voxel's middle, with the middle of no voxel outside in it.

    So a single slice is enough where slices lie half a diameter apart, or more.
    """
    return bool(ndimage.binary_erosion(mask, _ball(diameter_mm, spacing_xyz_mm)).any())


@cache
def _ball(diameter_mm: float, spacing_xyz_mm: tuple[float, float, float]) -> np.ndarray:
    """`(Z, Y, X)` bool: the middle voxel and all less than half a diameter away from it."""
    reach = [math.ceil(diameter_mm / 2 / mm) for mm in spacing_xyz_mm[::-1]]
    steps = np.ogrid[tuple(slice(-voxels, voxels + 1) for voxels in reach)]
    away_mm = np.sqrt(sum((step * mm) ** 2 for step, mm in zip(steps, spacing_xyz_mm[::-1], strict=True)))
    return (away_mm < diameter_mm / 2) | (away_mm == 0)


def _finding(
    label: str, box: Box, mask: np.ndarray, percentile: np.ndarray, clusters: np.ndarray, grid: Grid
) -> Finding:
    """A finding that has no number yet, and is not yet called OOD."""
    scores = percentile[box][mask]
    longest, perpendicular = diameters_mm(mask, grid.spacing_xyz_mm[:2])
    places = np.argwhere(mask)
    centroid = places.mean(axis=0)
    if not mask[tuple(np.rint(centroid).astype(int))]:  # a shell's is what it surrounds
        apart_mm = (places - centroid) * grid.spacing_xyz_mm[::-1]
        centroid = places[np.square(apart_mm).sum(axis=1).argmin()]
    return Finding(
        id=0,
        label=label,
        ood=False,
        volume_ml=scores.size * grid.voxel_volume_ml,
        longest_diameter_mm=longest,
        perpendicular_diameter_mm=perpendicular,
        centroid_ras_mm=tuple(grid.ras_mm(centroid + [side.start for side in box]).tolist()),
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
