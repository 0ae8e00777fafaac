"""Which query owns which voxel, as a coloured overlay of the slice views."""

import slicer

from MaxQuerySegmentationLib.query_notes import QueryNotes
from MaxQuerySegmentationLib.result_nodes import COLOURS, ResultNodes

_OPACITY = 0.6


class ClusterMap:
    """Shows a result's cluster map in its queries' names and colours: all of them, or one."""

    def __init__(self, scene, result: ResultNodes, notes: QueryNotes):
        self.clusters, self.notes = result.clusters, notes
        self.colours = _colour_table(scene, result, len(notes))
        self.clusters.CreateDefaultDisplayNodes()
        self.clusters.GetDisplayNode().SetAndObserveColorNodeID(self.colours.GetID())
        self.only(None)

    def only(self, query: int | None) -> None:
        """Leaves one query's voxels, or brings all back. Reads names and colours anew."""
        for number in range(len(self.notes)):
            note, visible = self.notes[number], query is None or number == query
            self.colours.SetColor(number + 1, note.name, *note.colour, float(visible))

    def show(self) -> None:
        slicer.util.setSliceViewerLayers(label=self.clusters, labelOpacity=_OPACITY)

    def hide(self) -> None:
        for layers in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            if layers.GetLabelVolumeID() == self.clusters.GetID():
                layers.SetLabelVolumeID(None)


def _colour_table(scene, result: ResultNodes, queries: int):
    """The result's own table of colours, saved with it; entry 0 is clear, query q has the entry q + 1."""
    table = result.clusters.GetNodeReference(COLOURS)
    if table is None:
        table = slicer.vtkMRMLColorTableNode()
        table.SetTypeToUser()
        table.SetName(f"{result.name} queries")
        table.SetHideFromEditors(False)  # or it is not saved
        table.SetNumberOfColors(queries + 1)
        table.SetColor(0, "none", 0.0, 0.0, 0.0, 0.0)
        table = scene.AddNode(table)
        result.clusters.SetNodeReferenceID(COLOURS, table.GetID())
    return table
