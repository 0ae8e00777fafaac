"""How the lesion types a model is trained on look in the portal venous phase.

Each function paints HU `(Z, Y, X)` for a `Site`, without noise. Sources are named in each docstring; the
numbers are this project's reading of them. Appearance models, not pathology.
"""

import numpy as np

from maxquery_training.lesions.site import Site, mix, ramp


def hcc(site: Site) -> np.ndarray:
    """Hepatocellular carcinoma: washout, mosaic of nodules, thin capsule.

    ACR LI-RADS v2018 (washout, enhancing capsule, mosaic, nodule-in-nodule).
    """
    rng = site.rng
    nodules, gap = site.cells(int(rng.integers(4, 11)), spread=12)
    hu = site.flat(site.tissue(-40, -16)) + nodules - 10 * ramp(1.5 - gap, 1.5)
    hu += 4 * site.field(0.3 * site.radius_mm)
    if site.radius_mm > 15 and rng.random() < 0.6:
        hu = mix(hu, rng.uniform(20, 40), 0.8 * site.patches(rng.uniform(0.05, 0.2), 0.25 * site.radius_mm))
    if rng.random() < 0.75:
        thickness = min(rng.uniform(2, 3.5), 0.3 * site.radius_mm)
        present = ramp(site.field(0.7 * site.radius_mm) + 0.8, 0.5)  # a capsule is seldom complete
        hu = mix(hu, site.liver_hu + rng.uniform(15, 25), present * ramp(thickness - site.depth_mm, 0.6))
    return hu


def icc(site: Site) -> np.ndarray:
    """Intrahepatic cholangiocarcinoma: infiltrative, mild rim, centre filling in.

    Chung YE et al., Varying appearances of cholangiocarcinoma, RadioGraphics 2009.
    """
    rng = site.rng
    hu = site.flat(site.tissue(-50, -28)) + 6 * site.field(0.3 * site.radius_mm)
    centre = ramp(0.5 - site.level + 0.15 * site.field(0.3 * site.radius_mm), 0.35)
    hu += rng.uniform(4, 16) * centre
    rim = np.exp(-(((site.level - 0.88) / 0.12) ** 2)) * ramp(site.field(0.6 * site.radius_mm) + 0.3, 0.8)
    return hu + rng.uniform(6, 16) * rim


def metastasis(site: Site) -> np.ndarray:
    """Hypovascular metastasis: continuous ring around a darker, often necrotic centre.

    Sica GT, Ji H, Ros PR, CT and MR imaging of hepatic metastases, AJR 2000.
    """
    rng = site.rng
    ring = site.tissue(-22, -6)
    centre = max(ring - rng.uniform(40, 62), 18)
    wobble = 0.08 * site.field(0.5 * site.radius_mm)
    hu = mix(site.flat(ring), centre, ramp(rng.uniform(0.74, 0.86) + wobble - site.level, 0.15))
    if rng.random() < 0.5:
        necrosis = ramp(rng.uniform(0.3, 0.55) + 2 * wobble - site.level, 0.15)
        hu = mix(hu, rng.uniform(14, 25), 0.8 * necrosis)
    return hu + 4 * site.field(0.25 * site.radius_mm)


def haemangioma(site: Site) -> np.ndarray:
    """Cavernous haemangioma: discontinuous globules as bright as vessels at the edge, filling inwards.

    Quinn SF, Benjamin GG, Hepatic cavernous hemangiomas, Radiology 1992.
    """
    rng = site.rng
    hu = site.flat(site.tissue(-60, -38)) + 3 * site.field(0.4 * site.radius_mm)
    count = int(rng.integers(6, 15))
    radii = site.radius_mm * rng.uniform(0.16, 0.4, count)
    globules = site.balls(site.points(count, 0.75, 1.0), radii, 0.1 * site.radius_mm)
    return mix(hu, site.blood_hu - rng.uniform(0, 8), globules)


def cyst(site: Site) -> np.ndarray:
    """Simple cyst: homogeneous water, no visible wall.

    Mortelé KJ, Ros PR, Cystic focal liver lesions in the adult, RadioGraphics 2001.
    """
    return site.flat(site.rng.uniform(0, 15))
