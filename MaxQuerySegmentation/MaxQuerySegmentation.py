"""3D Slicer module: a CT, one button, and the organ, its tumours by type and the anomaly heatmap in the scene."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import qt
import slicer
import vtk
from slicer import vtkMRMLMarkupsROINode, vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from MaxQuerySegmentationLib.anomaly_scale import UNITS
from MaxQuerySegmentationLib.child import End
from MaxQuerySegmentationLib.ct_input import first_ct, fit, problem, show_as_abdomen, slice_centre
from MaxQuerySegmentationLib.dependencies import about_first_run, ensure_packages
from MaxQuerySegmentationLib.engine import Engine, about_python
from MaxQuerySegmentationLib.engine_arguments import DEVICES, QUALITIES, RunParameters
from MaxQuerySegmentationLib.heatmap_panel import REGIONS
from MaxQuerySegmentationLib.installed_models import InstalledModel, installed_models
from MaxQuerySegmentationLib.phase_selectors import PhaseSelectors, completed
from MaxQuerySegmentationLib.report_sentence import sentence
from MaxQuerySegmentationLib.result_nodes import ResultNodes
from MaxQuerySegmentationLib.result_panel import ResultPanel
from MaxQuerySegmentationLib.run_panel import RunPanel
from MaxQuerySegmentationLib.sample_data import NAME as SAMPLE
from MaxQuerySegmentationLib.sample_data import register_sample_data
from MaxQuerySegmentationLib.segment_run import ResponsesRun, SegmentRun

_NO_MODEL = _("No model of this name is installed here: choose another one, or install it.")
_PYTHON_SETTING = "MaxQuery/Python"
_ASK_TIP = _("Computes all responses in a cube around the centre of the axial view. Needs the model.")


class MaxQuerySegmentation(ScriptedLoadableModule):
    """What Slicer's module list says."""

    def __init__(self, parent):
        super().__init__(parent)
        self.parent.title = _("MaxQuery Segmentation")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = []
        self.parent.contributors = ["The MaxQuery maintainers"]
        self.parent.helpText = _(
            "Segments an organ and its tumours by type on CT, and shows where the image looks like nothing the model "
            "has learned. Research use only, not for diagnosis."
        )
        self.parent.acknowledgementText = _(
            "The method is Yuan et al., Devil is in the Queries, CVPR 2023; this is an independent implementation."
        )
        slicer.app.connect("startupCompleted()", register_sample_data)


@parameterNodeWrapper
class MaxQuerySegmentationParameterNode:
    """What a person has chosen; saved with the scene.

    `phases`: volumes by the names of a model's phases but the first, which `ct` is. `threshold` and `brightest` are in
    `units`.
    """

    ct: vtkMRMLScalarVolumeNode
    phases: dict[str, vtkMRMLScalarVolumeNode]
    cropTo: vtkMRMLMarkupsROINode
    model: str = "liver-demo"
    device: Annotated[str, Choice(DEVICES)] = "auto"
    quality: Annotated[str, Choice(QUALITIES)] = "fast"
    replaceEarlier: bool = False
    showHeatmap: bool = True
    units: Annotated[str, Choice(UNITS)] = "percentile"
    threshold: float = 99.0
    brightest: float = 100.0
    opacity: Annotated[float, WithinRange(0.0, 1.0)] = 0.5
    showSurfaces: bool = False
    showVolume: bool = False
    showOod: bool = True
    region: Annotated[str, Choice(REGIONS)] = "organ"
    minimumMl: Annotated[float, WithinRange(0.0, 100.0)] = 0.1
    cubeMm: Annotated[float, WithinRange(20.0, 300.0)] = 80.0


class MaxQuerySegmentationWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: what is chosen, and what then is offered, begun and shown."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameters = None
        self._guiTag = None
        self._asked: ResultNodes | None = None  # whose queries answer now
        self._firstRun = ""
        self._region: vtkMRMLMarkupsROINode | None = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/MaxQuerySegmentation.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = MaxQuerySegmentationLogic()
        notes_folder = Path(slicer.app.slicerUserSettingsFilePath).parent / "MaxQuery" / "queries"
        self.run = RunPanel(self.ui, self.takeUp, self.onRunOver)
        self.result = ResultPanel(self.ui, notes_folder, self.offerQueries, self.run.fail)
        self.phases = PhaseSelectors(self.ui.phasesFrame.layout(), self.onPhaseChosen)
        self.models: dict[str, InstalledModel] = {}
        self._soon = qt.QTimer()  # a node that has come or gone is whole, or gone, a moment later
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self.onSceneChanged)
        self.ui.modelSelector.currentTextChanged.connect(self.onModelChosen)
        self.ui.segmentButton.clicked.connect(self.onSegment)
        self.ui.responsesButton.clicked.connect(self.onAskQueries)
        self.ui.cropSelector.nodeAddedByUser.connect(self.onRegionAdded)
        self.ui.pythonPath.currentPathChanged.connect(self.onPythonChosen)
        self.ui.pythonPath.validInputChanged.connect(self.onPythonChosen)  # the other one is silent for no path
        self.ui.pythonPath.currentPath = slicer.app.userSettings().value(_PYTHON_SETTING) or ""
        self.tellOfFirstRun()
        crosshair = slicer.mrmlScene.GetSingletonNode("default", "vtkMRMLCrosshairNode")
        self.addObserver(crosshair, crosshair.CursorPositionModifiedEvent, self.onCrosshairMoved)
        for event, handler in (
            (slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose),
            (slicer.mrmlScene.EndCloseEvent, self.onSceneReplaced),
            (slicer.mrmlScene.StartImportEvent, self.onSceneStartImport),
            (slicer.mrmlScene.EndImportEvent, self.onSceneReplaced),
            (slicer.mrmlScene.NodeAddedEvent, self.onNodeAdded),
            (slicer.mrmlScene.NodeRemovedEvent, self.onNodeRemoved),
        ):
            self.addObserver(slicer.mrmlScene, event, handler)
        self.result.show(None, None)
        self.initializeParameterNode()

    def cleanup(self):
        self.run.kill()
        self._soon.stop()
        self.result.heatmap.stop()
        self._disconnect()
        self.result.inspector.answers.show(None)  # their nodes serve nobody else
        self.removeObservers()

    def enter(self):
        self.initializeParameterNode()

    def exit(self):
        self._disconnect()

    def onSceneStartClose(self, caller, event):
        self.run.kill()
        self._asked = None
        self._disconnect()
        self.result.show(None, None)

    def onSceneStartImport(self, caller, event):
        self._disconnect()  # selectors lose their nodes meanwhile, and parameters change one by one

    def onSceneReplaced(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    # Parameters

    def initializeParameterNode(self):
        self._disconnect()
        self._parameters = self.logic.getParameterNode()
        self.chooseCt()
        self._guiTag = self._parameters.connectGui(self.ui)
        self.addObserver(self._parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
        self.offerModels()
        self.showResult()
        self.onParametersModified()

    def offerModels(self):
        """Those installed now, and the one that the scene names, even where it is not."""
        self.models, chosen, selector = installed_models(), self._parameters.model, self.ui.modelSelector
        selector.blockSignals(True)
        selector.clear()
        selector.addItems(list(dict.fromkeys([*self.models, chosen])))
        selector.setCurrentText(chosen)
        selector.blockSignals(False)

    def chooseCt(self):
        """The scene's first CT, while a person has chosen none."""
        if self._parameters is not None and self._parameters.ct is None:
            self._parameters.ct = first_ct(slicer.mrmlScene)

    def choosePhases(self):
        """Volumes by their names, while a person has chosen none."""
        phases = completed(self._parameters.phases, self.furtherPhases(), slicer.mrmlScene)
        if phases != self._parameters.phases:
            self._parameters.phases = phases
        self.phases.show(self.furtherPhases(), phases)

    def onPhaseChosen(self, name, volume):
        if self._parameters is not None:
            phases = {**self._parameters.phases, name: volume}
            self._parameters.phases = {name: node for name, node in phases.items() if node is not None}

    def onNodeAdded(self, caller, event):
        if self._parameters is not None and None in self.inputs():
            self._soon.start(0)

    def onNodeRemoved(self, caller, event):
        shown, chosen = self.result.shown, self._parameters
        is_broken = shown is not None and not shown.is_whole  # a person took it away, or a part of it
        if is_broken or (chosen is not None and chosen.ct is None):
            self._soon.start(0)

    def onSceneChanged(self):
        self.chooseCt()
        self.onParametersModified()
        self.showResult()

    def _disconnect(self):
        if self._parameters is not None:
            self._parameters.disconnectGui(self._guiTag)
            self.removeObserver(self._parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
            self._parameters = None

    def onModelChosen(self, name):
        if self._parameters is not None:
            self._parameters.model = name

    def onPythonChosen(self, _change):
        path = self.ui.pythonPath.currentPath
        slicer.app.userSettings().setValue(_PYTHON_SETTING, path)
        own = _("The engine runs in Slicer's own Python.")
        self.ui.pythonLabel.setText(about_python(Path(path), slicer.util.startupEnvironment()) if path else own)
        self.tellOfFirstRun()

    def tellOfFirstRun(self):
        """What the engine still needs, if it is to run in Slicer's own Python."""
        own = not self.ui.pythonPath.currentPath
        self._firstRun = about_first_run(Path(self.resourcePath("requirements.txt"))) if own else ""
        self.onParametersModified()

    def onParametersModified(self, caller=None, event=None):
        chosen = self._parameters
        if chosen is None:  # another module is open
            return
        self.ui.modelLabel.setText(self.model().about)
        self.choosePhases()
        self._watch(chosen.cropTo)
        why_not = _("A run is under way.") if self.run.is_under_way else self._problem()
        self._offer(self.ui.segmentButton, why_not, _("Runs in the background; Slicer stays usable."))
        hint = why_not or self._firstRun
        self.ui.hintLabel.setText(hint)
        self.ui.hintLabel.setVisible(bool(hint) and not self.run.is_under_way)
        self.offerQueries()
        if self.result.shown is None or self.result.shown.ct is not chosen.ct:
            self.showResult()
        self.result.heatmap.apply(chosen)

    def offerQueries(self):
        self._offer(self.ui.responsesButton, self._cannot_ask(), _ASK_TIP)

    def showResult(self):
        """One of the CT that is chosen: on return where another module is open, or once a scene is all there."""
        if self._parameters is not None and not slicer.mrmlScene.IsImporting():
            self.result.follow(self._parameters)

    # The run

    def model(self) -> InstalledModel:
        return self.models.get(self._parameters.model, InstalledModel(_NO_MODEL))

    def furtherPhases(self) -> tuple[str, ...]:
        return self.model().phases[1:]

    def inputs(self) -> list:
        """The volume node of each of the model's phases, None where none is chosen."""
        return [self._parameters.ct, *(self._parameters.phases.get(name) for name in self.furtherPhases())]

    @staticmethod
    def _offer(button, why_not: str | None, tip: str):
        """A button that can be pressed, or says why not."""
        button.setEnabled(why_not is None)
        button.setToolTip(why_not or tip)

    def _cannot_ask(self) -> str | None:
        if self.run.is_under_way:
            return _("A run is under way.")
        if self.result.shown is None:
            return _("There is no result to ask about: segment a CT first.")
        return None if self.result.shown.has_phases else _("The CT of this result was deleted.")

    def _problem(self) -> str | None:
        model = self.models.get(self._parameters.model)
        return _NO_MODEL if model is None else problem(self.inputs(), model.phases, self._parameters.cropTo)

    def _watch(self, region):
        """Hears of it when the region is moved: it may leave the CT, or come back."""
        if region is not self._region:
            if self._region is not None:
                self.removeObserver(self._region, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
            if region is not None:
                self.addObserver(region, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
            self._region = region

    def onRegionAdded(self, region):
        if self._parameters.ct is not None:
            fit(region, self._parameters.ct)
            self.onParametersModified()

    def onSegment(self, checked=False):
        self._start(SegmentRun, self._parameters.model, self.inputs(), self._parameters.cropTo)

    def onAskQueries(self, checked=False):
        if self._cannot_ask() is None:  # the CT may just have gone
            result, size_mm = self.result.shown, self._parameters.cubeMm
            self._asked = result
            self._start(ResponsesRun, result.model, result.phases, slice_centre(result.ct), size_mm)

    def _start(self, kind, model, phases, *what):
        chosen, python = self._parameters, self.ui.pythonPath.currentPath
        parameters = RunParameters(model, chosen.device, chosen.quality)

        def start():
            if not python:
                ensure_packages(Path(self.resourcePath("requirements.txt")))
                self.tellOfFirstRun()
            return self.logic.start(kind, phases, parameters, *what, python=python)

        self.run.begin(start)
        self.onParametersModified()

    def takeUp(self, run: SegmentRun | ResponsesRun):
        """What a run left. Raises OSError or ValueError."""
        if isinstance(run, ResponsesRun):
            self.result.inspector.answers.take(self._asked, *run.load(slicer.mrmlScene))
            return
        parameters = self.logic.getParameterNode()
        try:
            result = run.load(slicer.mrmlScene, parameters.replaceEarlier)
            self.result.show(None, None)  # in favour of this one
            show_as_abdomen(result.ct)
            parameters.ct = result.ct  # what is shown and what is chosen agree
        finally:
            if self.ui.keptFolder.currentPath:
                run.keep_files(Path(self.ui.keptFolder.currentPath))

    def onRunOver(self):
        self._asked = None
        self.showResult()
        self.onParametersModified()

    def onCrosshairMoved(self, caller, event):
        self.result.inspector.answers.follow(caller)


class MaxQuerySegmentationLogic(ScriptedLoadableModuleLogic):
    """The same without a window.

    >>> run = MaxQuerySegmentationLogic().start(SegmentRun, [ct_node], RunParameters())  # doctest: +SKIP
    """

    def getParameterNode(self):
        return MaxQuerySegmentationParameterNode(super().getParameterNode())

    def start(self, kind, phases, parameters: RunParameters, *what, python: str = ""):
        """Starts a run of the engine, `SegmentRun` or `ResponsesRun`, on the volume nodes of one case.

        In Slicer's own Python or in the one at the path `python`; `what` is what else that kind of run wants. Raises
        OSError when the CT cannot be written out.
        """
        if python:
            engine = Engine(Path(python), None, slicer.util.startupEnvironment())
        else:
            engine = Engine(Path(shutil.which("PythonSlicer") or "PythonSlicer"))
        folder = Path(tempfile.mkdtemp(prefix="maxquery-", dir=slicer.app.temporaryPath))
        return kind(engine, parameters, phases, folder, *what)


class MaxQuerySegmentationTest(ScriptedLoadableModuleTest):
    """The self-test of a real Slicer: the whole path on Slicer's own contrast CT."""

    def runTest(self):
        slicer.mrmlScene.Clear()
        self.test_from_ct_to_findings()

    def test_from_ct_to_findings(self):
        import SampleData

        ct = SampleData.downloadSample(SAMPLE)
        logic = MaxQuerySegmentationLogic()
        run = logic.start(SegmentRun, [ct], RunParameters(), python=os.environ.get("MAXQUERY_PYTHON", ""))
        ends = []
        while not ends:
            ends = [event for event in run.poll() if isinstance(event, End)]
            slicer.app.processEvents()
        self.assertEqual(ends[0].outcome, "done", ends[0])
        result = run.load(slicer.mrmlScene)
        run.discard()
        volumes_ml = result.report["volumes_ml"]
        self.assertGreater(volumes_ml["liver"], 500)  # the smallest adult livers have about as much
        self.assertEqual(result.anomaly.GetImageData().GetDimensions(), ct.GetImageData().GetDimensions())
        self.delayDisplay(sentence(result.report))

        slicer.util.selectModule("MaxQuerySegmentation")
        panel = slicer.modules.MaxQuerySegmentationWidget
        volumes_ml = []
        for threshold in (99.0, 90.0):
            panel.ui.heatRange.setValues(threshold, 100.0)
            self.assertEqual(result.anomaly.GetDisplayNode().GetLowerThreshold(), threshold)
            volumes_ml.append(panel.result.heatmap.ood.volume_ml())
        self.assertLess(*volumes_ml)
        self.delayDisplay("Test passed")
