"""What a person sees: the slice and 3D views, drawn by MRML's own displayable managers."""

import subprocess
import sys

import numpy as np
import pytest
import slicer

from maxquery.display import heat_colours
from MaxQuerySegmentationLib.anomaly_scale import AnomalyScale
from MaxQuerySegmentationLib.heat_cloud import HeatCloud
from MaxQuerySegmentationLib.heatmap import Heatmap
from MaxQuerySegmentationLib.ood_segment import OodSegment
from MaxQuerySegmentationLib.searched_anomaly import SearchedAnomaly
from MaxQuerySegmentationLib.surfaces import Surfaces

from .views import SliceView, ThreeDView

SIZE = 400


@pytest.fixture(scope="session", autouse=True)
def drawing():
    """Without EGL a render window does not fail but crashes: found out in a process of its own."""
    code = "import vtk; w = vtk.vtkRenderWindow(); w.SetOffScreenRendering(True); w.Render()"
    if subprocess.run([sys.executable, "-c", code], capture_output=True).returncode != 0:
        pytest.skip("nothing can be drawn here: install libegl1, libegl-mesa0 and libgl1-mesa-dri")


@pytest.fixture
def axial(scene, application, result):
    view = SliceView(scene, application, "Red", SIZE)
    slicer.util.setSliceViewerLayers(background=result.ct)
    view.fit()
    scene.GetNodeByID("vtkMRMLSliceNodeRed").SetSliceOffset(50)  # through the cyst
    result.segmentation.GetDisplayNode().SetVisibility(False)
    result.points.GetDisplayNode().SetVisibility(False)
    return view


@pytest.fixture
def heatmap(scene, result):
    return Heatmap(scene, result, heat_colours())


def searched(result, everywhere=False):
    scale = AnomalyScale.of(slicer.util.arrayFromVolume(result.raw), result.calibration)
    return SearchedAnomaly(result, scale, everywhere)


def coloured(picture: np.ndarray) -> np.ndarray:
    """Pixels that are no grey, left of the legend."""
    return np.ptp(picture[:, : SIZE * 2 // 3].astype(int), axis=2) > 20


def test_heat_lies_where_the_scores_reach_the_threshold_and_nowhere_else(axial, result, heatmap):
    assert not coloured(axial.picture()).any()
    heatmap.draw(searched(result), "percentile")
    heatmap.set_range(95.0, 100.0)
    heatmap.show(0.6)
    rows, columns = np.nonzero(coloured(axial.picture()))
    millimetres = 80 / SIZE  # the CT's 80 mm fill the view
    # Scores reach 95 within 10 mm of the cyst's centre; an edge lies on half a voxel, 1 mm.
    assert np.hypot(rows - SIZE / 2, columns - SIZE / 2).max() * millimetres == pytest.approx(10, abs=1.5)
    assert len(rows) * millimetres**2 == pytest.approx(np.pi * 10**2, rel=0.1)


def test_the_legend_is_there_with_the_heatmap_and_goes_with_it(axial, result, heatmap):
    def legend(picture):
        return np.ptp(picture[:, SIZE * 5 // 6 :].astype(int), axis=2).max() > 100

    assert not legend(axial.picture())
    heatmap.draw(searched(result), "percentile")
    heatmap.set_range(99.9, 100.0)
    heatmap.show(0.6)
    assert legend(axial.picture())
    heatmap.hide()
    assert not legend(axial.picture())


def test_front_is_up_and_the_patients_right_is_left(axial, result, heatmap):
    """In the files' order of voxels, the first rows lie in front and the first columns on the right."""
    raw = slicer.util.arrayFromVolume(result.raw)
    raw[:] = -5.0
    raw[:, :18, :10] = 0.0
    heatmap.draw(searched(result, everywhere=True), "percentile")
    heatmap.set_range(99.0, 100.0)
    heatmap.show(0.6)
    rows, columns = np.nonzero(coloured(axial.picture()))
    assert len(rows) and rows.mean() < SIZE / 2 and columns.mean() < SIZE / 2


def test_the_outline_of_the_ood_segment_follows_the_threshold(axial, result):
    result.segmentation.GetDisplayNode().SetVisibility(True)
    for segment_id in result.model_segments:
        result.segmentation.GetDisplayNode().SetSegmentVisibility(segment_id, False)
    ood, extents = OodSegment(result, searched(result)), []
    for threshold in (92.0, 96.0, 98.5):
        ood.update(threshold, "percentile", minimum_ml=0.0)
        extents.append(int(np.ptp(np.nonzero(coloured(axial.picture()))[1])))
    assert extents[0] > extents[1] > extents[2] > 0


@pytest.mark.parametrize("what", ["surfaces", "cloud"])
def test_the_3d_view_shows_the_case_when_asked(scene, application, result, heatmap, what):
    result.points.GetDisplayNode().SetVisibility(False)
    view = ThreeDView(scene, application, SIZE)
    empty = view.picture()
    if what == "surfaces":
        shown = Surfaces(result)
        shown.show()
    else:
        heatmap.draw(searched(result), "percentile")
        shown = HeatCloud(heatmap.volume)
        shown.show(90.0, 100.0)
    middle = slice(SIZE // 2 - 10, SIZE // 2 + 10)
    assert (np.abs(view.picture().astype(int) - empty)[middle, middle].max(axis=2) > 30).all()
    shown.hide()
    assert np.abs(view.picture().astype(int) - empty)[middle, middle].max() < 30
