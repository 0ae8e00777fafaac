"""Scans that stop where the liver does, continued by another patient's, and copies of them with lesions."""

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from maxquery_training.dataset import TrainingCase, write_raw_dataset
from maxquery_training.label_scheme import ORGAN
from maxquery_training.planting import UNKNOWN_TUMOUR
from maxquery_training.stacking import stack

from .phantoms import training_case


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
OTHER = _body((4, 50, 50), (1.5, 1.5, 6.0), (200.0, -300.0, -40.0), 30, 32)


@pytest.mark.parametrize("side", ["above", "below"])
def test_the_other_body_goes_on_where_the_first_ends_and_is_as_wide_and_deep(side):
    both = stack(LOWER, OTHER, side)
    array = sitk.GetArrayFromImage(both)
    start = 0 if side == "above" else 8
    assert both.GetSize() == (80, 60, 6 + 4 * 6 // 3)
    assert both.GetSpacing() == LOWER.GetSpacing()
    assert both.TransformIndexToPhysicalPoint((0, 0, start)) == pytest.approx(LOWER.GetOrigin())
    np.testing.assert_array_equal(array[start : start + 6], sitk.GetArrayFromImage(LOWER))
    last, first = (5, 6) if side == "above" else (8, 7)
    own, others = (np.argwhere(array[z] > -300) for z in (last, first))
    assert np.abs(own.min(0) - others.min(0)).max() <= 1 and np.abs(own.max(0) - others.max(0)).max() <= 1
    rest = np.delete(array, range(start, start + 6), axis=0)
    assert rest.max() == 50 and rest.min() == -1000


def test_no_liver_is_labelled_in_what_continues_a_scan(tmp_path):
    mask = sitk.Cast(LOWER > 0, sitk.sitkUInt8)
    for name, image in (("lower", LOWER), ("mask", mask), ("other", OTHER)):
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    beyond = TrainingCase("beyond", "b", tmp_path / "other.nii.gz", slices=slice(1, None))
    case = TrainingCase(
        "a", "a", tmp_path / "lower.nii.gz", tmp_path / "mask.nii.gz", {1: ORGAN}, above=beyond, below=beyond
    )
    write_raw_dataset(tmp_path / "raw", [case], [], spacing_zyx_mm=LOWER.GetSpacing()[::-1])
    image, labels = (sitk.ReadImage(str(next((tmp_path / "raw" / f"{n}Tr").iterdir()))) for n in ("images", "labels"))
    assert image.GetSize() == labels.GetSize() == (80, 60, 18)
    labels = sitk.GetArrayFromImage(labels)
    np.testing.assert_array_equal(labels[6:12], sitk.GetArrayFromImage(mask))
    assert not labels[:6].any() and not labels[12:].any()


def test_copies_bear_lesions_of_their_own_and_stay_with_their_patient(tmp_path):
    case = replace(training_case(tmp_path, "a", 1), copies=4)
    write_raw_dataset(tmp_path / "raw", [case], ["a"], spacing_zyx_mm=(4.0, 3.0, 3.0))
    files = sorted((tmp_path / "raw" / "labelsTr").iterdir())
    masks = [sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in files]
    assert len(masks) == 4 and max(mask[mask < UNKNOWN_TUMOUR].max() for mask in masks) > ORGAN
    assert not (masks[0] == masks[1]).all()
    split = json.loads((tmp_path / "raw/cases.json").read_text())
    assert list(split["val"]) == case.names and set(split["patients"].values()) == {"a"}
