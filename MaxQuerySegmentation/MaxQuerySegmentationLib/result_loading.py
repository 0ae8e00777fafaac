"""The files that the engine wrote become nodes of the scene, as they are to be seen over the CT."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from MaxQuerySegmentationLib.ct_input import ROLE
from MaxQuerySegmentationLib.result_nodes import ResultNodes, calibration_of, is_understood, put_into_folder, remember


def load_result(scene, folder: Path, phases: list[Any], name: str, model: str) -> ResultNodes:
    """The files that `maxquery segment` left in `folder`, as nodes in a new subject hierarchy folder `name`.

    They lie where the CT lies, under its transform. Raises OSError, with nothing left in the scene, when a file
    cannot be read, or is of another version.
    """
    made: list[Any] = []
    try:
        result = _read_nodes(scene, folder, phases, made)
    except OSError:
        for node in made:
            scene.RemoveNode(node)
        raise
    remember(result, name, model)
    _show_over_ct(result)
    put_into_folder(scene, result)
    return result


def _read_nodes(scene, folder: Path, phases: list[Any], made: list[Any]) -> ResultNodes:
    """The nodes with what the files hold; each is in `made` as soon as it is in the scene."""

    def node(kind: str, role: str, title: str):
        new = scene.AddNewNodeByClass(kind, title)
        new.SetAttribute(ROLE, role)
        made.append(new)
        return new

    provenance = node("vtkMRMLTextNode", "provenance", _("Provenance"))
    provenance.SetText((folder / "report.json").read_text("utf-8"))
    if not is_understood(provenance):
        raise OSError(_("The engine is of another version than this extension: bring one of them up to date."))
    raw = node("vtkMRMLScalarVolumeNode", "raw", _("Anomaly, raw"))
    _read(slicer.vtkMRMLVolumeArchetypeStorageNode(), folder / "anomaly.nrrd", raw)
    anomaly = node("vtkMRMLScalarVolumeNode", "anomaly", _("Anomaly, {units}").format(units="percentile"))
    _fill_with_percentiles(anomaly, raw, calibration_of(provenance))
    clusters = node("vtkMRMLLabelMapVolumeNode", "clusters", _("Query clusters"))
    _read(slicer.vtkMRMLVolumeArchetypeStorageNode(), folder / "clusters.nrrd", clusters)
    segmentation = node("vtkMRMLSegmentationNode", "segmentation", _("Segmentation"))
    _read(slicer.vtkMRMLSegmentationStorageNode(), folder / "segmentation.seg.nrrd", segmentation)
    findings = node("vtkMRMLTableNode", "findings", _("Findings"))
    _read(slicer.vtkMRMLTableStorageNode(), folder / "findings.csv", findings)
    findings.SetLocked(True)
    points = node("vtkMRMLMarkupsFiducialNode", "points", _("Finding positions"))
    for finding in json.loads(provenance.GetText())["findings"]:
        points.AddControlPoint(finding["centroid_ras_mm"], str(finding["id"]))
    points.SetLocked(True)
    points.SetFixedNumberOfControlPoints(True)  # the table's rows know them by their order
    return ResultNodes(phases, segmentation, anomaly, raw, clusters, findings, points, provenance)


def _show_over_ct(result: ResultNodes) -> None:
    """Gives the nodes their displays, and puts them under the CT's transform."""
    for node in (result.segmentation, result.anomaly, result.points):
        node.CreateDefaultDisplayNodes()
    # Outlines only: a fill would hide the heatmap.
    result.segmentation.GetDisplayNode().SetVisibility2DFill(False)
    result.segmentation.SetReferenceImageGeometryParameterFromVolumeNode(result.ct)
    result.points.GetDisplayNode().SetGlyphScale(1.5)  # % of the view: a finding must not hide behind its mark
    for node in (result.anomaly, result.raw, result.clusters, result.segmentation, result.points):
        node.SetAndObserveTransformNodeID(result.ct.GetTransformNodeID())


def _fill_with_percentiles(anomaly, raw, calibration) -> None:
    """Gives `anomaly` the grid of `raw`, and its scores as the engine's calibration ranks them."""
    percentile = calibration.percentile(slicer.util.arrayFromVolume(raw).astype(np.float16))
    matrix = vtk.vtkMatrix4x4()
    raw.GetIJKToRASMatrix(matrix)
    anomaly.SetIJKToRASMatrix(matrix)
    slicer.util.updateVolumeFromArray(anomaly, percentile)


def _read(storage, path: Path, node) -> None:
    storage.SetFileName(str(path))
    if not path.exists() or not storage.ReadData(node):
        raise OSError(_("The result {file} could not be read.").format(file=path))
