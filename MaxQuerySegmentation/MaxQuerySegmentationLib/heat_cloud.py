"""The heatmap as a cloud in the 3D views: clear below the threshold, denser toward the brightest colour."""

import slicer
import vtk

_DENSEST = 0.4  # so that what lies behind can be seen


class HeatCloud:
    """Renders the volume that a heatmap has on show; made when a person asks for it."""

    def __init__(self, volume):
        self.display = slicer.modules.volumerendering.logic().CreateDefaultVolumeRenderingNodes(volume)
        self._property = self.display.GetVolumePropertyNode().GetVolumeProperty()
        self._colours = volume.GetDisplayNode().GetColorNode()

    def show(self, threshold: float, highest: float) -> None:
        highest = max(highest, threshold + 1e-3)
        opacity = vtk.vtkPiecewiseFunction()
        opacity.AddPoint(threshold, 0.0)
        opacity.AddPoint(highest, _DENSEST)
        colours, colour = vtk.vtkColorTransferFunction(), [0.0] * 4
        last = self._colours.GetNumberOfColors() - 1
        for number in range(0, last + 1, 15):
            self._colours.GetColor(number, colour)
            colours.AddRGBPoint(threshold + (highest - threshold) * number / last, *colour[:3])
        self._property.SetScalarOpacity(opacity)
        self._property.SetColor(colours)
        self.display.SetVisibility(True)

    def hide(self) -> None:
        self.display.SetVisibility(False)
