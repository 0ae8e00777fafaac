"""The section 'Result' of the panel and what hangs on it: one result of the CT that is chosen."""

from collections.abc import Callable
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from MaxQuerySegmentationLib.findings_panel import FindingsPanel, jump_to
from MaxQuerySegmentationLib.heatmap_panel import HeatmapPanel
from MaxQuerySegmentationLib.inspector_panel import InspectorPanel
from MaxQuerySegmentationLib.report_sentence import sentence
from MaxQuerySegmentationLib.result_nodes import ResultNodes, results_in


class ResultPanel:
    """Shows a result by its sentence, its findings, its heatmap and its queries.

    `ui`: the panel's widgets; `notes_folder`: see `InspectorPanel`; `changed`: hears that another result is on show, or
    none; `fail`: hears what went wrong.
    """

    def __init__(self, ui, notes_folder: Path, changed: Callable[[], None], fail: Callable[[str], None]):
        self.ui, self._changed, self._fail = ui, changed, fail
        self.shown: ResultNodes | None = None
        self._offered: list[ResultNodes] = []
        self._chosen = None
        self.findings = FindingsPanel(ui.findingsTable)
        self.heatmap = HeatmapPanel(ui)
        self.inspector = InspectorPanel(ui, notes_folder, self.heatmap.bring_back, self._name_queries)
        ui.resultSelector.currentIndexChanged.connect(self._choose)
        ui.copyButton.clicked.connect(self._copy)
        ui.exportButton.clicked.connect(self._export)

    def follow(self, chosen) -> None:
        """A result of the CT that the parameter node `chosen` names, never the findings of another: what is on show,
        or the latest one."""
        self._chosen = chosen
        of_ct = [result for result in results_in(slicer.mrmlScene) if result.ct is chosen.ct]
        shown = self.shown.id if self.shown is not None else None
        if shown is None or shown not in [result.id for result in of_ct]:
            latest = of_ct[-1] if of_ct else None
            if shown is not None or latest is not None:
                self.show(latest, chosen)
            if latest is not None and latest.report["findings"]:
                jump_to(latest, 0)

    def show(self, result: ResultNodes | None, chosen) -> None:
        """Takes up another result, or none, as the parameter node `chosen` wants it; no other stays in sight: one
        patient's outlines never lie over another's CT."""
        self.shown, self._chosen = result, chosen
        self._offer()
        for other in results_in(slicer.mrmlScene):
            other.set_visible(result is not None and other.id == result.id)
        self.ui.resultFrame.setVisible(result is not None)
        self.heatmap.show(result, chosen)
        self.inspector.show(result)
        self._name_queries()
        if result is not None:
            self.ui.scoreLabel.setText(sentence(result.report))
        self._changed()

    def _offer(self) -> None:
        """Those of the CT on show, the latest first, if there are several."""
        shown, selector = self.shown, self.ui.resultSelector
        found = [] if shown is None else [each for each in results_in(slicer.mrmlScene) if each.ct is shown.ct]
        self._offered = found[::-1]
        selector.blockSignals(True)
        selector.clear()
        selector.addItems([result.name for result in self._offered])
        selector.setCurrentIndex(next((i for i, each in enumerate(self._offered) if each.id == shown.id), -1))
        selector.blockSignals(False)
        selector.setVisible(len(self._offered) > 1)

    def _choose(self, index: int) -> None:
        """An earlier one of the same CT, with what was ticked and written there."""
        if self._offered[index].is_whole:
            self.show(self._offered[index], self._chosen)
        else:
            self._offer()

    def _name_queries(self) -> None:
        self.findings.show(self.shown, self.inspector.name)

    def _copy(self, checked: bool = False) -> None:
        self.findings.copy()

    def _export(self, checked: bool = False) -> None:
        path = qt.QFileDialog.getSaveFileName(self.ui.exportButton, _("Save findings"), "findings.csv", "CSV (*.csv)")
        if path:
            try:
                self.findings.save(Path(path))
            except OSError as error:
                self._fail(_("The findings were not saved: {error}").format(error=error))
