"""A result as `scene.mrb`: one file that opens in Slicer with everything in place.

An `.mrb` is a zip of one folder: a scene in XML (`.mrml`) and the files that its nodes store in
`Data/`. The XML is written here by hand, one function a node, so that no Slicer is needed; only
attributes that differ from Slicer's own defaults are given.
"""

import json
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from maxquery.display import CT_WINDOW_HU, HEAT_RANGE, first_look_ras_mm, heat_colours
from maxquery.findings_table import findings_rows
from maxquery.nrrd import write_nrrd
from maxquery.result import Finding, Prediction
from maxquery.volume import Volume, whole_hu

_ABOVE_EVERY_PERCENTILE = 101.0
_HEAT_OPACITY = 0.5

CT, HEAT = "vtkMRMLScalarVolumeNode1", "vtkMRMLScalarVolumeNode2"
CT_DISPLAY, HEAT_DISPLAY = "vtkMRMLScalarVolumeDisplayNode1", "vtkMRMLScalarVolumeDisplayNode2"
CT_FILE, HEAT_FILE = "vtkMRMLVolumeArchetypeStorageNode1", "vtkMRMLVolumeArchetypeStorageNode2"
HEAT_COLOURS = "vtkMRMLColorTableNode1"
SEGMENTATION, POINTS = "vtkMRMLSegmentationNode1", "vtkMRMLMarkupsFiducialNode1"
TABLE, PROVENANCE = "vtkMRMLTableNode1", "vtkMRMLTextNode1"

# Name, label, colour and slice-to-RAS axes (columns: right, up, towards the viewer) of Slicer's views.
_VIEWS = {
    "Red": ("R", "0.952941 0.290196 0.2", "Axial", ((-1, 0, 0), (0, 1, 0), (0, 0, 1))),
    "Green": ("G", "0.431373 0.690196 0.294118", "Coronal", ((-1, 0, 0), (0, 0, 1), (0, 1, 0))),
    "Yellow": ("Y", "0.929412 0.835294 0.298039", "Sagittal", ((0, -1, 0), (0, 0, 1), (-1, 0, 0))),
}


@dataclass(frozen=True)
class SceneFiles:
    """A result's heatmap in percentiles and its segmentation, as files."""

    percentile: Path
    segmentation: Path


def write_scene(
    path: Path,
    ct: Volume,
    prediction: Prediction,
    files: SceneFiles,
    report: Mapping,
    planted: str = "",
) -> None:
    """Write `path` (`.mrb`): CT, heatmap, segmentation, findings and how they came about.

    `files` are packed as they are; of the heatmap nothing below the lowest colour is drawn. The CT's
    first phase is stored in whole HU; its name says what was `planted` into it. Raises OSError when the file
    cannot be written whole.
    """
    with tempfile.TemporaryDirectory(prefix=".scene-", dir=path.parent) as temporary:
        data = Path(temporary)
        write_nrrd(data / "CT.nrrd", map(whole_hu, ct.array[0]), ct.grid, {"planted": planted} if planted else {})
        (data / "Anomaly.ctbl").write_text(_colour_file(), encoding="utf-8")
        (data / "Findings.mrk.json").write_text(_points_file(prediction.findings), encoding="utf-8")
        (data / "Findings.tsv").write_text(_table_file(prediction.findings), encoding="utf-8")
        scene = _scene(prediction, report, planted)
        with zipfile.ZipFile(path, "w") as bundle:
            text = ElementTree.tostring(scene, encoding="utf-8", xml_declaration=True)
            bundle.writestr(f"{path.stem}/{path.stem}.mrml", text, zipfile.ZIP_DEFLATED)
            packed = {file.name: file for file in data.iterdir()}
            packed |= {"Anomaly.nrrd": files.percentile, "Segmentation.seg.nrrd": files.segmentation}
            for name, file in sorted(packed.items()):
                bundle.write(file, f"{path.stem}/Data/{name}")


def _scene(prediction: Prediction, report: Mapping, planted: str) -> Element:
    scene = Element("MRML", version="Version5.0.0")
    grid = prediction.grid
    centre = first_look_ras_mm(prediction)
    width_mm = max(np.multiply(grid.size_xyz, grid.spacing_xyz_mm))
    _colours(scene)
    name = f"CT with a planted (synthetic) {planted}" if planted else "CT"
    _volume(scene, CT, name, CT_DISPLAY, CT_FILE, "CT.nrrd")
    _volume(scene, HEAT, "Anomaly percentile", HEAT_DISPLAY, HEAT_FILE, "Anomaly.nrrd")
    _volume_display(scene, CT_DISPLAY, "vtkMRMLColorTableNodeGrey", CT_WINDOW_HU)
    _volume_display(scene, HEAT_DISPLAY, HEAT_COLOURS, HEAT_RANGE, overlay=True)
    _segmentation(scene)
    _points(scene)
    _table(scene)
    _provenance(scene, report)
    for name in _VIEWS:
        _slice(scene, name, centre, width_mm)
        _slice_layers(scene, name)
    _folder(scene)
    return scene


def _node(scene: Element, kind: str, identifier: str, name: str, **attributes: object) -> Element:
    words = {key: str(value) for key, value in attributes.items()}
    return SubElement(scene, kind, {"id": identifier, "name": name} | words)


def _colours(scene: Element) -> None:
    storage = "vtkMRMLColorTableStorageNode1"
    _node(scene, "ColorTable", HEAT_COLOURS, "Anomaly", references=f"storage:{storage};", type=13)
    _node(scene, "ColorTableStorage", storage, "Anomaly file", fileName="Data/Anomaly.ctbl")


def _volume(scene: Element, identifier: str, name: str, display: str, storage: str, file: str) -> None:
    _node(scene, "Volume", identifier, name, references=f"display:{display};storage:{storage};")
    _node(scene, "VolumeArchetypeStorage", storage, f"{name} file", fileName=f"Data/{file}")


def _volume_display(
    scene: Element, identifier: str, colours: str, shown: tuple[float, float], overlay: bool = False
) -> None:
    low, high = shown
    # Slicer hides what lies above the upper threshold too.
    threshold = {"applyThreshold": 1, "lowerThreshold": low, "upperThreshold": _ABOVE_EVERY_PERCENTILE}
    _node(
        scene, "VolumeDisplay", identifier, "Display", colorNodeID=colours, interpolate=1, autoWindowLevel=0,
        window=high - low, level=(high + low) / 2, **(threshold if overlay else {"applyThreshold": 0}),
    )


def _segmentation(scene: Element) -> None:
    display, storage = "vtkMRMLSegmentationDisplayNode1", "vtkMRMLSegmentationStorageNode1"
    references = f"display:{display};storage:{storage};referenceImageGeometryRef:{CT};"
    _node(scene, "Segmentation", SEGMENTATION, "Segmentation", references=references)
    # Outlines only: a fill would hide the heatmap.
    _node(
        scene, "SegmentationDisplay", display, "Display", Visibility2DFill="false", Visibility2DOutline="true"
    )
    _node(scene, "SegmentationStorage", storage, "Segmentation file", fileName="Data/Segmentation.seg.nrrd")


def _points(scene: Element) -> None:
    display, storage = "vtkMRMLMarkupsFiducialDisplayNode1", "vtkMRMLMarkupsJsonStorageNode1"
    references = f"display:{display};storage:{storage};"
    _node(scene, "MarkupsFiducial", POINTS, "Findings", references=references, locked="true")
    _node(scene, "MarkupsFiducialDisplay", display, "Display", glyphType="CrossDot2D", textScale=3)
    _node(scene, "MarkupsJsonStorage", storage, "Findings file", fileName="Data/Findings.mrk.json")


def _table(scene: Element) -> None:
    storage = "vtkMRMLTableStorageNode1"
    _node(
        scene, "Table", TABLE, "Findings table", references=f"storage:{storage};", locked="true",
        useColumnTitleAsColumnHeader="true",
    )
    _node(scene, "TableStorage", storage, "Findings table file", fileName="Data/Findings.tsv")


def _provenance(scene: Element, report: Mapping) -> None:
    text = json.dumps(report, indent=2, ensure_ascii=False)
    _node(scene, "Text", PROVENANCE, "Provenance", text=text, encoding=1)


def _slice(scene: Element, name: str, centre_ras_mm: np.ndarray, width_mm: float) -> None:
    label, colour, orientation, axes = _VIEWS[name]
    matrix = np.eye(4)
    matrix[:3, :3] = np.transpose(axes)
    matrix[:3, 3] = centre_ras_mm
    _node(
        scene, "Slice", f"vtkMRMLSliceNode{name}", name, singletonTag=name, layoutName=name,
        layoutLabel=label, layoutColor=colour, orientation=orientation, dimensions="256 256 1",
        fieldOfView=f"{width_mm:g} {width_mm:g} 1",
        sliceToRAS=" ".join(f"{value:.12g}" for value in matrix.ravel()),
    )


def _slice_layers(scene: Element, name: str) -> None:
    _node(
        scene, "SliceComposite", f"vtkMRMLSliceCompositeNode{name}", f"{name} layers", singletonTag=name,
        layoutName=name, references=f"backgroundVolume:{CT};foregroundVolume:{HEAT};",
        foregroundOpacity=_HEAT_OPACITY,
    )


def _folder(scene: Element) -> None:
    """One folder that holds every result; the CT stays outside, so that the folder can go as a whole."""
    hierarchy = _node(scene, "SubjectHierarchy", "vtkMRMLSubjectHierarchyNode1", "SubjectHierarchy",
                      attributes="SubjectHierarchyVersion:2")
    top = SubElement(hierarchy, "SubjectHierarchyItem", id="1", name="Scene", parent="0", type="",
                     attributes="Level^Scene|")
    SubElement(top, "SubjectHierarchyItem", id="2", dataNode=CT, parent="1", type="Volumes")
    folder = SubElement(top, "SubjectHierarchyItem", id="3", name="MaxQuery", parent="1", type="Folder",
                        expanded="true", attributes="Level^Folder|")
    results = {HEAT: "Volumes", SEGMENTATION: "Segmentations", POINTS: "Markups", TABLE: "Tables",
               PROVENANCE: "Texts"}
    for number, (node, plugin) in enumerate(results.items(), start=4):
        SubElement(folder, "SubjectHierarchyItem", id=str(number), dataNode=node, parent="3", type=plugin)


def _colour_file() -> str:
    colours = np.rint(heat_colours(256) * 255).astype(int)
    return "".join(f"{n} {n} {red} {green} {blue} 255\n" for n, (red, green, blue) in enumerate(colours))


def _points_file(findings: tuple[Finding, ...]) -> str:
    points = [
        {
            "id": str(finding.id),
            "label": f"{finding.id} {finding.label}",
            "position": list(finding.centroid_ras_mm),
            "locked": True,
            "positionStatus": "defined",
        }
        for finding in findings
    ]
    markup = {"type": "Fiducial", "coordinateSystem": "RAS", "coordinateUnits": "mm", "locked": True}
    return json.dumps({"@schema": _MARKUPS_SCHEMA, "markups": [markup | {"controlPoints": points}]})


_MARKUPS_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.4.json#"
)


def _table_file(findings: tuple[Finding, ...]) -> str:
    return "".join("\t".join(row) + "\n" for row in findings_rows(findings))
