"""The section 'Heatmap' of the panel: one range and its units for overlay, cloud and OOD segment."""

import qt
import slicer
from slicer.i18n import tr as _

from MaxQuerySegmentationLib.anomaly_scale import AnomalyScale
from MaxQuerySegmentationLib.heat_cloud import HeatCloud
from MaxQuerySegmentationLib.heatmap import Heatmap
from MaxQuerySegmentationLib.ood_segment import OodSegment
from MaxQuerySegmentationLib.result_nodes import ResultNodes
from MaxQuerySegmentationLib.searched_anomaly import SearchedAnomaly
from MaxQuerySegmentationLib.surfaces import Surfaces

_REST_MILLISECONDS = 300
_FOLLOWED = (
    "showHeatmap", "units", "threshold", "brightest", "opacity", "showSurfaces", "showVolume", "showOod", "region",
    "minimumMl",
)  # fmt: skip

REGIONS = ("organ", "everywhere")
"""Where heatmap and OOD segment look: in and close around organ and tumours, or in the whole CT."""


class HeatmapPanel:
    """Brings a result's anomaly to where the module's parameters want it.

    `ui`: the panel's widgets. `chosen`, the parameter node: `threshold` and `brightest` are in its `units`.
    """

    def __init__(self, ui):
        self.ui = ui
        self.heatmap: Heatmap | None = None
        self.ood: OodSegment | None = None
        self._cloud: HeatCloud | None = None
        self._surfaces: Surfaces | None = None
        self._resting = qt.QTimer()
        self._resting.setSingleShot(True)
        self._resting.setInterval(_REST_MILLISECONDS)
        self._resting.timeout.connect(self._settle)
        self.result: ResultNodes | None = None
        self.scale: AnomalyScale | None = None
        self._chosen = None
        self._anomaly: SearchedAnomaly | None = None
        self._units = ""
        self._drawn = ("", "")  # the region and units of the volume on show
        self._applied: tuple | None = None  # the parameters that all follows now
        self._busy = False  # while widgets and parameters are brought together
        ui.heatRange.valuesChanged.connect(self._moved)
        ui.piecesButton.clicked.connect(self._make_segments)

    def show(self, result: ResultNodes | None, chosen) -> None:
        """Takes up another result, or none."""
        from maxquery.display import heat_colours

        if self.heatmap is not None:
            self.hide()
        self._resting.stop()
        self.result = self.scale = None  # a CT that was closed is let go
        self.heatmap = self.ood = self._cloud = self._anomaly = self._surfaces = None
        self._chosen, self._drawn, self._applied = chosen, ("", ""), None
        if result is not None:
            self._units = chosen.units
            raw = slicer.util.arrayFromVolume(result.raw)
            self.scale = AnomalyScale.of(raw, result.calibration)
            self.result = result
            self.heatmap = Heatmap(slicer.mrmlScene, result, heat_colours())
            self._set_bounds()
            self.apply(chosen)

    def stop(self) -> None:
        """Nothing happens by itself from now on."""
        self._resting.stop()

    def hide(self) -> None:
        self.heatmap.hide()
        if self._cloud is not None:
            self._cloud.hide()

    def apply(self, chosen) -> None:
        """Everything as the parameters say, if what they say of the heatmap has changed."""
        said = tuple(getattr(chosen, name) for name in _FOLLOWED)
        if self.heatmap is None or self._busy or said == self._applied:
            return
        self._chosen = chosen
        if chosen.units != self._units:
            self._change_units()
        self._draw()
        self.heatmap.set_range(chosen.threshold, chosen.brightest)
        if chosen.showHeatmap:
            self.heatmap.show(chosen.opacity)
        else:
            self.heatmap.hide()
        self._apply_cloud()
        self._apply_ood()
        self._resting.start()
        self._applied = tuple(getattr(chosen, name) for name in _FOLLOWED)
        self.ui.responseSelector.setCurrentIndex(0)  # the heatmap has taken the response's place

    def bring_back(self) -> None:
        """The heatmap, where something else was shown in its place."""
        if self._chosen is not None:
            self._applied = None
            self.apply(self._chosen)

    def _draw(self) -> None:
        """The volume on show as region and units want it."""
        chosen, (region, units) = self._chosen, self._drawn
        if chosen.region != region:
            self.ood = None
            self._anomaly = SearchedAnomaly(self.result, self.scale, chosen.region == "everywhere")
        if (chosen.region, chosen.units) != (region, units):
            self.heatmap.draw(self._anomaly, chosen.units)
            self._drawn = (chosen.region, chosen.units)

    def _apply_cloud(self) -> None:
        chosen = self._chosen
        if chosen.showVolume:
            if self._cloud is None:
                self._cloud = HeatCloud(self.heatmap.volume)
            self._cloud.show(chosen.threshold, chosen.brightest)
        elif self._cloud is not None:
            self._cloud.hide()

    def _settle(self) -> None:
        """What is too slow to follow the hand, once it rests."""
        if self.ood is not None:
            self.ood.settle()
        if self._chosen.showSurfaces:
            if self._surfaces is None:
                self._surfaces = Surfaces(self.result)
            self._surfaces.show()
        elif self._surfaces is not None:
            self._surfaces.hide()

    def _apply_ood(self) -> None:
        chosen = self._chosen
        if chosen.showOod:
            if self.ood is None:
                self.ood = OodSegment(self.result, self._anomaly)
            self.ood.update(chosen.threshold, chosen.units, chosen.minimumMl)
            said = _("{volume:.1f} ml at or above {threshold:.4g} ({units})")
            self.ui.oodLabel.setText(
                said.format(volume=self.ood.volume_ml(), threshold=chosen.threshold, units=chosen.units)
            )
        if self.ood is not None:
            self.ood.show(chosen.showOod)
        self.ui.piecesButton.setEnabled(chosen.showOod)
        self.ui.piecesButton.setToolTip(
            _("Each piece becomes a segment of its own, to be edited in Segment Editor. They stay as they are when the "
              "handle moves.")
            if chosen.showOod else _("Outline the OOD region first.")
        )  # fmt: skip

    def _change_units(self) -> None:
        """The same thresholds in the new units."""
        chosen, old, self._units = self._chosen, self._units, self._chosen.units
        self._busy = True
        chosen.threshold = self.scale.convert(chosen.threshold, old, self._units)
        chosen.brightest = self.scale.convert(chosen.brightest, old, self._units)
        self._busy = False
        self._set_bounds()

    def _set_bounds(self) -> None:
        """The range widget's limits, digits and handles."""
        chosen, (low, high) = self._chosen, self.scale.bounds(self._units)
        self._busy = True
        widget = self.ui.heatRange
        widget.decimals = 1 if self._units == "percentile" else 3
        widget.singleStep = 0.1 if self._units == "percentile" else (high - low) / 200
        widget.setRange(low, high)
        chosen.threshold = min(max(chosen.threshold, low), high)
        chosen.brightest = min(max(chosen.brightest, chosen.threshold), high)
        widget.setValues(chosen.threshold, chosen.brightest)
        self._busy = False

    def _moved(self, threshold: float, brightest: float) -> None:
        if self._busy or self._chosen is None:
            return
        self._busy = True
        self._chosen.threshold, self._chosen.brightest = threshold, brightest
        self._busy = False
        self.apply(self._chosen)

    def _make_segments(self, checked: bool = False) -> None:
        count = self.ood.copy_as_segments(_("OOD piece"))
        self.ui.oodLabel.setText(_("{count} segments made.").format(count=count))
