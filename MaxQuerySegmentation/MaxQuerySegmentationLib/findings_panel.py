"""The findings as a table for a person: look, tick, comment, take along."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from MaxQuerySegmentationLib.result_nodes import ResultNodes

SHOWN, TYPE, OOD, VOLUME, LONGEST, ACROSS, PERCENTILE, QUERY, REVIEWED, COMMENT = range(10)
COLUMNS = (
    _("Show"), _("Finding"), _("OOD"), _("ml"), _("⌀ mm"), _("⟂ mm"), _("%ile"), _("Query"), _("Reviewed"), _("Comment")
)  # fmt: skip
TIPS = {
    LONGEST: _("The longest diameter in any slice of the CT."),
    ACROSS: _("The widest extent across the longest diameter."),
    PERCENTILE: _("Mean anomaly: how many of a hundred known voxels score lower."),
    QUERY: _("The query that owns most of it."),
}  # fmt: skip
_WIDEST_TYPE = 170  # pixels; the tip shows what is cut
_KEPT = {SHOWN: "shown", REVIEWED: "reviewed", COMMENT: "comment"}
"""Columns that a person fills: they are saved with the scene."""
_REVIEW = "MaxQuery.Review"


class FindingsPanel:
    """Shows a result's findings in a `QTableWidget`; what is ticked or written there is kept with the case."""

    def __init__(self, table):
        self.table, self._result, self._count = table, None, 0
        for column, title in enumerate(COLUMNS):
            table.insertColumn(column)
            header = qt.QTableWidgetItem(title)
            header.setToolTip(TIPS.get(column, ""))
            table.setHorizontalHeaderItem(column, header)
        table.itemChanged.connect(self._changed)
        table.cellClicked.connect(self._clicked)

    def show(self, result: ResultNodes | None, query_name: Callable[[int], str]) -> None:
        """Takes up another result, or none. `query_name`: what a query is called."""
        self._result = None  # nothing that changes now was changed by a person
        self.table.setSortingEnabled(False)
        findings = result.report["findings"] if result is not None else []
        self._count = len(findings)
        self.table.setRowCount(self._count)
        for row, finding in enumerate(findings):
            query = query_name(finding["queries"][0]) if finding["queries"] else ""
            for column, value in (
                (TYPE, f"{finding['id']} {finding['label']}"), (OOD, _("yes") if finding["ood"] else ""),
                (VOLUME, round(finding["volume_ml"], 1)), (LONGEST, round(finding["longest_diameter_mm"])),
                (ACROSS, round(finding["perpendicular_diameter_mm"])),
                (PERCENTILE, round(finding["mean_percentile"], 1)), (QUERY, query),
            ):  # fmt: skip
                self.table.setItem(row, column, _item(row, value))
            for column, name in _KEPT.items():
                self.table.setItem(row, column, _kept_item(row, column, _kept(result, row, name)))
        self.table.setSortingEnabled(True)
        self.table.resizeColumnsToContents()
        if self.table.columnWidth(TYPE) > _WIDEST_TYPE:
            self.table.setColumnWidth(TYPE, _WIDEST_TYPE)
        self._result = result

    def rows(self) -> list[list[str]]:
        """The table as it stands, with its header."""
        items = [[self.table.item(row, column) for column in range(len(COLUMNS))] for row in range(self._count)]
        ticks = (SHOWN, REVIEWED)
        return [list(COLUMNS), *(
            [_ticked(item) if column in ticks else item.text() for column, item in enumerate(line)] for line in items
        )]  # fmt: skip

    def copy(self) -> None:
        """Puts the table on the clipboard, to paste into a report or a spreadsheet."""
        text = io.StringIO()
        csv.writer(text, delimiter="\t", lineterminator="\n").writerows(self.rows())
        qt.QApplication.clipboard().setText(text.getvalue())

    def save(self, path: Path) -> None:
        """Writes the table as CSV. Raises OSError."""
        with path.open("w", newline="", encoding="utf-8-sig") as file:  # the mark tells spreadsheets the encoding
            csv.writer(file).writerows(self.rows())

    def _clicked(self, row: int, column: int) -> None:
        if self._result is not None:
            jump_to(self._result, self.table.item(row, TYPE).data(qt.Qt.UserRole))

    def _changed(self, item) -> None:
        if self._result is None or item.column() not in _KEPT:
            return
        finding = item.data(qt.Qt.UserRole)
        value = item.text() if item.column() == COMMENT else _ticked(item)
        keep(self._result, finding, _KEPT[item.column()], value)
        if item.column() == SHOWN:
            self._result.points.SetNthControlPointVisibility(finding, bool(value))


def jump_to(result: ResultNodes, finding: int) -> None:
    """Brings a finding to the middle of every slice view, where it lies in the world."""
    position = [0.0, 0.0, 0.0]
    result.points.GetNthControlPointPositionWorld(finding, position)
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *position, slicer.vtkMRMLSliceNode.CenteredJumpSlice)


def keep(result: ResultNodes, finding: int, name: str, value: str) -> None:
    """Keeps what a person ticked or wrote, as JSON: the file of an MRML table loses quotes, tabs and line breaks."""
    kept = _review(result)
    kept.setdefault(str(finding), {})[name] = value
    result.provenance.SetAttribute(_REVIEW, json.dumps(kept))


def _kept(result: ResultNodes, finding: int, name: str) -> str:
    return _review(result).get(str(finding), {}).get(name, "yes" if name == "shown" else "")


def _review(result: ResultNodes) -> dict[str, dict[str, str]]:
    """By the finding's row, what was kept of it."""
    return json.loads(result.provenance.GetAttribute(_REVIEW) or "{}")


def _item(finding: int, value):
    item = qt.QTableWidgetItem()
    item.setData(qt.Qt.DisplayRole, value)  # a number sorts as a number
    item.setData(qt.Qt.UserRole, finding)
    item.setToolTip(str(value))
    item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
    return item


def _kept_item(finding: int, column: int, value: str):
    item = _item(finding, value if column == COMMENT else "")
    if column == COMMENT:
        item.setFlags(item.flags() | qt.Qt.ItemIsEditable)
    else:
        item.setFlags(item.flags() | qt.Qt.ItemIsUserCheckable)
        item.setCheckState(qt.Qt.Checked if value else qt.Qt.Unchecked)
    return item


def _ticked(item) -> str:
    return "yes" if item.checkState() == qt.Qt.Checked else ""
