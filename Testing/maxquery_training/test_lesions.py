"""Planted lesions: they look as published, they stay where they belong, and they leave the rest alone."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter

from maxquery_training.lesions.arbitrary import ARBITRARY
from maxquery_training.lesions.planting import plant
from maxquery_training.lesions.types import INLIERS, LESION_TYPES, OUTLIERS

KINDS = [*LESION_TYPES, pytest.param(ARBITRARY, id=ARBITRARY.key)]
SPACING = (3.0, 2.0, 2.0)
LIVER_HU, BODY_HU, NOISE_HU = 110.0, 40.0, 12.0
REAL = Path(__file__).parents[3] / "shared" / "data" / "liver" / "train" / "liver_002_ct.nii.gz"

# Mean over the lesion, HU from the liver's mean. Wide where calcium, fat or cavities decide.
MEAN_OFFSET_HU = {
    "hcc": (-40, -3),
    "icc": (-50, -15),
    "metastasis": (-65, -20),
    "haemangioma": (-60, -12),
    "cyst": (-112, -80),
    "fnh": (2, 27),
    "hepatoblastoma": (-45, 8),
    "abscess": (-60, -10),
    "calcified": (-55, 60),
    "fat": (-150, -35),
}


@pytest.fixture(scope="module")
def organ() -> np.ndarray:
    z, y, x = np.ogrid[-69:69:3.0, -85:85:2.0, -95:95:2.0]
    return (z / 60) ** 2 + (y / 70) ** 2 + (x / 80) ** 2 < 1


@pytest.fixture(scope="module")
def ct(organ) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(0).standard_normal(organ.shape), 0.6)
    noise *= NOISE_HU / noise.std()
    return (np.where(organ, LIVER_HU, BODY_HU) + noise).astype(np.float32)


@pytest.fixture(scope="module")
def middle(organ) -> tuple[int, ...]:
    return tuple(n // 2 for n in organ.shape)


def test_five_inliers_come_first_then_five_outliers():
    assert INLIERS == ("hcc", "icc", "metastasis", "haemangioma", "cyst")
    assert OUTLIERS == ("fnh", "hepatoblastoma", "abscess", "calcified", "fat")
    assert tuple(LESION_TYPES) == INLIERS + OUTLIERS


@pytest.mark.parametrize("kind", LESION_TYPES)
def test_mean_hu_lies_in_the_published_range(kind, ct, organ):
    for seed in range(3):
        planted = plant(ct, organ, SPACING, kind, np.random.default_rng(seed), diameter_mm=26)
        low, high = MEAN_OFFSET_HU[kind]
        assert low < planted.image[planted.mask].mean() - LIVER_HU < high


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_plants_the_same_lesion_and_leaves_its_inputs_alone(kind, ct, organ):
    before, organ_before = ct.copy(), organ.copy()
    first, second = (plant(ct, organ, SPACING, kind, np.random.default_rng(7), diameter_mm=20) for _ in "ab")
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.mask, second.mask)
    np.testing.assert_array_equal(ct, before)
    np.testing.assert_array_equal(organ, organ_before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_lesion_stays_in_the_organ_but_for_a_slight_bulge(kind, ct, organ):
    bulged = binary_dilation(organ, iterations=3)
    for seed in range(2):
        planted = plant(ct, organ, SPACING, kind, np.random.default_rng(seed), diameter_mm=30)
        assert planted.mask.any()
        assert not (planted.mask & ~bulged).any()


def test_the_image_is_unchanged_away_from_the_lesion(ct, organ, middle):
    rng = np.random.default_rng(1)
    planted = plant(ct, organ, SPACING, "hcc", rng, diameter_mm=20, centre_zyx=middle)
    far = np.ones(ct.shape, bool)
    z, y, x = middle
    far[z - 8 : z + 9, y - 12 : y + 13, x - 12 : x + 13] = False  # 24 mm to each side
    np.testing.assert_array_equal(planted.image[far], ct[far])
    assert (planted.image != ct).any()


def test_volume_is_that_of_a_ball_of_the_stated_diameter(ct, organ, middle):
    rng = np.random.default_rng(2)
    planted = plant(ct, organ, SPACING, "icc", rng, diameter_mm=30, centre_zyx=middle)
    assert planted.mask.sum() * np.prod(SPACING) == pytest.approx(np.pi / 6 * 30**3, rel=0.1)


def test_a_cyst_has_the_noise_of_the_scan(ct, organ, middle):
    rng = np.random.default_rng(3)
    planted = plant(ct, organ, SPACING, "cyst", rng, diameter_mm=34, centre_zyx=middle)
    inside = binary_erosion(planted.mask, iterations=2)
    values = planted.image[inside]
    assert values.std() == pytest.approx(NOISE_HU, rel=0.25)
    steps = np.diff(planted.image, axis=2)[inside[:, :, 1:] & inside[:, :, :-1]].std()
    scan_steps = np.diff(ct, axis=2)[organ[:, :, 1:] & organ[:, :, :-1]].std()
    assert steps == pytest.approx(scan_steps, rel=0.25), "the grain should be as coarse as the scan's"


def test_tissue_pushed_aside_keeps_its_noise(ct, organ, middle):
    rng = np.random.default_rng(4)
    planted = plant(ct, organ, SPACING, "cyst", rng, diameter_mm=34, centre_zyx=middle)
    around = binary_dilation(planted.mask, iterations=5) & ~binary_dilation(planted.mask, iterations=2)
    assert planted.image[around].std() == pytest.approx(NOISE_HU, rel=0.15)


def test_a_cyst_pushes_a_vessel_aside(ct, organ, middle):
    z, y, x = middle
    with_vessel = ct.copy()
    with_vessel[z - 1 : z + 2, y + 7 : y + 9, x - 12 : x + 13] = 180  # 14 to 18 mm behind the centre
    rng = np.random.default_rng(5)
    planted = plant(with_vessel, organ, SPACING, "cyst", rng, diameter_mm=24, centre_zyx=(z, y, x))
    profile = planted.image[z, y : y + 15, x - 1 : x + 2].mean(axis=1)
    vessel = np.clip(profile - 130, 0, None)
    assert vessel.max() > 20
    assert np.average(np.arange(15), weights=vessel) > 7.5 + 0.1


def test_forbidden_voxels_are_neither_covered_nor_changed(ct, organ, middle):
    forbidden = np.zeros(organ.shape, bool)
    x = middle[2]
    forbidden[:, :, x + 8 : x + 16] = True
    for seed in range(3):
        rng = np.random.default_rng(seed)
        planted = plant(ct, organ, SPACING, "metastasis", rng, diameter_mm=20, forbidden=forbidden)
        assert not (planted.mask & forbidden).any()
        np.testing.assert_array_equal(planted.image[forbidden], ct[forbidden])


def test_none_when_there_is_no_room(ct, organ):
    rng = np.random.default_rng(0)
    assert plant(ct, np.zeros_like(organ), SPACING, "hcc", rng) is None
    assert plant(ct, organ, SPACING, "hcc", rng, diameter_mm=20, forbidden=organ) is None
    assert plant(ct, organ, SPACING, "hcc", rng, diameter_mm=40, centre_zyx=(2, 2, 2)) is None
    few = np.zeros_like(organ)
    few[20:22, 40:42, 40:42] = True
    assert plant(ct, few, SPACING, "cyst", rng, diameter_mm=30) is None


@pytest.mark.parametrize("kind", LESION_TYPES.values(), ids=LESION_TYPES)
def test_sizes_are_log_normal_around_the_stated_median(kind):
    rng = np.random.default_rng(0)
    drawn = np.array([kind.draw_diameter_mm(rng) for _ in range(2000)])
    assert np.median(drawn) == pytest.approx(kind.median_diameter_mm, rel=0.06)
    assert drawn.min() >= 6
    assert drawn.max() <= kind.max_diameter_mm


@pytest.mark.parametrize("spacing", [(2.0, 1.5, 1.5), (5.0, 0.9, 0.9)])
def test_any_spacing_and_a_patch_cut_from_a_scan_will_do(spacing, ct, organ, middle):
    z, y, x = middle
    part = np.s_[z - 8 : z + 8, y - 20 : y + 20, x - 20 : x + 20]
    planted = plant(ct[part], organ[part], spacing, "haemangioma", np.random.default_rng(6), diameter_mm=14)
    assert planted.image.shape == planted.mask.shape == (16, 40, 40)
    assert np.isfinite(planted.image).all()


@pytest.mark.skipif(not REAL.exists(), reason=f"the real CT {REAL.name} is not here")
def test_lesions_on_a_real_clipped_ct_differ_from_the_liver_as_they_should():
    image = sitk.ReadImage(str(REAL))
    hu = sitk.GetArrayFromImage(image).astype(np.float32)
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(REAL).replace("_ct", "_seg")))
    liver_hu = np.median(hu[labels == 1])
    for kind, direction in {"cyst": -1, "metastasis": -1, "fat": -1, "fnh": 1}.items():
        planted = plant(
            hu, labels == 1, image.GetSpacing()[::-1], kind, np.random.default_rng(0),
            forbidden=labels == 2, diameter_mm=25,
        )  # fmt: skip
        assert direction * (planted.image[planted.mask].mean() - liver_hu) > 0
