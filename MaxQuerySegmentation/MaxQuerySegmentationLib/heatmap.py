"""The anomaly over the CT: nothing below the threshold, the field's colours above it, a legend beside."""

from collections.abc import Sequence

import slicer
from slicer.i18n import tr as _

from MaxQuerySegmentationLib.result_nodes import ResultNodes
from MaxQuerySegmentationLib.searched_anomaly import SearchedAnomaly

NAME = "MaxQuery heat"
_ABOVE_ALL = 1e6  # Slicer hides what lies above the upper threshold too


class Heatmap:
    """Shows a result's anomaly as the foreground of the slice views, in the units and where it was asked for.

    `colours`: sRGB 0…1, lowest first.
    """

    def __init__(self, scene, result: ResultNodes, colours: Sequence[Sequence[float]]):
        self.result, self.volume = result, result.anomaly
        self.volume.CreateDefaultDisplayNodes()
        self.display = self.volume.GetDisplayNode()
        self.display.SetAndObserveColorNodeID(_colour_node(scene, colours).GetID())
        self.display.AutoWindowLevelOff()
        self.display.ApplyThresholdOn()
        self.legend = _legend(self.volume)

    def draw(self, anomaly: SearchedAnomaly, units: str) -> None:
        """Fills the volume on show with these scores, in these units; the raw scores stay in a node of their own."""
        voxels = slicer.util.arrayFromVolume(self.volume)
        voxels[:] = anomaly.scale.lowest(units)
        voxels[anomaly.box] = anomaly.scale.values(anomaly.steps, units)
        slicer.util.arrayFromVolumeModified(self.volume)
        self.volume.SetName(_("Anomaly, {units}").format(units=units))
        self.legend.SetTitleText(f"OOD, {units}")
        self.legend.SetLabelFormat("%.1f" if units == "percentile" else "%.3g")

    def set_range(self, threshold: float, highest: float) -> None:
        """Nothing is drawn below `threshold`; from `highest` on everything has the last colour."""
        self.display.SetThreshold(threshold, _ABOVE_ALL)
        self.display.SetWindowLevelMinMax(threshold, max(highest, threshold + 1e-3))

    def show(self, opacity: float) -> None:
        """In every slice view, with the CT behind it."""
        ct = self.result.ct
        behind = "keep-current" if ct is None or ct.GetScene() is None else ct  # it may have been deleted since
        slicer.util.setSliceViewerLayers(background=behind, foreground=self.volume, foregroundOpacity=opacity)
        self.legend.SetVisibility(True)

    def hide(self) -> None:
        for layers in self._showing():
            layers.SetForegroundVolumeID(None)
        self.legend.SetVisibility(False)

    def _showing(self) -> list:
        every = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
        return [layers for layers in every if layers.GetForegroundVolumeID() == self.volume.GetID()]


def _legend(volume):
    """A scale at the right edge of each slice view that leaves the picture to the CT."""
    legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(volume)
    legend.SetSize(0.12, 0.4)
    legend.SetNumberOfLabels(3)
    legend.SetVisibility(False)  # a legend that is on before its volume is in a view stays unseen
    return legend


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
