"""What is written plane after plane comes back as one volume, in its place, with its metadata; or there is an error."""

import os

import numpy as np
import pytest
import SimpleITK as sitk

from maxquery.nrrd import write_nrrd
from maxquery.volume import Grid

OBLIQUE = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
GRID = Grid((6, 5, 4), (0.7031251234567, 0.9, 2.5000001), (-123.4567890123, 7.1, -1000.123456789), OBLIQUE)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, ">i2", ">f4"])
def test_planes_come_back_as_a_volume(tmp_path, dtype):
    values = np.random.default_rng(0).uniform(0, 200, GRID.shape_zyx).astype(dtype)
    write_nrrd(tmp_path / "a.nrrd", (plane for plane in values), GRID, {})
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.nrrd")))
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(found, values)


def test_planes_of_a_view_in_another_order_come_back_as_they_look(tmp_path):
    values = np.arange(120, dtype=np.int16).reshape(6, 5, 4).transpose(2, 1, 0)[::-1]
    write_nrrd(tmp_path / "a.nrrd", values, GRID, {})
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.nrrd"))), values)


def test_their_place_comes_back_exactly(tmp_path):
    write_nrrd(tmp_path / "a.nrrd", np.zeros(GRID.shape_zyx, np.uint8), GRID, {})
    image = sitk.ReadImage(str(tmp_path / "a.nrrd"))
    assert np.allclose(image.GetSpacing(), GRID.spacing_xyz_mm, rtol=0, atol=1e-12)
    assert np.allclose(image.GetOrigin(), GRID.origin_lps_mm, rtol=0, atol=1e-12)
    assert np.allclose(image.GetDirection(), OBLIQUE.ravel(), rtol=0, atol=1e-12)


def test_metadata_cannot_break_the_header(tmp_path):
    text = "query index + 1\nsizes: 1 1 1 \\ Ö"
    write_nrrd(tmp_path / "a.nrrd", np.ones(GRID.shape_zyx, np.uint8), GRID, {"units": text})
    image = sitk.ReadImage(str(tmp_path / "a.nrrd"))
    assert (image.GetSize(), image.GetMetaData("units")) == (GRID.size_xyz, text)


def test_a_file_that_cannot_be_made_is_an_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        write_nrrd(tmp_path / "nowhere" / "a.nrrd", np.zeros(GRID.shape_zyx, np.uint8), GRID, {})


@pytest.mark.parametrize("missing_bytes", [1, 3000, 9000])
def test_a_file_without_room_for_its_last_bytes_is_an_error(tmp_path, missing_bytes):
    """A limit on the size of a child process's files stands for the full disk."""
    resource = pytest.importorskip("resource", reason="needs POSIX limits")
    noise = np.random.default_rng(0).random((10, 20, 20), dtype=np.float32)
    grid = Grid((20, 20, 10), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    write_nrrd(tmp_path / "whole.nrrd", noise, grid, {})
    limit = (tmp_path / "whole.nrrd").stat().st_size - missing_bytes
    child = os.fork()
    if child == 0:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            write_nrrd(tmp_path / "cut.nrrd", noise, grid, {})
        except OSError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
