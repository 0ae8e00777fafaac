"""The heatmap over the CT in its three units, and the OOD segment that follows its threshold."""

import cc3d
import numpy as np
import pytest
import slicer

from maxquery.calibration import minmax
from maxquery.display import heat_colours
from maxquery.search_region import search_region
from MaxQuerySegmentationLib.anomaly_scale import UNITS, AnomalyScale
from MaxQuerySegmentationLib.heat_cloud import HeatCloud
from MaxQuerySegmentationLib.heatmap import Heatmap
from MaxQuerySegmentationLib.ood_segment import SEGMENT_ID, OodSegment


@pytest.fixture
def scale(result):
    return AnomalyScale.of(slicer.util.arrayFromVolume(result.raw), result.calibration)


@pytest.fixture
def heatmap(scene, result):
    return Heatmap(scene, result, heat_colours())


@pytest.fixture
def ood(result, scale):
    return OodSegment(result, scale)


def layers(scene):
    return [scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode") for n in range(3)]


def shown(result) -> np.ndarray:
    return slicer.util.arrayFromSegmentBinaryLabelmap(result.segmentation, SEGMENT_ID, result.anomaly) > 0


def test_the_heatmap_lies_over_the_ct_in_every_slice_view_with_a_legend(scene, result, heatmap):
    heatmap.show(opacity=0.6)
    for view in layers(scene):
        assert (view.GetBackgroundVolumeID(), view.GetForegroundVolumeID()) == (
            result.ct.GetID(), result.anomaly.GetID()
        )  # fmt: skip
        assert view.GetForegroundOpacity() == 0.6
    assert heatmap.legend.GetVisibility() and heatmap.legend.GetTitleText() == "OOD, percentile"
    heatmap.hide()
    assert not any(view.GetForegroundVolumeID() for view in layers(scene)) and not heatmap.legend.GetVisibility()


def test_nothing_is_drawn_below_the_threshold_and_everything_above(result, heatmap):
    heatmap.set_range(97.0, 99.5)
    display = result.anomaly.GetDisplayNode()
    assert display.GetApplyThreshold() and display.GetLowerThreshold() == 97.0
    assert display.GetUpperThreshold() > 100
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (97.0, 99.5)


@pytest.mark.parametrize("units", ["minmax", "raw"])
def test_other_units_take_the_place_of_the_percentiles_in_every_view(scene, result, heatmap, case_files, units):
    heatmap.show(opacity=0.5)
    heatmap.set_units(units)
    raw = case_files.raw.astype(np.float32)
    expected = raw if units == "raw" else minmax(case_files.raw)
    np.testing.assert_allclose(slicer.util.arrayFromVolume(heatmap.volume), expected, atol=1e-6)
    assert {view.GetForegroundVolumeID() for view in layers(scene)} == {heatmap.volume.GetID()}
    assert heatmap.legend.GetTitleText() == f"OOD, {units}" and heatmap.legend.GetVisibility()
    heatmap.set_units("percentile")
    assert {view.GetForegroundVolumeID() for view in layers(scene)} == {result.anomaly.GetID()}


def test_the_papers_units_are_made_once_and_not_saved(scene, heatmap):
    heatmap.set_units("minmax")
    made, count = heatmap.volume, scene.GetNumberOfNodes()
    heatmap.set_units("raw")
    heatmap.set_units("minmax")
    assert heatmap.volume is made and not made.GetSaveWithScene() and scene.GetNumberOfNodes() == count + 2  # raw's own


@pytest.mark.parametrize("units", UNITS)
def test_a_threshold_means_the_same_voxels_in_every_unit(result, scale, case_files, units):
    raw = case_files.raw.astype(np.float32)
    percentile = result.calibration.percentile(case_files.raw)
    for threshold in (90.0, 97.3, 99.5):
        value = scale.convert(threshold, "percentile", units)
        reached = scale.steps(raw) >= scale.first_step(value, units)
        np.testing.assert_array_equal(reached, percentile >= np.float32(threshold))


def test_the_colours_are_the_engines_and_saved_once_with_the_scene(scene, result, heatmap):
    Heatmap(scene, result, heat_colours())
    table = result.anomaly.GetDisplayNode().GetColorNode()
    assert table.GetNumberOfColors() == 256 and table.GetSaveWithScene() and not table.GetHideFromEditors()
    assert scene.GetNodesByName(table.GetName()).GetNumberOfItems() == 1


def test_the_cloud_is_clear_below_the_threshold_and_densest_at_the_brightest_colour(result, heatmap):
    cloud = HeatCloud(heatmap.volume)
    cloud.show(96.0, 99.0)
    opacity = cloud.display.GetVolumePropertyNode().GetVolumeProperty().GetScalarOpacity()
    assert cloud.display.GetVisibility() and opacity.GetValue(95.9) == 0 < opacity.GetValue(97.0) < opacity.GetValue(99)
    cloud.hide()
    assert not cloud.display.GetVisibility()


@pytest.mark.parametrize("threshold", [90.0, 95.0, 98.5])
def test_the_ood_segment_is_the_region_at_or_above_the_threshold(result, case_files, ood, threshold):
    ood.update(threshold, "percentile", minimum_ml=0.0)
    region = search_region(case_files.labels > 0, case_files.grid.spacing_xyz_mm[::-1])
    expected = region & (case_files.percentile >= threshold)
    assert expected.any()
    np.testing.assert_array_equal(shown(result), expected)
    assert ood.volume_ml() == pytest.approx(expected.sum() * case_files.grid.voxel_volume_ml)


def test_the_ood_segment_looks_everywhere_when_asked(result, scale, case_files):
    OodSegment(result, scale, everywhere=True).update(95.0, "percentile", minimum_ml=0.0)
    np.testing.assert_array_equal(shown(result), case_files.percentile >= 95.0)


def test_pieces_below_the_minimum_volume_are_left_out(result, scale, case_files):
    raw = slicer.util.arrayFromVolume(result.raw)
    raw[10, 25, 20] = 0.0  # one voxel of 0.016 ml in the liver
    ood = OodSegment(result, scale)
    ood.update(98.0, "percentile", minimum_ml=0.0)
    assert shown(result)[10, 25, 20] and cc3d.connected_components(shown(result)).max() == 2
    ood.update(98.0, "percentile", minimum_ml=0.02)
    assert not shown(result)[10, 25, 20] and shown(result)[10, 18, 20]


def test_the_pieces_become_segments_that_stay_when_the_threshold_moves(result, ood):
    ood.update(98.0, "percentile", minimum_ml=0.0)
    before = ood.volume_ml()
    assert ood.copy_as_segments("OOD piece") == 1
    ood.update(100.0, "percentile", minimum_ml=0.0)
    segments = result.segmentation.GetSegmentation()
    piece = segments.GetNthSegmentID(segments.GetNumberOfSegments() - 1)
    voxels = slicer.util.arrayFromSegmentBinaryLabelmap(result.segmentation, piece, result.anomaly) > 0
    assert segments.GetSegment(piece).GetName() == "OOD piece 1"
    assert float(np.prod(result.raw.GetSpacing())) / 1000 * voxels.sum() == pytest.approx(before)


def test_the_ood_segment_takes_the_place_of_an_older_one_and_is_no_organ_itself(result, scale, ood):
    ood.update(95.0, "percentile", minimum_ml=0.0)
    again = OodSegment(result, scale)  # as after a reload
    again.update(95.0, "percentile", minimum_ml=0.0)
    assert again.volume_ml() == ood.volume_ml()
    segments = result.segmentation.GetSegmentation()
    assert [segments.GetNthSegment(n).GetName() for n in range(segments.GetNumberOfSegments())] == [
        "liver", "Cyst", "OOD"
    ]  # fmt: skip
