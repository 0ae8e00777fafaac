"""The outline of a lesion: lobes joined smoothly, stretched and roughened."""

from dataclasses import dataclass

import numpy as np

from maxquery_training.lesions.texture import Axes, smooth_field


@dataclass(frozen=True)
class Outline:
    """`lobes` on a round core; `stretch`: spread of the log axis ratios; `roughness`: in radii."""

    lobes: tuple[int, int] = (0, 0)
    stretch: float = 0.12
    roughness: float = 0.06


def directions(count: int, rng: np.random.Generator) -> np.ndarray:
    """`(count, 3)` random unit vectors."""
    vectors = rng.standard_normal((count, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def coordinates(axes_mm: Axes) -> np.ndarray:
    """`(3, Z, Y, X)` positions, mm, from those along each axis."""
    return np.stack(np.meshgrid(*axes_mm, indexing="ij")).astype(np.float32)


def length(vectors: np.ndarray) -> np.ndarray:
    """`(Z, Y, X)` of `(3, Z, Y, X)`."""
    return np.sqrt(np.einsum("izyx,izyx->zyx", vectors, vectors))


def level(axes_mm: Axes, radius_mm: float, outline: Outline, rng: np.random.Generator) -> np.ndarray:
    """`(Z, Y, X)`: about 0 at the lesion's centre, 1 on its surface, then 1 more each radius.

    The lesion, where the level is below 1, has the volume of a ball of `radius_mm`.
    """
    axes = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    stretch = np.exp(outline.stretch * rng.standard_normal(3))
    stretch /= np.prod(stretch) ** (1 / 3)
    place = coordinates(axes_mm) / radius_mm
    place = np.tensordot(((axes * stretch) @ axes.T).astype(np.float32), place, axes=1)

    count = int(rng.integers(outline.lobes[0], outline.lobes[1] + 1))
    union = np.exp((0.8 if count else 1.0) / _BLEND - length(place) / _BLEND)
    for direction in directions(count, rng):
        centre = (direction * rng.uniform(0.45, 0.75)).astype(np.float32)
        distance = length(place - centre[:, None, None, None])
        union += np.exp((rng.uniform(0.35, 0.6) - distance) / _BLEND)
    result = 1 - _BLEND * np.log(np.maximum(union, 1e-30))

    result += outline.roughness * smooth_field(axes_mm, 0.4 * radius_mm, rng)
    result += 0.5 * outline.roughness * smooth_field(axes_mm, 0.2 * radius_mm, rng)

    voxel_mm3 = np.prod([axis[1] - axis[0] for axis in axes_mm])
    voxels = max(1, round(4 / 3 * np.pi * radius_mm**3 / voxel_mm3))
    surface = np.partition(result.ravel(), voxels)[voxels]
    return (result + (1 - surface)).astype(np.float32)


_BLEND = 0.12  # how softly lobes flow into each other, in radii
