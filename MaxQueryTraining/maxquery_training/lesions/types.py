"""The lesion types: how large they are, how they meet the liver around them, and who paints them.

Sizes are log-normal. Medians and spreads are chosen so that most lesions lie in the range that the sources
named beside each paint function show; they are not fitted to a population. Diameters are those of a
ball of the same volume.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from maxquery_training.lesions import inliers, outliers
from maxquery_training.lesions.shape import Outline
from maxquery_training.lesions.site import Site

SMALLEST_MM = 6.0


@dataclass(frozen=True)
class LesionType:
    """One type. Diameters: `median_diameter_mm · exp(sigma_log · N(0, 1))`, kept within 6 mm and the maximum.

    `edge_mm` is half the width of the margin. `push` (range) is the share of the lesion's volume that
    displaces tissue rather than replaces it: negative draws tissue in, as fibrosis does. `vessels` is the
    share of a vessel's brightness that still shows at the rim.
    """

    key: str
    name: str
    inlier: bool
    median_diameter_mm: float
    sigma_log: float
    max_diameter_mm: float
    paint: Callable[[Site], np.ndarray]
    outline: Outline
    edge_mm: float
    push: tuple[float, float]
    vessels: float

    def draw_diameter_mm(self, rng: np.random.Generator) -> float:
        diameter = self.median_diameter_mm * np.exp(self.sigma_log * rng.standard_normal())
        return float(np.clip(diameter, SMALLEST_MM, self.max_diameter_mm))


_ALL = (
    LesionType("hcc", "Hepatocellular carcinoma", True, 30, 0.55, 120, inliers.hcc,
               Outline((0, 3), 0.12, 0.05), 0.8, (0.15, 0.4), 0.15),
    LesionType("icc", "Intrahepatic cholangiocarcinoma", True, 40, 0.45, 120, inliers.icc,
               Outline((3, 6), 0.18, 0.12), 3.0, (-0.15, 0.05), 0.7),
    LesionType("metastasis", "Metastasis", True, 20, 0.55, 90, inliers.metastasis,
               Outline((0, 2), 0.10, 0.05), 1.5, (0.05, 0.3), 0.3),
    LesionType("haemangioma", "Haemangioma", True, 22, 0.55, 100, inliers.haemangioma,
               Outline((2, 5), 0.12, 0.04), 0.6, (0.05, 0.25), 0.2),
    LesionType("cyst", "Cyst", True, 16, 0.6, 100, inliers.cyst,
               Outline((0, 2), 0.12, 0.02), 0.4, (0.2, 0.5), 0.0),
    LesionType("fnh", "Focal nodular hyperplasia", False, 36, 0.4, 90, outliers.fnh,
               Outline((3, 6), 0.10, 0.03), 0.8, (0.2, 0.4), 0.2),
    LesionType("hepatoblastoma", "Hepatoblastoma", False, 70, 0.3, 140, outliers.hepatoblastoma,
               Outline((4, 7), 0.12, 0.05), 1.0, (0.25, 0.45), 0.1),
    LesionType("abscess", "Abscess", False, 42, 0.4, 110, outliers.abscess,
               Outline((2, 5), 0.12, 0.06), 2.0, (0.05, 0.25), 0.3),
    LesionType("calcified", "Calcified mass", False, 35, 0.45, 110, outliers.calcified,
               Outline((1, 4), 0.12, 0.06), 1.2, (0.1, 0.3), 0.2),
    LesionType("fat", "Fat-containing mass", False, 32, 0.45, 110, outliers.fat,
               Outline((0, 3), 0.12, 0.05), 0.8, (0.1, 0.3), 0.2),
)  # fmt: skip

LESION_TYPES: dict[str, LesionType] = {kind.key: kind for kind in _ALL}
INLIERS: tuple[str, ...] = tuple(kind.key for kind in _ALL if kind.inlier)
OUTLIERS: tuple[str, ...] = tuple(kind.key for kind in _ALL if not kind.inlier)
