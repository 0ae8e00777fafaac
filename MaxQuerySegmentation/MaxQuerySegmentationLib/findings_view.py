"""The findings as rows for a person, and the way from a row to its place in the slices."""

from typing import Any

import slicer
from slicer.i18n import tr as _

from MaxQuerySegmentationLib.result_nodes import ResultNodes

FINDING_COLUMNS = (_("Type"), _("OOD"), _("ml"), _("mm"), _("Percentile"), _("Query"))


def finding_rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row a finding, in the report's order: type, OOD or not, volume, diameters, mean percentile, main query."""
    return [
        (
            f"{finding['id']} {finding['label']}",
            _("yes") if finding["ood"] else "",
            f"{finding['volume_ml']:.1f}",
            f"{finding['longest_diameter_mm']:.0f} × {finding['perpendicular_diameter_mm']:.0f}",
            f"{finding['mean_percentile']:.1f}",
            f"{finding['queries'][0]}" if finding["queries"] else "",
        )
        for finding in report["findings"]
    ]


def jump_to(scene, result: ResultNodes, row: int) -> None:
    """Moves every slice view to a finding, where it lies in the world."""
    position = [0.0, 0.0, 0.0]
    result.points.GetNthControlPointPositionWorld(row, position)
    slicer.vtkMRMLSliceNode.JumpAllSlices(scene, *position)
