"""Selectors for a model's further phases: there only if it has more channels than one."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from MaxQuerySegmentationLib.ct_input import ROLE


class PhaseSelectors:
    """Rows of a form below the CT's own; `choose` hears the phase and the volume node that a person chose for it."""

    def __init__(self, form, choose: Callable[[str, Any], None]):
        self._form, self._choose = form, choose
        self._rows: dict[str, tuple] = {}

    def show(self, phase_names: Sequence[str], chosen: Mapping[str, Any]) -> None:
        """A row for each of these phases, with the volume node that is `chosen` for it."""
        if tuple(phase_names) != tuple(self._rows):
            for widget in (widget for row in self._rows.values() for widget in row):
                self._form.removeWidget(widget)
                widget.deleteLater()
            self._rows = {name: self._row(name) for name in phase_names}
        for name, (_label, selector) in self._rows.items():
            selector.blockSignals(True)
            selector.setCurrentNode(chosen.get(name))
            selector.blockSignals(False)

    def _row(self, name: str) -> tuple:
        selector = slicer.qMRMLNodeComboBox()
        selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        selector.addEnabled = selector.removeEnabled = selector.renameEnabled = False
        selector.noneEnabled = True
        selector.setMRMLScene(slicer.mrmlScene)
        selector.setToolTip(_("The CT of this phase, on the grid of the first."))
        selector.currentNodeIDChanged.connect(lambda _node_id: self._choose(name, selector.currentNode()))
        label = qt.QLabel(name)
        self._form.addRow(label, selector)
        return label, selector


def completed(chosen: Mapping[str, Any], phase_names: Sequence[str], scene) -> dict[str, Any]:
    """`chosen` with a volume node for each of these phases, guessed by its name where none is chosen."""
    volumes = [node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", scene)
               if node.GetAttribute(ROLE) is None]  # fmt: skip
    found = {name: node for name, node in chosen.items() if node is not None}  # None: deleted since
    guesses = {name: guess(name, volumes) for name in phase_names if name not in found}
    return found | {name: node for name, node in guesses.items() if node is not None}


def guess(phase: str, volumes: Sequence):
    """The first volume whose name holds the phase's, or its first three letters as a word; None if none does.

    >>> guess("arterial", [venous_node, art_node]).GetName()  # doctest: +SKIP
    'CT art 5 mm'
    """
    patterns = (re.escape(phase), rf"(?<![a-z]){re.escape(phase[:3])}(?![a-z])")
    for pattern in patterns:
        for volume in volumes:
            if re.search(pattern, volume.GetName(), re.IGNORECASE):
                return volume
    return None
