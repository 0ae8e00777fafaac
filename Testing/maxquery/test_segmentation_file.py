"""`segmentation.seg.nrrd` keeps the voxels, their place and what the labels are called."""

import numpy as np
import pytest
import SimpleITK as sitk

from maxquery.labels import Label, Terminology
from maxquery.segmentation_file import write_segmentation
from maxquery.volume import Grid

LIVER = Terminology(("123037004", "SCT", "Anatomical Structure"), ("10200004", "SCT", "Liver"))
LABELS = (
    Label(0, "background", "background", (0, 0, 0)),
    Label(1, "Liver", "organ", (221, 130, 101), LIVER),
    Label(4, "Métastase | ~new\nline^", "tumour", (255, 0, 51)),
    Label(5, "Cyst", "tumour", (0, 255, 0)),
)
OBLIQUE = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
GRID = Grid((6, 5, 4), (0.7031251234567, 0.9, 2.5000001), (-123.4567890123, 7.1, -1000.123456789), OBLIQUE)


@pytest.fixture
def labels():
    labels = np.zeros(GRID.shape_zyx, np.uint8)
    labels[1:3, 1:4, 2:5] = 1
    labels[2, 3, 4] = 4
    return labels


@pytest.fixture
def image(labels, tmp_path):
    write_segmentation(tmp_path / "s.seg.nrrd", labels, GRID, LABELS)
    return sitk.ReadImage(str(tmp_path / "s.seg.nrrd"))


def fields(image: sitk.Image, number: int) -> dict[str, str]:
    start = f"Segment{number}_"
    return {
        key.removeprefix(start): image.GetMetaData(key)
        for key in image.GetMetaDataKeys()
        if key.startswith(start)
    }


def test_voxels_and_an_oblique_place_come_back_exactly(image, labels):
    assert np.array_equal(sitk.GetArrayFromImage(image), labels)
    assert np.allclose(image.GetSpacing(), GRID.spacing_xyz_mm, rtol=0, atol=1e-12)
    assert np.allclose(image.GetOrigin(), GRID.origin_lps_mm, rtol=0, atol=1e-12)
    assert np.allclose(image.GetDirection(), OBLIQUE.ravel(), rtol=0, atol=1e-12)


def test_every_label_but_the_background_is_a_segment(image):
    assert [fields(image, number)["LabelValue"] for number in range(3)] == ["1", "4", "5"]
    assert fields(image, 3) == {}


def test_a_segment_says_its_name_colour_extent_and_terminology(image):
    liver = fields(image, 0)
    assert (liver["Name"], liver["Layer"]) == ("Liver", "0")
    assert np.allclose(np.array(liver["Color"].split(), float) * 255, (221, 130, 101), atol=0.01)
    assert liver["Extent"] == "2 4 1 3 1 2"
    assert "~SCT^123037004^Anatomical Structure~SCT^10200004^Liver~" in liver["Tags"]


def test_a_label_without_voxels_is_an_empty_segment(image):
    assert fields(image, 2)["Extent"] == "0 -1 0 -1 0 -1"


def test_a_name_cannot_break_the_header(image):
    assert fields(image, 1)["Name"] == "Métastase new line"
