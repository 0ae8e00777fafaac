"""The heatmap over the CT in its three units, and the OOD segment that follows its threshold."""

import cc3d
import numpy as np
import pytest
import slicer
from scipy import ndimage

from maxquery.calibration import minmax
from maxquery.display import heat_colours
from maxquery.findings import FindingParameters, find
from maxquery.labels import Label
from maxquery.search_region import search_region
from MaxQuerySegmentationLib.anomaly_scale import UNITS, AnomalyScale
from MaxQuerySegmentationLib.heat_cloud import HeatCloud
from MaxQuerySegmentationLib.heatmap import Heatmap
from MaxQuerySegmentationLib.ood_segment import SEGMENT_ID, OodSegment
from MaxQuerySegmentationLib.searched_anomaly import SearchedAnomaly


@pytest.fixture
def scale(result):
    return AnomalyScale.of(slicer.util.arrayFromVolume(result.raw), result.calibration)


@pytest.fixture
def heatmap(scene, result):
    return Heatmap(scene, result, heat_colours())


@pytest.fixture
def searched(result, scale):
    return SearchedAnomaly(result, scale)


@pytest.fixture
def ood(result, searched):
    return OodSegment(result, searched)


@pytest.fixture
def region(case_files):
    return search_region(case_files.labels > 0, case_files.grid.spacing_xyz_mm[::-1])


def layers(scene):
    return [scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode") for n in range(3)]


def shown(result) -> np.ndarray:
    return slicer.util.arrayFromSegmentBinaryLabelmap(result.segmentation, SEGMENT_ID, result.anomaly) > 0


def test_the_heatmap_lies_over_the_ct_in_every_slice_view_with_a_legend(scene, result, searched, heatmap):
    heatmap.draw(searched, "percentile")
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


def test_the_heatmap_is_drawn_where_it_counts_and_everywhere_when_asked(result, scale, case_files, heatmap, region):
    heatmap.draw(SearchedAnomaly(result, scale), "percentile")
    expected = np.where(region, case_files.percentile, case_files.percentile.min())
    np.testing.assert_allclose(slicer.util.arrayFromVolume(heatmap.volume), expected, atol=1e-4)
    heatmap.draw(SearchedAnomaly(result, scale, everywhere=True), "percentile")
    reached = case_files.percentile >= 90
    drawn = slicer.util.arrayFromVolume(heatmap.volume)
    np.testing.assert_allclose(drawn[reached], case_files.percentile[reached], atol=1e-4)
    assert (drawn[~reached] < 90).all()


@pytest.mark.parametrize("units", ["minmax", "raw"])
def test_other_units_take_the_place_of_the_percentiles(result, scale, heatmap, case_files, units):
    heatmap.draw(SearchedAnomaly(result, scale, everywhere=True), units)
    raw = case_files.raw.astype(np.float32)
    expected = raw if units == "raw" else minmax(case_files.raw)
    reached = case_files.percentile >= 90
    drawn = slicer.util.arrayFromVolume(heatmap.volume)
    np.testing.assert_allclose(drawn[reached], expected[reached], atol=1e-6)
    assert heatmap.legend.GetTitleText() == f"OOD, {units}" and heatmap.volume.GetName() == f"Anomaly, {units}"
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(result.raw), raw)  # as it was


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
def test_the_ood_segment_is_the_region_at_or_above_the_threshold(result, case_files, ood, region, threshold):
    ood.update(threshold, "percentile", minimum_ml=0.0)
    expected = region & (case_files.percentile >= threshold)
    assert expected.any()
    np.testing.assert_array_equal(shown(result), expected)
    assert ood.volume_ml() == pytest.approx(expected.sum() * case_files.grid.voxel_volume_ml)


def test_the_ood_segment_looks_everywhere_when_asked(result, scale, case_files):
    OodSegment(result, SearchedAnomaly(result, scale, everywhere=True)).update(95.0, "percentile", minimum_ml=0.0)
    expected = case_files.percentile >= 95.0
    expected[:, :4] = True  # 8 mm of heat beyond the liver
    np.testing.assert_array_equal(shown(result), expected)


@pytest.mark.parametrize("threshold", [50.0, 80.0, 95.0])
def test_the_pieces_of_the_ood_segment_are_the_engines_ood_regions(result, scale, case_files, threshold):
    """On noise, which has pieces of every size and thickness."""
    noise = ndimage.gaussian_filter(np.random.default_rng(5).normal(size=case_files.raw.shape), (0.5, 1.2, 1.2))
    raw = (noise * 40 - 14).astype(np.float16)
    slicer.util.updateVolumeFromArray(result.raw, raw.astype(np.float32))
    scale = AnomalyScale.of(raw.astype(np.float32), result.calibration)
    ood = OodSegment(result, SearchedAnomaly(result, scale))
    ood.update(threshold, "percentile", minimum_ml=0.1)
    table = (Label(0, "background", "background", (0, 0, 0)), Label(1, "liver", "organ", (0, 0, 0)))
    found = find(
        np.minimum(case_files.labels, 1), result.calibration.percentile(raw), case_files.labels + 1, case_files.grid,
        table, FindingParameters(ood_percentile=threshold, minimum_volume_ml=0.1),
    )  # fmt: skip
    pieces = np.bincount(cc3d.connected_components(shown(result), connectivity=26).ravel())[1:]
    assert len(found) > 1
    assert sorted(pieces * case_files.grid.voxel_volume_ml) == pytest.approx(sorted(each.volume_ml for each in found))


def test_pieces_below_the_minimum_volume_are_left_out(result, ood):
    ood.update(98.0, "percentile", minimum_ml=0.0)
    volume_ml = ood.volume_ml()
    ood.update(98.0, "percentile", minimum_ml=volume_ml + 0.01)
    assert volume_ml > 0 == ood.volume_ml()


def test_a_thin_sheet_is_no_piece(result, scale, case_files):
    raw = slicer.util.arrayFromVolume(result.raw)
    raw[10, 25, 8:32] = 0.0  # a row of voxels through the liver, 48 mm long
    ood = OodSegment(result, SearchedAnomaly(result, scale))
    ood.update(98.0, "percentile", minimum_ml=0.0)
    assert not shown(result)[10, 25, 10] and shown(result)[10, 18, 20]


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
    again = OodSegment(result, SearchedAnomaly(result, scale))  # as after a reload
    again.update(95.0, "percentile", minimum_ml=0.0)
    assert again.volume_ml() == ood.volume_ml()
    segments = result.segmentation.GetSegmentation()
    assert [segments.GetNthSegment(n).GetName() for n in range(segments.GetNumberOfSegments())] == [
        "liver", "Cyst", "OOD"
    ]  # fmt: skip


def test_the_ood_segment_comes_back_when_a_person_deleted_it(result, ood):
    ood.update(95.0, "percentile", minimum_ml=0.0)
    before = shown(result)
    result.segmentation.GetSegmentation().RemoveSegment(SEGMENT_ID)
    ood.settle()
    ood.update(95.0, "percentile", minimum_ml=0.0)
    np.testing.assert_array_equal(shown(result), before)


def test_the_ood_segment_and_its_pieces_follow_after_an_edit_in_segment_editor(result, ood, region, case_files):
    ood.update(98.0, "percentile", minimum_ml=0.0)
    painted = slicer.vtkOrientedImageData()
    painted.DeepCopy(result.segmentation.GetSegmentation().GetSegment(SEGMENT_ID).GetRepresentation("Binary labelmap"))
    editor = slicer.vtkSlicerSegmentationsModuleLogic  # takes what is painted in one segment out of all others
    editor.SetBinaryLabelmapToSegment(painted, result.segmentation, SEGMENT_ID, editor.MODE_MERGE_MIN)
    ood.update(90.0, "percentile", minimum_ml=0.0)
    np.testing.assert_array_equal(shown(result), region & (case_files.percentile >= 90.0))
    editor.SetBinaryLabelmapToSegment(painted, result.segmentation, SEGMENT_ID, editor.MODE_MERGE_MIN)
    assert ood.copy_as_segments("OOD piece") == 1


def saved(result, path):
    """What a save makes of the segmentation: the file, and segments that share their images from then on."""
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(path))
    assert storage.WriteData(result.segmentation)
    return storage


def test_the_ood_segment_follows_the_threshold_after_a_save_too(result, ood, region, case_files, tmp_path):
    ood.update(98.0, "percentile", minimum_ml=0.0)
    saved(result, tmp_path / "saved.seg.nrrd")
    ood.update(90.0, "percentile", minimum_ml=0.0)
    np.testing.assert_array_equal(shown(result), region & (case_files.percentile >= 90.0))


def test_an_empty_ood_segment_that_was_saved_fills_again(result, searched, ood, region, case_files, tmp_path):
    ood.update(100.0, "percentile", minimum_ml=0.0)
    assert not shown(result).any()
    storage = saved(result, tmp_path / "saved.seg.nrrd")
    result.segmentation.GetSegmentation().RemoveAllSegments()
    assert storage.ReadData(result.segmentation)
    OodSegment(result, searched).update(90.0, "percentile", minimum_ml=0.0)
    np.testing.assert_array_equal(shown(result), region & (case_files.percentile >= 90.0))
