"""The CT that a person chose: whether it can be used, and how it reaches the engine."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

ROLE = "MaxQuery.Role"
"""An attribute of every volume, table and segmentation of ours: none is a CT to segment."""
_TOLERANCE_MM = 1e-3


def problem(phases: Sequence, phase_names: Sequence[str], region=None) -> str | None:
    """One sentence that says why these volume nodes cannot be segmented, None if they can.

    `phases`: a node, or None, for each of the model's channels, which are called `phase_names`; `region`: the ROI node
    to which they are cropped, if any.
    """
    for node, name in zip(phases, phase_names, strict=True):
        if node is None:
            return _("Choose the {phase} CT.").format(phase=name)
        if node.GetAttribute(ROLE) is not None:
            return _("{name} is a result, not a CT.").format(name=node.GetName())
        if node.GetImageData() is None:
            return _("{name} holds no image.").format(name=node.GetName())
        if node.GetImageData().GetNumberOfScalarComponents() != 1:
            return _("{name} is a colour image, not a CT.").format(name=node.GetName())
        if node.IsA("vtkMRMLLabelMapVolumeNode"):
            return _("{name} is a label map, not a CT.").format(name=node.GetName())
        transform = node.GetParentTransformNode()
        if transform is not None and not transform.IsLinear():
            return _("{name} is deformed by a transform: harden it first.").format(name=node.GetName())
    if any(node.GetParentTransformNode() is not phases[0].GetParentTransformNode() for node in phases[1:]):
        return _("The phases lie under different transforms: harden these, and resample the phases to one another.")
    if not all(_same_grid(phases[0], node) for node in phases[1:]):
        return _("The phases do not lie on the same grid: resample them to one another first.")
    if region is not None and not all(side.start < side.stop for side in voxels_in(phases[0], region)):
        return _("The region {name} lies outside the CT.").format(name=region.GetName())
    return None


def first_ct(scene):
    """The first volume of the scene that is no result, None if there is none."""
    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", scene)
    return next((node for node in volumes if problem([node], [""]) is None), None)


def voxels_in(ct, region) -> tuple[slice, slice, slice]:
    """The box `(Z, Y, X)` of the CT's voxels that holds what an ROI node bounds in the world."""
    bounds = [0.0] * 6
    region.GetRASBounds(bounds)
    to_ijk = vtk.vtkMatrix4x4()
    ct.GetRASToIJKMatrix(to_ijk)
    corners = itertools.product(bounds[:2], bounds[2:4], bounds[4:])
    ijk = np.array([to_ijk.MultiplyPoint([*in_own_frame(ct, corner), 1.0])[:3] for corner in corners])
    first, last = np.floor(ijk.min(axis=0) + 0.5), np.ceil(ijk.max(axis=0) - 0.5)  # a voxel is one wide
    size = ct.GetImageData().GetDimensions()
    return tuple(slice(max(0, int(first[axis])), min(size[axis], int(last[axis]) + 1)) for axis in (2, 1, 0))


def fit(region, ct) -> None:
    """Makes an ROI node bound the whole CT, in the world."""
    bounds = [0.0] * 6
    ct.GetRASBounds(bounds)
    low, high = np.array(bounds[::2]), np.array(bounds[1::2])
    region.SetCenterWorld(*((low + high) / 2))
    region.SetSizeWorld(*(high - low))
    region.CreateDefaultDisplayNodes()
    region.GetDisplayNode().SetFillVisibility(False)  # it would tint all of the CT


def write_phases(phases: Sequence, folder: Path, region=None) -> list[Path]:
    """Writes the volume nodes into `folder`, in order, under names that say nothing of the patient.

    Only what the ROI node `region` bounds, if there is one. A transform above a node is not applied: results are put
    under the same transform. Raises OSError.
    """
    paths = []
    for number, whole in enumerate(phases):
        node = whole if region is None else _cropped(whole, voxels_in(whole, region))
        path = folder / f"phase{number}.nrrd"
        storage = slicer.vtkMRMLNRRDStorageNode()
        storage.SetFileName(str(path))
        storage.SetUseCompression(False)
        if not storage.WriteData(node):
            raise OSError(_("The CT could not be written to {folder}: is the disk full?").format(folder=folder))
        paths.append(path)
    return paths


def _cropped(ct, box: tuple[slice, slice, slice]):
    """A volume node, in no scene, of these voxels of the CT where they lie."""
    to_ras = vtk.vtkMatrix4x4()
    ct.GetIJKToRASMatrix(to_ras)
    origin = to_ras.MultiplyPoint([*(side.start for side in reversed(box)), 1.0])
    for row in range(3):
        to_ras.SetElement(row, 3, origin[row])
    crop = slicer.vtkMRMLScalarVolumeNode()
    slicer.util.updateVolumeFromArray(crop, np.ascontiguousarray(slicer.util.arrayFromVolume(ct)[box]))
    crop.SetIJKToRASMatrix(to_ras)
    return crop


def show_as_abdomen(ct) -> None:
    """Gives the CT an abdomen's window, unless a person has set one."""
    from maxquery.display import CT_WINDOW_HU

    display = ct.GetDisplayNode()
    if display is not None and display.GetAutoWindowLevel():
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(*CT_WINDOW_HU)


def slice_centre(ct) -> list[float]:
    """What lies in the middle of the axial slice view, wherever it was panned to, in the CT's own frame (RAS, mm)."""
    view = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    width, height, _depth = view.GetDimensions()
    return in_own_frame(ct, view.GetXYToRAS().MultiplyPoint([width / 2, height / 2, 0.0, 1.0])[:3])


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
