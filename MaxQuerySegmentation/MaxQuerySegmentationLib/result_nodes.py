"""A result folder becomes nodes of the scene, in one folder of the subject hierarchy, and is found again there."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from MaxQuerySegmentationLib.ct_input import ROLE, problem

_ROLES = ("segmentation", "anomaly", "raw", "clusters", "findings", "points")
"""What the provenance node refers to: a scene that takes up another one renews references, and no attributes."""
_CASE = "MaxQuery.Case"
_FOLDER = "MaxQuery.Folder"
_SEGMENTS = "MaxQuery.Segments"
_MODEL = "MaxQuery.Model"
_PHASES = "MaxQuery.Phases"
COLOURS = "MaxQuery.Colours"
"""What the cluster map calls its table of colours."""


@dataclass(frozen=True)
class ResultNodes:
    """The nodes of one run. `phases`: its volumes, the first is the CT; None in place of what has been deleted since.

    `anomaly` is what the heatmap shows, at first percentiles everywhere; `raw` holds the engine's own scores.
    """

    phases: list[Any]
    segmentation: Any
    anomaly: Any
    raw: Any
    clusters: Any
    findings: Any
    points: Any
    provenance: Any

    @property
    def id(self) -> str:
        """Of this result alone; names need not be, once a scene has taken up another."""
        return self.provenance.GetID()

    @property
    def ct(self):
        return self.phases[0]

    @property
    def has_phases(self) -> bool:
        """Whether its volumes are still there."""
        return all(phase is not None and phase.GetScene() is not None for phase in self.phases)

    @property
    def is_whole(self) -> bool:
        """Whether nothing of it has been taken out of the scene."""
        return all(node.GetScene() is not None for node in self.nodes)

    @property
    def nodes(self) -> tuple[Any, ...]:
        """Those that the run made."""
        return (*(getattr(self, role) for role in _ROLES), self.provenance)

    @property
    def model(self) -> str:
        """What the model was called when it ran."""
        return self.provenance.GetAttribute(_MODEL)

    @property
    def report(self) -> dict[str, Any]:
        """What report.json says of the run."""
        return json.loads(self.provenance.GetText())

    @property
    def weights(self) -> str:
        """SHA-256 of the network that ran: another one has other queries, whatever it is called."""
        return self.report["bundle"]["weights_sha256"]

    @property
    def shows_eq_9(self) -> bool:
        """Whether the anomaly is minus the largest response, as in the paper, or another score."""
        bundle = self.report["bundle"]
        return bundle["score"] == "maxquery" and not bundle["smoothing_mm"]

    @property
    def calibration(self):
        """The engine's `CalibrationTable` of the model that ran."""
        return _calibration(self.provenance)

    @property
    def name(self) -> str:
        return self.provenance.GetAttribute(_CASE)

    @property
    def model_segments(self) -> list[str]:
        """Those of the model's segments, organ and tumours, that are still there; not what was added since."""
        segments = self.segmentation.GetSegmentation()
        return [segment_id for segment_id in self._made_segments if segments.GetSegment(segment_id) is not None]

    @property
    def organ_segment(self) -> str:
        return self._made_segments[0]

    @property
    def _made_segments(self) -> list[str]:
        return self.segmentation.GetAttribute(_SEGMENTS).split("\n")

    def set_visible(self, visible: bool) -> None:
        """Outlines and marks, in all views."""
        for node in (self.segmentation, self.points):
            node.SetDisplayVisibility(visible)


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
    _remember(result, name, model)
    _show_over_ct(result)
    _put_into_folder(scene, made, result.ct, name)
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
    if not _is_understood(provenance):
        raise OSError(_("The engine is of another version than this extension: bring one of them up to date."))
    raw = node("vtkMRMLScalarVolumeNode", "raw", _("Anomaly, raw"))
    _read(slicer.vtkMRMLVolumeArchetypeStorageNode(), folder / "anomaly.nrrd", raw)
    anomaly = node("vtkMRMLScalarVolumeNode", "anomaly", _("Anomaly, {units}").format(units="percentile"))
    _fill_with_percentiles(anomaly, raw, _calibration(provenance))
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


def _remember(result: ResultNodes, name: str, model: str) -> None:
    """What a saved scene needs to know of the result, to find it again."""
    segments, provenance = result.segmentation.GetSegmentation(), result.provenance
    result.segmentation.SetAttribute(
        _SEGMENTS, "\n".join(segments.GetNthSegmentID(n) for n in range(segments.GetNumberOfSegments()))
    )
    for role in _ROLES:
        provenance.SetNodeReferenceID(f"MaxQuery.{role}", getattr(result, role).GetID())
    provenance.SetAttribute(_CASE, name)
    provenance.SetAttribute(_MODEL, model)
    provenance.SetAttribute(_PHASES, str(len(result.phases)))
    for number, phase in enumerate(result.phases):
        provenance.SetNodeReferenceID(f"{_PHASES}.{number}", phase.GetID())


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


def results_in(scene) -> list[ResultNodes]:
    """Every whole result in the scene that this version understands, the oldest first, those of a loaded .mrb too."""
    results = []
    for provenance in slicer.util.getNodesByClass("vtkMRMLTextNode", scene):
        nodes = [provenance.GetNodeReference(f"MaxQuery.{role}") for role in _ROLES]
        if None not in nodes and _is_understood(provenance):
            results.append(ResultNodes(_phases(provenance), *nodes, provenance))
    return results


def first_ct(scene):
    """The first volume of the scene that is no result, None if there is none."""
    volumes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode", scene)
    return next((node for node in volumes if problem([node], [""]) is None), None)


def remove_result(scene, result: ResultNodes) -> None:
    """Takes the run's nodes out of the scene, and their folder if nothing else lies in it; the CT stays."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    folder = hierarchy.GetItemParent(hierarchy.GetItemByDataNode(result.provenance))
    for node in result.nodes:
        remove_node(scene, node)
    if hierarchy.HasItemAttribute(folder, _FOLDER) and not hierarchy.GetNumberOfItemChildren(folder):
        hierarchy.RemoveItem(folder)


def remove_node(scene, node) -> None:
    """With what serves it alone, and would be saved with the scene: displays, files, and a table of colours."""
    shown = node.IsA("vtkMRMLDisplayableNode")
    displays = [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())] if shown else []
    clouds = [display for display in displays if display.IsA("vtkMRMLVolumeRenderingDisplayNode")]
    serving = [cloud.GetVolumePropertyNode() for cloud in clouds] + displays
    serving += [node.GetStorageNode(), node.GetNodeReference(COLOURS)]
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = hierarchy.GetItemByDataNode(node)
    if item:  # what a person put below it moves up
        hierarchy.RemoveItem(item, False, False)
    for each in (node, *filter(None, serving)):
        scene.RemoveNode(each)


def new_name(scene, ct) -> str:
    """What the next run on this CT is called: no other result in the scene is."""
    taken = {result.name for result in results_in(scene)}
    name, number = f"MaxQuery {ct.GetName()}", 1
    while name in taken:
        number += 1
        name = f"MaxQuery {ct.GetName()} ({number})"
    return name


def _phases(provenance) -> list[Any]:
    count = int(provenance.GetAttribute(_PHASES))
    return [provenance.GetNodeReference(f"{_PHASES}.{number}") for number in range(count)]


def _is_understood(provenance) -> bool:
    """Whether the report is as this version writes it; scenes and engines may be older or newer."""
    from maxquery.result import REPORT_FORMAT

    return json.loads(provenance.GetText()).get("format") == REPORT_FORMAT


def _calibration(provenance):
    from maxquery.calibration import CalibrationTable

    return CalibrationTable(**json.loads(provenance.GetText())["calibration"])


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


def _put_into_folder(scene, nodes: list[Any], ct, name: str) -> None:
    """A folder beside the CT, so that the result can be shown, saved or removed as a whole."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    ct_item = hierarchy.GetItemByDataNode(ct)
    parent = hierarchy.GetItemParent(ct_item) if ct_item else hierarchy.GetSceneItemID()
    folder = hierarchy.CreateFolderItem(parent, name)
    hierarchy.SetItemAttribute(folder, _FOLDER, "1")
    for node in nodes:
        item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(folder, node)
        hierarchy.SetItemParent(item, folder)
