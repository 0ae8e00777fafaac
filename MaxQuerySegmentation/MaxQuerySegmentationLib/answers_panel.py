"""What queries answer in a region, in the section 'Query inspector': a chart, maps, and one picture of all."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import qt
import slicer
import slicer.packaging
from slicer.i18n import tr as _

from MaxQuerySegmentationLib.ct_input import slice_centre
from MaxQuerySegmentationLib.query_notes import QueryNotes
from MaxQuerySegmentationLib.response_chart import ResponseChart
from MaxQuerySegmentationLib.response_views import ResponseViews
from MaxQuerySegmentationLib.result_nodes import ResultNodes

_GROUPS = ("background", "organ", "tumour")


class AnswersPanel:
    """Shows R once a run has brought it.

    `ui`: the panel's widgets; `show_heatmap`: brings the heatmap back where a response was shown; `name`: what a query
    is called.
    """

    def __init__(self, ui, show_heatmap: Callable[[], None], name: Callable[[int], str]):
        self.ui, self.show_heatmap, self.name = ui, show_heatmap, name
        self.result: ResultNodes | None = None
        self.responses: ResponseViews | None = None
        self.chart: ResponseChart | None = None
        self._chart_view = slicer.qMRMLPlotView()
        self._chart_view.setMinimumHeight(220)
        self._chart_view.setMRMLScene(slicer.mrmlScene)
        ui.chartFrame.layout().addWidget(self._chart_view)
        ui.responseSelector.currentIndexChanged.connect(self._show_response)
        ui.pictureButton.clicked.connect(self._picture)

    def show(self, result: ResultNodes | None, notes: QueryNotes | None = None) -> None:
        """Takes up another result, or none; nobody has asked its queries yet."""
        self._forget()
        self.result, self.notes = result, notes
        self._ranks = result.calibration if result is not None and result.shows_eq_9 else None

    def take(self, asked: ResultNodes, values: np.ndarray, to_ras: np.ndarray, weights_sha256: str) -> None:
        """Shows R `(N, z, y, x)` of a region: the chart follows the crosshair from now on.

        `asked`: the result that was asked about; nothing is shown over another one. `weights_sha256`: of the network
        that answered, which may not be the result's any more.
        """
        self._forget()
        if weights_sha256 != asked.weights:
            text = _("{model} is another network today than the one that made this result: segment the CT again.")
            self.ui.inspectorLabel.setText(text.format(model=asked.model))
            return
        if self.result is None or self.result.id != asked.id:
            text = _("The queries of {result} have answered, but it is no longer shown. Show it and ask again.")
            self.ui.inspectorLabel.setText(text.format(result=asked.name))
            return
        groups = [query["group"] for query in self.result.report["queries"]]
        scene, limits = slicer.mrmlScene, (float(values.min()), float(values.max()))
        self.responses = ResponseViews(scene, self.result.ct, values, to_ras, groups)
        self.chart = ResponseChart(scene, self.notes, groups, limits)
        view = scene.GetSingletonNode("MaxQuery", "vtkMRMLPlotViewNode")
        if view is None:
            view = slicer.vtkMRMLPlotViewNode()
            view.SetSingletonTag("MaxQuery")
            view.SetLayoutName("MaxQuery")
            view.SetSaveWithScene(False)
            view = scene.AddNode(view)
        view.SetDoPropagatePlotChartSelection(False)  # other modules' charts belong into other views
        view.SetPlotChartNodeID(self.chart.chart.GetID())
        self._chart_view.setMRMLPlotViewNode(view)
        self.ui.responseSelector.clear()
        self.ui.responseSelector.addItems([_("heatmap"), *_GROUPS, *map(self.name, range(len(self.notes)))])
        self._offer_views(True)
        self.ui.inspectorLabel.setText(_("Move the mouse over the region: the chart shows every query's response."))

    def _forget(self) -> None:
        for views in (self.responses, self.chart):
            if views is not None:
                views.remove()
        self.responses = self.chart = None
        self.ui.responseSelector.clear()
        self._offer_views(False)

    def _offer_views(self, answered: bool) -> None:
        """Chart, maps and picture: there once the queries were asked."""
        self.ui.chartFrame.setVisible(answered)
        for widget, tip in (
            (self.ui.pictureButton, _("Every query on the present axial slice, as PNG or PDF.")),
            (self.ui.responseSelector, _("One query's responses, or the share of a group, in place of the heatmap.")),
        ):
            widget.setEnabled(answered)
            widget.setToolTip(tip if answered else _("Ask every query first."))

    def _show_response(self, index: int) -> None:
        """Puts the map that was chosen over the CT, in place of the heatmap."""
        if self.responses is None or index < 0:
            return
        if index == 0:
            self.show_heatmap()
        else:
            chosen = index - 1
            self.responses.map_of(_GROUPS[chosen] if chosen < len(_GROUPS) else chosen - len(_GROUPS))
            slicer.util.setSliceViewerLayers(foreground=self.responses.volume, foregroundOpacity=0.6)

    def _picture(self, checked: bool = False) -> None:
        """All queries on the slice through the middle of the axial view, as a file."""
        path = qt.QFileDialog.getSaveFileName(
            self.ui.queriesTable, _("Picture of all queries"), "queries.png", "PNG (*.png);;PDF (*.pdf)"
        )
        if not path:
            return
        try:
            slicer.packaging.pip_ensure(["matplotlib>=3.8"], requester=_("MaxQuery Segmentation"))
        except (RuntimeError, subprocess.CalledProcessError) as error:  # a person declined, or pip failed
            self.ui.inspectorLabel.setText(_("There is no picture: {error}").format(error=error))
            return
        try:
            self.draw(Path(path))
        except OSError as error:
            self.ui.inspectorLabel.setText(str(error))

    def draw(self, path: Path) -> None:
        """Raises OSError when the file cannot be written."""
        from maxquery.query_picture import write_query_picture

        ct_hu, responses, pixel_mm = self.responses.axial_slice(slice_centre(self.result.ct))
        bundle, titles = self.result.report["bundle"], [self.name(query) for query in range(len(self.notes))]
        model = f"{bundle['name']} {bundle['version']}"
        write_query_picture(path, ct_hu, responses, titles, self.responses.groups, pixel_mm, model)

    def follow(self, crosshair) -> None:
        """Brings the chart to where the crosshair node's cursor is."""
        position = [0.0, 0.0, 0.0]
        if self.responses is None or not crosshair.GetCursorPositionRAS(position):
            return
        responses = self.responses.at(position)
        if responses is not None:
            eq_9 = -responses.max(keepdims=True)
            self.chart.show(responses, self._ranks and float(self._ranks.percentile(eq_9)[0]))
