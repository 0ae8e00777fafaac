"""The real panel's query inspector: names, clusters, and what queries answer in the real engine."""

import json
import sys

import numpy as np
import pytest
import slicer

pytest.importorskip("PySide6.QtWidgets", reason="needs Qt and its system libraries", exc_type=ImportError)

from MaxQuerySegmentationLib.ct_input import first_ct, slice_centre
from MaxQuerySegmentationLib.result_loading import load_result

from . import host


def test_here_is_the_middle_of_the_axial_view_wherever_it_was_panned_to(panel, ct_node):
    view = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    before = slice_centre(ct_node)
    view.SetSliceOrigin(20.0, 30.0, 0.0)  # as a drag with the middle button does; to the patient's left and front
    assert slice_centre(ct_node) == pytest.approx(np.add(before, [-20.0, 30.0, 0.0]))


def test_a_querys_name_is_shown_wherever_it_appears(with_result, findings_panel, inspector_panel):
    table = with_result.ui.queriesTable
    assert [table.item(row, inspector_panel.NAME).text() for row in range(4)] == [
        "background 0", "organ 1", "cyst wall", "tumour 3"
    ]  # fmt: skip
    table.item(3, inspector_panel.NAME).setText("rim")
    with_result.ui.clustersCheck.setChecked(True)
    assert with_result.result.shown.clusters.GetNodeReference("MaxQuery.Colours").GetColorName(4) == "rim"
    assert with_result.result.findings.rows()[1][findings_panel.QUERY] == "3 rim"
    with_result.result.show(with_result.result.shown, with_result._parameters)
    assert table.item(3, inspector_panel.NAME).text() == "rim"


def test_one_query_is_left_when_it_alone_is_wanted(with_result):
    with_result.ui.clustersCheck.setChecked(True)
    with_result.ui.isolateCheck.setChecked(True)
    with_result.ui.queriesTable.selectRow(2)
    colours, colour = with_result.result.shown.clusters.GetNodeReference("MaxQuery.Colours"), [0.0] * 4
    visible = []
    for entry in range(1, 5):
        colours.GetColor(entry, colour)
        visible.append(colour[3])
    assert visible == [0, 0, 1, 0]


def test_every_query_answers_around_the_views_centre_and_the_chart_follows_the_crosshair(panel):
    host.run(panel)
    assert not panel.ui.pictureButton.isEnabled()
    panel.ui.responsesButton.click()
    host.wait(lambda: not panel.run.is_under_way)
    assert panel.ui.errorFrame.isHidden(), panel.ui.errorLabel.text()
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    crosshair.SetCursorPositionRAS(slice_centre(panel.result.shown.ct))
    assert panel.result.inspector.answers.chart.chart.GetTitle().startswith("max R ")
    panel.ui.responseSelector.setCurrentText("tumour")
    layers = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    assert layers.GetForegroundVolumeID() == panel.result.inspector.answers.responses.volume.GetID()
    panel.ui.sizeBox.setValue(60)  # nothing of the heatmap's
    assert layers.GetForegroundVolumeID() == panel.result.inspector.answers.responses.volume.GetID()
    panel.ui.responseSelector.setCurrentIndex(0)
    assert layers.GetForegroundVolumeID() == panel.result.shown.anomaly.GetID()
    panel.ui.responseSelector.setCurrentText("organ")
    panel.ui.heatRange.setValues(95.0, 100.0)
    assert panel.ui.responseSelector.currentIndex() == 0
    assert layers.GetForegroundVolumeID() == panel.result.shown.anomaly.GetID()
    assert panel.ui.pictureButton.isEnabled()


def test_answers_about_one_case_are_never_shown_over_another(panel):
    host.run(panel)
    panel.ui.responsesButton.click()
    panel._parameters.ct = slicer.util.addVolumeFromArray(np.zeros((4, 5, 6), np.int16), name="other patient")
    host.wait(lambda: not panel.run.is_under_way)
    assert panel.result.inspector.answers.responses is None and "MaxQuery Venous" in panel.ui.inspectorLabel.text()


def test_answers_of_a_network_that_was_trained_again_are_not_taken_for_the_old_ones(panel):
    host.run(panel)
    report = panel.result.shown.report
    report["bundle"]["weights_sha256"] = 64 * "0"
    panel.result.shown.provenance.SetText(json.dumps(report))
    panel.ui.responsesButton.click()
    host.wait(lambda: not panel.run.is_under_way)
    assert panel.result.inspector.answers.responses is None and "another network" in panel.ui.inspectorLabel.text()


def test_a_response_is_no_ct(panel, ct_node):
    host.run(panel)
    panel.ui.responsesButton.click()
    host.wait(lambda: not panel.run.is_under_way)
    assert panel.result.inspector.answers.responses.volume.GetImageData() is None
    panel.ui.responseSelector.setCurrentText("tumour")
    assert panel.result.inspector.answers.responses.volume.GetImageData() is not None
    slicer.mrmlScene.RemoveNode(ct_node)
    assert first_ct(slicer.mrmlScene) is None


def test_two_cases_of_one_network_are_compared_and_of_two_networks_not(with_result, case_files, inspector_panel):
    other_ct = slicer.util.addVolumeFromArray(np.zeros((20, 36, 40), np.int16), name="other patient")
    other = load_result(slicer.mrmlScene, case_files.folder, [other_ct], "Other", "test")
    with_result.result.show(with_result.result.shown, with_result._parameters)
    table = with_result.ui.queriesTable
    with_result.ui.compareSelector.setCurrentText("Other")
    assert table.item(1, inspector_panel.OTHER).text() == table.item(1, inspector_panel.VOLUME).text() != ""
    report = other.report
    report["bundle"]["weights_sha256"] = 64 * "0"
    other.provenance.SetText(json.dumps(report))
    with_result.result.show(with_result.result.shown, with_result._parameters)
    with_result.ui.compareSelector.setCurrentText("Other")
    assert table.item(1, inspector_panel.OTHER).text() == ""


def test_notes_that_cannot_be_understood_are_put_aside_and_the_result_is_shown(with_result, inspector_panel):
    with_result.ui.queriesTable.item(3, inspector_panel.NAME).setText("rim")
    file = with_result.result.inspector.notes.file
    file.write_text('{"9": {"name": "x", "colour": [0, 0, 0], "note": ""}}')
    with_result.result.show(with_result.result.shown, with_result._parameters)
    assert "there is no query 9" in with_result.ui.inspectorLabel.text()
    assert '"9"' in file.with_suffix(".unreadable").read_text() and not file.exists()
    assert len(with_result.result.findings.rows()) == 3


def test_what_needs_a_result_says_so_until_there_is_one(panel):
    assert not panel.ui.responsesButton.isEnabled() and not panel.ui.exportNotesButton.isEnabled()
    assert panel.ui.responsesButton.toolTip() == "There is no result to ask about: segment a CT first."
    host.run(panel)
    assert panel.ui.responsesButton.isEnabled() and panel.ui.exportNotesButton.isEnabled()
    slicer.mrmlScene.RemoveNode(panel.result.shown.ct)
    panel.onParametersModified()
    assert panel.ui.responsesButton.toolTip() == "The CT of this result was deleted."


def test_queries_of_an_earlier_result_answer_for_it(panel):
    host.run(panel)
    host.run(panel)
    panel.ui.resultSelector.setCurrentIndex(1)
    panel.ui.responsesButton.click()
    host.wait(lambda: not panel.run.is_under_way)
    assert panel.result.shown.name == "MaxQuery Venous" and panel.result.inspector.answers.responses is not None


def test_a_picture_that_cannot_be_drawn_is_said(panel, monkeypatch):
    def declined(*_, **__):
        raise RuntimeError("User declined package installation")

    monkeypatch.setattr(slicer.packaging, "pip_ensure", declined)
    monkeypatch.setattr(sys.modules["qt"].QFileDialog, "getSaveFileName", lambda *_: "queries.png")
    panel.result.inspector.answers._picture()
    assert "declined" in panel.ui.inspectorLabel.text()
