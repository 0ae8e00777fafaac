"""`preview.png` shows the case the right way up, with what was found where it was found."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from maxquery.calibration import CalibrationTable
from maxquery.display import heat_colours
from maxquery.labels import Label
from maxquery.preview import write_preview
from maxquery.result import CaseScore, Finding, Prediction
from maxquery.volume import Grid, Volume

LIVER, TUMOUR, WARNING = (220, 130, 100), (0, 200, 255), (255, 176, 0)
LABELS = (
    Label(0, "background", "background", (0, 0, 0)),
    Label(1, "Liver", "organ", LIVER),
    Label(2, "Liver tumour", "tumour", TUMOUR),
)
AS_IT_IS = CalibrationTable((0.0, 100.0), (0.0, 100.0))
FINDING = Finding(1, "OOD region", True, 7.2, 24.0, 24.0, (17.0, 12.0, -9.0), 99.0, 99.9, (3,))
TILT = np.array([[0.9945, -0.1045, 0.0], [0.1045, 0.9945, 0.0], [0.0, 0.0, 1.0]])
GRIDS = {
    "left-handed": np.diag([1.0, -1.0, 1.0]),
    "sagittal stack": np.array([[0.0, 0, 1], [1, 0, 0], [0, -1, 0]]),
    "oblique": TILT,
}
# The phantom's liver and the margin around it fill the cube: each view is a square of 440 pixels.
SIDE, GAP, HEADER, FOOTER = 440, 8, 84, 156


def phantom(direction: np.ndarray) -> tuple[Volume, Prediction]:
    """A cube of 90 mm: liver on the patient's right, spine behind, air above, anomaly in the liver."""
    size = np.array([(30, 36, 45)[axis] for axis in np.abs(direction).argmax(0)])
    spacing = 90 / size
    grid = Grid(
        tuple(map(int, size)), tuple(spacing), tuple(-direction @ ((size - 1) / 2 * spacing)), direction
    )
    ras = grid.ras_mm(np.moveaxis(np.indices(grid.shape_zyx), 0, -1))

    def ball(centre, radius):
        return ((ras - centre) ** 2).sum(-1) < radius**2

    hu = np.full(grid.shape_zyx, -60, np.float32)
    hu[ras[..., 2] > 34] = -1000
    hu[ball((0, -32, 0), 9) | ball((0, -32, -9), 9)] = 400
    liver, tumour, anomaly = ball((14, 8, 0), 26), ball((17, 14, 10), 7), ball(FINDING.centroid_ras_mm, 8)
    hu[liver] = 100
    labels = (liver * 1 + (liver & tumour)).astype(np.uint8)
    percentile = np.where(anomaly, 99.9, 50.0).astype(np.float32)
    prediction = Prediction(grid, labels, percentile, labels, LABELS, (), (FINDING,), CaseScore(-0.5, 97.0))
    return Volume(hu[None], grid), prediction


def draw(folder, direction=GRIDS["oblique"], **options) -> np.ndarray:
    """The picture as `(rows, columns, 3)` 0…255."""
    write_preview(folder / "preview.png", *phantom(direction), AS_IT_IS, **options)
    return imread(folder / "preview.png")[..., :3] * 255


def view(picture: np.ndarray, row: int, column: int) -> np.ndarray:
    top, left = HEADER + row * (SIDE + GAP), GAP + column * (SIDE + GAP)
    return picture[top : top + SIDE, left : left + SIDE]


def near(picture: np.ndarray, colour, tolerance: float = 25) -> np.ndarray:
    return np.abs(picture - colour).max(-1) < tolerance


def seen_at(mask: np.ndarray) -> np.ndarray:
    """Centre of a region in mm of the cube: to the right of and below the view's middle."""
    assert mask.sum() > 50, "the region is not in the picture"
    row, column = np.array(np.nonzero(mask)).mean(1)
    return (np.array([column, row]) - SIDE / 2) * 90 / SIDE


@pytest.fixture(scope="module", params=GRIDS)
def picture(request, tmp_path_factory):
    return draw(tmp_path_factory.mktemp("preview"), GRIDS[request.param])


def over_grey(colour: np.ndarray, opacity: float, hu: float = 100) -> np.ndarray:
    """The colour over tissue, liver if not said otherwise."""
    return opacity * colour + (1 - opacity) * 255 * (hu + 160) / 400


def test_every_view_is_the_right_way_up_whatever_the_stack(picture):
    liver_grey = 255 * 260 / 400
    (x, y), (coronal_x, _), (sagittal_x, _) = (
        seen_at(near(view(picture, row, 0), [liver_grey] * 3, 8)) for row in range(3)
    )
    assert x < -10 and coronal_x < -10, "the patient's right is on the picture's left"
    assert y < -5 and sagittal_x < -5, "anterior is up in axial views, on the left in sagittal ones"
    assert seen_at(near(view(picture, 0, 0), [255] * 3, 5))[1] > 20, "the spine is behind"
    for row in (1, 2):
        air = near(view(picture, row, 0), [0] * 3, 5)
        assert air[:40].mean() > 0.8 and air[120:380].mean() < 0.2, "the head is up"


def test_heat_is_drawn_where_the_anomaly_is_and_nowhere_else(picture):
    hottest = over_grey(heat_colours()[-1] * 255, 0.65)
    right, anterior, superior = FINDING.centroid_ras_mm
    for row, expected in ((0, (-right, -anterior)), (1, (-right, -superior)), (2, (-anterior, -superior))):
        hot = near(view(picture, row, 2), hottest)
        assert np.allclose(seen_at(hot), expected, atol=4)
        changed = np.abs(view(picture, row, 2) - view(picture, row, 0)).max(-1) > 12
        assert changed.sum() < 2 * hot.sum(), "below the threshold the CT is as it was"


def test_heat_outside_the_organ_is_faint(tmp_path):
    ct, prediction = phantom(GRIDS["oblique"])
    hot = replace(prediction, anomaly=np.full_like(prediction.anomaly, 99.9))
    write_preview(tmp_path / "hot.png", ct, hot, AS_IT_IS)
    axial = view(imread(tmp_path / "hot.png")[..., :3] * 255, 0, 2)
    hottest = heat_colours()[-1] * 255
    assert near(axial, over_grey(hottest, 0.65)).sum() > 10_000
    assert near(axial, over_grey(hottest, 0.2, -60)).sum() > 10_000


def test_segmentation_is_drawn_in_its_labels_colours(picture):
    coronal = view(picture, 1, 1)
    assert near(coronal, LIVER).sum() > 100 and near(coronal, TUMOUR, 40).sum() > 30
    assert np.allclose(seen_at(near(coronal, TUMOUR, 60)), (-17, -10), atol=4)


def test_planted_lesions_carry_a_warning(tmp_path):
    warned = near(draw(tmp_path, title="A case", planted="ball of 20 mm")[:HEADER], WARNING)
    assert warned.sum() > 2000


def test_no_warning_without_a_planted_lesion(picture):
    assert not near(picture[:HEADER], WARNING).any()


def test_size_is_that_of_nine_views_and_their_captions(picture):
    assert picture.shape[:2] == (HEADER + 3 * (SIDE + GAP) + FOOTER, 3 * (SIDE + GAP) + GAP)


def test_a_case_with_nothing_in_it_is_drawn_whole(tmp_path):
    ct, prediction = phantom(GRIDS["oblique"])
    nothing = np.zeros_like(prediction.labels)
    empty = Prediction(ct.grid, nothing, nothing, prediction.clusters, LABELS, ())
    write_preview(tmp_path / "preview.png", ct, empty, AS_IT_IS)
    assert imread(tmp_path / "preview.png").shape[0] == HEADER + 3 * (SIDE + GAP) + FOOTER


def test_a_single_slice_is_drawn(tmp_path):
    grid = Grid((40, 40, 1), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0))
    labels = np.ones(grid.shape_zyx, np.uint8)
    ct = Volume(np.zeros((1, *grid.shape_zyx), np.float32), grid)
    prediction = Prediction(grid, labels, labels * 99.0, labels, LABELS, ())
    write_preview(tmp_path / "preview.png", ct, prediction, AS_IT_IS)
    assert (tmp_path / "preview.png").stat().st_size > 1000
