"""Where a lesion is about to grow: what a paint function may know and use."""

from dataclasses import dataclass

import numpy as np

from maxquery_training.lesions.shape import coordinates, length
from maxquery_training.lesions.texture import Axes, smooth_field


@dataclass(frozen=True)
class Site:
    """A box around the lesion-to-be. `axes_mm` from its centre; `level` `(Z, Y, X)` as in `shape.level`.

    `liver_hu` and `blood_hu` are the scan's own, near the lesion.
    """

    axes_mm: Axes
    level: np.ndarray
    radius_mm: float
    liver_hu: float
    blood_hu: float
    rng: np.random.Generator

    @property
    def depth_mm(self) -> np.ndarray:
        """`(Z, Y, X)`: distance below the surface, negative outside."""
        return (1 - self.level) * self.radius_mm

    def tissue(self, low: float, high: float) -> float:
        """HU of solid tissue `low` to `high` away from the liver: never more watery than tissue is."""
        return max(self.liver_hu + self.rng.uniform(low, high), 28.0)

    def flat(self, hu: float) -> np.ndarray:
        return np.full(self.level.shape, hu, np.float32)

    def field(self, scale_mm: float) -> np.ndarray:
        return smooth_field(self.axes_mm, scale_mm, self.rng)

    def patches(self, share: float, scale_mm: float) -> np.ndarray:
        """`(Z, Y, X)` 0…1: soft-edged random patches over about `share` of the lesion."""
        field = self.field(scale_mm)
        threshold = np.quantile(field[self.level < 1], 1 - share)
        return ramp(field - threshold, 0.35)

    def points(self, count: int, nearest: float, farthest: float) -> np.ndarray:
        """`(count, 3)` random positions, mm, at levels `nearest` to `farthest`."""
        where = np.argwhere((self.level >= nearest) & (self.level <= farthest))
        if not len(where):
            where = np.argwhere(self.level <= self.level.min())
        chosen = where[self.rng.integers(len(where), size=count)]
        return np.stack([axis[chosen[:, i]] for i, axis in enumerate(self.axes_mm)], axis=1)

    def balls(
        self, centres_mm: np.ndarray, radii_mm: np.ndarray, edge_mm: float, roughness_mm: float = 0.0
    ) -> np.ndarray:
        """`(Z, Y, X)` 0…1: the union of soft-edged balls."""
        depth = self.flat(-np.inf)
        for centre, radius in zip(centres_mm, radii_mm, strict=True):
            reach = radius + edge_mm + 4 * roughness_mm  # beyond, the ball shows nothing
            near = tuple(
                slice(*np.searchsorted(a, (c - reach, c + reach)))
                for a, c in zip(self.axes_mm, centre, strict=True)
            )
            z, y, x = (a[part] - c for a, part, c in zip(self.axes_mm, near, centre, strict=True))
            distance = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
            depth[near] = np.maximum(depth[near], radius - distance)
        if roughness_mm:
            depth += roughness_mm * self.field(1.5)
        return ramp(depth, edge_mm)

    def cells(self, count: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
        """`(Z, Y, X)` twice: a random value a nodule, of deviation `spread`; and mm to the next nodule."""
        place = coordinates(self.axes_mm)
        place += np.stack([0.08 * self.radius_mm * self.field(0.25 * self.radius_mm) for _ in range(3)])
        nearest, second = self.flat(np.inf), self.flat(np.inf)
        value = self.flat(0)
        for centre in self.points(count, -1, 1):
            distance = length(place - centre[:, None, None, None])
            distance *= np.float32(self.rng.uniform(0.75, 1.3))  # nodules of unequal size
            value = np.where(distance < nearest, np.float32(spread * self.rng.standard_normal()), value)
            second = np.minimum(second, np.maximum(nearest, distance))
            nearest = np.minimum(nearest, distance)
        return value, second - nearest


def ramp(depth: np.ndarray, half_width: float) -> np.ndarray:
    """0 below −`half_width`, 1 above it, smooth in between."""
    t = np.clip(depth / (2 * half_width) + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def mix(a: np.ndarray, b: np.ndarray | float, share_of_b: np.ndarray | float) -> np.ndarray:
    return a + (b - a) * share_of_b
