"""Selectors for a model's further phases: there only if it has more channels than one."""

import re
from collections.abc import Callable, Sequence

import qt
import slicer
from slicer.i18n import tr as _


class PhaseSelectors:
    """Rows of a form below the CT's own; `changed` hears of every choice.

    A phase is guessed from the names of the scene's volumes, and stays as a person changes it.
    """

    def __init__(self, form, changed: Callable[[], None]):
        self._form, self._changed = form, changed
        self._names: tuple[str, ...] = ()
        self._rows: list[tuple] = []

    def offer(self, phase_names: Sequence[str]) -> None:
        """Rows for all of the model's phases but the first, which the CT is."""
        further = tuple(phase_names[1:])
        if further == self._names:
            return
        for widget in (widget for row in self._rows for widget in row):
            self._form.removeWidget(widget)
            widget.deleteLater()
        self._names = further
        self._rows = [self._row(name) for name in further]

    def nodes(self) -> list:
        """A volume node, or None, for each further phase."""
        return [selector.currentNode() for _label, selector in self._rows]

    def _row(self, name: str) -> tuple:
        selector = slicer.qMRMLNodeComboBox()
        selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        selector.addEnabled = selector.removeEnabled = selector.renameEnabled = False
        selector.noneEnabled = True
        selector.setMRMLScene(slicer.mrmlScene)
        selector.setToolTip(_("The CT of this phase, on the grid of the first."))
        selector.setCurrentNode(guess(name, slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")))
        selector.currentNodeIDChanged.connect(lambda _node_id: self._changed())
        label = qt.QLabel(name)
        self._form.addRow(label, selector)
        return label, selector


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
