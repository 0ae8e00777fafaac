"""The anomaly over the CT: nothing below the threshold, the field's colours above it, a legend beside."""

from collections.abc import Sequence

import slicer
from slicer.i18n import tr as _

from MaxQuerySegmentationLib.result_nodes import ResultNodes

NAME = "MaxQuery heat"
_ABOVE_ALL = 1e6  # Slicer hides what lies above the upper threshold too


class Heatmap:
    """Shows a result's anomaly as the foreground of the slice views, in the units chosen.

    `colours`: sRGB 0…1, lowest first.
    """

    def __init__(self, scene, result: ResultNodes, colours: Sequence[Sequence[float]]):
        self.scene, self.result = scene, result
        self._colours = _colour_node(scene, colours)
        self._volume = None
        self.set_units("percentile")

    @property
    def volume(self):
        """The node on show."""
        return self._volume

    def set_units(self, units: str) -> None:
        """Takes the map in these units for the one on show."""
        volume = _volume_in(self.scene, self.result, units)
        if volume is self._volume:
            return
        shown = self._showing()
        if self._volume is not None:
            self.legend.SetVisibility(False)
        self._volume = volume
        volume.CreateDefaultDisplayNodes()
        self.display = volume.GetDisplayNode()
        self.display.SetAndObserveColorNodeID(self._colours.GetID())
        self.display.AutoWindowLevelOff()
        self.display.ApplyThresholdOn()
        self.legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(volume)
        self.legend.SetTitleText(f"OOD, {units}")
        self.legend.SetLabelFormat("%.1f" if units == "percentile" else "%.3g")
        self.legend.SetVisibility(bool(shown))
        for layers in shown:
            layers.SetForegroundVolumeID(volume.GetID())

    def set_range(self, threshold: float, highest: float) -> None:
        """Nothing is drawn below `threshold`; from `highest` on everything has the last colour."""
        self.display.SetThreshold(threshold, _ABOVE_ALL)
        self.display.SetWindowLevelMinMax(threshold, max(highest, threshold + 1e-3))

    def show(self, opacity: float) -> None:
        """In every slice view, with the CT behind it."""
        behind = self.result.ct if self.result.ct is not None else "keep-current"
        slicer.util.setSliceViewerLayers(background=behind, foreground=self._volume, foregroundOpacity=opacity)
        self.legend.SetVisibility(True)

    def hide(self) -> None:
        for layers in self._showing():
            layers.SetForegroundVolumeID(None)
        self.legend.SetVisibility(False)

    def _showing(self) -> list:
        if self._volume is None:
            return []
        every = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
        return [layers for layers in every if layers.GetForegroundVolumeID() == self._volume.GetID()]


def _volume_in(scene, result: ResultNodes, units: str):
    """The node that holds the map in these units; the paper's min–max is made when asked for, and not saved."""
    if units != "minmax":
        return result.anomaly if units == "percentile" else result.raw
    made = result.raw.GetNodeReference(units)
    if made is None:
        from maxquery.calibration import minmax

        made = slicer.vtkSlicerVolumesLogic.CloneVolume(scene, result.raw, _("Anomaly, min–max"), False)
        made.SetSaveWithScene(False)
        made.SetHideFromEditors(True)
        slicer.util.updateVolumeFromArray(made, minmax(slicer.util.arrayFromVolume(result.raw)))
        made.SetAndObserveTransformNodeID(result.raw.GetTransformNodeID())
        result.raw.SetNodeReferenceID(units, made.GetID())
    return made


def _colour_node(scene, colours: Sequence[Sequence[float]]):
    """The scene's one colour table of the heatmap, saved with the scene."""
    existing = scene.GetFirstNode(NAME, "vtkMRMLColorTableNode")
    if existing is not None:
        return existing
    node = slicer.vtkMRMLColorTableNode()
    node.SetTypeToUser()
    node.SetName(NAME)
    node.SetHideFromEditors(False)  # or it is not saved
    node.SetNumberOfColors(len(colours))
    for number, (red, green, blue) in enumerate(colours):
        node.SetColor(number, f"{number}", float(red), float(green), float(blue), 1.0)
    return scene.AddNode(node)
