"""What every query answers in a part of a CT, and where that part lies."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from maxquery import responses
from maxquery.bundle import weights_sha256
from maxquery.cli import main
from maxquery.errors import InputError
from maxquery.model_grid import ModelGrid
from maxquery.network_run import build_network, model_input
from maxquery.nrrd import write_nrrd
from maxquery.parameters import PredictionParameters
from maxquery.responses import model_to_ras, responses_in
from maxquery.volume import Grid, Volume

from .networks import DISTRIBUTION, PATCH, tiny_bundle
from .slices import everywhere

ACCURATE = PredictionParameters(device="cpu", quality="accurate")
OBLIQUE = Rotation.from_euler("xyz", (8, -14, 100), degrees=True).as_matrix() @ np.diag([1, -1, 1])


def _volume(shape_zyx, direction=OBLIQUE) -> Volume:
    grid = Grid(shape_zyx[::-1], (2.0, 2.5, 5.0), (10.0, -20.0, 30.0), direction)
    return Volume(np.random.default_rng(0).normal(60, 60, (1, *shape_zyx)).astype(np.float32), grid)


def test_a_voxel_of_the_models_grid_knows_its_place_in_the_patient():
    volume = _volume((12, 30, 34))
    grid = ModelGrid.of(volume.grid, (6.0, 4.0, 4.0))
    to_ras = model_to_ras(grid, volume)
    zyx = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape_zyx], indexing="ij"), axis=-1)
    places = torch.from_numpy(zyx[..., ::-1] @ to_ras[:3, :3].T + to_ras[:3, 3]).permute(3, 0, 1, 2)
    back = np.empty((*volume.grid.shape_zyx, 3))
    for z, _, of_slice in grid.slices_out(places.unbind(1), everywhere):  # linear, as the way back to the CT is
        grid.canonical(back[..., 0])[z], grid.canonical(back[..., 1])[z], grid.canonical(back[..., 2])[z] = of_slice
    inside = (slice(2, -2),) * 3
    zyx = np.stack(np.meshgrid(*[np.arange(n) for n in volume.grid.shape_zyx], indexing="ij"), axis=-1)
    np.testing.assert_allclose(back[inside], volume.grid.ras_mm(zyx)[inside], atol=1e-3)


def test_responses_of_a_ct_of_one_window_are_the_networks():
    volume, bundle = _volume((6, 18, 22)), tiny_bundle()
    found = responses_in(volume, bundle, volume.grid.ras_mm(np.array([3, 9, 11])), 500.0, ACCURATE)
    image, _ = model_input(volume, bundle, ModelGrid.of(volume.grid, bundle.spacing_zyx_mm))
    assert all(n <= p for n, p in zip(image.shape[1:], PATCH, strict=True))
    padded = image.new_zeros((1, *PATCH))  # as nnU-Net pads in training
    padded[:, : image.shape[1], : image.shape[2], : image.shape[3]] = image
    with torch.inference_mode():
        expected = build_network(bundle)(padded[None]).responses[0]
    expected = expected[:, : image.shape[1], : image.shape[2], : image.shape[3]]
    np.testing.assert_allclose(found.values, expected, atol=1e-4)


def test_a_part_holds_what_the_whole_holds_there():
    volume, bundle = _volume((14, 40, 44)), tiny_bundle()
    centre = volume.grid.ras_mm(np.array([6, 22, 18]))
    whole, part = (responses_in(volume, bundle, centre, size, ACCURATE) for size in (1000.0, 24.0))
    assert len(part.values) == DISTRIBUTION.total and 1 < part.values[0].size < whole.values[0].size
    offset = np.rint((np.linalg.inv(whole.to_ras) @ part.to_ras)[:3, 3]).astype(int)[::-1]
    box = tuple(slice(o, o + n) for o, n in zip(offset, part.values.shape[1:], strict=True))
    np.testing.assert_allclose(part.values, whole.values[(slice(None), *box)], atol=1e-5)
    corners = (part.to_ras @ [0, 0, 0, 1])[:3], (part.to_ras @ [*(n - 1 for n in part.values.shape[:0:-1]), 1])[:3]
    np.testing.assert_allclose(np.mean(corners, axis=0), centre, atol=4.0)


def test_a_place_outside_the_ct_is_refused_by_its_name():
    volume = _volume((6, 18, 22))
    with pytest.raises(InputError, match=r"nothing of the CT within 10 mm of \[900.0, 0.0, 0.0\]"):
        responses_in(volume, tiny_bundle(), (900.0, 0.0, 0.0), 20.0, ACCURATE)


VOLUME = _volume((6, 18, 22))
CENTRE = VOLUME.grid.ras_mm(np.array([3, 9, 11]))


@pytest.fixture
def arguments(tmp_path, tiny_model) -> list[str]:
    """The command's, less its output."""
    write_nrrd(tmp_path / "ct.nrrd", VOLUME.array[0], VOLUME.grid, {})
    options = ["--bundle", str(tiny_model), "--size", "20", "--device", "cpu", "--progress", "none"]
    return ["responses", str(tmp_path / "ct.nrrd"), "--centre", *map(str, CENTRE), *options]


def test_the_command_leaves_one_file_that_comes_back(arguments, tmp_path):
    assert main([*arguments, "--output", str(tmp_path / "responses.npz")]) == 0
    direct = responses_in(VOLUME, tiny_bundle(), CENTRE, 20.0)
    with np.load(tmp_path / "responses.npz", allow_pickle=False) as found:
        np.testing.assert_allclose(found["values"], direct.values, atol=0.02, rtol=1e-3)
        np.testing.assert_allclose(found["to_ras"], direct.to_ras, atol=1e-6)
        assert found["weights_sha256"] == weights_sha256(tiny_bundle().weights)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ct.nrrd", "responses.npz"]


@pytest.mark.parametrize("output, said", [
    ("ct.nrrd", "is no .npz file"), ("absent/r.npz", "There is no folder"), ("ct.nrrd/r.npz", "is a file"),
    (".", "is a folder"),
])  # fmt: skip
def test_an_output_that_cannot_be_written_is_said_before_anything_is_computed(
    arguments, output, said, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(responses, "responses_in", lambda *_: pytest.fail("computed"))
    assert main([*arguments, "--output", str(tmp_path / output)]) == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["ct.nrrd"]


def test_a_signal_while_the_file_is_written_leaves_none(arguments, tmp_path):
    code = """
import signal, sys, time
from maxquery import cli, responses

def save_half(found, path):
    path.write_bytes(b"half")
    signal.raise_signal(signal.SIGTERM)
    time.sleep(60)

responses.Responses.save = save_half
sys.exit(cli.main(sys.argv[1:]))
"""
    done = subprocess.run([sys.executable, "-c", code, *arguments, "--output", str(tmp_path / "responses.npz")])
    assert done.returncode == 130
    assert [path.name for path in tmp_path.iterdir()] == ["ct.nrrd"]
