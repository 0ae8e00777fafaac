"""The real panel with a result on show: its heatmap, its findings, and which result it is."""

import gc

import numpy as np
import pytest
import slicer
import vtk

pytest.importorskip("PySide6.QtWidgets", reason="needs Qt and its system libraries", exc_type=ImportError)

from MaxQuerySegmentationLib.result_loading import load_result
from MaxQuerySegmentationLib.result_nodes import remove_result, results_in

from . import host


def test_the_range_moves_heatmap_and_ood_segment(panel):
    host.run(panel)
    volumes = []
    for threshold in (90.0, 99.9):
        panel.ui.heatRange.setValues(threshold, 100.0)
        assert panel.result.shown.anomaly.GetDisplayNode().GetLowerThreshold() == threshold
        volumes.append(panel.result.heatmap.ood.volume_ml())
    assert volumes[0] >= volumes[1]
    panel.ui.heatmapCheck.setChecked(False)
    layers = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    assert layers.GetForegroundVolumeID() is None


def test_surfaces_are_there_when_asked_for_and_follow_once_the_hand_rests(with_result):
    panel, segments = with_result, with_result.result.shown.segmentation.GetSegmentation()

    def surface():
        return segments.GetSegment("MaxQuery_OOD").GetRepresentation("Closed surface")

    panel.ui.surfacesCheck.setChecked(True)
    host.wait(lambda: surface() is not None)
    small = surface().GetBounds()
    panel.ui.heatRange.setValues(90.0, 100.0)
    host.wait(lambda: surface() is not None)
    assert surface().GetBounds()[1] > small[1]
    panel.ui.surfacesCheck.setChecked(False)
    host.wait(lambda: not segments.ContainsRepresentation("Closed surface"))


def test_another_unit_keeps_the_threshold_where_it_is(panel):
    host.run(panel)
    panel.ui.heatRange.setValues(97.0, 100.0)
    before = panel.result.heatmap.ood.volume_ml()
    for units in ("raw", "minmax", "percentile"):
        panel.ui.unitsSelector.setCurrentText(units)
        assert panel.result.heatmap.heatmap.volume.GetDisplayNode().GetLowerThreshold() == panel._parameters.threshold
        assert panel.result.heatmap.ood.volume_ml() == pytest.approx(before, rel=0.02)
    assert panel._parameters.threshold == pytest.approx(97.0, abs=0.1)


def test_a_click_on_a_finding_brings_every_view_there(with_result, findings_panel):
    table = with_result.ui.findingsTable
    table.sortItems(findings_panel.VOLUME)  # the smaller one first
    table.cellClicked.emit(0, findings_panel.TYPE)
    assert table.item(0, findings_panel.TYPE).text() == "2 Cyst"
    views = [slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceNode{name}") for name in ("Yellow", "Green", "Red")]
    for view in views:
        width, height, _depth = view.GetDimensions()
        middle = view.GetXYToRAS().MultiplyPoint([width / 2, height / 2, 0.0, 1.0])[:3]
        assert middle == pytest.approx([2.0, -4.0, 54.0])


def test_ticks_and_comments_are_kept_with_the_case(with_result, findings_panel):
    table = with_result.ui.findingsTable
    table.item(0, findings_panel.REVIEWED).setCheckState(host.QtCore.Qt.Checked)
    table.item(0, findings_panel.COMMENT).setText('ask for "MR"')
    table.item(1, findings_panel.SHOWN).setCheckState(host.QtCore.Qt.Unchecked)
    assert not with_result.result.shown.points.GetNthControlPointVisibility(1)
    with_result.result.show(with_result.result.shown, with_result._parameters)  # as after a reload
    _, first, second = with_result.result.findings.rows()
    assert (first[findings_panel.REVIEWED], first[findings_panel.COMMENT]) == ("yes", 'ask for "MR"')
    assert (second[findings_panel.SHOWN], second[findings_panel.REVIEWED]) == ("", "")


def test_the_findings_go_to_the_clipboard_and_to_a_file(with_result, tmp_path):
    with_result.ui.copyButton.click()
    lines = host.QtWidgets.QApplication.clipboard().text().splitlines()
    assert len(lines) == 3 and lines[1].split("\t")[1:4] == ["1 OOD region", "yes", "2"]
    with_result.result.findings.save(tmp_path / "findings.csv")
    saved = (tmp_path / "findings.csv").read_text("utf-8-sig").splitlines()
    assert saved[2] == "yes,2 Cyst,,1,12,9,50,2 cyst wall,,"


def test_a_result_lives_on_when_a_person_deletes_one_of_its_segments(with_result, capsys):
    segments = with_result.result.shown.segmentation.GetSegmentation()
    segments.RemoveSegment(with_result.result.shown.organ_segment)
    with_result._parameters.region = "everywhere"
    with_result._parameters.region = "organ"
    with_result.result.show(with_result.result.shown, with_result._parameters)
    assert len(with_result.result.findings.rows()) == 3
    assert "Traceback" not in capsys.readouterr().err


def test_findings_of_another_ct_are_never_shown(with_result, ct_node):
    panel, shown = with_result, with_result.result.shown.name
    other = slicer.util.addVolumeFromArray(np.zeros((4, 5, 6), np.int16), name="other patient")
    panel._parameters.ct = other
    assert panel.result.shown is None and panel.ui.resultFrame.isHidden()
    layers = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    assert layers.GetForegroundVolumeID() is None
    (result,) = results_in(slicer.mrmlScene)
    assert not result.segmentation.GetDisplayVisibility() and not result.points.GetDisplayVisibility()
    panel._parameters.ct = ct_node
    assert result.segmentation.GetDisplayVisibility() and result.points.GetDisplayVisibility()
    assert panel.result.shown.name == shown and not panel.ui.resultFrame.isHidden()


def test_an_earlier_result_of_the_same_ct_can_be_shown_again(with_result, case_files, ct_node, findings_panel):
    table, selector = with_result.ui.findingsTable, with_result.ui.resultSelector
    assert selector.isHidden(), "there is one result"
    table.item(0, findings_panel.COMMENT).setText("of the first")
    load_result(slicer.mrmlScene, case_files.folder, [ct_node], "MaxQuery Venous (2)", "test")
    with_result.result.show(results_in(slicer.mrmlScene)[-1], with_result._parameters)
    assert not selector.isHidden() and selector.currentText() == with_result.result.shown.name == "MaxQuery Venous (2)"
    assert with_result.result.findings.rows()[1][findings_panel.COMMENT] == ""
    selector.setCurrentText("MaxQuery Venous")
    assert with_result.result.shown.name == "MaxQuery Venous"
    assert with_result.result.findings.rows()[1][findings_panel.COMMENT] == "of the first"
    with_result.ui.sizeBox.setValue(60)
    with_result.exit()
    with_result.enter()
    assert with_result.result.shown.name == selector.currentText() == "MaxQuery Venous", "it stays"


@pytest.mark.parametrize("part", ["segmentation", "anomaly", "raw", "clusters", "findings", "points", "provenance"])
def test_a_result_that_lost_a_part_leaves_the_panel(with_result, part, capsys):
    with_result.ui.clustersCheck.setChecked(True)
    slicer.mrmlScene.RemoveNode(getattr(with_result.result.shown, part))
    host.wait(lambda: with_result.result.shown is None)
    assert with_result.ui.resultFrame.isHidden()
    assert "Traceback" not in capsys.readouterr().err


def test_a_result_that_a_person_removes_leaves_the_panel(with_result, capsys):
    remove_result(slicer.mrmlScene, with_result.result.shown)
    host.wait(lambda: with_result.result.shown is None)
    assert with_result.ui.resultFrame.isHidden()
    assert "Traceback" not in capsys.readouterr().err


def test_a_result_outlives_its_ct(with_result, ct_node, capsys):
    with_result._parameters.ct = None  # what Slicer's selector says when its node is about to go
    slicer.mrmlScene.RemoveNode(ct_node)
    host.wait(lambda: with_result.result.shown is not None)
    assert with_result.ui.responsesButton.toolTip() == "The CT of this result was deleted."
    background = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode").GetBackgroundVolumeID()
    with_result.ui.heatRange.setValues(90.0, 100.0)
    assert background == slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode").GetBackgroundVolumeID()
    assert "Traceback" not in capsys.readouterr().err


def test_closing_the_scene_empties_the_panel(with_result, capsys):
    slicer.mrmlScene.Clear(0)
    assert with_result.result.shown is None and with_result.ui.resultFrame.isHidden()
    assert "Traceback" not in capsys.readouterr().err


def test_a_closed_case_leaves_the_memory(panel):
    host.run(panel)
    panel.ui.responsesButton.click()
    host.wait(lambda: not panel.run.is_under_way)
    voxels = vtk.vtkWeakReference()
    voxels.Set(panel.result.shown.raw.GetImageData())
    slicer.mrmlScene.Clear(0)
    gc.collect()
    assert voxels.Get() is None
