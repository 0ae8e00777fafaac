"""Plant one lesion into a CT: find room, push tissue aside, paint, and give it the scan's own noise."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

from maxquery_training.lesions import shape
from maxquery_training.lesions.site import Site, ramp
from maxquery_training.lesions.texture import Axes, scan_noise
from maxquery_training.lesions.types import LESION_TYPES, LesionType

_TRIES = 24
_INSIDE = 0.85  # share of the lesion that must lie in the organ: the capsule cuts off the rest


@dataclass(frozen=True)
class Planted:
    """`image` (Z, Y, X) float32 HU, a new array; `mask` bool, the lesion in it."""

    image: np.ndarray
    mask: np.ndarray


def plant(
    image_hu: np.ndarray,
    organ: np.ndarray,
    spacing_zyx_mm: tuple[float, float, float],
    kind: str | LesionType,
    rng: np.random.Generator,
    *,
    forbidden: np.ndarray | None = None,
    diameter_mm: float | None = None,
    centre_zyx: tuple[int, int, int] | None = None,
) -> Planted | None:
    """A copy of the CT with one lesion of type `kind`, one of `LESION_TYPES` by its key or any other.

    `image_hu` `(Z, Y, X)` HU, a whole CT or a patch of one; `organ` bool, healthy organ; `forbidden` bool,
    voxels that must stay as they are, such as other lesions. Size and place are drawn where not given; `diameter_mm` is
    that of a ball of the lesion's volume, before the capsule or the image's edge cut it. Tissue around is displaced, so
    the organ may bulge by a few mm, and the lesion with it.

    None when there is no room: no organ, or in 24 random places (or the one given) more than 15 % of the
    lesion would lie outside the organ, more than half outside the image, or any of it in `forbidden`.
    """
    lesion = LESION_TYPES[kind] if isinstance(kind, str) else kind
    diameter_mm = lesion.draw_diameter_mm(rng) if diameter_mm is None else float(diameter_mm)
    radius_mm = diameter_mm / 2
    spacing = np.asarray(spacing_zyx_mm, np.float32)
    half = np.ceil((1.8 * radius_mm + 4) / spacing).astype(int)
    axes: Axes = tuple(np.arange(-h, h + 1) * s for h, s in zip(half, spacing, strict=True))
    level = shape.level(axes, radius_mm, lesion.outline, rng)

    centres = _candidates(organ, rng) if centre_zyx is None else [tuple(int(c) for c in centre_zyx)]
    for centre in centres:
        box, crop = _overlap(centre, half, image_hu.shape)
        if _has_room(level < 1, crop, organ[box], None if forbidden is None else forbidden[box]):
            break
    else:
        return None

    kept = np.zeros(organ[box].shape, bool) if forbidden is None else forbidden[box].astype(bool)
    local_axes: Axes = tuple(axis[part] for axis, part in zip(axes, crop, strict=True))
    image, mask = np.array(image_hu, np.float32), np.zeros(organ.shape, bool)
    image[box], mask[box] = _grow(
        image[box], organ[box].astype(bool), kept, level[crop], local_axes, lesion, radius_mm, rng
    )
    return Planted(image, mask)


def _grow(
    image, organ, kept, level, axes: Axes, lesion: LesionType, radius_mm: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The box's new HU and lesion mask, both `(Z, Y, X)`; voxels of `kept` stay as they are."""
    healthy = organ & ~kept
    liver_hu = float(np.median(image[healthy]))
    noise, noise_hu = scan_noise(image, healthy, _spacing(axes), rng)

    # The grain of plain liver stays where it is and only what it lies on moves: moving would smooth it away.
    calm = gaussian_filter(image, 1.0)
    plain = np.exp(-0.5 * ((calm - liver_hu) / (1.5 * noise_hu + 1)) ** 2) * _inside(organ)
    grain = np.clip(image - calm, -2.5 * noise_hu, 2.5 * noise_hu) * plain
    scale = _displacement(kept, level, axes, rng.uniform(*lesion.push))
    displaced = grain + _move(image - grain, scale, axes)
    displaced_organ = _move(organ.astype(np.float32), scale, axes) > 0.5
    smooth = gaussian_filter(displaced, 0.8)
    vessels = np.where(displaced_organ, np.maximum(smooth - liver_hu - noise_hu, 0), 0)
    blood_hu = liver_hu + np.clip(np.quantile(smooth[healthy], 0.98) - liver_hu, 40, 80)

    site = Site(axes, level, radius_mm, liver_hu, float(blood_hu), rng)
    painted = lesion.paint(site) + lesion.vessels * np.clip(level, 0, 1) ** 2 * vessels
    # The scanner blurs what it sees; half a voxel also stands for partial volume.
    painted = gaussian_filter(painted, 0.5)
    edge_mm = min(lesion.edge_mm, 0.5 * radius_mm)
    share = gaussian_filter(ramp(site.depth_mm, edge_mm), 0.5) * _inside(displaced_organ)
    share[kept] = 0
    # Weighted so that the noise of both together is the scan's, at the margin too.
    mixed = displaced + share * (painted - displaced) + np.sqrt(1 - (1 - share) ** 2) * noise
    return np.where(kept, image, mixed), (level < 1) & displaced_organ & ~kept


def _displacement(kept, level, axes: Axes, push: float) -> np.ndarray:
    """`(Z, Y, X)`: where the tissue now at a voxel came from, as a share of the voxel's way from the centre.

    As if a share `push` of the lesion's volume had grown there and nothing could be compressed
    (r'³ = r³ − push·R³), fading towards the box's faces and `kept`.
    """
    reach = [np.abs(axis) / np.abs(axis).max() for axis in axes]
    farthest = np.maximum(np.maximum(reach[0][:, None, None], reach[1][:, None]), reach[2])
    fade = np.clip(3 * (1 - farthest), 0, 1)
    if kept.any():
        fade *= np.clip(distance_transform_edt(~kept, _spacing(axes)) / 8, 0, 1)
    return np.cbrt(1 - push * fade * np.minimum(1, np.maximum(level, 0.1) ** -3.0))


def _move(array: np.ndarray, scale: np.ndarray, axes: Axes) -> np.ndarray:
    """`array` `(Z, Y, X)` after the displacement `scale`."""
    centre = [-axis[0] / step for axis, step in zip(axes, _spacing(axes), strict=True)]
    index = np.ogrid[tuple(slice(-c, len(axis) - c - 0.5) for axis, c in zip(axes, centre, strict=True))]
    came_from = [i * scale + c for i, c in zip(index, centre, strict=True)]
    return map_coordinates(array, came_from, order=1, mode="nearest")


def _spacing(axes: Axes) -> tuple[float, ...]:
    return tuple(float(axis[1] - axis[0]) for axis in axes)


def _inside(organ: np.ndarray) -> np.ndarray:
    """`(Z, Y, X)`: 1 in the organ, 0 outside, in between in its outermost voxels, as partial volume is."""
    return np.clip(2 * gaussian_filter(organ.astype(np.float32), 0.5) - 1, 0, 1)


def _candidates(organ: np.ndarray, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    inside = np.flatnonzero(organ)
    if not len(inside):
        return []
    chosen = inside[rng.integers(len(inside), size=_TRIES)]
    return [tuple(int(i) for i in np.unravel_index(c, organ.shape)) for c in chosen]


def _overlap(centre, half, image_shape) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The lesion's box cut to the image, as slices of the image and of the box."""
    low = [max(0, c - h) for c, h in zip(centre, half, strict=True)]
    high = [min(n, c + h + 1) for c, h, n in zip(centre, half, image_shape, strict=True)]
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    crop = tuple(slice(a - c + h, b - c + h) for a, b, c, h in zip(low, high, centre, half, strict=True))
    return box, crop


def _has_room(lesion, crop, organ, forbidden) -> bool:
    part = lesion[crop]
    if 2 * part.sum() < lesion.sum() or (part & (organ > 0)).sum() < _INSIDE * part.sum():
        return False
    return forbidden is None or not (part & (forbidden > 0)).any()
