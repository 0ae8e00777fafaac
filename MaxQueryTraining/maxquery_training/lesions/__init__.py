"""Synthetic liver lesions, planted into real CT: appearance models, not pathology."""

from maxquery_training.lesions.planting import Planted, plant
from maxquery_training.lesions.types import INLIERS, LESION_TYPES, OUTLIERS, LesionType

__all__ = ["INLIERS", "LESION_TYPES", "OUTLIERS", "LesionType", "Planted", "plant"]
