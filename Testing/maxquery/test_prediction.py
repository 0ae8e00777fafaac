"""Prediction on volumes of any size and geometry, stitched in bounded memory."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from maxquery import network_run
from maxquery.errors import Cancelled, InputError, MachineError
from maxquery.lattice import Lattice
from maxquery.model_grid import ModelGrid
from maxquery.prediction import PredictionParameters, RunLog, build_network, predict
from maxquery.volume import Grid, Volume
from maxquery.windows import Stitcher, stitch

from .networks import BACKBONE, LABELS, PATCH, tiny_bundle
from .slices import everywhere, stacked

CPU = torch.device("cpu")
ACCURATE = PredictionParameters(device="cpu", quality="accurate")


def _volume(shape=(12, 30, 34), spacing=(2.0, 2.5, 5.0), direction=None) -> Volume:
    rng = np.random.default_rng(0)
    grid = Grid(shape[::-1], spacing, (10.0, -20.0, 30.0), np.eye(3) if direction is None else direction)
    return Volume(rng.normal(60, 60, (1, *shape)).astype(np.float32), grid)


@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.4, 6)] * 3),
    size=st.tuples(*[st.integers(1, 12)] * 3),
    flip=st.booleans(),
)
@settings(max_examples=60)
def test_any_spacing_and_orientation_comes_back_voxel_for_voxel(angles, spacing, size, flip):
    direction = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag([-1 if flip else 1, 1, 1])
    grid = Grid(size, spacing, (1.0, 2.0, 3.0), direction)
    mapping = ModelGrid.of(grid, (3.0, 2.0, 2.0))
    values = np.arange(np.prod(size)).reshape(grid.shape_zyx)
    restored = np.empty_like(values)
    mapping.canonical(restored)[:] = mapping.canonical(values)
    assert (restored == values).all()
    # Along each model axis the patient coordinate (S, P, L) grows.
    for axis, patient_axis in zip(range(3), (2, 1, 0), strict=True):
        column = 2 - mapping.axes[axis]
        assert (grid.direction[patient_axis, column] < 0) == mapping.flips[axis]


def test_a_linear_ramp_survives_the_way_to_the_models_grid_and_back():
    grid = Grid((40, 36, 20), (1.5, 1.5, 3.0), (0.0, 0.0, 0.0), np.diag([1.0, -1.0, 1.0]))
    z, y, x = np.meshgrid(*[np.arange(n) for n in grid.shape_zyx], indexing="ij")
    ramp = (2.0 * z + 1.0 * y - 0.5 * x).astype(np.float32)
    mapping = ModelGrid.of(grid, (4.0, 2.0, 2.0))
    small = mapping.resample_in(ramp)
    back = np.empty_like(ramp)
    for z, _, full in mapping.slices_out(small[:, None], everywhere):
        mapping.canonical(back)[z] = full[0].numpy()
    inside = (slice(3, -3),) * 3
    # The averaging kernel has few samples, so a position may be off by a few hundredths of a voxel (2 units).
    assert np.abs(back - ramp)[inside].max() < 0.05 * 2


@given(
    size=st.tuples(*[st.integers(1, 14)] * 3), source=st.tuples(*[st.integers(1, 9)] * 3), seed=st.integers(0, 2**31)
)
@settings(max_examples=40)
def test_streamed_slices_are_the_trilinear_image_and_a_labels_box_misses_nothing(size, source, seed):
    mapping = ModelGrid((0, 1, 2), (False,) * 3, size, source)
    generator = torch.Generator().manual_seed(seed)
    channels = torch.rand(2, *source, generator=generator)
    channels[0] = (channels[0] > 0.9).float()
    expected = torch.nn.functional.interpolate(channels[None], size, mode="trilinear")[0]
    whole = [plane for _, _, plane in mapping.slices_out(channels.unbind(1), everywhere)]
    torch.testing.assert_close(torch.stack(whole, dim=1), expected, atol=1e-5, rtol=0)
    for z, (y, x), plane in mapping.slices_out(channels.unbind(1), lambda one: one[0] > 0):
        torch.testing.assert_close(plane, expected[:, z, y, x], atol=1e-5, rtol=0)
        expected[0, z, y, x] = 0
    assert expected[0].abs().max() < 1e-6


def test_the_answer_does_not_depend_on_how_the_same_anatomy_is_stored():
    volume = _volume()
    straight = predict(volume, tiny_bundle(), ACCURATE)
    grid = volume.grid
    flipped_grid = Grid(
        grid.size_xyz,
        grid.spacing_xyz_mm,
        tuple((grid.index_to_lps @ [*np.array(grid.size_xyz) - 1, 1])[:3]),
        -np.eye(3),
    )
    flipped = predict(Volume(volume.array[:, ::-1, ::-1, ::-1], flipped_grid), tiny_bundle(), ACCURATE)
    assert (flipped.labels[::-1, ::-1, ::-1] == straight.labels).all()
    assert (flipped.anomaly[::-1, ::-1, ::-1] == straight.anomaly).all()


def test_the_prediction_lies_on_the_inputs_exact_grid():
    direction = Rotation.from_euler("xyz", (10, 20, 30), degrees=True).as_matrix()
    volume = _volume(direction=direction)
    prediction = predict(volume, tiny_bundle(), ACCURATE)
    assert prediction.grid is volume.grid
    for array in (prediction.labels, prediction.anomaly, prediction.clusters):
        assert array.shape == volume.grid.shape_zyx
    assert prediction.clusters.min() >= 1 and prediction.clusters.max() <= 8


def test_air_around_the_patient_is_not_called_strange():
    volume = _volume(shape=(12, 40, 40), spacing=(3.0, 3.0, 4.0))
    hu = volume.array[0]
    body = np.zeros(hu.shape, bool)
    body[:, 8:32, 8:32] = True
    hu[~body] = -1000.0
    hu[:, 16:24, 16:24] = -900.0  # a lung is air too, and inside
    anomaly = predict(volume, tiny_bundle(), ACCURATE).anomaly
    around = ndimage.binary_erosion(~body, iterations=2, border_value=1)
    assert (anomaly[around] == anomaly.min()).all()
    assert (anomaly[:, 18:22, 18:22] > anomaly.min()).any()


def test_more_air_around_the_patient_changes_nothing_in_the_patient():
    patient = _volume(shape=(12, 26, 28), spacing=(3.0, 3.0, 4.0)).array
    answers = []
    for margin in (2, 21):
        hu = np.pad(patient, [(0, 0), (0, 0), (margin, margin), (margin, margin)], constant_values=-1000.0)
        grid = Grid(hu.shape[:0:-1], (3.0, 3.0, 4.0), (0.0, 0.0, 0.0), np.eye(3))
        prediction = predict(Volume(hu, grid), tiny_bundle(), ACCURATE)
        inside = (slice(None), *[slice(margin, -margin)] * 2)
        answers.append((prediction.labels[inside], prediction.anomaly[inside], prediction.clusters[inside]))
    for close, far in zip(*answers, strict=True):
        assert (close == far).all()


@given(
    size=st.tuples(*[st.integers(4, 14)] * 3),
    source=st.tuples(*[st.integers(4, 9)] * 3),
    crop=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 1))] * 3),
)
@settings(max_examples=40)
def test_a_part_of_the_models_grid_answers_like_the_whole_where_it_lies(size, source, crop):
    whole = ModelGrid((0, 1, 2), (False,) * 3, size, source)
    part = whole.cropped(tuple(slice(a, n - b) for n, (a, b) in zip(source, crop, strict=True)))
    values = torch.rand(1, *source, generator=torch.Generator().manual_seed(0)) + 1
    cut = values[(slice(None), *part.part)]
    assert tuple(cut.shape[1:]) == part.shape_zyx
    # Both ends of an input voxel's interpolation lie in the part where it leaves a map of ones as it is.
    ones = torch.zeros_like(values)
    ones[(slice(None), *part.part)] = 1
    slices = (grid.slices_out(of.unbind(1), everywhere) for grid, of in ((whole, values), (part, cut), (whole, ones)))
    for (*_, expected), (*_, found), (*_, share) in zip(*slices, strict=True):
        torch.testing.assert_close(found[share == 1], expected[share == 1])
    expected, found = np.zeros(size), np.ones(size)
    whole.nearest_out((values * ones)[0].numpy(), expected)
    part.nearest_out(cut[0].numpy(), found)
    assert (found == expected).all()


def test_one_window_is_stitched_to_what_the_network_said_of_it():
    bundle = tiny_bundle()
    network = build_network(bundle)
    image = torch.randn(1, *PATCH)

    def window(cut):
        with torch.inference_mode():
            output = network(cut[None])
        return output.segmentation[0], output.responses[0].argmax(0)

    channels, owner = stacked(stitch(image, PATCH, 0.5, len(LABELS), window, CPU, lambda fraction: None))
    expected, expected_owner = window(image)
    torch.testing.assert_close(channels, expected)
    assert (owner == expected_owner + 1).all()


def test_a_volume_smaller_than_the_window_is_padded_and_cut_back():
    prediction = predict(_volume(shape=(2, 5, 6)), tiny_bundle(), ACCURATE)
    assert prediction.labels.shape == (2, 5, 6)


@given(
    shape=st.tuples(*[st.integers(1, 60)] * 3),
    patch=st.tuples(*[st.integers(1, 24)] * 3),
    step=st.floats(0.3, 1.0),
    part=st.tuples(*[st.tuples(st.integers(0, 59), st.integers(1, 60))] * 3),
)
def test_windows_cover_every_voxel_and_never_leave_the_volume_and_the_first_ones_cover_their_part(
    shape, patch, step, part
):
    shape = tuple(max(s, p) for s, p in zip(shape, patch, strict=True))
    part = tuple(slice(min(a, n - 1), min(max(a + 1, b), n)) for (a, b), n in zip(part, shape, strict=True))
    seen, first = np.zeros(shape, bool), np.zeros(shape, bool)
    lattice = Lattice.over(shape, patch, step, part)
    for index in lattice.indices:
        assert seen[lattice.box(index)].shape == patch
        seen[lattice.box(index)] = True
    for index in lattice.first_indices:
        first[lattice.box(index)] = True
    assert seen.all() and first[part].all()


@given(
    shape=st.tuples(*[st.integers(1, 200)] * 3),
    patch=st.tuples(*[st.integers(4, 40)] * 3),
    many=st.integers(0, 100),
)
def test_windows_overlap_by_half_unless_that_takes_many(shape, patch, many):
    padded = tuple(max(s, p) for s, p in zip(shape, patch, strict=True))
    half = len(Lattice.over(padded, patch, 0.5).indices)
    assert ACCURATE.step(shape, patch) == 0.5
    assert PredictionParameters(many_windows=many).step(shape, patch) == (0.5 if half <= many else 0.7)


def test_a_window_has_a_rim_towards_each_neighbour():
    lattice = Lattice.over((32, 16, 80), (32, 16, 32), 0.75)
    assert lattice.starts == ((0,), (0,), (0, 24, 48))
    rims = {neighbour: box[2] for neighbour, box in lattice.rims((0, 0, 1))}
    assert rims == {(0, 0, 0): slice(0, 2), (0, 0, 2): slice(30, 32)}


def test_what_is_stitched_grows_neither_with_the_number_of_queries_nor_with_the_slices_that_are_done():
    stitcher, most = Stitcher(len(LABELS) + 1, (30, 40), CPU), 0
    for z in range(0, 200, 4):
        stitcher.add((z, 0, 0), torch.ones(len(LABELS) + 1, 8, 30, 40), torch.zeros(8, 30, 40, dtype=torch.uint8))
        held = [t for one in stitcher.slices.values() for t in vars(one).values()]
        most = max(most, sum(t.numel() * t.element_size() for t in held))
        for done in range(z, z + 4):
            stitcher.take(done)
    assert most == 8 * 30 * 40 * (4 * (len(LABELS) + 1) + 4 + 4 + 1)


def test_a_slice_comes_as_soon_as_no_window_can_touch_it():
    windows, image = [], torch.randn(1, 5 * PATCH[0], *PATCH[1:])

    def window(cut):
        windows.append(cut)
        return torch.ones(2, *PATCH), torch.zeros(PATCH, dtype=torch.uint8)

    slices = stitch(image, PATCH, 1.0, 2, window, CPU, lambda fraction: None)
    computed = [len(windows) for _ in slices]
    assert computed == [1 + z // PATCH[0] for z in range(5 * PATCH[0])]


def test_the_same_input_gives_the_same_bits():
    first, second = (predict(_volume(), tiny_bundle(), ACCURATE) for _ in range(2))
    assert (first.anomaly == second.anomaly).all() and (first.clusters == second.clusters).all()


def test_the_heatmap_is_the_score_that_the_bundle_names():
    sure, doubtful = (predict(_volume(), replace(tiny_bundle(), score=name), ACCURATE) for name in ("maxquery", "msp"))
    assert sure.anomaly.min() < -1 <= doubtful.anomaly.min()
    assert (sure.labels == doubtful.labels).all()


def test_the_heatmap_is_smoothed_as_the_bundle_says_and_nothing_else_is():
    bundle = tiny_bundle()
    volume = _volume(spacing=bundle.spacing_zyx_mm[::-1])
    rough, smooth = (predict(volume, replace(bundle, smoothing_mm=mm), ACCURATE) for mm in (0.0, 3.0))
    sigma = np.divide(3.0, bundle.spacing_zyx_mm)
    expected = ndimage.gaussian_filter(rough.anomaly.astype(np.float32), sigma, mode="nearest")
    assert np.abs(smooth.anomaly - expected).max() < 0.01 < np.ptp(expected) < 0.5 * np.ptp(rough.anomaly)
    assert (smooth.labels == rough.labels).all() and (smooth.clusters == rough.clusters).all()


def test_a_score_of_a_later_version_is_named():
    with pytest.raises(InputError, match=r"anomaly score is 'better'.*known here: maxquery") as refused:
        predict(_volume(), replace(tiny_bundle(), score="better"), ACCURATE)
    assert refused.value.code == "bundle-too-new"


def test_a_report_that_cancels_stops_the_run():
    def stop(stage, fraction, message):
        if stage == "network":
            raise Cancelled()

    with pytest.raises(Cancelled):
        predict(_volume(), tiny_bundle(), ACCURATE, stop)


def test_progress_of_the_network_rises_to_one():
    fractions = []
    predict(_volume(), tiny_bundle(), ACCURATE, lambda s, f, m: fractions.append(f) if s == "network" else None)
    assert fractions == sorted(fractions) and fractions[-1] == 1.0


def test_the_wrong_number_of_phases_is_named():
    volume = _volume()
    two = replace(volume, array=np.concatenate([volume.array, volume.array]))
    with pytest.raises(InputError, match=r"takes 1 image.*2 came"):
        predict(two, tiny_bundle(), ACCURATE)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"heads": 7}, "embed_dim must be divisible by num_heads"),
        ({"backbone": BACKBONE | {"arch_kwargs": {"n_stages": 3}}}, "missing"),
    ],
)
def test_a_bundle_whose_sizes_no_network_can_have_is_refused(changes, said):
    bundle = tiny_bundle()
    broken = replace(bundle, architecture=bundle.architecture | changes)
    with pytest.raises(InputError, match=f"No network has the sizes in bundle.json of 'tiny'.*{said}"):
        predict(_volume(), broken, ACCURATE)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(MachineError, match="cuda"):
        predict(_volume(), tiny_bundle(), PredictionParameters(device="cuda"))


def test_running_out_of_gpu_memory_falls_back_to_the_cpu_and_says_so(monkeypatch):
    """No GPU in CI: the two GPU footprints are played by the CPU, and made to fail."""
    run_on, places = network_run._run_on, [("gpu", "gpu"), ("gpu", "cpu"), ("cpu", "cpu")]

    def fail_on_gpu(device, keep_on, *rest):
        if device == "gpu":
            raise torch.OutOfMemoryError
        return run_on(CPU, CPU, *rest)

    monkeypatch.setattr(network_run, "_footprints", lambda wanted: iter(places))
    monkeypatch.setattr(network_run, "_device_name", str)
    monkeypatch.setattr(network_run, "_run_on", fail_on_gpu)
    log = RunLog()
    fallen_back = predict(_volume(), tiny_bundle(), ACCURATE, log=log)
    assert log.device == "cpu" and sum("out of memory" in w for w in log.warnings) == 2
    assert (fallen_back.labels == predict(_volume(), tiny_bundle(), ACCURATE).labels).all()
