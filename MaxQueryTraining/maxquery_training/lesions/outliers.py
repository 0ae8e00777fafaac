"""How the lesion types kept out of training look in the portal venous phase.

Each function paints HU `(Z, Y, X)` for a `Site`, without noise. Sources are named in each docstring; the
numbers are this project's reading of them. Appearance models, not pathology.
"""

import numpy as np

from maxquery_training.lesions.shape import coordinates, directions, length
from maxquery_training.lesions.site import Site, mix, ramp


def fnh(site: Site) -> np.ndarray:
    """Focal nodular hyperplasia: nearly isodense, homogeneous, with a dark stellate central scar.

    Brancatelli G et al., Focal nodular hyperplasia: CT findings with emphasis on multiphasic helical CT
    in 78 patients, Radiology 2001.
    """
    rng = site.rng
    hu = site.flat(site.liver_hu + rng.uniform(10, 25)) + 2 * site.field(0.3 * site.radius_mm)
    return mix(hu, site.liver_hu - rng.uniform(25, 45), _star(site))


def hepatoblastoma(site: Site) -> np.ndarray:
    """Hepatoblastoma: large, septate, with necrosis, haemorrhage and, in about half, coarse calcification.

    Chung EM et al., Pediatric liver masses: radiologic-pathologic correlation, part 2, RadioGraphics 2011.
    """
    rng = site.rng
    nodules, gap = site.cells(int(rng.integers(8, 18)), spread=10)
    hu = site.flat(site.tissue(-42, -22)) + nodules + 6 * site.field(0.15 * site.radius_mm)
    hu += rng.uniform(8, 20) * ramp(2 - gap, 1.5)
    hu = mix(hu, rng.uniform(18, 32), 0.9 * site.patches(rng.uniform(0.08, 0.25), 0.2 * site.radius_mm))
    hu = mix(hu, rng.uniform(60, 75), 0.7 * site.patches(rng.uniform(0.03, 0.1), 0.15 * site.radius_mm))
    if rng.random() < 0.55:
        hu = _calcify(site, hu, count=int(rng.integers(6, 16)), radius_mm=(1.2, 3), hu_range=(200, 600))
    return hu


def abscess(site: Site) -> np.ndarray:
    """Pyogenic abscess: a cluster of small pus-filled cavities, bright walls, oedema around; sometimes gas.

    Mathieu D et al., Dynamic CT features of hepatic abscesses, Radiology 1985 (double target);
    Jeffrey RB et al., CT of small pyogenic hepatic abscesses: the cluster sign, AJR 1988.
    """
    rng = site.rng
    hu = site.flat(site.tissue(-30, -14)) + 3 * site.field(0.3 * site.radius_mm)
    _, gap = site.cells(int(np.clip(site.radius_mm * rng.uniform(0.15, 0.45), 1, 12)), spread=0)
    wall_mm = min(rng.uniform(1.2, 2.2), 0.1 * site.radius_mm)
    wall_mm = wall_mm * np.exp(0.3 * site.field(0.4 * site.radius_mm))
    oedema = rng.uniform(0.1, 0.16) + 0.04 * site.field(0.3 * site.radius_mm)
    inward_mm = site.depth_mm - oedema * site.radius_mm
    hu = mix(hu, site.liver_hu + rng.uniform(12, 32), ramp(inward_mm, 1))
    # Septa are thinner than the wall, and broken here and there, so that cavities run into each other.
    septum_mm = 0.5 * wall_mm + 0.6 * site.field(0.3 * site.radius_mm)
    cavity_mm = np.minimum(inward_mm - wall_mm, 0.5 * gap - septum_mm)
    hu = mix(hu, rng.uniform(10, 25), ramp(cavity_mm, 1))
    if rng.random() < 0.15:
        count = int(rng.integers(2, 6))
        bubbles = site.balls(site.points(count, -1, 0.5), rng.uniform(1, 2.5, count), 0.7)
        hu = mix(hu, rng.uniform(-600, -250), bubbles)
    return hu


def calcified(site: Site) -> np.ndarray:
    """Calcified, mucinous mass: dark, with stippled and coarse calcification.

    Stoupis C et al., The rocky liver: radiologic-pathologic correlation of calcified hepatic masses,
    RadioGraphics 1998.
    """
    rng = site.rng
    hu = site.flat(site.tissue(-60, -40)) + 5 * site.field(0.25 * site.radius_mm)
    fine = int(np.clip(site.radius_mm * rng.uniform(0.8, 2), 5, 60))
    hu = _calcify(site, hu, count=fine, radius_mm=(0.8, 1.6), hu_range=(200, 450))
    return _calcify(site, hu, count=int(rng.integers(6, 16)), radius_mm=(1, 2.8), hu_range=(250, 700))


def fat(site: Site) -> np.ndarray:
    """A mass that contains fat, as an angiomyolipoma or a steatotic hepatocellular carcinoma may.

    Prasad SR et al., Fat-containing lesions of the liver: radiologic-pathologic correlation,
    RadioGraphics 2005.
    """
    rng = site.rng
    hu = site.flat(site.tissue(-25, 0)) + 5 * site.field(0.25 * site.radius_mm)
    fatty = rng.uniform(-85, -40) + 8 * site.field(0.15 * site.radius_mm)
    coarse = site.patches(rng.uniform(0.4, 0.7), 0.3 * site.radius_mm)
    fine = site.patches(rng.uniform(0.5, 0.8), max(0.12 * site.radius_mm, 1.5))
    return mix(hu, fatty, coarse * (0.7 + 0.3 * fine))


def _calcify(site: Site, hu: np.ndarray, count: int, radius_mm: tuple, hu_range: tuple) -> np.ndarray:
    """`hu` with calcified grains; they gather, as they do, rather than spread evenly."""
    rng = site.rng
    heart = site.points(1, -1, 0.7)
    grains = site.points(3 * count, -1, 0.85)
    grains = grains[np.argsort(np.linalg.norm(grains - heart, axis=1))[:count]]
    radii = np.minimum(rng.uniform(*radius_mm, count), 0.25 * site.radius_mm)
    grain_hu = rng.uniform(*hu_range) * np.exp(0.35 * site.field(2.0))
    return mix(hu, np.clip(grain_hu, *hu_range), site.balls(grains, radii, 0.8, roughness_mm=0.6))


def _star(site: Site) -> np.ndarray:
    """`(Z, Y, X)` 0…1: tapering arms that fan out from an axis near the centre."""
    rng = site.rng
    place = coordinates(site.axes_mm) - site.points(1, -1, 0.15)[0][:, None, None, None]
    place += 0.05 * site.radius_mm * np.stack([site.field(0.3 * site.radius_mm) for _ in range(3)])
    axis = directions(1, rng)[0]
    across = np.linalg.svd(axis[None])[2][1:]
    along = np.abs(np.tensordot(axis, place, axes=1))
    arms = int(rng.integers(4, 7))
    width_mm = max(site.radius_mm * rng.uniform(0.08, 0.12), 1.5)
    depth_mm = 1.5 * width_mm - length(place)
    for angle in 2 * np.pi * (np.arange(arms) + rng.uniform(-0.3, 0.3, arms)) / arms:
        outward = np.array([np.cos(angle), np.sin(angle)]) @ across
        sideways = np.array([-np.sin(angle), np.cos(angle)]) @ across
        reach = np.tensordot(outward, place, axes=1) / (site.radius_mm * rng.uniform(0.5, 0.9))
        aside = np.hypot(np.tensordot(sideways, place, axes=1), 0.2 * along)
        depth_mm = np.maximum(depth_mm, np.where(reach > 0, width_mm * (1 - reach) - aside, -np.inf))
    return ramp(depth_mm, 0.6)
