"""Synthetic liver lesions, planted into real CT: appearance models, not pathology."""

from maxquery_training.lesions.arbitrary import ARBITRARY
from maxquery_training.lesions.planting import Planted, plant
from maxquery_training.lesions.types import INLIERS, LESION_TYPES, OUTLIERS, LesionType

__all__ = ["ARBITRARY", "INLIERS", "LESION_TYPES", "OUTLIERS", "LesionType", "Planted", "plant"]
