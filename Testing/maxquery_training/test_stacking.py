"""A chest on top of a CT that stops at the dome."""

import numpy as np
import pytest
import SimpleITK as sitk

from maxquery_training.dataset import TrainingCase, write_raw_dataset
from maxquery_training.label_scheme import ORGAN
from maxquery_training.stacking import stack


def _body(size_zyx, spacing_xyz, origin_xyz, half_width_mm, half_depth_mm) -> sitk.Image:
    """An elliptic cylinder of 50 HU in air, in the middle of the image."""
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(size_zyx[1:], spacing_xyz[1::-1], strict=True)]
    y, x = np.meshgrid(*axes, indexing="ij")
    inside = (y / half_depth_mm) ** 2 + (x / half_width_mm) ** 2 < 1
    image = sitk.GetImageFromArray(np.where(inside, 50, -1000).astype(np.int16)[None].repeat(size_zyx[0], 0))
    image.SetSpacing(spacing_xyz)
    image.SetOrigin(origin_xyz)
    return image


LOWER = _body((6, 60, 80), (2.0, 2.0, 3.0), (-70.0, -60.0, 900.0), 70, 50)
UPPER = _body((4, 50, 50), (1.5, 1.5, 6.0), (200.0, -300.0, -40.0), 30, 32)


def test_the_upper_body_goes_on_where_the_lower_one_ends_and_is_as_wide_and_deep():
    both = stack(LOWER, UPPER)
    array = sitk.GetArrayFromImage(both)
    assert both.GetSize() == (80, 60, 6 + 4 * 6 // 3)
    assert (both.GetSpacing(), both.GetOrigin()) == (LOWER.GetSpacing(), LOWER.GetOrigin())
    np.testing.assert_array_equal(array[:6], sitk.GetArrayFromImage(LOWER))
    below, above = (np.argwhere(array[z] > -300) for z in (5, 6))
    assert np.abs(below.min(0) - above.min(0)).max() <= 1 and np.abs(below.max(0) - above.max(0)).max() <= 1
    assert array[6:].max() == 50 and array[6:].min() == -1000


def test_no_liver_is_labelled_in_the_part_above(tmp_path):
    mask = sitk.Cast(LOWER > 0, sitk.sitkUInt8)
    for name, image in (("lower", LOWER), ("mask", mask), ("upper", UPPER)):
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    chest = TrainingCase("chest", "b", tmp_path / "upper.nii.gz", slices=slice(1, None))
    case = TrainingCase("a", "a", tmp_path / "lower.nii.gz", tmp_path / "mask.nii.gz", {1: ORGAN}, above=chest)
    write_raw_dataset(tmp_path / "raw", [case], held_out_patients=[])
    image, labels = (sitk.ReadImage(str(next((tmp_path / "raw" / f"{n}Tr").iterdir()))) for n in ("images", "labels"))
    assert image.GetSize() == labels.GetSize() == (80, 60, 12)
    assert image.GetOrigin() == pytest.approx(labels.GetOrigin())
    labels = sitk.GetArrayFromImage(labels)
    np.testing.assert_array_equal(labels[:6], sitk.GetArrayFromImage(mask))
    assert not labels[6:].any()
