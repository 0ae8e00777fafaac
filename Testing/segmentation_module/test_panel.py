"""The real panel, driven in Qt: from the button to the result, with the real engine in a child process."""

import sys
import time

import pytest
import slicer

pytest.importorskip("PySide6.QtWidgets", reason="needs Qt and its system libraries", exc_type=ImportError)

from . import host


@pytest.fixture
def panel(scene, ct_node, tiny_model, monkeypatch, tmp_path):
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    module = host.load_module(tmp_path)
    tiny = module.InstalledModel("An untrained model. Version 0.", ("venous",))
    monkeypatch.setattr(module, "installed_models", lambda: {str(tiny_model): tiny})
    monkeypatch.setattr(module.shutil, "which", lambda name: sys.executable)  # PythonSlicer
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


def test_one_click_brings_the_result_into_the_scene_and_the_panel(panel, ct_node, tmp_path):
    assert panel.ui.segmentButton.isEnabled() and "Version 0" in panel.ui.modelLabel.text()
    assert panel.ui.resultFrame.isHidden()
    run(panel)
    assert panel.ui.errorFrame.isHidden(), panel.ui.errorLabel.text()
    assert not panel.ui.resultFrame.isHidden()
    assert panel._result.ct is ct_node and "ml" in panel.ui.scoreLabel.text()
    assert panel.ui.findingsTable.rowCount() == len(panel._result.report["findings"])
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("maxquery-")], "the run's files are gone"


def test_packages_are_asked_for_when_the_button_is_pressed_and_not_before(panel):
    assert slicer.packaging.asked == []
    run(panel)
    (packages,) = slicer.packaging.asked
    assert "safetensors>=0.4" in packages and not any("torch" in each.split("#")[0] for each in packages)


def test_the_range_moves_heatmap_and_ood_segment(panel):
    run(panel)
    volumes = []
    for threshold in (90.0, 99.9):
        panel.ui.heatRange.setValues(threshold, 100.0)
        assert panel._result.anomaly.GetDisplayNode().GetLowerThreshold() == threshold
        volumes.append(panel.heatmap.ood.volume_ml())
    assert volumes[0] >= volumes[1]
    panel.ui.heatmapCheck.setChecked(False)
    layers = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    assert layers.GetForegroundVolumeID() is None


def test_another_unit_keeps_the_threshold_where_it_is(panel):
    run(panel)
    panel.ui.heatRange.setValues(97.0, 100.0)
    before = panel.heatmap.ood.volume_ml()
    for units in ("raw", "minmax", "percentile"):
        panel.ui.unitsSelector.setCurrentText(units)
        assert panel.heatmap.heatmap.volume.GetDisplayNode().GetLowerThreshold() == panel._parameters.threshold
        assert panel.heatmap.ood.volume_ml() == pytest.approx(before, rel=0.02)
    assert panel._parameters.threshold == pytest.approx(97.0, abs=0.1)


def test_a_failure_is_said_in_the_engines_words(panel):
    panel._parameters.model = "no-such-model"
    run(panel)
    assert panel.ui.errorLabel.text().startswith("No bundle is called 'no-such-model'")
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
