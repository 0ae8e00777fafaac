"""3D Slicer module: a CT, one button, and the organ, its tumours by type and the anomaly heatmap in the scene."""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Annotated

import qt
import slicer
import vtk
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from MaxQuerySegmentationLib.child import End
from MaxQuerySegmentationLib.ct_input import problem
from MaxQuerySegmentationLib.dependencies import ensure_packages
from MaxQuerySegmentationLib.engine import Engine, RunParameters
from MaxQuerySegmentationLib.findings_view import FINDING_COLUMNS, finding_rows, jump_to
from MaxQuerySegmentationLib.heatmap import Heatmap
from MaxQuerySegmentationLib.ood_segment import OodSegment
from MaxQuerySegmentationLib.result_nodes import ResultNodes, results_in
from MaxQuerySegmentationLib.segment_run import SegmentRun

_POLL_MILLISECONDS = 100


class MaxQuerySegmentation(ScriptedLoadableModule):
    """What Slicer's module list says."""

    def __init__(self, parent):
        super().__init__(parent)
        self.parent.title = _("MaxQuery Segmentation")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = []
        self.parent.contributors = ["The MaxQuery authors"]
        self.parent.helpText = _(
            "Segments an organ and its tumours by type on CT, and shows where the image looks like nothing the model "
            "has learned. Research use only, not for diagnosis."
        )
        self.parent.acknowledgementText = _(
            "The method is Yuan et al., Devil is in the Queries, CVPR 2023; this is an independent implementation."
        )


@parameterNodeWrapper
class MaxQuerySegmentationParameterNode:
    """What a person has chosen; saved with the scene."""

    ct: vtkMRMLScalarVolumeNode
    model: str = "liver-demo"
    threshold: Annotated[float, WithinRange(90.0, 100.0)] = 99.0
    brightest: Annotated[float, WithinRange(90.0, 100.0)] = 100.0
    opacity: Annotated[float, WithinRange(0.0, 1.0)] = 0.5
    showHeatmap: bool = True
    showOod: bool = True
    device: str = "auto"
    quality: str = "fast"


class MaxQuerySegmentationWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: input, the button, progress, result, heatmap, advanced."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameters = None
        self._guiTag = None
        self._run: SegmentRun | None = None
        self._result: ResultNodes | None = None
        self._heatmap: Heatmap | None = None
        self._ood: OodSegment | None = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/MaxQuerySegmentation.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = MaxQuerySegmentationLogic()

        self.models = self.logic.models()
        self.ui.modelSelector.addItems(list(self.models))
        for column, title in enumerate(FINDING_COLUMNS):
            self.ui.findingsTable.insertColumn(column)
            self.ui.findingsTable.setHorizontalHeaderItem(column, qt.QTableWidgetItem(title))

        self.timer = qt.QTimer()
        self.timer.setInterval(_POLL_MILLISECONDS)
        self.timer.timeout.connect(self.onTimer)
        self.ui.segmentButton.clicked.connect(self.onSegment)
        self.ui.cancelButton.clicked.connect(self.onCancel)
        self.ui.detailsButton.toggled.connect(self.ui.detailsText.setVisible)
        self.ui.findingsTable.cellClicked.connect(self.onFindingClicked)
        for event, handler in (
            (slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose),
            (slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose),
            (slicer.mrmlScene.EndImportEvent, self.onSceneEndImport),
        ):
            self.addObserver(slicer.mrmlScene, event, handler)
        self.ui.progressFrame.setVisible(False)
        self.ui.errorFrame.setVisible(False)
        self.initializeParameterNode()

    def cleanup(self):
        if self._run is not None:
            self._run.kill()
        self.removeObservers()

    def enter(self):
        self.initializeParameterNode()

    def exit(self):
        self._disconnect()

    def onSceneStartClose(self, caller, event):
        if self._run is not None:
            self._run.kill()
            self._stopped()
        self._disconnect()
        self._result = self._heatmap = self._ood = None

    def onSceneEndClose(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, caller, event):
        self.showLatestResult()

    # Parameters

    def initializeParameterNode(self):
        self._disconnect()
        self._parameters = self.logic.getParameterNode()
        if self._parameters.ct is None:
            self._parameters.ct = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
        self._guiTag = self._parameters.connectGui(self.ui)
        self.addObserver(self._parameters, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
        self.showLatestResult()
        self.onParametersModified()

    def _disconnect(self):
        if self._parameters is not None:
            self._parameters.disconnectGui(self._guiTag)
            self.removeObserver(self._parameters, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
            self._parameters = None

    def onParametersModified(self, caller=None, event=None):
        chosen = self._parameters
        self.ui.modelLabel.setText(self.models.get(chosen.model, _("No such model is installed.")))
        why_not = _("A run is under way.") if self._run else problem([chosen.ct], ["CT"])
        self.ui.segmentButton.setEnabled(why_not is None)
        self.ui.segmentButton.setToolTip(why_not or _("Runs in the background; Slicer stays usable."))
        self.ui.hintLabel.setText("" if self._run else why_not or "")
        if self._heatmap is not None:
            self._heatmap.set_range(chosen.threshold, chosen.brightest)
            if chosen.showHeatmap:
                self._heatmap.show(self._result.ct, chosen.opacity)
            else:
                self._heatmap.hide()
            if chosen.showOod:
                self._ood.update(chosen.threshold)
                said = _("{volume:.1f} ml at or above percentile {threshold:.1f}")
                self.ui.oodLabel.setText(said.format(volume=self._ood.volume_ml(), threshold=chosen.threshold))
            self._ood.show(chosen.showOod)

    # The run

    def onSegment(self, checked=False):
        chosen = self._parameters
        self.ui.errorFrame.setVisible(False)
        parameters = RunParameters(chosen.model, chosen.device, chosen.quality)
        try:
            if not self.ui.pythonPath.currentPath:
                ensure_packages(Path(self.resourcePath("requirements.txt")))
            self._run = self.logic.start(chosen.ct, parameters, self.ui.pythonPath.currentPath)
        except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
            self._fail(End("failed", str(error)))
            return
        self.ui.progressFrame.setVisible(True)
        self.ui.progressBar.setValue(0)
        self.ui.progressLabel.setText(_("Starting"))
        self.timer.start()
        self.onParametersModified()

    def onCancel(self, checked=False):
        if self._run is not None:
            self.ui.progressLabel.setText(_("Stopping"))
            self._run.cancel()

    def onTimer(self):
        for event in self._run.poll():
            if isinstance(event, End):
                run = self._run
                self._stopped()
                self._ended(run, event)
                return
            self.ui.progressBar.setValue(int(100 * event.fraction))
            self.ui.progressLabel.setText(f"{event.message} · {self._run.seconds():.0f} s")

    def _stopped(self):
        self.timer.stop()
        self._run = None
        self.ui.progressFrame.setVisible(False)

    def _ended(self, run: SegmentRun, end: End):
        try:
            if end.outcome == "done":
                run.load(slicer.mrmlScene)
            elif end.outcome == "failed":
                self._fail(end)
        except (OSError, ValueError) as error:
            self._fail(End("failed", str(error), details=end.details))
        finally:
            run.discard()
        self.showLatestResult()
        self.onParametersModified()

    def _fail(self, end: End):
        self.ui.errorLabel.setText(f"{end.message} {end.hint}".strip())
        self.ui.detailsText.setPlainText(end.details)
        self.ui.detailsButton.setChecked(False)
        self.ui.detailsButton.setVisible(bool(end.details))
        self.ui.errorFrame.setVisible(True)

    # The result

    def showLatestResult(self):
        results = results_in(slicer.mrmlScene)
        latest = results[-1] if results else None
        self.ui.resultFrame.setVisible(latest is not None)
        if latest is None or (self._result is not None and latest.name == self._result.name):
            return
        self._result = latest
        self._heatmap, self._ood = self.logic.views_of(latest)
        self.ui.scoreLabel.setText(self.logic.sentence(latest))
        rows = finding_rows(latest.report)
        self.ui.findingsTable.setRowCount(len(rows))
        for number, row in enumerate(rows):
            for column, text in enumerate(row):
                self.ui.findingsTable.setItem(number, column, qt.QTableWidgetItem(text))
        self.ui.findingsTable.resizeColumnsToContents()
        if rows:
            jump_to(slicer.mrmlScene, latest, 0)
        self.onParametersModified()

    def onFindingClicked(self, row, column):
        jump_to(slicer.mrmlScene, self._result, row)


class MaxQuerySegmentationLogic(ScriptedLoadableModuleLogic):
    """The same without a window.

    >>> run = MaxQuerySegmentationLogic().start(ct_node, RunParameters())  # doctest: +SKIP
    """

    def getParameterNode(self):
        return MaxQuerySegmentationParameterNode(super().getParameterNode())

    def models(self) -> dict[str, str]:
        """The installed models, and a line on each: what it learned from, its version and its limits."""
        from maxquery.bundle import list_bundles, load_bundle
        from maxquery.errors import InputError

        about = {}
        for name, path in list_bundles().items():
            try:
                bundle = load_bundle(path, with_weights=False)
                about[name] = f"{bundle.description} {_('Version')} {bundle.version}. {bundle.training['limits']}"
            except InputError as error:
                about[name] = str(error)
        return about

    def start(self, ct, parameters: RunParameters, python: str = "") -> SegmentRun:
        """Starts the engine on a volume node, in Slicer's own Python or in the one at the path `python`.

        Raises OSError when the CT cannot be written out.
        """
        if python:
            engine = Engine(Path(python), None, slicer.util.startupEnvironment())
        else:
            engine = Engine(Path(shutil.which("PythonSlicer") or "PythonSlicer"))
        folder = Path(tempfile.mkdtemp(prefix="maxquery-", dir=slicer.app.temporaryPath))
        return SegmentRun(engine, parameters, ct, folder)

    def views_of(self, result: ResultNodes) -> tuple[Heatmap, OodSegment]:
        """What shows a result: its heatmap over the CT, and the segment of what reaches the threshold."""
        from maxquery.display import heat_colours

        heatmap = Heatmap(slicer.mrmlScene, result.anomaly, heat_colours())
        return heatmap, OodSegment.of(result)

    def sentence(self, result: ResultNodes) -> str:
        """The case score and the volumes, in words."""
        report = result.report
        volumes = ", ".join(f"{name} {ml:.1f} ml" for name, ml in report["volumes_ml"].items() if ml > 0)
        score = report["case_score"]
        if score is None:
            return _("No tumour of a known type was found. {volumes}").format(volumes=volumes)
        return _(
            "What was labelled tumour is, on average, less familiar to the model than {percentile:.0f} % of known "
            "tissue. {volumes}"
        ).format(percentile=score["percentile"], volumes=volumes)
