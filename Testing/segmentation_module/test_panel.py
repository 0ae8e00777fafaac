"""The real panel, driven in Qt: from the button to the result, with the real engine in a child process."""

import sys
import time
from importlib.metadata import version

import numpy as np
import pytest
import slicer

pytest.importorskip("PySide6.QtWidgets", reason="needs Qt and its system libraries", exc_type=ImportError)

from MaxQuerySegmentationLib.result_nodes import results_in

from . import host


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
    host.run(panel)
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
    _label, selector = panel.phases._rows["arterial"]
    selector.setCurrentNode(late)
    assert panel.inputs() == [ct_node, late]
    panel._parameters.model = next(iter(panel.models))
    assert panel.inputs() == [ct_node] and not panel.phases._rows
    panel._parameters.model = "two"
    assert panel.inputs() == [ct_node, late], "it is remembered, as all that is saved with the scene"
    slicer.mrmlScene.RemoveNode(late)
    panel._parameters.phases = {"arterial": None}  # what Slicer reads from a reference to nothing
    assert panel.inputs() == [ct_node, early]


def test_a_scene_that_is_added_leaves_the_choice_as_it_was(panel, ct_node):
    slicer.util.addVolumeFromArray(np.zeros((4, 5, 6), np.int16), name="another patient")
    chosen = panel._parameters
    slicer.mrmlScene.StartState(slicer.vtkMRMLScene.ImportState)
    assert panel._parameters is None, "what Slicer's selectors say while they are filled anew is not written down"
    slicer.mrmlScene.EndState(slicer.vtkMRMLScene.ImportState)
    assert panel._parameters.ct is ct_node and len(chosen._handlers) == 1


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
    host.run(panel)
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
    host.run(panel)
    assert (tmp_path / "MaxQuery Venous" / "report.json").exists()
    (tmp_path / "MaxQuery Venous (2)").mkdir()  # of another patient, whose CT has the same name
    host.run(panel)
    assert (tmp_path / "MaxQuery Venous (2) (2)" / "report.json").exists()


def test_they_are_kept_when_the_result_cannot_be_shown(panel, ct_node, tmp_path):
    panel.ui.keptFolder.currentPath = str(tmp_path)
    panel.ui.segmentButton.click()
    slicer.mrmlScene.RemoveNode(ct_node)
    host.wait(lambda: not panel.run.is_under_way)
    assert "deleted during the run" in panel.ui.errorLabel.text()
    assert (tmp_path / "MaxQuery Venous" / "report.json").is_file()


def test_a_second_run_replaces_the_first_if_a_person_wants_it(panel):
    host.run(panel)
    host.run(panel)
    assert len(panel_results()) == 2
    panel.ui.replaceCheck.setChecked(True)
    host.run(panel)
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
    host.run(panel)
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


def test_a_failure_is_said_in_the_engines_words(panel):
    panel.models["removed"] = panel.models[panel._parameters.model]
    panel._parameters.model = "removed"
    host.run(panel)
    assert panel.ui.errorLabel.text().startswith("No bundle is called 'removed'")
    assert panel.ui.segmentButton.isEnabled() and panel.ui.progressFrame.isHidden()


def test_cancel_leaves_scene_and_disk_as_they_were(panel, tmp_path):
    before = slicer.mrmlScene.GetNumberOfNodes()
    panel.ui.segmentButton.click()
    assert not panel.ui.segmentButton.isEnabled()
    panel.ui.cancelButton.click()
    start = time.monotonic()
    host.wait(lambda: not panel.run.is_under_way)
    assert time.monotonic() - start < 2
    assert slicer.mrmlScene.GetNumberOfNodes() == before and panel.ui.errorFrame.isHidden()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("maxquery-")]


def test_a_ct_deleted_during_the_run_is_said(panel, ct_node):
    panel.ui.segmentButton.click()
    slicer.mrmlScene.RemoveNode(ct_node)
    host.wait(lambda: not panel.run.is_under_way)
    assert "deleted during the run" in panel.ui.errorLabel.text()


def test_closing_the_scene_ends_the_run(panel):
    panel.ui.segmentButton.click()
    process = panel.run._run._child._process
    slicer.mrmlScene.Clear(0)
    assert not panel.run.is_under_way and process.poll() is not None


def test_reloading_the_module_or_quitting_ends_the_run(panel, tmp_path):
    panel.ui.segmentButton.click()
    process = panel.run._run._child._process
    panel.cleanup()  # what Slicer calls for both
    assert process.poll() is not None
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("maxquery-")]


def test_a_ct_that_is_moved_during_the_run_takes_its_result_along(panel, ct_node):
    panel.ui.segmentButton.click()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    ct_node.SetAndObserveTransformNodeID(transform.GetID())
    host.wait(lambda: not panel.run.is_under_way)
    assert panel.result.shown.segmentation.GetParentTransformNode() is transform


def test_a_ct_whose_own_place_changed_during_the_run_gets_no_result_in_the_old_one(panel, ct_node):
    panel.ui.segmentButton.click()
    ct_node.SetOrigin(10.0, 0.0, 0.0)  # as 'Center Volume' does, or a transform that is hardened
    host.wait(lambda: not panel.run.is_under_way)
    assert "centred or hardened during the run" in panel.ui.errorLabel.text()
    assert not results_in(slicer.mrmlScene)


def test_a_run_that_ends_while_another_module_is_open_is_there_on_return(panel, capsys):
    panel.ui.segmentButton.click()
    panel.exit()
    host.wait(lambda: not panel.run.is_under_way)
    assert panel.ui.errorFrame.isHidden(), panel.ui.errorLabel.text()
    panel.enter()
    assert panel.result.shown is not None and panel.result.heatmap.heatmap is not None
    assert "Traceback" not in capsys.readouterr().err


def test_nothing_goes_on_after_the_module_was_reloaded(panel):
    panel.ui.segmentButton.click()
    panel.cleanup()
    timers = panel.run._timer, panel._soon, panel.result.heatmap._resting
    assert not any(timer.isActive() for timer in timers)
