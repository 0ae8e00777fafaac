"""A result in the scene: its nodes, in a folder of the subject hierarchy; how it is found again, and taken out."""

import json
from dataclasses import dataclass
from typing import Any

import slicer

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
        """See `calibration_of`."""
        return calibration_of(self.provenance)

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


def remember(result: ResultNodes, name: str, model: str) -> None:
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


def results_in(scene) -> list[ResultNodes]:
    """Every whole result in the scene that this version understands, the oldest first, those of a loaded .mrb too."""
    results = []
    for provenance in slicer.util.getNodesByClass("vtkMRMLTextNode", scene):
        nodes = [provenance.GetNodeReference(f"MaxQuery.{role}") for role in _ROLES]
        if None not in nodes and is_understood(provenance):
            results.append(ResultNodes(_phases(provenance), *nodes, provenance))
    return results


def put_into_folder(scene, result: ResultNodes) -> None:
    """A folder beside the CT, so that the result can be shown, saved or removed as a whole."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    ct_item = hierarchy.GetItemByDataNode(result.ct)
    parent = hierarchy.GetItemParent(ct_item) if ct_item else hierarchy.GetSceneItemID()
    folder = hierarchy.CreateFolderItem(parent, result.name)
    hierarchy.SetItemAttribute(folder, _FOLDER, "1")
    for node in result.nodes:
        item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(folder, node)
        hierarchy.SetItemParent(item, folder)


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


def is_understood(provenance) -> bool:
    """Whether the report is as this version writes it; scenes and engines may be older or newer."""
    from maxquery.result import REPORT_FORMAT

    return json.loads(provenance.GetText()).get("format") == REPORT_FORMAT


def calibration_of(provenance):
    """The engine's `CalibrationTable` of the model that ran."""
    from maxquery.calibration import CalibrationTable

    return CalibrationTable(**json.loads(provenance.GetText())["calibration"])


def _phases(provenance) -> list[Any]:
    count = int(provenance.GetAttribute(_PHASES))
    return [provenance.GetNodeReference(f"{_PHASES}.{number}") for number in range(count)]
