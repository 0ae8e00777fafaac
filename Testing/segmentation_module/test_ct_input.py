"""What can be segmented, what cannot and why, and how it reaches the engine."""

import numpy as np
import pytest
import slicer
import vtk

from maxquery.reading import read_case
from MaxQuerySegmentationLib.ct_input import fit, problem, voxels_in, write_phases


def volume(scene, kind: str = "vtkMRMLScalarVolumeNode", shape=(4, 5, 6)):
    return slicer.util.addVolumeFromArray(np.zeros(shape, np.int16), name="A", nodeClassName=kind)


def test_a_ct_is_fine(ct_node):
    assert problem([ct_node], ["venous"]) is None


def test_what_is_missing_is_named(ct_node):
    assert problem([ct_node, None], ["venous", "arterial"]) == "Choose the arterial CT."


@pytest.mark.parametrize(
    ("kind", "sentence"), [("vtkMRMLLabelMapVolumeNode", "A is a label map, not a CT.")]
)  # fmt: skip
def test_what_is_no_ct_is_said(scene, kind, sentence):
    assert problem([volume(scene, kind)], ["venous"]) == sentence


def test_an_empty_volume_is_said(scene):
    assert problem([scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "B")], ["venous"]) == "B holds no image."


def test_what_a_run_has_made_is_no_ct(result):
    assert problem([result.anomaly], ["venous"]) == "Anomaly, percentile is a result, not a CT."


def test_phases_on_other_grids_are_said(scene):
    phases = [volume(scene), volume(scene, shape=(4, 5, 7))]
    assert problem(phases, ["venous", "arterial"]).startswith("The phases do not lie on the same grid")
    moved = volume(scene)
    moved.SetOrigin(0, 0, 1)
    assert problem([phases[0], moved], ["venous", "arterial"]).startswith("The phases do not lie on the same grid")


def test_phases_that_were_moved_apart_are_said(scene):
    phases = [volume(scene), volume(scene)]
    phases[1].SetAndObserveTransformNodeID(scene.AddNewNodeByClass("vtkMRMLLinearTransformNode").GetID())
    assert problem(phases, ["venous", "arterial"]).startswith("The phases lie under different transforms")
    phases[0].SetAndObserveTransformNodeID(phases[1].GetTransformNodeID())
    assert problem(phases, ["venous", "arterial"]) is None


def test_a_warped_ct_is_refused_and_a_moved_one_is_fine(scene, ct_node):
    ct_node.SetAndObserveTransformNodeID(scene.AddNewNodeByClass("vtkMRMLLinearTransformNode").GetID())
    assert problem([ct_node], ["venous"]) is None
    ct_node.SetAndObserveTransformNodeID(scene.AddNewNodeByClass("vtkMRMLBSplineTransformNode").GetID())
    assert "harden" in problem([ct_node], ["venous"])


def test_the_engine_reads_the_voxels_where_the_node_has_them(ct_node, case_files, tmp_path):
    (path,) = write_phases([ct_node], tmp_path)
    assert ct_node.GetName() not in path.name
    read = read_case([path]).volume
    assert read.grid.same_as(case_files.grid)
    np.testing.assert_array_equal(read.array[0], slicer.util.arrayFromVolume(ct_node))


def test_a_folder_that_cannot_be_written_is_said(ct_node, tmp_path):
    with pytest.raises(OSError, match="could not be written"):
        write_phases([ct_node], tmp_path / "gone")


@pytest.fixture
def region(scene, ct_node):
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    fit(roi, ct_node)
    return roi


def test_a_region_fitted_to_the_ct_holds_all_of_it(ct_node, region):
    assert voxels_in(ct_node, region) == tuple(slice(0, n) for n in slicer.util.arrayFromVolume(ct_node).shape)


def test_only_the_region_reaches_the_engine_and_lies_where_it_lay(scene, ct_node, case_files, region, tmp_path):
    region.SetSizeWorld(60, 56, 64)
    turned = vtk.vtkMatrix4x4()
    turned.SetElement(0, 3, 70.0)  # the CT is moved, and the region with it
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(turned)
    for node in (ct_node, region):
        node.SetAndObserveTransformNodeID(transform.GetID())
    box = voxels_in(ct_node, region)
    (path,) = write_phases([ct_node], tmp_path, region)
    read, whole = read_case([path]).volume, slicer.util.arrayFromVolume(ct_node)
    np.testing.assert_array_equal(read.array[0], whole[box])
    assert read.array[0].shape == (16, 28, 30)  # 64 x 56 x 60 mm
    np.testing.assert_allclose(read.grid.ras_mm((0, 0, 0)), case_files.grid.ras_mm([side.start for side in box]))


def test_a_region_beside_the_ct_is_said(ct_node, region):
    region.SetCenterWorld(1000, 0, 0)
    assert problem([ct_node], ["venous"], region) == "The region R lies outside the CT."
