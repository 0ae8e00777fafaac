"""Slicer's shell in Qt, as thin as it can be, to run the real module file and its real .ui without a Slicer.

Stand-ins, because they cannot be had without a built Slicer: `qt`, the ScriptedLoadableModule base classes,
parameterNodeWrapper, loadUI, and the qMRML and ctk widgets that the .ui names. Scene, nodes and child process are
real. The truth is Slicer.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import get_origin, get_type_hints

import slicer
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

MODULE = Path(__file__).resolve().parents[2] / "MaxQuerySegmentation" / "MaxQuerySegmentation.py"


def application() -> QtWidgets.QApplication:
    return QtWidgets.QApplication.instance() or QtWidgets.QApplication([])


class ctkCollapsibleButton(QtWidgets.QGroupBox):
    """a titled section; collapsed, its content is hidden."""

    def _set_collapsed(self, collapsed: bool) -> None:
        self._collapsed = collapsed
        self.setMaximumHeight(22 if collapsed else 16777215)

    text = QtCore.Property(str, lambda self: self.title(), lambda self, text: self.setTitle(text))
    collapsed = QtCore.Property(bool, lambda self: self._collapsed, _set_collapsed)


class ctkSliderWidget(QtWidgets.QWidget):
    """a slider and a spin box that agree."""

    valueChanged = QtCore.Signal(float)

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.slider, self.box = QtWidgets.QSlider(QtCore.Qt.Horizontal), QtWidgets.QDoubleSpinBox()
        self.slider.setRange(0, 1000)
        layout.addWidget(self.slider)
        layout.addWidget(self.box)
        self.slider.valueChanged.connect(lambda step: self._set_value(self._low() + step / 1000 * self._span()))
        self.box.valueChanged.connect(self._moved)

    def _low(self) -> float:
        return self.box.minimum()

    def _span(self) -> float:
        return self.box.maximum() - self.box.minimum()

    def _moved(self, value: float) -> None:
        self.slider.blockSignals(True)
        self.slider.setValue(round(1000 * (value - self._low()) / self._span()))
        self.slider.blockSignals(False)
        self.valueChanged.emit(value)

    def _set_value(self, value: float) -> None:
        self.box.setValue(value)

    value = QtCore.Property(float, lambda self: self.box.value(), _set_value)
    minimum = QtCore.Property(float, lambda self: self.box.minimum(), lambda self, v: self.box.setMinimum(v))
    maximum = QtCore.Property(float, lambda self: self.box.maximum(), lambda self, v: self.box.setMaximum(v))
    singleStep = QtCore.Property(float, lambda self: self.box.singleStep(), lambda self, v: self.box.setSingleStep(v))
    decimals = QtCore.Property(int, lambda self: self.box.decimals(), lambda self, v: self.box.setDecimals(v))


class ctkRangeWidget(QtWidgets.QWidget):
    """two handles; here two spin boxes."""

    valuesChanged = QtCore.Signal(float, float)

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self.boxes = QtWidgets.QDoubleSpinBox(), QtWidgets.QDoubleSpinBox()
        for box in self.boxes:
            layout.addWidget(box)
            box.valueChanged.connect(lambda _: self.valuesChanged.emit(*(each.value() for each in self.boxes)))

    def setRange(self, low: float, high: float) -> None:
        for box in self.boxes:
            box.setRange(low, high)

    def setValues(self, low: float, high: float) -> None:
        for box, value in zip(self.boxes, (low, high), strict=True):
            box.setValue(value)

    def _set_decimals(self, number: int) -> None:
        for box in self.boxes:
            box.setDecimals(number)

    def _set_step(self, step: float) -> None:
        for box in self.boxes:
            box.setSingleStep(step)

    decimals = QtCore.Property(int, lambda self: self.boxes[0].decimals(), _set_decimals)
    singleStep = QtCore.Property(float, lambda self: self.boxes[0].singleStep(), _set_step)


class qMRMLNodeComboBox(QtWidgets.QComboBox):
    """the scene's nodes of its types."""

    nodeChanged = QtCore.Signal()
    currentNodeIDChanged = QtCore.Signal(str)
    nodeAddedByUser = QtCore.Signal(object)
    nodeTypes = QtCore.Property("QStringList", lambda self: self._types, lambda self, t: setattr(self, "_types", t))
    addEnabled = removeEnabled = renameEnabled = noneEnabled = QtCore.Property(bool, lambda self: False, lambda *_: 0)

    def __init__(self, parent=None):
        super().__init__(parent)
        self.currentIndexChanged.connect(lambda _: self.nodeChanged.emit())
        self.currentIndexChanged.connect(lambda _: self.currentNodeIDChanged.emit(self.currentData() or ""))

    def show_nodes(self, scene) -> None:
        self.clear()
        for kind in self._types:
            for number in range(scene.GetNumberOfNodesByClass(kind)):
                node = scene.GetNthNodeByClass(number, kind)
                self.addItem(node.GetName(), node.GetID())

    def choose(self, node) -> None:
        self.show_nodes(slicer.mrmlScene)
        self.setCurrentIndex(self.findData(node.GetID()) if node else -1)

    setCurrentNode, setMRMLScene = choose, show_nodes

    def currentNode(self):
        return slicer.mrmlScene.GetNodeByID(self.currentData() or "")


class ctkPathLineEdit(QtWidgets.QLineEdit):
    """a path; as the real one it tells of every one that exists, and once that there is none."""

    currentPathChanged, validInputChanged = QtCore.Signal(str), QtCore.Signal(bool)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._valid = False
        self.textChanged.connect(self._changed)

    def _changed(self, path: str) -> None:
        was_valid, self._valid = self._valid, Path(path).is_file()
        if self._valid:
            self.currentPathChanged.emit(path)
        if self._valid != was_valid:
            self.validInputChanged.emit(self._valid)

    filters = QtCore.Property("QStringList", lambda self: [], lambda *_: None)
    currentPath = QtCore.Property(str, lambda self: self.text(), lambda self, path: self.setText(path))


class qMRMLPlotView(QtWidgets.QWidget):
    """where Slicer draws a plot chart node; here it only knows its node."""

    def setMRMLScene(self, scene) -> None:
        pass

    def setMRMLPlotViewNode(self, node) -> None:
        self.node = node


class qMRMLWidget(QtWidgets.QWidget):
    def setMRMLScene(self, scene) -> None:
        for box in self.findChildren(qMRMLNodeComboBox):
            box.show_nodes(scene)


WIDGETS = (qMRMLWidget, qMRMLNodeComboBox, ctkCollapsibleButton, ctkSliderWidget, ctkRangeWidget, ctkPathLineEdit)


def load_ui(path: str) -> QtWidgets.QWidget:
    loader = QtUiTools.QUiLoader()
    for kind in WIDGETS:
        loader.registerCustomWidget(kind)
    return loader.load(str(path))


def child_widgets(panel: QtWidgets.QWidget) -> SimpleNamespace:
    return SimpleNamespace(**{w.objectName(): w for w in panel.findChildren(QtWidgets.QWidget) if w.objectName()})


def wrap_parameters(kind: type) -> type:
    """Typed fields with defaults that a widget can be bound to; the real one keeps them in a MRML node."""

    class Wrapped:
        def __init__(self, node):
            object.__setattr__(self, "__dict__", node.__dict__)  # two wrappers of one node agree
            if not self.__dict__:
                self.__dict__ |= {
                    name: {} if get_origin(hint) is dict else getattr(kind, name, None)
                    for name, hint in get_type_hints(kind).items()
                }
                self._handlers = []

        parameterNode = property(lambda self: self)

        def __setattr__(self, name, value):
            changed = name in self.__dict__ and getattr(self, name) != value
            object.__setattr__(self, name, value)
            if changed:
                for handler in list(self._handlers):
                    handler()

        def connectGui(self, ui):
            for widget in vars(ui).values():
                name = widget.property("SlicerParameterName")
                if name:
                    _bind(self, name, widget, get_type_hints(kind, include_extras=True)[name])
            return 1

        def disconnectGui(self, tag):
            pass

    return Wrapped


class Choice(tuple):
    """What a combo box offers; Slicer refuses one that is bound to a plain `str`."""


def _bind(parameters, name: str, widget, annotated) -> None:
    value = getattr(parameters, name)
    if isinstance(widget, qMRMLNodeComboBox):
        widget.choose(value)
        widget.nodeChanged.connect(
            lambda: setattr(parameters, name, slicer.mrmlScene.GetNodeByID(widget.currentData() or ""))
        )
    elif isinstance(widget, QtWidgets.QComboBox):
        choices = next(note for note in annotated.__metadata__ if isinstance(note, Choice))
        widget.clear()
        widget.addItems(list(choices))
        widget.setCurrentText(value)
        widget.currentTextChanged.connect(lambda text: setattr(parameters, name, text))
    elif isinstance(widget, QtWidgets.QCheckBox):
        widget.setChecked(value)
        widget.toggled.connect(lambda on: setattr(parameters, name, on))
    elif isinstance(widget, QtWidgets.QDoubleSpinBox):
        widget.setValue(value)
        widget.valueChanged.connect(lambda number: setattr(parameters, name, number))
    else:
        widget.value = value
        widget.valueChanged.connect(lambda number: setattr(parameters, name, number))


class _Observed:
    """VTKObservationMixin for MRML objects and for the parameters above."""

    def __init__(self):
        self._observed = []

    def addObserver(self, thing, event, handler):
        if hasattr(thing, "_handlers"):
            thing._handlers.append(handler)
        else:
            tag = thing.AddObserver(event, lambda caller, name: handler(caller, name))
            self._observed.append((thing, handler, tag))

    def removeObserver(self, thing, event, handler):
        if hasattr(thing, "_handlers"):
            thing._handlers.remove(handler)
        else:
            found = next(each for each in self._observed if each[0] is thing and each[1] == handler)
            self._observed.remove(found)
            thing.RemoveObserver(found[2])

    def removeObservers(self):
        for thing, _handler, tag in self._observed:
            thing.RemoveObserver(tag)


class _ModuleWidget:
    def __init__(self, parent=None):
        self.parent = QtWidgets.QWidget()
        self.parent.isEntered = True
        self.layout = QtWidgets.QVBoxLayout(self.parent)

    def setup(self):
        pass

    def resourcePath(self, name: str) -> str:
        return str(MODULE.parent / "Resources" / name)


class _ModuleLogic:
    def __init__(self):
        self._node = SimpleNamespace()

    def getParameterNode(self):
        return self._node


def _from_any_qt(name: str):
    """Slicer's `qt` holds what PySide keeps in several modules."""
    for part in (QtWidgets, QtCore, QtGui):
        if hasattr(part, name):
            return getattr(part, name)
    raise AttributeError(name)


def load_module(temporary: Path) -> ModuleType:
    """The real module file, with the stand-ins in the places of what only a Slicer has."""
    application()
    qt = ModuleType("qt")
    qt.__getattr__ = _from_any_qt
    scripted = ModuleType("slicer.ScriptedLoadableModule")
    scripted.ScriptedLoadableModule = scripted.ScriptedLoadableModuleTest = object
    scripted.ScriptedLoadableModuleWidget, scripted.ScriptedLoadableModuleLogic = _ModuleWidget, _ModuleLogic
    wrapper = ModuleType("slicer.parameterNodeWrapper")
    wrapper.parameterNodeWrapper, wrapper.Choice = wrap_parameters, Choice
    wrapper.WithinRange = lambda low, high: (low, high)
    sys.modules |= {"qt": qt, "slicer.ScriptedLoadableModule": scripted, "slicer.parameterNodeWrapper": wrapper}
    slicer.util.VTKObservationMixin = _Observed
    slicer.util.loadUI, slicer.util.childWidgetVariables = load_ui, child_widgets
    # Every package is there already; what is asked for is remembered.
    slicer.packaging = sys.modules["slicer.packaging"] = ModuleType("slicer.packaging")
    slicer.packaging.asked, slicer.packaging.pip_check = [], lambda requirement: True
    slicer.packaging.load_requirements = lambda path: path.read_text("utf-8").splitlines()

    def pip_ensure(packages, requester, constraints=None):
        slicer.packaging.asked.append((packages, constraints.read_text("utf-8").splitlines()))

    slicer.packaging.pip_ensure = pip_ensure
    slicer.qMRMLPlotView, slicer.qMRMLNodeComboBox = qMRMLPlotView, qMRMLNodeComboBox
    settings = temporary / "settings" / "Slicer.ini"
    user_settings = QtCore.QSettings(str(settings), QtCore.QSettings.IniFormat)
    slicer.app = SimpleNamespace(
        temporaryPath=str(temporary), slicerUserSettingsFilePath=str(settings), userSettings=lambda: user_settings,
        startupEnvironment=QtCore.QProcessEnvironment.systemEnvironment,
    )
    module = ModuleType("MaxQuerySegmentation")
    sys.modules[module.__name__] = module
    exec(compile(MODULE.read_text("utf-8"), str(MODULE), "exec"), module.__dict__)
    return module


def wait(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Lets Qt's events happen until the condition holds, which must be soon enough."""
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        application().processEvents()
        time.sleep(0.01)
    assert condition()


def run(widget) -> None:
    """A click on the button, and the whole run."""
    widget.ui.segmentButton.click()
    wait(lambda: not widget.run.is_under_way)
