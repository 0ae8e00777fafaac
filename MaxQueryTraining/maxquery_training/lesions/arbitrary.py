"""A lesion that looks like anything: what outlier exposure shows a network of what it cannot know.

Composed at random of what every type is made of (patches, shells, grains, septa), in any HU. It knows nothing of
how any type looks, so that it resembles inlier types too, as often as chance has it: a network that is to part it
from them learns how likely an appearance is among them, rather than how something else looks.
"""

from collections.abc import Callable

import numpy as np

from maxquery_training.lesions.shape import Outline
from maxquery_training.lesions.site import Site, mix, ramp
from maxquery_training.lesions.types import LesionType

_NEAR = 0.6  # how often a part is about as dense as the liver: what is far from it is found easily
_NEAR_HU, _FAR_HU = 30.0, (-120.0, 400.0)


def arbitrary(site: Site) -> np.ndarray:
    """HU `(Z, Y, X)`, without noise: a ground, and up to three parts mixed into it."""
    rng = site.rng
    hu = site.flat(_some_hu(site)) + rng.uniform(0, 8) * site.field(_some_scale_mm(site))
    for _ in range(int(rng.integers(4))):
        part = _PARTS[int(rng.integers(len(_PARTS)))](site)
        hu = mix(hu, _some_hu(site), rng.uniform(0.5, 1) * part)
    return hu


def _some_hu(site: Site) -> float:
    if site.rng.random() < _NEAR:
        return site.liver_hu + _NEAR_HU * site.rng.standard_normal()
    return site.rng.uniform(*_FAR_HU)


def _some_scale_mm(site: Site) -> float:
    return site.rng.uniform(0.12, 0.5) * site.radius_mm


def _patches(site: Site) -> np.ndarray:
    return site.patches(site.rng.uniform(0.05, 0.7), _some_scale_mm(site))


def _shell(site: Site) -> np.ndarray:
    return np.exp(-(((site.level - site.rng.uniform(0, 1)) / site.rng.uniform(0.08, 0.3)) ** 2))


def _grains(site: Site) -> np.ndarray:
    count = int(site.rng.integers(2, 20))
    radii_mm = site.radius_mm * site.rng.uniform(0.06, 0.35, count)
    return site.balls(site.points(count, -1, 1), radii_mm, 1.0)


def _septa(site: Site) -> np.ndarray:
    _, gap = site.cells(int(site.rng.integers(3, 14)), spread=0)
    return ramp(site.rng.uniform(1, 3) - gap, 1)


_PARTS: tuple[Callable[[Site], np.ndarray], ...] = (_patches, _shell, _grains, _septa)

ARBITRARY = LesionType("arbitrary", "Arbitrary lesion", False, 30, 0.6, 120, arbitrary,
                       Outline((0, 6), 0.14, 0.07), 1.2, (-0.1, 0.4), 0.25)  # fmt: skip
