"""A real MRML scene as a Slicer has it when it has started."""

from types import SimpleNamespace

import slicer


def slicer_scene(application):
    """Empty, with the logics that nodes ask for and the three slice views of a person; slicer.mrmlScene from now on."""
    # What slicer.util asks for; a Slicer has it.
    slicer.modules = SimpleNamespace()
    scene = slicer.mrmlScene = slicer.vtkMRMLScene()
    application.SetMRMLScene(scene)
    for name, logic in (
        ("Colors", slicer.vtkSlicerColorLogic()),
        ("Segmentations", slicer.vtkSlicerSegmentationsModuleLogic()),
        ("Markups", slicer.vtkSlicerMarkupsLogic()),
        ("VolumeRendering", slicer.vtkSlicerVolumeRenderingLogic()),
    ):
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(scene)
        application.SetModuleLogic(name, logic)
        # It lives as long as this.
        setattr(slicer.modules, name.lower(), SimpleNamespace(logic=lambda logic=logic: logic))
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    for name, orientation in (("Red", "Axial"), ("Green", "Coronal"), ("Yellow", "Sagittal")):
        node = scene.CreateNodeByClass("vtkMRMLSliceNode")
        node.UnRegister(None)
        node.SetLayoutName(name)
        node.SetSingletonTag(name)
        scene.AddNode(node).SetOrientation(orientation)
        layers = scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode", name)
        layers.SetLayoutName(name)
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetSingletonTag("default")
    scene.AddNode(crosshair)
    return scene
