"""Slicer's own slice and 3D views without a window: MRML's displayable managers, drawn offscreen."""

import os

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")

_SLICE_MANAGERS = (
    "vtkMRMLVolumeGlyphSliceDisplayableManager", "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager", "vtkMRMLColorLegendDisplayableManager",
)  # fmt: skip
_3D_MANAGERS = (
    "vtkMRMLCameraDisplayableManager", "vtkMRMLViewDisplayableManager", "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLVolumeRenderingDisplayableManager",
)  # fmt: skip


class _View:
    """Draws `node`, a view of the scene, in `size` x `size` pixels."""

    def __init__(self, factory, managers: tuple[str, ...], node, application, size: int):
        self.renderer, self.window, self._interactor = (
            vtk.vtkRenderer(), vtk.vtkRenderWindow(), vtk.vtkRenderWindowInteractor()
        )  # fmt: skip
        self.window.SetOffScreenRendering(True)
        self.window.SetSize(size, size)
        self.window.AddRenderer(self.renderer)
        self._interactor.SetRenderWindow(self.window)
        factory.SetMRMLApplicationLogic(application)
        for name in managers:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        self._group = factory.InstantiateDisplayableManagers(self.renderer)
        self._group.SetMRMLDisplayableNode(node)

    def render(self) -> None:
        self.window.Render()

    def picture(self) -> np.ndarray:
        """`(height, width, 3)` uint8, the first row at the top."""
        self.render()
        grabber = vtk.vtkWindowToImageFilter()
        grabber.SetInput(self.window)
        grabber.ReadFrontBufferOff()
        grabber.Update()
        image = grabber.GetOutput()
        width, height, _one = image.GetDimensions()
        return numpy_support.vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[::-1, :, :3]


class SliceView(_View):
    """One of the scene's slice views, `name`, with its layers."""

    def __init__(self, scene, application, name: str, size: int = 400):
        node = scene.GetNodeByID(f"vtkMRMLSliceNode{name}")
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        self._logic = slicer.vtkMRMLSliceLogic()
        self._logic.SetMRMLApplicationLogic(application)
        self._logic.SetMRMLScene(scene)
        self._logic.SetSliceNode(node)
        if application.GetSliceLogics() is None:
            application.SetSliceLogics(vtk.vtkCollection())
        application.GetSliceLogics().AddItem(self._logic)
        super().__init__(factory, _SLICE_MANAGERS, node, application, size)
        self._mapper, actor = vtk.vtkImageMapper(), vtk.vtkActor2D()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        actor.SetMapper(self._mapper)
        actor.GetProperty().SetDisplayLocationToBackground()
        self.renderer.AddViewProp(actor)
        node.SetDimensions(size, size, 1)

    def render(self) -> None:
        self._mapper.SetInputConnection(self._logic.GetImageDataConnection())
        super().render()

    def fit(self) -> None:
        """Shows the whole of the layers."""
        self._logic.FitSliceToAll()


class ThreeDView(_View):
    """The scene's 3D view, made if need be."""

    def __init__(self, scene, application, size: int = 400):
        node = scene.AddNewNodeByClass("vtkMRMLViewNode")
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
        super().__init__(factory, _3D_MANAGERS, node, application, size)

    def picture(self) -> np.ndarray:
        self.renderer.ResetCamera()
        return super().picture()
