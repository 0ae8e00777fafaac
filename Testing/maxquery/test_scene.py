"""`scene.mrb` opens in Slicer's own MRML with everything in its place."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from maxquery.display import heat_colours
from maxquery.labels import Label, Terminology
from maxquery.nrrd import write_nrrd
from maxquery.result import Finding, Prediction
from maxquery.scene import SceneFiles, write_scene
from maxquery.segmentation_file import write_segmentation
from maxquery.volume import Grid, Volume

slicer = pytest.importorskip("slicer", reason="needs Slicer's MRML: pip install slicer-core")
if not hasattr(slicer, "vtkMRMLScene"):
    pytest.skip("the installed package 'slicer' is not slicer-core", allow_module_level=True)
vtkMatrix4x4 = pytest.importorskip("vtk").vtkMatrix4x4
vtk_to_numpy = pytest.importorskip("vtkmodules.util.numpy_support").vtk_to_numpy

LABELS = (
    Label(0, "background", "background", (0, 0, 0)),
    Label(
        1,
        "Liver",
        "organ",
        (221, 130, 101),
        Terminology(("123037004", "SCT", "Anatomical Structure"), ("10200004", "SCT", "Liver")),
    ),
    Label(2, "Tumeur hépatique", "tumour", (80, 200, 255)),
    Label(3, "Cyst", "tumour", (10, 20, 30)),
)
FINDINGS = (
    Finding(1, "OOD region", True, 12.3456, 31.0, 22.0, (10.5, -20.25, 30.125), 97.5, 99.9, (3, 4)),
    Finding(2, "Tumeur hépatique", False, 1.0, 12.0, 9.0, (-1.0, 2.0, 3.0), 50.0, 60.0, (20,)),
)
REPORT = {"model": 'démo <1> & "2"', "lines": ["a", "b"]}
OBLIQUE = np.linalg.qr(np.array([[0.9, -0.3, 0.1], [0.3, 0.9, 0.2], [-0.1, -0.2, 1.0]]))[0]
GRIDS = {
    "left-handed": np.diag([1.0, -1.0, 1.0]),
    "oblique sagittal stack": OBLIQUE @ np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]]),
}


@pytest.fixture(scope="module", params=GRIDS)
def case(request):
    grid = Grid((8, 7, 6), (0.7, 0.9, 2.5), (-100.123456789, 50.5, -900.25), GRIDS[request.param])
    random = np.random.default_rng(0)
    labels = np.zeros(grid.shape_zyx, np.uint8)
    labels[1:5, 2:6, 1:6] = 1
    labels[2, 3, 2:4] = 2
    hu = random.integers(-1024, 1500, grid.shape_zyx).astype(np.float32)
    percentile = random.uniform(0, 100, grid.shape_zyx).astype(np.float32)
    prediction = Prediction(grid, labels, percentile, labels + 1, LABELS, (), FINDINGS)
    return SimpleNamespace(grid=grid, ct=Volume(hu[None], grid), prediction=prediction, percentile=percentile)


@pytest.fixture(scope="module")
def scene(case, tmp_path_factory):
    """The written file, read back into a real scene."""
    folder = tmp_path_factory.mktemp("scene")
    files = SceneFiles(folder / "anomaly.nrrd", folder / "segmentation.seg.nrrd")
    write_nrrd(files.percentile, case.percentile, case.prediction.grid, {})
    write_segmentation(files.segmentation, case.prediction.labels, case.prediction.grid, case.prediction.label_table)
    write_scene(folder / "scene.mrb", case.ct, case.prediction, files, REPORT)
    return read(folder / "scene.mrb", folder / "cache")


def read(path: Path, cache: Path):
    cache.mkdir()
    scene = slicer.vtkMRMLScene()
    logic = slicer.vtkSlicerApplicationLogic()
    logic.SetMRMLScene(scene)
    logic.SetTemporaryPath(str(cache))
    data_io, caches = slicer.vtkDataIOManager(), slicer.vtkCacheManager()
    caches.SetRemoteCacheDirectory(str(cache))
    data_io.SetCacheManager(caches)
    scene.SetDataIOManager(data_io)
    scene.SetCacheManager(caches)
    modules = {
        "Segmentations": slicer.vtkSlicerSegmentationsModuleLogic(),
        "Markups": slicer.vtkSlicerMarkupsLogic(),
    }
    for name, module in modules.items():
        module.SetMRMLApplicationLogic(logic)
        module.SetMRMLScene(scene)
        logic.SetModuleLogic(name, module)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
    messages = slicer.vtkMRMLMessageCollection()
    assert scene.ReadFromMRB(str(path), False, messages), messages.GetAllMessagesAsString()
    assert messages.GetAllMessagesAsString() == ""
    scene.keep_alive = (logic, data_io, caches)
    return scene


def ijk_to_ras(volume) -> np.ndarray:
    matrix = vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def values_at(image, to_ras: np.ndarray, ras_mm: np.ndarray) -> np.ndarray:
    """The voxel values at positions `(…, 3)`, 0 outside: a node may keep its voxels in another order."""
    array = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])
    first = np.array(image.GetExtent()[::2])
    index = (ras_mm - to_ras[:3, 3]) @ np.linalg.inv(to_ras[:3, :3]).T - first
    assert np.abs(index - np.rint(index)).max() < 1e-3
    index = np.rint(index).astype(int)[..., ::-1]
    inside = ((index >= 0) & (index < array.shape)).all(-1)
    return np.where(inside, array[tuple(np.where(inside[..., None], index, 0).T)].T, 0)


def every_voxel_ras_mm(grid: Grid) -> np.ndarray:
    return grid.ras_mm(np.moveaxis(np.indices(grid.shape_zyx), 0, -1))


def test_ct_and_heatmap_have_their_values_at_every_point_of_the_patient(scene, case):
    points = every_voxel_ras_mm(case.grid)
    for name, expected in (("CT", case.ct.array[0]), ("Anomaly percentile", case.percentile)):
        volume = scene.GetFirstNodeByName(name)
        assert np.array_equal(values_at(volume.GetImageData(), ijk_to_ras(volume), points), expected), name


def test_segments_have_their_voxels_names_colours_and_terminology(scene, case):
    segmentation = scene.GetFirstNodeByName("Segmentation").GetSegmentation()
    assert segmentation.GetNumberOfSegments() == 3
    for number, label in enumerate(LABELS[1:]):
        segment = segmentation.GetNthSegment(number)
        assert segment.GetName() == label.name
        assert np.allclose(np.multiply(segment.GetColor(), 255), label.colour, atol=0.01)
        image = segment.GetRepresentation("Binary labelmap")
        matrix = vtkMatrix4x4()
        image.GetImageToWorldMatrix(matrix)
        to_ras = np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
        found = values_at(image, to_ras, every_voxel_ras_mm(case.grid)) == segment.GetLabelValue()
        assert np.array_equal(found, case.prediction.labels == label.value), label.name
    assert (
        "~SCT^123037004^Anatomical Structure~SCT^10200004^Liver~"
        in segmentation.GetNthSegment(0).GetTerminology()
    )


def test_heatmap_lies_half_transparent_over_the_ct_and_only_from_the_threshold_up(scene):
    ct, heat = (scene.GetFirstNodeByName(name) for name in ("CT", "Anomaly percentile"))
    for view in ("Red", "Green", "Yellow"):
        layers = scene.GetNodeByID(f"vtkMRMLSliceCompositeNode{view}")
        assert (layers.GetBackgroundVolumeID(), layers.GetForegroundVolumeID()) == (ct.GetID(), heat.GetID())
        assert layers.GetForegroundOpacity() == 0.5
    display = heat.GetDisplayNode()
    assert display.GetApplyThreshold() and display.GetLowerThreshold() == 95
    assert display.GetUpperThreshold() > 100
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (95, 100)
    assert display.GetColorNode().GetNumberOfColors() == 256
    colour = [0.0] * 4
    display.GetColorNode().GetColor(255, colour)
    assert np.allclose(colour[:3], heat_colours()[-1], atol=1 / 255)
    shown = ct.GetDisplayNode()
    assert (shown.GetWindowLevelMin(), shown.GetWindowLevelMax(), shown.GetApplyThreshold()) == (-160, 240, 0)


def test_segmentation_is_drawn_as_outlines_so_that_the_heatmap_shows(scene):
    display = scene.GetFirstNodeByName("Segmentation").GetDisplayNode()
    assert not display.GetVisibility2DFill() and display.GetVisibility2DOutline()


def test_findings_are_locked_points_at_their_centroids(scene):
    points = scene.GetFirstNodeByName("Findings")
    assert points.GetLocked() and points.GetNumberOfControlPoints() == len(FINDINGS)
    for number, finding in enumerate(FINDINGS):
        assert points.GetNthControlPointLabel(number) == f"{finding.id} {finding.label}"
        assert np.allclose(points.GetNthControlPointPosition(number), finding.centroid_ras_mm)


def test_table_and_provenance_say_what_was_found_and_how(scene):
    table = scene.GetFirstNodeByName("Findings table")
    assert table.GetNumberOfRows() == 2
    assert [table.GetCellText(0, column) for column in range(5)] == [
        "1",
        "OOD region",
        "yes",
        "12.346",
        "31.000",
    ]
    assert table.GetColumnName(3) == "volume_ml"
    assert json.loads(scene.GetFirstNodeByName("Provenance").GetText()) == REPORT


def test_views_open_at_the_main_finding_the_usual_way_round(scene):
    for view, orientation in (("Red", "Axial"), ("Green", "Coronal"), ("Yellow", "Sagittal")):
        node = scene.GetNodeByID(f"vtkMRMLSliceNode{view}")
        assert node.GetOrientation() == orientation
        position = [node.GetSliceToRAS().GetElement(row, 3) for row in range(3)]
        assert np.allclose(position, FINDINGS[0].centroid_ras_mm)


def test_results_are_in_one_folder_and_the_ct_is_not(scene):
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    folder = hierarchy.GetItemByName("MaxQuery")
    inside = [
        scene.GetFirstNodeByName(name)
        for name in ("Anomaly percentile", "Segmentation", "Findings", "Findings table", "Provenance")
    ]
    assert all(hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) == folder for node in inside)
    ct = hierarchy.GetItemByDataNode(scene.GetFirstNodeByName("CT"))
    assert hierarchy.GetItemParent(ct) == hierarchy.GetSceneItemID()
