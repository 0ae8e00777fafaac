"""A run's files become nodes in one folder, and are found again after the scene was saved."""

import shutil

import numpy as np
import pytest
import slicer
import vtk

from MaxQuerySegmentationLib.result_loading import load_result
from MaxQuerySegmentationLib.result_nodes import new_name, remove_result, results_in

SAID = '{"0": {"comment": "5\'\' or 6\\", \u00fcber; 50 % of \\"it\\"\\tseen:\\nask for MR"}}'


def hierarchy_of(scene):
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


def test_everything_of_a_run_lies_in_one_folder_beside_the_ct(scene, result):
    hierarchy = hierarchy_of(scene)
    folder = hierarchy.GetItemByName("MaxQuery Venous")
    nodes = (
        result.segmentation, result.anomaly, result.raw, result.clusters, result.findings, result.points,
        result.provenance,
    )  # fmt: skip
    assert all(hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == folder for node in nodes)
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(result.ct)) == hierarchy.GetItemParent(folder)


def test_the_anomaly_lies_on_the_ct_voxel_by_voxel(result, case_files):
    np.testing.assert_allclose(slicer.util.arrayFromVolume(result.anomaly), case_files.percentile, atol=1e-4)
    matrices = [vtk.vtkMatrix4x4() for _ in "ab"]
    for node, matrix in zip((result.anomaly, result.ct), matrices, strict=True):
        node.GetIJKToRASMatrix(matrix)
    for row in range(4):
        for column in range(4):
            assert matrices[0].GetElement(row, column) == pytest.approx(matrices[1].GetElement(row, column), abs=1e-6)


def test_segments_are_named_and_drawn_as_outlines(result):
    segments = result.segmentation.GetSegmentation()
    assert [segments.GetNthSegment(n).GetName() for n in range(2)] == ["liver", "Cyst"]
    assert not result.segmentation.GetDisplayNode().GetVisibility2DFill()


def test_findings_are_a_locked_table_and_locked_points(result):
    assert result.findings.GetNumberOfRows() == 2 and result.findings.GetCellText(0, 1) == "OOD region"
    assert result.points.GetLocked() and result.points.GetFixedNumberOfControlPoints()
    assert result.points.GetNthControlPointLabel(1) == "2"
    np.testing.assert_allclose(result.points.GetNthControlPointPosition(0), (0.0, -6.0, 50.0))


def test_results_follow_a_transform_of_the_ct(scene, case_files, ct_node):
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    ct_node.SetAndObserveTransformNodeID(transform.GetID())
    result = load_result(scene, case_files.folder, [ct_node], "moved", "test")
    moved = (result.anomaly, result.raw, result.clusters, result.segmentation, result.points)
    assert {node.GetTransformNodeID() for node in moved} == {transform.GetID()}


def test_a_second_run_gets_a_name_of_its_own_and_either_can_be_removed(scene, case_files, result):
    name = new_name(scene, result.ct)
    assert name == "MaxQuery Venous (2)"
    second = load_result(scene, case_files.folder, [result.ct], name, "test")
    assert [each.name for each in results_in(scene)] == ["MaxQuery Venous", name]
    remove_result(scene, second)
    assert hierarchy_of(scene).GetItemByName(name) == 0, "its folder is gone"
    assert [each.name for each in results_in(scene)] == ["MaxQuery Venous"]
    assert scene.GetNodeByID(result.ct.GetID()) is not None


def test_what_a_person_put_into_a_results_folder_or_took_out_of_it_is_left_alone(scene, result):
    hierarchy = hierarchy_of(scene)
    folder, patient = (hierarchy.GetItemByName(name) for name in ("MaxQuery Venous", "Patient"))
    corrected, below = (scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name) for name in ("corrected", "below"))
    hierarchy.CreateItem(folder, corrected)
    hierarchy.CreateItem(hierarchy.GetItemByDataNode(result.segmentation), below)
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(result.provenance), patient)
    remove_result(scene, result)
    assert results_in(scene) == []
    assert all(hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == folder for node in (corrected, below))
    assert hierarchy.GetItemByName("Patient") == patient and result.ct.GetScene() is scene


def test_a_removed_result_leaves_no_node_behind(scene, case_files, ct_node):
    def nodes() -> set[str]:
        return {scene.GetNthNode(number).GetID() for number in range(scene.GetNumberOfNodes())}

    before = nodes()
    remove_result(scene, load_result(scene, case_files.folder, [ct_node], "first", "test"))
    assert nodes() == before


def test_results_of_one_name_stay_apart(scene, case_files, ct_node, result):
    """As when a scene takes up another one whose CT has the same name."""
    other_ct = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Venous")
    other = load_result(scene, case_files.folder, [other_ct], result.name, "test")
    found = results_in(scene)
    assert [(each.id, each.ct) for each in found] == [(result.id, ct_node), (other.id, other_ct)]
    scene.RemoveNode(other.anomaly)
    assert not other.is_whole and [each.id for each in results_in(scene)] == [result.id]


def test_a_result_that_cannot_be_read_leaves_the_scene_as_it_was(scene, case_files, ct_node, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(case_files.folder, broken)
    (broken / "segmentation.seg.nrrd").unlink()
    before = scene.GetNumberOfNodes()
    with pytest.raises(OSError, match=r"segmentation\.seg\.nrrd could not be read"):
        load_result(scene, broken, [ct_node], "broken", "test")
    assert results_in(scene) == [] and scene.GetNumberOfNodes() == before


def test_a_result_of_another_version_is_not_taken_up(scene, case_files, ct_node, result, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(case_files.folder, other)
    (other / "report.json").write_text('{"format": 0}', "utf-8")
    before = scene.GetNumberOfNodes()
    with pytest.raises(OSError, match="another version"):
        load_result(scene, other, [ct_node], "other", "test")
    assert scene.GetNumberOfNodes() == before
    result.provenance.SetText('{"format": 0}')  # as in a scene that a later version wrote
    assert results_in(scene) == []


def test_a_saved_scene_brings_its_results_and_what_was_said_of_them_back(scene, result, tmp_path):
    result.provenance.SetAttribute("MaxQuery.Review", SAID)
    assert scene.WriteToMRB(str(tmp_path / "case.mrb"), None)
    loaded = slicer.vtkMRMLScene()
    application = slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(loaded)
    application.SetTemporaryPath(str(tmp_path))
    segmentations = slicer.vtkSlicerSegmentationsModuleLogic()
    segmentations.SetMRMLScene(loaded)
    markups = slicer.vtkSlicerMarkupsLogic()
    markups.SetMRMLApplicationLogic(application)
    markups.SetMRMLScene(loaded)
    data_io, caches = slicer.vtkDataIOManager(), slicer.vtkCacheManager()
    caches.SetRemoteCacheDirectory(str(tmp_path / "cache"))
    data_io.SetCacheManager(caches)
    loaded.SetDataIOManager(data_io)
    loaded.SetCacheManager(caches)
    messages = slicer.vtkMRMLMessageCollection()
    assert loaded.ReadFromMRB(str(tmp_path / "case.mrb"), False, messages), messages.GetAllMessagesAsString()
    (found,) = results_in(loaded)
    assert found.name == "MaxQuery Venous" and found.ct.GetName() == "Venous"
    assert found.report["case_score"]["percentile"] == 97.2
    assert found.provenance.GetAttribute("MaxQuery.Review") == SAID
    np.testing.assert_allclose(
        slicer.util.arrayFromVolume(found.anomaly), slicer.util.arrayFromVolume(result.anomaly), atol=1e-4
    )
