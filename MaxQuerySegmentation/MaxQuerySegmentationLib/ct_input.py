"""The CT that a person chose: whether it can be used, and how it reaches the engine."""

from collections.abc import Sequence
from pathlib import Path

import slicer
import vtk
from slicer.i18n import tr as _

_TOLERANCE_MM = 1e-3


def problem(phases: Sequence, phase_names: Sequence[str]) -> str | None:
    """One sentence that says why these volume nodes cannot be segmented, None if they can.

    `phases`: a node, or None, for each of the model's channels, which are called `phase_names`.
    """
    for node, name in zip(phases, phase_names, strict=True):
        if node is None:
            return _("Choose the {phase} CT.").format(phase=name)
        if node.GetImageData() is None:
            return _("{name} holds no image.").format(name=node.GetName())
        if node.GetImageData().GetNumberOfScalarComponents() != 1:
            return _("{name} is a colour image, not a CT.").format(name=node.GetName())
        if node.IsA("vtkMRMLLabelMapVolumeNode"):
            return _("{name} is a label map, not a CT.").format(name=node.GetName())
        transform = node.GetParentTransformNode()
        if transform is not None and not transform.IsLinear():
            return _("{name} is deformed by a transform: harden it first.").format(name=node.GetName())
    if not all(_same_grid(phases[0], node) for node in phases[1:]):
        return _("The phases do not lie on the same grid: resample them to one another first.")
    return None


def write_phases(phases: Sequence, folder: Path) -> list[Path]:
    """Writes the volume nodes into `folder`, in order, under names that say nothing of the patient.

    A transform above a node is not applied: results are put under the same transform. Raises OSError.
    """
    paths = []
    for number, node in enumerate(phases):
        path = folder / f"phase{number}.nrrd"
        storage = slicer.vtkMRMLNRRDStorageNode()
        storage.SetFileName(str(path))
        storage.SetUseCompression(False)
        if not storage.WriteData(node):
            raise OSError(_("The CT could not be written to {folder}: is the disk full?").format(folder=folder))
        paths.append(path)
    return paths


def show_as_abdomen(ct) -> None:
    """Gives the CT an abdomen's window, unless a person has set one."""
    from maxquery.display import CT_WINDOW_HU

    display = ct.GetDisplayNode()
    if display is not None and display.GetAutoWindowLevel():
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(*CT_WINDOW_HU)


def slice_centre(ct) -> list[float]:
    """Where the axial slice view is centred, in the CT's own frame (RAS, mm)."""
    to_world = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed").GetSliceToRAS()
    return in_own_frame(ct, [to_world.GetElement(row, 3) for row in range(3)])


def in_own_frame(ct, world_ras_mm: Sequence[float]) -> list[float]:
    """Where a place in the world lies below the CT's transform (RAS, mm)."""
    to_local = vtk.vtkMatrix4x4()
    transform = ct.GetParentTransformNode()
    if transform is not None:
        transform.GetMatrixTransformFromWorld(to_local)
    return list(to_local.MultiplyPoint([*world_ras_mm, 1.0])[:3])


def _same_grid(one, other) -> bool:
    matrices = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    for node, matrix in zip((one, other), matrices, strict=True):
        node.GetIJKToRASMatrix(matrix)
    same_place = all(
        abs(matrices[0].GetElement(row, column) - matrices[1].GetElement(row, column)) < _TOLERANCE_MM
        for row in range(3) for column in range(4)
    )  # fmt: skip
    return same_place and one.GetImageData().GetDimensions() == other.GetImageData().GetDimensions()
