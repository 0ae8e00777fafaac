"""Findings: what is listed, how large it is, where it lies, and whether it is out of distribution."""

import cc3d
import numpy as np
import pytest
from scipy import ndimage

from maxquery.findings import FindingParameters, diameters_mm, find, ood_mask, ood_regions
from maxquery.labels import Label
from maxquery.search_region import search_region
from maxquery.volume import Grid

TABLE = (
    Label(0, "background", "background", (0, 0, 0)),
    Label(1, "liver", "organ", (221, 130, 101)),
    Label(2, "HCC", "tumour", (144, 238, 144)),
    Label(3, "cyst", "tumour", (0, 151, 206)),
)
GRID = Grid((60, 50, 40), (1.0, 1.2, 2.0), (0.0, 0.0, 0.0))


def ball(grid: Grid, centre_mm: tuple[float, float, float], radius_mm: float) -> np.ndarray:
    """`(Z, Y, X)` bool; the centre counts from the first voxel along x, y, z."""
    z, y, x = np.ogrid[tuple(slice(size) for size in grid.shape_zyx)]
    squares = [
        (index * spacing - middle) ** 2
        for index, spacing, middle in zip((x, y, z), grid.spacing_xyz_mm, centre_mm, strict=True)
    ]
    return sum(squares) <= radius_mm**2


class Case:
    """A liver, a ball of 22 mm, in which nothing is unusual; a test adds to it."""

    def __init__(self, grid: Grid = GRID):
        self.grid = grid
        self.labels = ball(grid, (30, 30, 40), 22).astype(np.uint8)
        self.percentile = np.full(grid.shape_zyx, 50, np.float32)
        self.clusters = np.full(grid.shape_zyx, 1, np.uint8)

    def find(self, **parameters):
        return find(
            self.labels, self.percentile, self.clusters, self.grid, TABLE, FindingParameters(**parameters)
        )


def test_nothing_predicted_nothing_found():
    case = Case()
    case.labels[:] = 0
    case.percentile[:] = 100
    assert case.find() == ()


def test_a_healthy_liver_has_no_findings():
    assert Case().find() == ()


@pytest.mark.parametrize("spacing", [(0.8, 0.8, 2.5), (0.7, 1.1, 1.0)])
def test_a_ball_has_its_volume_and_its_diameters(spacing):
    grid = Grid((60, 50, 30), spacing, (0.0, 0.0, 0.0))
    case = Case(grid)
    lesion = ball(grid, (20.1, 20.3, 20.0), 10)
    case.labels[:] = lesion * 2
    (finding,) = case.find()
    assert finding.volume_ml == pytest.approx(4 / 3 * np.pi, rel=0.03)
    voxel = max(spacing[:2])
    assert finding.longest_diameter_mm == pytest.approx(20, abs=voxel)
    assert finding.perpendicular_diameter_mm == pytest.approx(20, abs=voxel)


def test_diameters_of_a_bar_and_of_one_pixel():
    mask = np.zeros((3, 9, 9), bool)
    mask[1, 4, 1:8] = True
    assert diameters_mm(mask, (1.0, 2.0)) == pytest.approx((7.0, 2.0))
    assert diameters_mm(mask[:, :, :2], (1.0, 2.0)) == pytest.approx((2.0, 1.0))


def test_a_slanted_ellipse_is_measured_along_its_own_axes():
    y, x = np.mgrid[:80, :80] - 40.0
    along, across = (x + y) / 2**0.5, (x - y) / 2**0.5
    mask = ((along / 30) ** 2 + (across / 12) ** 2 <= 1)[None]
    assert diameters_mm(mask, (0.7, 0.7)) == pytest.approx((0.7 * 60, 0.7 * 24), abs=0.7)


def test_the_centroid_is_exact_on_an_oblique_grid():
    angle = np.deg2rad(25)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    tilt = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    grid = Grid((60, 50, 40), (1.0, 1.2, 2.0), (-120.0, 80.0, -300.0), turn @ tilt)
    case = Case(grid)
    case.labels[10:15, 20:27, 30:41] = 2  # middle: x 35, y 23, z 12
    (finding,) = case.find()
    lps = np.array(grid.origin_lps_mm) + grid.direction @ (np.array([35, 23, 12]) * grid.spacing_xyz_mm)
    assert finding.centroid_ras_mm == pytest.approx(tuple(lps * [-1, -1, 1]))


def test_a_shell_is_placed_on_the_shell_not_in_what_it_surrounds():
    case = Case(Grid((40, 40, 20), (1.0, 1.0, 2.0), (0.0, 0.0, 0.0)))
    z, y, x = np.indices(case.labels.shape)
    distance = np.sqrt(((z - 10) * 2.0) ** 2 + (y - 20) ** 2 + (x - 20) ** 2)
    case.labels[(distance > 8) & (distance < 12)] = 2
    (finding,) = case.find()
    x, y, z = np.array(finding.centroid_ras_mm) * (-1, -1, 1) / (1, 1, 2)
    assert case.labels[round(z), round(y), round(x)] == 2


def test_the_nearest_voxel_of_a_shell_is_that_in_mm():
    case = Case(Grid((40, 40, 20), (0.7, 0.7, 5.0), (0.0, 0.0, 0.0)))
    case.labels[8:13, 16:25, 16:25] = 2
    case.labels[9:12, 17:24, 17:24] = 0
    (finding,) = case.find()
    centre = np.array((20, 20, 10)) * (-0.7, -0.7, 5.0)
    assert np.linalg.norm(finding.centroid_ras_mm - centre) == pytest.approx(4 * 0.7)


def test_tumours_are_separate_by_class_and_joined_by_corners():
    case = Case()
    case.labels[20, 20:24, 20:40] = 2
    case.labels[20, 24:30, 20:40] = 3  # touches the first
    case.labels[21, 30:40, 40:45] = 3  # touches the second by one corner
    assert [(f.id, f.label, f.ood) for f in case.find()] == [(1, "cyst", False), (2, "HCC", False)]
    assert case.find()[0].volume_ml == pytest.approx((6 * 20 + 50) * GRID.voxel_volume_ml)


def test_what_is_too_small_is_not_listed():
    case = Case()
    case.labels[20, 20, 20:60:2] = 2  # single voxels of 0.0024 ml
    case.percentile[20, 30, 30:32] = 100
    assert case.find() == ()
    assert len(case.find(minimum_volume_ml=0.002, minimum_thickness_mm=0.0)) == 21
    case.labels[10:12, 10:16, 10:14] = 2  # 48 voxels, 0.115 ml
    assert len(case.find(minimum_volume_ml=0.1)) == 1
    assert case.find(minimum_volume_ml=0.12) == ()


@pytest.mark.parametrize("radius", [5, 9])
def test_an_outlier_that_the_network_calls_background_is_found_inside_the_liver(radius):
    case = Case()
    outlier = ball(GRID, (33, 30, 42), radius)
    case.labels[outlier] = 0
    case.percentile[outlier] = 99.5
    (finding,) = case.find()
    assert (finding.label, finding.ood) == ("OOD region", True)
    assert finding.volume_ml == pytest.approx(outlier.sum() * GRID.voxel_volume_ml)


def test_an_outlier_in_the_rim_of_the_liver_is_found():
    case = Case()
    outlier = ball(GRID, (30, 12, 40), 6) & (case.labels == 1)
    case.labels[outlier] = 0
    case.percentile[outlier] = 100
    (finding,) = case.find()
    assert finding.volume_ml > 0.9 * outlier.sum() * GRID.voxel_volume_ml


def test_a_thin_sheet_of_heat_along_the_border_is_not_a_finding_but_a_lesion_in_it_is():
    case = Case()
    case.percentile[ball(GRID, (30, 30, 40), 23) & ~ball(GRID, (30, 30, 40), 20)] = 99.9
    assert case.find() == ()
    assert case.find(minimum_thickness_mm=2.0)[0].label == "OOD region"
    case.percentile[ball(GRID, (30, 30, 22), 5)] = 99.9
    assert [finding.label for finding in case.find()] == ["OOD region"]


@pytest.mark.parametrize("spacing_xyz_mm", [(0.8, 0.8, 2.5), (0.7, 0.7, 5.0), (1.0, 1.2, 2.0)])
def test_a_region_is_thick_enough_where_its_map_of_distances_says_so(spacing_xyz_mm):
    grid = Grid((60, 50, 40), spacing_xyz_mm, (0.0, 0.0, 0.0))
    noise = np.random.default_rng(0).standard_normal(grid.shape_zyx)
    suspicious = ndimage.gaussian_filter(noise, 2.0 / np.array(spacing_xyz_mm[::-1])) > 0.12
    pieces, count = cc3d.connected_components(suspicious, connectivity=26, return_N=True)
    depth_mm = ndimage.distance_transform_edt(np.pad(suspicious, 1), sampling=spacing_xyz_mm[::-1])[1:-1, 1:-1, 1:-1]
    deepest_mm = ndimage.maximum(depth_mm, pieces, range(1, count + 1))
    thick = [number for number, mm in enumerate(deepest_mm, start=1) if 2 * mm >= 5.0]
    assert 0 < len(thick) < count
    parameters = FindingParameters(minimum_volume_ml=0.0, minimum_thickness_mm=5.0)
    found = [pieces[box][mask][0] for box, mask in ood_regions(suspicious, grid, parameters)]
    assert found == thick


def test_an_outlier_cut_by_the_last_slice_is_found():
    case = Case()
    case.labels[21:] = 0  # the scan ends in the middle of the liver
    labels = case.labels[:21].copy()
    outlier = ball(GRID, (30, 30, 40), 12)[:21]
    labels[outlier] = 0
    grid = Grid((60, 50, 21), GRID.spacing_xyz_mm, GRID.origin_lps_mm)
    assert search_region(labels > 0, grid.spacing_xyz_mm[::-1])[outlier].all()


def test_what_is_strange_outside_the_organ_is_not_a_finding():
    case = Case()
    case.percentile[~search_region(case.labels > 0, GRID.spacing_xyz_mm[::-1])] = 100
    assert case.find() == ()


def test_the_search_region_is_the_organ_and_a_narrow_border():
    case = Case()
    region = search_region(case.labels > 0, GRID.spacing_xyz_mm[::-1])
    assert region[case.labels > 0].all()
    assert region[ball(GRID, (30, 30, 40), 22 + 1)].all()
    assert not region[~ball(GRID, (30, 30, 40), 22 + 3 + 2)].any()


def test_a_fine_image_is_searched_like_a_coarse_one():
    fine = Grid((120, 120, 60), (0.5, 0.5, 1.0), (0.0, 0.0, 0.0))
    region = search_region(ball(fine, (30, 30, 30), 20), fine.spacing_xyz_mm[::-1])
    assert region[ball(fine, (30, 30, 30), 20 + 1)].all()
    assert not region[~ball(fine, (30, 30, 30), 20 + 3 + 2)].any()


def test_the_border_of_the_image_is_no_tissue():
    labels = np.zeros(GRID.shape_zyx, np.uint8)
    labels[:, 5:10] = 1  # 4.8 mm from the image's first row
    region = search_region(labels > 0, GRID.spacing_xyz_mm[::-1], dilation_mm=0)
    assert not region[:, :3].any()


def test_a_tumour_is_ood_when_half_of_it_is():
    case = Case()
    case.labels[18:22, 20:30, 20:30] = 2
    case.percentile[18:20, 20:30, 20:30] = 99.2  # one half
    tumour = next(f for f in case.find() if f.label == "HCC")
    assert tumour.ood
    case.percentile[18, 20, 20] = 98.9
    assert not next(f for f in case.find() if f.label == "HCC").ood


def test_a_strange_tumour_is_listed_by_its_type_and_as_a_region():
    case = Case()
    case.labels[18:22, 20:30, 20:30] = 3
    case.percentile[17:23, 20:30, 20:30] = 99.5
    assert [(f.id, f.label, f.ood) for f in case.find()] == [(1, "OOD region", True), (2, "cyst", True)]


def test_ood_findings_come_first_then_the_larger():
    case = Case()
    case.labels[10:12, 20:30, 25:35] = 2
    case.labels[16:24, 20:30, 15:25] = 2
    case.labels[16:20, 20:30, 32:36] = 3
    case.percentile[28:32, 22:27, 28:34] = 100
    findings = case.find()
    assert [f.id for f in findings] == [1, 2, 3, 4]
    assert [f.label for f in findings] == ["OOD region", "HCC", "HCC", "cyst"]
    assert findings[1].volume_ml > findings[2].volume_ml


def test_mean_and_peak_percentile_are_those_of_its_voxels():
    case = Case()
    case.labels[18:20, 20:30, 20:30] = 2
    case.percentile[18, 20:30, 20:30] = 80
    case.percentile[18, 20, 20] = 99.9
    (finding,) = case.find()
    assert finding.mean_percentile == pytest.approx((99 * 80 + 99.9 + 100 * 50) / 200)
    assert finding.peak_percentile == pytest.approx(99.9)


def test_the_queries_that_own_a_tenth_are_named_the_largest_first():
    case = Case()
    case.labels[18, 20:30, 20:30] = 2
    case.clusters[18, 20:25, 20:30] = 31 + 1
    case.clusters[18, 25:29, 20:30] = 20 + 1
    case.clusters[18, 29, 20:29] = 7 + 1
    case.clusters[18, 29, 29] = 0  # not computed
    (finding,) = case.find()
    assert finding.queries == (31, 20)


def test_the_ood_mask_is_the_threshold_inside_the_search_region():
    case = Case()
    case.percentile[:, 25] = 99
    case.percentile[:, 26] = 98.9
    mask = ood_mask(case.percentile, case.labels, GRID)
    assert mask[20, 25, 30] and not mask[20, 26, 30]
    assert not mask[0].any()
