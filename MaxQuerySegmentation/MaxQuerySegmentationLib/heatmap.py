"""The anomaly over the CT: nothing below the threshold, the field's colours above it, a legend beside."""

from collections.abc import Sequence

import slicer

NAME = "MaxQuery heat"
_ABOVE_ALL = 1e6  # Slicer hides what lies above the upper threshold too


class Heatmap:
    """Shows one anomaly volume as the foreground of the slice views.

    `colours`: sRGB 0…1, lowest first.
    """

    def __init__(self, scene, anomaly, colours: Sequence[Sequence[float]]):
        self.scene, self.anomaly = scene, anomaly
        anomaly.CreateDefaultDisplayNodes()
        self.display = anomaly.GetDisplayNode()
        self.display.SetAndObserveColorNodeID(_colour_node(scene, colours).GetID())
        self.display.AutoWindowLevelOff()
        self.display.ApplyThresholdOn()

    def show(self, ct, opacity: float) -> None:
        """In every slice view, with `ct` behind it."""
        for layers in self._layers():
            if ct is not None:
                layers.SetBackgroundVolumeID(ct.GetID())
            layers.SetForegroundVolumeID(self.anomaly.GetID())
            layers.SetForegroundOpacity(opacity)

    def hide(self) -> None:
        for layers in self._layers():
            if layers.GetForegroundVolumeID() == self.anomaly.GetID():
                layers.SetForegroundVolumeID(None)

    def set_range(self, threshold: float, highest: float) -> None:
        """Nothing is drawn below `threshold`; from `highest` on everything has the last colour."""
        self.display.SetThreshold(threshold, _ABOVE_ALL)
        self.display.SetWindowLevelMinMax(threshold, max(highest, threshold + 1e-3))

    def set_opacity(self, opacity: float) -> None:
        for layers in self._layers():
            if layers.GetForegroundVolumeID() == self.anomaly.GetID():
                layers.SetForegroundOpacity(opacity)

    def _layers(self) -> list:
        kind = "vtkMRMLSliceCompositeNode"
        return [self.scene.GetNthNodeByClass(n, kind) for n in range(self.scene.GetNumberOfNodesByClass(kind))]


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
