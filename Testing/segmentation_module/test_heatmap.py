"""The heatmap over the CT, and the OOD segment that follows its threshold."""

import numpy as np
import pytest
import slicer

from maxquery.display import heat_colours
from maxquery.search_region import search_region
from MaxQuerySegmentationLib.heatmap import Heatmap
from MaxQuerySegmentationLib.ood_segment import SEGMENT_ID, OodSegment


@pytest.fixture
def heatmap(scene, result):
    return Heatmap(scene, result.anomaly, heat_colours())


@pytest.fixture
def ood(result, case_files):
    region = search_region(case_files.labels > 0, case_files.grid.spacing_xyz_mm[::-1])
    return OodSegment(result.segmentation, result.anomaly, slicer.util.arrayFromVolume(result.anomaly), region)


def layers(scene):
    return [scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode") for n in range(3)]


def shown(result) -> np.ndarray:
    return slicer.util.arrayFromSegmentBinaryLabelmap(result.segmentation, SEGMENT_ID, result.anomaly) > 0


def test_the_heatmap_lies_over_the_ct_in_every_slice_view(scene, result, heatmap):
    heatmap.show(result.ct, opacity=0.6)
    for view in layers(scene):
        assert (view.GetBackgroundVolumeID(), view.GetForegroundVolumeID()) == (
            result.ct.GetID(), result.anomaly.GetID()
        )  # fmt: skip
        assert view.GetForegroundOpacity() == 0.6
    heatmap.hide()
    assert not any(view.GetForegroundVolumeID() for view in layers(scene))


def test_nothing_is_drawn_below_the_threshold_and_everything_above(result, heatmap):
    heatmap.set_range(97.0, 99.5)
    display = result.anomaly.GetDisplayNode()
    assert display.GetApplyThreshold() and display.GetLowerThreshold() == 97.0
    assert display.GetUpperThreshold() > 100
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (97.0, 99.5)


def test_opacity_changes_only_views_that_show_the_heatmap(scene, result, heatmap):
    heatmap.show(result.ct, opacity=0.6)
    red, *others = layers(scene)
    red.SetForegroundVolumeID(None)
    heatmap.set_opacity(0.2)
    assert red.GetForegroundOpacity() == 0.6 and {view.GetForegroundOpacity() for view in others} == {0.2}


def test_the_colours_are_the_engines_and_saved_once_with_the_scene(scene, result, heatmap):
    Heatmap(scene, result.anomaly, heat_colours())
    table = result.anomaly.GetDisplayNode().GetColorNode()
    assert table.GetNumberOfColors() == 256 and table.GetSaveWithScene() and not table.GetHideFromEditors()
    assert scene.GetNodesByName(table.GetName()).GetNumberOfItems() == 1


@pytest.mark.parametrize("threshold", [90.0, 95.0, 98.5])
def test_the_ood_segment_is_the_region_at_or_above_the_threshold(result, case_files, ood, threshold):
    ood.update(threshold)
    percentile = slicer.util.arrayFromVolume(result.anomaly)
    region = search_region(case_files.labels > 0, case_files.grid.spacing_xyz_mm[::-1])
    expected = region & (np.rint(percentile * 500) >= round(threshold * 500))
    assert expected.any()
    np.testing.assert_array_equal(shown(result), expected)
    assert ood.volume_ml() == pytest.approx(expected.sum() * case_files.grid.voxel_volume_ml)


def test_the_ood_segment_takes_the_place_of_an_older_one(result, case_files, ood):
    OodSegment(result.segmentation, result.anomaly, case_files.percentile, case_files.labels > 0)
    segments = result.segmentation.GetSegmentation()
    assert [segments.GetNthSegment(n).GetName() for n in range(segments.GetNumberOfSegments())] == [
        "liver", "Cyst", "OOD"
    ]  # fmt: skip


def test_the_segment_of_a_result_looks_in_and_around_its_own_organ(result, case_files):
    one = OodSegment.of(result)
    one.update(95.0)
    region = search_region(case_files.labels > 0, case_files.grid.spacing_xyz_mm[::-1])
    percentile = slicer.util.arrayFromVolume(result.anomaly)
    expected = float((region & (percentile >= 95.0)).sum()) * case_files.grid.voxel_volume_ml
    assert one.volume_ml() == pytest.approx(expected, rel=0.01)
    again = OodSegment.of(result)  # as after a reload: the segment itself does not count as organ
    again.update(95.0)
    assert again.volume_ml() == one.volume_ml()
