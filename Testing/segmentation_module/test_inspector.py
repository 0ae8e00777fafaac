"""Queries seen from inside: what they own, what they are called, what they answer."""

import json

import numpy as np
import pytest
import slicer

from MaxQuerySegmentationLib.cluster_map import ClusterMap
from MaxQuerySegmentationLib.query_notes import QueryNote, QueryNotes
from MaxQuerySegmentationLib.query_usage import QueryUsage
from MaxQuerySegmentationLib.response_chart import ResponseChart
from MaxQuerySegmentationLib.response_views import ResponseViews

GROUPS = ("background", "organ", "tumour", "tumour")


@pytest.fixture
def notes(result, tmp_path):
    return QueryNotes(result.report["queries"], tmp_path / "user" / "test 1.json")


@pytest.fixture
def responses(scene, result):
    """R of four queries on a coarse grid around the organ's centre, with another query ahead in each quarter."""
    values = np.zeros((4, 4, 6, 6), np.float32)
    values[0], values[1, :, :3], values[2, :, :, 4:], values[3, 0] = 1.0, 2.0, 3.0, 4.0
    to_ras = np.diag([-4.0, -4.0, 8.0, 1.0])
    to_ras[:3, 3] = (10.0, 4.0, 40.0)
    return ResponseViews(scene, result.ct, values, to_ras, GROUPS)


def test_each_query_owns_what_the_cluster_map_says_and_responds_as_the_anomaly_says(result, case_files):
    usage = QueryUsage.of(result)
    for query in range(3):
        owned = case_files.labels == query
        assert usage.volume_ml[query] == pytest.approx(owned.sum() * case_files.grid.voxel_volume_ml)
        expected = -case_files.raw[owned].astype(float).mean()
        assert usage.mean_response[query] == pytest.approx(expected, abs=1e-3)
    assert usage.volume_ml[3] == 0 and np.isnan(usage.mean_response[3])


def test_where_the_model_shows_another_score_its_map_is_not_taken_for_responses(result):
    report = result.report
    report["bundle"]["score"] = "type_entropy"
    result.provenance.SetText(json.dumps(report))
    usage = QueryUsage.of(result)
    assert usage.volume_ml[1] > 0 and np.isnan(usage.mean_response).all()


def test_an_unnamed_query_is_called_by_its_group_and_coloured_like_it(notes):
    assert [notes[query].name for query in range(4)] == ["background 0", "organ 1", "cyst wall", "tumour 3"]
    assert len({notes[query].colour for query in range(4)}) == 4


def test_what_a_person_writes_is_kept_for_the_model(result, notes):
    notes.set(1, QueryNote("left lobe", (0.1, 0.2, 0.3), "seen in ten cases"))
    again = QueryNotes(result.report["queries"], notes.file)
    assert again[1] == QueryNote("left lobe", (0.1, 0.2, 0.3), "seen in ten cases") and again[2] == notes[2]


def test_notes_of_something_else_are_refused_and_change_nothing(notes, tmp_path):
    foreign = tmp_path / "foreign.json"
    for text, reason in (
        ("[1, 2]", "holds no notes"), ('{"0": {"name": "x"}}', "holds no notes"),
        (json.dumps({"9": {"name": "x", "colour": [0, 0, 0], "note": ""}}), "there is no query 9"),
    ):  # fmt: skip
        foreign.write_text(text)
        with pytest.raises(ValueError, match=reason):
            notes.read(foreign)
    assert notes[0].name == "background 0"


def test_the_cluster_map_lies_over_the_ct_in_the_queries_names_and_colours(scene, result, notes):
    clusters = ClusterMap(scene, result, notes)
    clusters.show()
    layers = scene.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    assert layers.GetLabelVolumeID() == result.clusters.GetID()
    colour = [0.0] * 4
    clusters.colours.GetColor(3, colour)
    assert clusters.colours.GetColorName(3) == "cyst wall" and colour[:3] == pytest.approx(
        notes[2].colour, abs=1 / 255
    )
    clusters.only(1)
    visible = []
    for entry in range(5):
        clusters.colours.GetColor(entry, colour)
        visible.append(colour[3])
    assert visible == [0, 0, 1, 0, 0]
    clusters.hide()
    assert layers.GetLabelVolumeID() is None


def test_a_place_in_the_world_finds_its_voxels_responses(scene, result, responses):
    np.testing.assert_array_equal(responses.at((10.0, 4.0, 40.0)), [1, 2, 0, 4])
    np.testing.assert_array_equal(responses.at((-9.0, -15.0, 64.0)), [1, 0, 3, 0])
    assert responses.at((100.0, 0.0, 50.0)) is None
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(np.array(
        [[1, 0, 0, 50.0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])))  # fmt: skip
    result.ct.SetAndObserveTransformNodeID(transform.GetID())
    np.testing.assert_array_equal(responses.at((60.0, 4.0, 40.0)), [1, 2, 0, 4])


def test_a_map_shows_one_query_or_a_groups_share(responses):
    responses.map_of(2)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(responses.volume), responses.values[2])
    responses.map_of("tumour")
    shares = np.exp(responses.values) / np.exp(responses.values).sum(axis=0)
    np.testing.assert_allclose(slicer.util.arrayFromVolume(responses.volume), shares[2:].sum(axis=0), rtol=1e-5)


def test_the_chart_has_a_bar_a_query_and_names_the_strongest(scene, notes, responses):
    chart = ResponseChart(scene, notes, GROUPS, (0.0, 4.0))
    chart.show(responses.at((10.0, 4.0, 40.0)), percentile=91.25)
    assert chart.chart.GetTitle() == "max R 4.00 by query 3, percentile 91.2"
    chart.show(responses.at((10.0, 4.0, 40.0)), percentile=None)
    assert chart.chart.GetTitle() == "max R 4.00 by query 3"
    columns = {name: chart.table.GetTable().GetColumnByName(name) for name in ("background", "organ", "tumour")}
    assert [columns["tumour"].GetValue(query) for query in range(4)] == [0, 0, 0, 4]
    assert columns["organ"].GetValue(1) == 2 and chart.chart.GetNumberOfPlotSeriesNodes() == 3
    before = scene.GetNumberOfNodes()
    chart.remove()
    assert scene.GetNumberOfNodes() == before - 5


def test_all_queries_are_drawn_on_the_slice_with_the_ct_where_it_belongs(result, responses, notes, tmp_path):
    from maxquery.query_picture import write_query_picture

    hu, values, pixel_mm = responses.axial_slice((0.0, -6.0, 50.0))
    assert hu.shape == values.shape[1:] == (6, 6) and pixel_mm == (4.0, 4.0)
    assert hu[2, 2] == 110 and (values == responses.values[:, 1]).all()
    for name in ("queries.png", "queries.pdf"):
        write_query_picture(tmp_path / name, hu, values, [notes[q].name for q in range(4)], GROUPS, pixel_mm, "test")
        assert (tmp_path / name).stat().st_size > 5000
