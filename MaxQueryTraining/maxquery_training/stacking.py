"""One patient's chest or pelvis on another's abdomen: what lies beyond a CT that was cut where the organ ends.

A network that never saw lungs above a liver takes the dome for something else where a CT shows both.
"""

from typing import Literal

import SimpleITK as sitk

_SKIN_HU = -300


def stack(base: sitk.Image, other: sitk.Image, side: Literal["above", "below"]) -> sitk.Image:
    """`base` continued by `other` on one `side`, on `base`'s grid: both in HU, oriented LPS.

    `other` is scaled in plane, so that the patients' outlines have the same extent where they touch. What
    `other` does not cover has its lowest value.
    """
    spacing, above = base.GetSpacing(), side == "above"
    slices = round(other.GetDepth() * other.GetSpacing()[2] / spacing[2])
    frame = sitk.Image([*base.GetSize()[:2], slices], base.GetPixelID())
    frame.SetSpacing(spacing)
    frame.SetDirection(base.GetDirection())
    frame.SetOrigin(base.TransformIndexToPhysicalPoint((0, 0, base.GetDepth() if above else -slices)))

    touching = (base[:, :, -1:], other[:, :, :1]) if above else (base[:, :, :1], other[:, :, -1:])
    (x, y, width, height), (x2, y2, width2, height2) = map(_outline, touching)
    first = frame[:, :, :1] if above else frame[:, :, -1:]  # the slice next to `base`
    z, z2 = first.GetOrigin()[2], touching[1].GetOrigin()[2]
    to_other = sitk.AffineTransform(3)
    to_other.SetCenter((x, y, z))
    to_other.SetTranslation((x2 - x, y2 - y, z2 - z))
    to_other.SetMatrix((width2 / width, 0, 0, 0, height2 / height, 0, 0, 0, 1))
    lowest = float(sitk.GetArrayViewFromImage(other).min())
    continued = sitk.Resample(other, frame, to_other, sitk.sitkLinear, lowest, base.GetPixelID())
    parts = (base, continued) if above else (continued, base)
    return sitk.JoinSeries(
        [image[:, :, z] for image in parts for z in range(image.GetDepth())], parts[0].GetOrigin()[2], spacing[2]
    )


def _outline(one_slice: sitk.Image) -> tuple[float, float, float, float]:
    """Centre x, y and extent of the largest piece above the skin's HU, all in mm."""
    pieces = sitk.RelabelComponent(sitk.ConnectedComponent(one_slice > _SKIN_HU), sortByObjectSize=True)
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(pieces)
    left, front, _, columns, rows, _ = shape.GetBoundingBox(1)
    width, height = columns * one_slice.GetSpacing()[0], rows * one_slice.GetSpacing()[1]
    corner = one_slice.TransformIndexToPhysicalPoint((left, front, 0))
    return corner[0] + width / 2, corner[1] + height / 2, width, height
