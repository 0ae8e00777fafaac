"""One patient's chest on another's abdomen: what lies above a CT that was cut at the organ's dome.

A network that never saw lungs above a liver takes the dome for something else where a CT shows both.
"""

import SimpleITK as sitk

_SKIN_HU = -300


def stack(lower: sitk.Image, upper: sitk.Image) -> sitk.Image:
    """`lower` with `upper` on top, on `lower`'s grid: both in HU, oriented LPS, `upper` from where `lower` ends.

    `upper` is scaled in plane, so that the patients' outlines have the same extent where they touch. What
    `upper` does not cover has its lowest value.
    """
    spacing = lower.GetSpacing()
    slices = round(upper.GetDepth() * upper.GetSpacing()[2] / spacing[2])
    frame = sitk.Image([*lower.GetSize()[:2], slices], lower.GetPixelID())
    frame.SetSpacing(spacing)
    frame.SetDirection(lower.GetDirection())
    frame.SetOrigin(lower.TransformIndexToPhysicalPoint((0, 0, lower.GetDepth())))

    (x, y, width, height), (x2, y2, width2, height2) = _outline(lower[:, :, -1:]), _outline(upper[:, :, :1])
    to_upper = sitk.AffineTransform(3)
    to_upper.SetCenter((x, y, frame.GetOrigin()[2]))
    to_upper.SetTranslation((x2 - x, y2 - y, upper.GetOrigin()[2] - frame.GetOrigin()[2]))
    to_upper.SetMatrix((width2 / width, 0, 0, 0, height2 / height, 0, 0, 0, 1))
    lowest = float(sitk.GetArrayViewFromImage(upper).min())
    return sitk.JoinSeries(
        [image[:, :, z] for image in (lower, sitk.Resample(upper, frame, to_upper, sitk.sitkLinear, lowest))
         for z in range(image.GetDepth())], lower.GetOrigin()[2], spacing[2]
    )  # fmt: skip


def _outline(one_slice: sitk.Image) -> tuple[float, float, float, float]:
    """Centre x, y and extent of the largest piece above the skin's HU, all in mm."""
    pieces = sitk.RelabelComponent(sitk.ConnectedComponent(one_slice > _SKIN_HU), sortByObjectSize=True)
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(pieces)
    left, front, _, columns, rows, _ = shape.GetBoundingBox(1)
    width, height = columns * one_slice.GetSpacing()[0], rows * one_slice.GetSpacing()[1]
    corner = one_slice.TransformIndexToPhysicalPoint((left, front, 0))
    return corner[0] + width / 2, corner[1] + height / 2, width, height
