"""The real panel, driven in Qt: from the button to the result, with the real engine in a child process."""

import gc
import json
import sys
import time
from importlib.metadata import version

import numpy as np
import pytest
import slicer
import vtk

pytest.importorskip("PySide6.QtWidgets", reason="needs Qt and its system libraries", exc_type=ImportError)

from MaxQuerySegmentationLib.ct_input import slice_centre
from MaxQuerySegmentationLib.result_nodes import first_ct, load_result, remove_result, results_in

from . import host

findings_panel = inspector_panel = None  # they need the stand-ins, which `panel` makes


@pytest.fixture
def panel(scene, ct_node, tiny_model, monkeypatch, tmp_path):
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    module = host.load_module(tmp_path)
    installed = {str(tiny_model): module.InstalledModel("An untrained model. Version 0.", ("venous",))}
    monkeypatch.setattr(module, "installed_models", lambda: installed)
    monkeypatch.setattr(module.shutil, "which", lambda name: sys.executable)  # PythonSlicer
    global findings_panel, inspector_panel
    findings_panel = sys.modules["MaxQuerySegmentationLib.findings_panel"]
    inspector_panel = sys.modules["MaxQuerySegmentationLib.inspector_panel"]
    widget = module.MaxQuerySegmentationWidget()
    widget.setup()
    widget._parameters.model = str(tiny_model)
    widget._parameters.device = "cpu"
    yield widget
    widget.cleanup()


def wait(widget, condition, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        host.application().processEvents()
        time.sleep(0.01)
    assert condition()


def run(widget) -> None:
    widget.ui.segmentButton.click()
    wait(widget, lambda: widget._run is None)


def test_a_first_visitor_sees_what_is_missing(panel):
    panel._parameters.ct = None
    assert not panel.ui.segmentButton.isEnabled()
    assert panel.ui.hintLabel.text() == panel.ui.segmentButton.toolTip() == "Choose the venous CT."


def test_a_ct_that_comes_later_is_chosen_and_a_result_never(panel, ct_node, result):
    slicer.mrmlScene.RemoveNode(ct_node)
    panel._parameters.ct = None
    host.application().processEvents()
    assert panel._parameters.ct is None
    later = slicer.util.addVolumeFromArray(np.zeros((4, 5, 6), np.int16))
    host.application().processEvents()
    assert panel._parameters.ct is later


def test_one_click_brings_the_result_into_the_scene_and_the_panel(panel, ct_node, tmp_path):
    assert panel.ui.segmentButton.isEnabled() and "Version 0" in panel.ui.modelLabel.text()
    assert panel.ui.resultFrame.isHidden()
    run(panel)
    assert panel.ui.errorFrame.isHidden(), panel.ui.errorLabel.text()
    assert not panel.ui.resultFrame.isHidden()
    assert panel.result.shown.ct is ct_node and "ml" in panel.ui.scoreLabel.text()
    assert len(panel.result.findings.rows()) == 1 + len(panel.result.shown.report["findings"])
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("maxquery-")], "the run's files are gone"


def test_a_further_phase_is_asked_for_only_if_the_model_wants_it_and_guessed_from_its_name(panel, ct_node):
    assert panel.inputs() == [ct_node]
    array = slicer.util.arrayFromVolume(ct_node)
    late = slicer.util.addVolumeFromArray(array, name="liver ven 3mm")
    early = slicer.util.addVolumeFromArray(array, name="Arterial")
    two = panel.models[panel._parameters.model].__class__("Of two phases.", ("venous", "arterial"))
    panel.models["two"] = two
    panel._parameters.model = "two"
    assert panel.inputs() == [ct_node, early]
    assert "not lie on the same grid" in panel.ui.hintLabel.text()
    (_label, selector), = panel.phases._rows
    selector.setCurrentNode(late)
    assert panel.inputs() == [ct_node, late]
    panel._parameters.model = next(iter(panel.models))
    assert panel.inputs() == [ct_node]


def test_a_scenes_model_that_is_not_installed_is_said_and_another_can_be_chosen(panel):
    (installed,) = panel.models
    panel._parameters.model = "a colleague's"
    panel.enter()  # as once the scene has been read
    assert panel.ui.modelSelector.currentText() == "a colleague's" and not panel.ui.segmentButton.isEnabled()
    assert panel.ui.hintLabel.text().startswith("No model of this name is installed here")
    panel.ui.modelSelector.setCurrentText(installed)
    assert panel._parameters.model == installed and panel.ui.segmentButton.isEnabled()


def test_a_model_that_was_trained_meanwhile_is_offered(panel):
    panel.models["trained since"] = panel.models[panel._parameters.model]  # what is installed from now on
    panel.exit()
    panel.enter()
    assert panel.ui.modelSelector.findText("trained since") >= 0


def test_only_the_region_is_segmented_if_there_is_one(panel, ct_node):
    region = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    panel.ui.cropSelector.nodeAddedByUser.emit(region)
    panel._parameters.cropTo = region
    region.SetSizeWorld(40, 40, 40)
    run(panel)
    assert panel.result.shown.raw.GetImageData().GetDimensions() == (20, 20, 10)
    centre = list(region.GetCenterWorld())
    region.SetCenterWorld(1000, 0, 0)
    assert not panel.ui.segmentButton.isEnabled()
    assert panel.ui.hintLabel.text() == "The region R lies outside the CT."
    region.SetCenterWorld(centre)
    assert panel.ui.segmentButton.isEnabled()
    panel._parameters.cropTo = None
    region.SetCenterWorld(1000, 0, 0)
    assert panel.ui.segmentButton.isEnabled()


def test_the_engines_files_are_kept_where_a_person_wants_them(panel, tmp_path):
    panel.ui.keptFolder.currentPath = str(tmp_path)
    run(panel)
    assert (tmp_path / "MaxQuery Venous" / "report.json").exists()
    (tmp_path / "MaxQuery Venous (2)").mkdir()  # of another patient, whose CT has the same name
    run(panel)
    assert (tmp_path / "MaxQuery Venous (2) (2)" / "report.json").exists()


def test_a_second_run_replaces_the_first_if_a_person_wants_it(panel):
    run(panel)
    run(panel)
    assert len(panel_results()) == 2
    panel.ui.replaceCheck.setChecked(True)
    run(panel)
    assert panel_results() == [panel.result.shown.name]


def panel_results() -> list[str]:
    return [result.name for result in results_in(slicer.mrmlScene)]


def test_another_python_is_remembered_and_checked(panel):
    panel.ui.pythonPath.currentPath = sys.executable
    assert panel.ui.pythonLabel.text().endswith("is installed there.")
    assert slicer.app.userSettings().value("MaxQuery/Python") == sys.executable
    panel.ui.pythonPath.currentPath = ""
    assert panel.ui.pythonLabel.text() == "The engine runs in Slicer's own Python."


def test_packages_are_asked_for_when_the_button_is_pressed_and_not_before(panel):
    assert slicer.packaging.asked == []
    run(panel)
    ((packages, constraints),) = slicer.packaging.asked
    assert "safetensors>=0.4" in packages and not any("torch" in each.split("#")[0] for each in packages)
    assert {f"{name}=={version(name)}" for name in ("numpy", "SimpleITK", "torch")} <= set(constraints), "they stay"


def test_what_the_first_run_will_install_is_said_before(panel, monkeypatch):
    assert panel.ui.hintLabel.isHidden()
    monkeypatch.setattr(slicer.packaging, "pip_check", lambda requirement: "safetensors" not in requirement)
    panel.tellOfFirstRun()
    assert panel.ui.hintLabel.text() == (
        "The first run asks, and then installs in Slicer: safetensors>=0.4. About 50 MB on disk."
    )
    panel.ui.pythonPath.currentPath = sys.executable  # the engine of another Python needs nothing here
    assert panel.ui.hintLabel.isHidden()


def test_the_range_moves_heatmap_and_ood_segment(panel):
    run(panel)
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
    wait(panel, lambda: surface() is not None)
    small = surface().GetBounds()
    panel.ui.heatRange.setValues(90.0, 100.0)
    wait(panel, lambda: surface() is not None)
    assert surface().GetBounds()[1] > small[1]
    panel.ui.surfacesCheck.setChecked(False)
    wait(panel, lambda: not segments.ContainsRepresentation("Closed surface"))


def test_another_unit_keeps_the_threshold_where_it_is(panel):
    run(panel)
    panel.ui.heatRange.setValues(97.0, 100.0)
    before = panel.result.heatmap.ood.volume_ml()
    for units in ("raw", "minmax", "percentile"):
        panel.ui.unitsSelector.setCurrentText(units)
        assert panel.result.heatmap.heatmap.volume.GetDisplayNode().GetLowerThreshold() == panel._parameters.threshold
        assert panel.result.heatmap.ood.volume_ml() == pytest.approx(before, rel=0.02)
    assert panel._parameters.threshold == pytest.approx(97.0, abs=0.1)


def test_a_failure_is_said_in_the_engines_words(panel):
    panel.models["removed"] = panel.models[panel._parameters.model]
    panel._parameters.model = "removed"
    run(panel)
    assert panel.ui.errorLabel.text().startswith("No bundle is called 'removed'")
    assert panel.ui.segmentButton.isEnabled() and panel.ui.progressFrame.isHidden()


def test_cancel_leaves_scene_and_disk_as_they_were(panel, tmp_path):
    before = slicer.mrmlScene.GetNumberOfNodes()
    panel.ui.segmentButton.click()
    assert not panel.ui.segmentButton.isEnabled()
    panel.ui.cancelButton.click()
    start = time.monotonic()
    wait(panel, lambda: panel._run is None)
    assert time.monotonic() - start < 2
    assert slicer.mrmlScene.GetNumberOfNodes() == before and panel.ui.errorFrame.isHidden()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("maxquery-")]


def test_a_ct_deleted_during_the_run_is_said(panel, ct_node):
    panel.ui.segmentButton.click()
    slicer.mrmlScene.RemoveNode(ct_node)
    wait(panel, lambda: panel._run is None)
    assert "deleted during the run" in panel.ui.errorLabel.text()


def test_closing_the_scene_ends_the_run(panel):
    panel.ui.segmentButton.click()
    process = panel._run._child._process
    slicer.mrmlScene.Clear(0)
    assert panel._run is None and process.poll() is not None


def test_reloading_the_module_or_quitting_ends_the_run(panel, tmp_path):
    panel.ui.segmentButton.click()
    process = panel._run._child._process
    panel.cleanup()  # what Slicer calls for both
    assert process.poll() is not None
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("maxquery-")]


def test_a_ct_that_is_moved_during_the_run_takes_its_result_along(panel, ct_node):
    panel.ui.segmentButton.click()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    ct_node.SetAndObserveTransformNodeID(transform.GetID())
    wait(panel, lambda: panel._run is None)
    assert panel.result.shown.segmentation.GetParentTransformNode() is transform


@pytest.fixture
def with_result(panel, result):
    panel.showResult()
    return panel


def test_a_click_on_a_finding_brings_every_view_there(with_result):
    table = with_result.ui.findingsTable
    table.sortItems(findings_panel.VOLUME)  # the smaller one first
    table.cellClicked.emit(0, findings_panel.TYPE)
    assert table.item(0, findings_panel.TYPE).text() == "2 Cyst"
    views = [slicer.mrmlScene.GetNodeByID(f"vtkMRMLSliceNode{name}") for name in ("Yellow", "Green", "Red")]
    for view in views:
        width, height, _depth = view.GetDimensions()
        middle = view.GetXYToRAS().MultiplyPoint([width / 2, height / 2, 0.0, 1.0])[:3]
        assert middle == pytest.approx([2.0, -4.0, 54.0])


def test_here_is_the_middle_of_the_axial_view_wherever_it_was_panned_to(panel, ct_node):
    view = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    before = slice_centre(ct_node)
    view.SetSliceOrigin(20.0, 30.0, 0.0)  # as a drag with the middle button does; to the patient's left and front
    assert slice_centre(ct_node) == pytest.approx(np.add(before, [-20.0, 30.0, 0.0]))


def test_ticks_and_comments_are_kept_with_the_case(with_result):
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


def test_a_querys_name_is_shown_wherever_it_appears(with_result):
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
    run(panel)
    assert not panel.ui.pictureButton.isEnabled()
    panel.ui.responsesButton.click()
    wait(panel, lambda: panel._run is None)
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
    run(panel)
    panel.ui.responsesButton.click()
    panel._parameters.ct = slicer.util.addVolumeFromArray(np.zeros((4, 5, 6), np.int16), name="other patient")
    wait(panel, lambda: panel._run is None)
    assert panel.result.inspector.answers.responses is None and "MaxQuery Venous" in panel.ui.inspectorLabel.text()


def test_answers_of_a_network_that_was_trained_again_are_not_taken_for_the_old_ones(panel):
    run(panel)
    report = panel.result.shown.report
    report["bundle"]["weights_sha256"] = 64 * "0"
    panel.result.shown.provenance.SetText(json.dumps(report))
    panel.ui.responsesButton.click()
    wait(panel, lambda: panel._run is None)
    assert panel.result.inspector.answers.responses is None and "another network" in panel.ui.inspectorLabel.text()


def test_a_response_is_no_ct(panel, ct_node):
    run(panel)
    panel.ui.responsesButton.click()
    wait(panel, lambda: panel._run is None)
    assert panel.result.inspector.answers.responses.volume.GetImageData() is None
    panel.ui.responseSelector.setCurrentText("tumour")
    assert panel.result.inspector.answers.responses.volume.GetImageData() is not None
    slicer.mrmlScene.RemoveNode(ct_node)
    assert first_ct(slicer.mrmlScene) is None


def test_two_cases_of_one_network_are_compared_and_of_two_networks_not(with_result, case_files):
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


def test_notes_that_cannot_be_understood_are_put_aside_and_the_result_is_shown(with_result):
    with_result.ui.queriesTable.item(3, inspector_panel.NAME).setText("rim")
    file = with_result.result.inspector.notes.file
    file.write_text('{"9": {"name": "x", "colour": [0, 0, 0], "note": ""}}')
    with_result.result.show(with_result.result.shown, with_result._parameters)
    assert "there is no query 9" in with_result.ui.inspectorLabel.text()
    assert '"9"' in file.with_suffix(".unreadable").read_text() and not file.exists()
    assert len(with_result.result.findings.rows()) == 3


def test_a_result_lives_on_when_a_person_deletes_one_of_its_segments(with_result, capsys):
    segments = with_result.result.shown.segmentation.GetSegmentation()
    segments.RemoveSegment(with_result.result.shown.organ_segment)
    with_result._parameters.region = "everywhere"
    with_result._parameters.region = "organ"
    with_result.result.show(with_result.result.shown, with_result._parameters)
    assert len(with_result.result.findings.rows()) == 3
    assert "Traceback" not in capsys.readouterr().err


def test_what_needs_a_result_says_so_until_there_is_one(panel):
    assert not panel.ui.responsesButton.isEnabled() and not panel.ui.exportNotesButton.isEnabled()
    assert panel.ui.responsesButton.toolTip() == "There is no result to ask about: segment a CT first."
    run(panel)
    assert panel.ui.responsesButton.isEnabled() and panel.ui.exportNotesButton.isEnabled()
    slicer.mrmlScene.RemoveNode(panel.result.shown.ct)
    panel.onParametersModified()
    assert panel.ui.responsesButton.toolTip() == "The CT of this result was deleted."


def test_a_run_that_ends_while_another_module_is_open_is_there_on_return(panel, capsys):
    panel.ui.segmentButton.click()
    panel.exit()
    wait(panel, lambda: panel._run is None)
    assert panel.ui.errorFrame.isHidden(), panel.ui.errorLabel.text()
    panel.enter()
    assert panel.result.shown is not None and panel.result.heatmap.heatmap is not None
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


def test_an_earlier_result_of_the_same_ct_can_be_shown_again(with_result, case_files, ct_node):
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


def test_queries_of_an_earlier_result_answer_for_it(panel):
    run(panel)
    run(panel)
    panel.ui.resultSelector.setCurrentIndex(1)
    panel.ui.responsesButton.click()
    wait(panel, lambda: panel._run is None)
    assert panel.result.shown.name == "MaxQuery Venous" and panel.result.inspector.answers.responses is not None


@pytest.mark.parametrize("part", ["segmentation", "anomaly", "raw", "clusters", "findings", "points", "provenance"])
def test_a_result_that_lost_a_part_leaves_the_panel(with_result, part, capsys):
    with_result.ui.clustersCheck.setChecked(True)
    slicer.mrmlScene.RemoveNode(getattr(with_result.result.shown, part))
    wait(with_result, lambda: with_result.result.shown is None)
    assert with_result.ui.resultFrame.isHidden()
    assert "Traceback" not in capsys.readouterr().err


def test_nothing_goes_on_after_the_module_was_reloaded(panel):
    panel.ui.segmentButton.click()
    panel.cleanup()
    assert not panel.timer.isActive() and not panel._soon.isActive() and not panel.result.heatmap._resting.isActive()


def test_a_picture_that_cannot_be_drawn_is_said(panel, monkeypatch):
    def declined(*_, **__):
        raise RuntimeError("User declined package installation")

    monkeypatch.setattr(slicer.packaging, "pip_ensure", declined)
    monkeypatch.setattr(sys.modules["qt"].QFileDialog, "getSaveFileName", lambda *_: "queries.png")
    panel.result.inspector.answers._picture()
    assert "declined" in panel.ui.inspectorLabel.text()


def test_a_result_that_a_person_removes_leaves_the_panel(with_result, capsys):
    remove_result(slicer.mrmlScene, with_result.result.shown)
    wait(with_result, lambda: with_result.result.shown is None)
    assert with_result.ui.resultFrame.isHidden()
    assert "Traceback" not in capsys.readouterr().err


def test_closing_the_scene_empties_the_panel(with_result, capsys):
    slicer.mrmlScene.Clear(0)
    assert with_result.result.shown is None and with_result.ui.resultFrame.isHidden()
    assert "Traceback" not in capsys.readouterr().err


def test_a_closed_case_leaves_the_memory(panel):
    run(panel)
    panel.ui.responsesButton.click()
    wait(panel, lambda: panel._run is None)
    voxels = vtk.vtkWeakReference()
    voxels.Set(panel.result.shown.raw.GetImageData())
    slicer.mrmlScene.Clear(0)
    gc.collect()
    assert voxels.Get() is None
