"""The section 'Query inspector' of the panel: what each query owns, and what it is called."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _

from MaxQuerySegmentationLib.answers_panel import AnswersPanel
from MaxQuerySegmentationLib.cluster_map import ClusterMap
from MaxQuerySegmentationLib.query_notes import QueryNote, QueryNotes
from MaxQuerySegmentationLib.query_usage import QueryUsage
from MaxQuerySegmentationLib.result_nodes import ResultNodes, results_in

QUERY, NAME, CLASS, VOLUME, RESPONSE, OTHER, NOTE = range(7)
COLUMNS = (_("Query"), _("Name"), _("Class"), _("ml"), _("Mean R"), _("Other, ml"), _("Note"))


class InspectorPanel:
    """Shows a result's queries; `answers` shows what they answer, once they were asked.

    `ui`: the panel's widgets; `notes_folder`: where a person's names are kept; `show_heatmap`: brings the heatmap back
    where a response was shown; `renamed`: hears that names have changed.
    """

    def __init__(self, ui, notes_folder: Path, show_heatmap: Callable[[], None], renamed: Callable[[], None]):
        self.ui, self.notes_folder, self.renamed = ui, notes_folder, renamed
        self.answers = AnswersPanel(ui, show_heatmap, self.name)
        self.result: ResultNodes | None = None
        self.notes: QueryNotes | None = None
        self._clusters: ClusterMap | None = None
        self._others: list[ResultNodes] = []
        self._filling = False
        for column, title in enumerate(COLUMNS):
            ui.queriesTable.insertColumn(column)
            ui.queriesTable.setHorizontalHeaderItem(column, qt.QTableWidgetItem(title))
        ui.queriesTable.itemChanged.connect(self._edited)
        ui.queriesTable.itemSelectionChanged.connect(self._isolate)
        ui.queriesTable.itemDoubleClicked.connect(self._choose_colour)
        ui.clustersCheck.toggled.connect(self._isolate)
        ui.isolateCheck.toggled.connect(self._isolate)
        ui.compareSelector.currentIndexChanged.connect(self._compare)
        ui.importNotesButton.clicked.connect(self._import)
        ui.exportNotesButton.clicked.connect(self._export)

    def show(self, result: ResultNodes | None) -> None:
        """Takes up another result, or none."""
        self.answers.show(None)
        if self._clusters is not None:
            self._clusters.hide()
        self.result = self.notes = self._clusters = None
        self._others = []
        self.ui.queriesTable.setRowCount(0)
        known = result is not None and bool(result.report["queries"])
        for button, tip in (
            (self.ui.importNotesButton, _("Names, colours and notes from a JSON file.")),
            (self.ui.exportNotesButton, _("Names, colours and notes to a JSON file.")),
        ):
            button.setEnabled(known)
            button.setToolTip(tip if known else _("There is no result yet."))
        if not known:
            return
        bundle = result.report["bundle"]
        # A network that was trained again has other queries.
        file = self.notes_folder / f"{bundle['name']} {bundle['version']} {result.weights[:8]}.json"
        self.notes = self._notes_in(file, result.report["queries"])
        self.result, self.usage = result, QueryUsage.of(result)
        self.answers.show(result, self.notes)
        self._clusters = ClusterMap(slicer.mrmlScene, result, self.notes)
        self._fill_table()
        self._others = [other for other in results_in(slicer.mrmlScene) if other.id != result.id]
        self.ui.compareSelector.clear()
        self.ui.compareSelector.addItems([_("no other case"), *(other.name for other in self._others)])
        self._isolate()

    def name(self, query: int) -> str:
        """A query's number and what it is called; the name that it has by itself ends with the number."""
        if self.notes is None:
            return str(query)
        name = self.notes[query].name
        return name if name.endswith(f" {query}") else f"{query} {name}"

    # The queries

    def _notes_in(self, file: Path, queries: Sequence[Mapping]) -> QueryNotes:
        """Those in a file, which is put aside if it cannot be understood."""
        try:
            return QueryNotes(queries, file)
        except ValueError as error:
            aside = file.with_suffix(".unreadable")
            os.replace(file, aside)
            self.ui.inspectorLabel.setText(_("{error}. It is kept as {file}.").format(error=error, file=aside))
            return QueryNotes(queries, file)

    def _fill_table(self) -> None:
        self._filling = True
        table, labels = self.ui.queriesTable, ["background", *self.result.report["volumes_ml"]]
        table.setSortingEnabled(False)
        table.setRowCount(len(self.notes))
        for query, described in enumerate(self.result.report["queries"]):
            shares = described["class_probabilities"]
            best = int(np.argmax(shares))
            mean = self.usage.mean_response[query]
            for column, value in (
                (QUERY, query), (NAME, self.notes[query].name), (CLASS, f"{labels[best]} {100 * shares[best]:.0f} %"),
                (VOLUME, round(float(self.usage.volume_ml[query]), 1)),
                (RESPONSE, "" if np.isnan(mean) else round(float(mean), 2)), (OTHER, ""),
                (NOTE, self.notes[query].note),
            ):  # fmt: skip
                table.setItem(query, column, self._item(query, column, value))
        table.setSortingEnabled(True)
        table.resizeColumnsToContents()
        self._filling = False

    def _item(self, query: int, column: int, value):
        item = qt.QTableWidgetItem()
        item.setData(qt.Qt.DisplayRole, value)
        item.setData(qt.Qt.UserRole, query)
        flags = qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable
        item.setFlags(flags | qt.Qt.ItemIsEditable if column in (NAME, NOTE) else flags)
        if column == QUERY:
            _paint(item, self.notes[query].colour)
        return item

    def _edited(self, item) -> None:
        if self._filling or self.notes is None or item.column() not in (NAME, NOTE):
            return
        query = item.data(qt.Qt.UserRole)
        old = self.notes[query]
        named = item.column() == NAME
        new = QueryNote(item.text() if named else old.name, old.colour, old.note if named else item.text())
        self._keep(query, new)

    def _choose_colour(self, item) -> None:
        if item.column() != QUERY:
            return
        query = item.data(qt.Qt.UserRole)
        old = self.notes[query]
        colour = qt.QColorDialog.getColor(qt.QColor(*(round(255 * c) for c in old.colour)))
        if colour.isValid():
            rgb = (colour.redF(), colour.greenF(), colour.blueF())
            self._keep(query, QueryNote(old.name, rgb, old.note))
            self._filling = True
            _paint(item, rgb)
            self._filling = False

    def _keep(self, query: int, note: QueryNote) -> None:
        try:
            self.notes.set(query, note)
        except OSError as error:
            self.ui.inspectorLabel.setText(_("The note was not saved: {error}").format(error=error))
        self._isolate()
        self.renamed()

    def _import(self, checked: bool = False) -> None:
        path = qt.QFileDialog.getOpenFileName(
            self.ui.queriesTable, _("Names and notes of queries"), "", "JSON (*.json)"
        )
        self._with_file(path, self._take_over)

    def _take_over(self, path: Path) -> None:
        self.notes.read(path)
        self.notes.write(self.notes.file)
        self._fill_table()
        self._isolate()
        self.renamed()

    def _export(self, checked: bool = False) -> None:
        path = qt.QFileDialog.getSaveFileName(
            self.ui.queriesTable, _("Names and notes of queries"), "queries.json", "JSON (*.json)"
        )
        self._with_file(path, self.notes.write)

    def _with_file(self, path: str, work) -> None:
        if path:
            try:
                work(Path(path))
            except (OSError, ValueError) as error:
                self.ui.inspectorLabel.setText(str(error))

    # What they own

    def selected(self) -> int | None:
        items = self.ui.queriesTable.selectedItems()
        return items[0].data(qt.Qt.UserRole) if items else None

    def _isolate(self, *_changed) -> None:
        """The cluster map as the check boxes and the selection want it."""
        if self._clusters is None:
            return
        if self.ui.clustersCheck.isChecked():
            self._clusters.only(self.selected() if self.ui.isolateCheck.isChecked() else None)
            self._clusters.show()
        else:
            self._clusters.hide()

    def _compare(self, index: int) -> None:
        """Beside another result, the one at `index` of the selector; the first entry is none."""
        if self.result is None:
            return
        other = self._others[index - 1] if index > 0 else None
        same = other is not None and other.is_whole and other.weights == self.result.weights
        usage = QueryUsage.of(other) if same else None
        self._filling = True
        self.ui.queriesTable.setSortingEnabled(False)
        for row in range(len(self.notes)):
            item = self.ui.queriesTable.item(row, OTHER)
            query = item.data(qt.Qt.UserRole)
            item.setData(qt.Qt.DisplayRole, round(float(usage.volume_ml[query]), 1) if same else "")
        self.ui.queriesTable.setSortingEnabled(True)
        self._filling = False


def _paint(item, rgb: tuple[float, float, float]) -> None:
    """The colour behind an item's text, which is black or white: whichever can be read, in a dark theme too."""
    item.setBackground(qt.QBrush(qt.QColor(*(round(255 * value) for value in rgb))))
    light = float(np.dot(rgb, (0.299, 0.587, 0.114))) > 0.5
    item.setForeground(qt.QBrush(qt.QColor("black" if light else "white")))
