"""A chart of what all queries answer at one place, a bar each."""

from collections.abc import Sequence

import numpy as np
import vtk
from slicer.i18n import tr as _

from MaxQuerySegmentationLib.query_notes import QueryNotes

_TITLE_POINTS, _TEXT_POINTS = 12, 10  # it has only the panel's width
_LEGEND_SHARE = 0.35  # of the bars' range, above them


class ResponseChart:
    """A bar a query; the axis keeps its limits, so that a move of the crosshair can be read."""

    def __init__(self, scene, notes: QueryNotes, groups: Sequence[str], limits: tuple[float, float]):
        self._scene, self._nodes, self._groups = scene, [], groups
        self.chart = self._add("vtkMRMLPlotChartNode")
        self.chart.SetXAxisTitle(_("Query"))
        self.chart.SetYAxisTitle(_("Response"))
        self.chart.SetYAxisRangeAuto(False)
        lowest, highest = limits
        self.chart.SetYAxisRange(lowest, highest + _LEGEND_SHARE * (highest - lowest))
        self.chart.SetTitleFontSize(_TITLE_POINTS)
        for set_size in (
            self.chart.SetAxisTitleFontSize, self.chart.SetAxisLabelFontSize, self.chart.SetLegendFontSize
        ):  # fmt: skip
            set_size(_TEXT_POINTS)
        self.table = self._add("vtkMRMLTableNode")
        self._columns = {}
        for name in ("query", *dict.fromkeys(groups)):
            column = vtk.vtkFloatArray()
            column.SetName(name)
            column.SetNumberOfValues(len(groups))
            column.Fill(0)
            self._columns[name] = column
            self.table.AddColumn(column)
        for query in range(len(groups)):
            self._columns["query"].SetValue(query, query)
        for group in dict.fromkeys(groups):
            series = self._add("vtkMRMLPlotSeriesNode")
            series.SetName(group)
            series.SetAndObserveTableNodeID(self.table.GetID())
            series.SetXColumnName("query")
            series.SetYColumnName(group)
            series.SetPlotType(series.PlotTypeBar)
            series.SetColor(*notes[list(groups).index(group)].colour)
            self.chart.AddAndObservePlotSeriesNodeID(series.GetID())

    def show(self, responses: np.ndarray, percentile: float | None) -> None:
        """`responses` `(N,)` of one voxel, and its anomaly's percentile, where it follows from them."""
        for query, (group, response) in enumerate(zip(self._groups, responses, strict=True)):
            self._columns[group].SetValue(query, float(response))
        for column in self._columns.values():
            column.Modified()
        title = _("max R {value:.2f} by query {query}")
        if percentile is not None:
            title += _(", percentile {percentile:.1f}")
        self.chart.SetTitle(
            title.format(value=float(responses.max()), query=int(responses.argmax()), percentile=percentile)
        )
        self.table.Modified()

    def remove(self) -> None:
        for node in reversed(self._nodes):
            self._scene.RemoveNode(node)

    def _add(self, kind: str):
        node = self._scene.AddNewNodeByClass(kind)
        node.SetSaveWithScene(False)
        node.SetHideFromEditors(True)
        self._nodes.append(node)
        return node
