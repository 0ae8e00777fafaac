"""What is computed of a CT, and by whom: shortcuts that change nothing, and how that is checked."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maxquery import openvino_backend
from maxquery.anomaly import SCORES
from maxquery.backend import Agreement, WindowNet, torch_backend
from maxquery.backend_choice import choose_backend
from maxquery.errors import MachineError
from maxquery.prediction import PredictionParameters, RunLog, infer, silent
from maxquery.volume import Grid, Volume
from maxquery.window_queue import WindowQueue
from maxquery.windows import stitch

from .networks import LABELS, PATCH, tiny_bundle, tiny_network

CPU = torch.device("cpu")
needs_openvino = pytest.mark.skipif(not openvino_backend.is_installed(), reason="openvino is not installed")


def seen(queue: WindowQueue, organ: set) -> list:
    found = []
    for index in queue:
        found.append(index)
        if index in organ:
            queue.grow(index)
    return found


@given(
    counts=st.tuples(*[st.integers(1, 5)] * 3),
    corner=st.tuples(*[st.integers(0, 4)] * 3),
    size=st.tuples(*[st.integers(2, 5)] * 3),
)
def test_every_window_of_an_organ_that_a_seed_can_meet_is_computed_once_with_all_its_neighbours(counts, corner, size):
    every = [(z, y, x) for z in range(counts[0]) for y in range(counts[1]) for x in range(counts[2])]
    organ = {i for i in every if all(c <= n < c + s for n, c, s in zip(i, corner, size, strict=True))}
    if not any(all(n % 2 == 0 for n in index) for index in organ):
        return  # at the lattice's end an organ may be one window thick
    found = seen(WindowQueue(counts, every, seeds_only=True), organ)
    assert len(found) == len(set(found))
    around = {i for i in every if any(all(abs(a - b) <= 1 for a, b in zip(i, o, strict=True)) for o in organ)}
    assert around <= set(found)


def test_windows_without_any_of_the_patient_are_not_computed():
    computed = []

    def compute(window: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        computed.append(window)
        return torch.ones(2, *PATCH), torch.zeros(PATCH, dtype=torch.uint8)

    image = torch.randn(1, PATCH[0], PATCH[1], 6 * PATCH[2])
    body = torch.zeros(image.shape[1:], dtype=torch.bool)
    body[..., : PATCH[2]] = True
    stitched = stitch(image, PATCH, 1.0, 2, compute, CPU, lambda fraction: None, body)
    assert len(computed) == 1
    assert (stitched.owner[..., : PATCH[2]] == 1).all() and (stitched.owner[..., PATCH[2] :] == 0).all()
    assert (stitched.channels[..., PATCH[2] :] == 0).all()


def test_around_the_organ_every_voxel_gets_what_it_gets_in_a_whole_run():
    image = torch.zeros(1, *(4 * n for n in PATCH))
    z, y, x = (slice(n, n + n // 2) for n in PATCH)
    image[:, z, y, x] = 1.0

    computed = []

    def compute(window: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        computed.append(window)
        blurred = torch.nn.functional.avg_pool3d(window[None], 3, 1, 1)[0]
        return torch.cat([0.5 - blurred, blurred - 0.5, blurred]), torch.zeros(PATCH, dtype=torch.uint8)

    def shows_organ(channels: torch.Tensor) -> bool:
        return bool((channels[1] > channels[0]).any())

    whole = stitch(image, PATCH, 0.5, 3, compute, CPU, lambda fraction: None)
    of_whole = len(computed)
    part = stitch(image, PATCH, 0.5, 3, compute, CPU, lambda fraction: None, shows_organ=shows_organ)
    assert len(computed) - of_whole < of_whole / 2
    inside = image[0] > 0
    torch.testing.assert_close(part.channels[:, inside], whole.channels[:, inside])


@pytest.fixture(scope="module")
def net() -> WindowNet:
    return WindowNet(tiny_network(), [SCORES["maxquery"]])


@pytest.fixture(scope="module")
def probe() -> torch.Tensor:
    return torch.randn(1, *PATCH, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "maxquery" / "openvino"


def choose(net, probe, wanted="auto", warnings=None):
    return choose_backend(net, [probe] * 8, len(LABELS), CPU, wanted, False, [] if warnings is None else warnings)


@needs_openvino
def test_openvino_answers_as_torch_does(net, probe, cache):
    backend, agreement = openvino_backend.openvino_backend(net, probe, len(LABELS), half=False, cache=cache)
    assert agreement.labels >= 0.999 and agreement.ranks >= 0.9999
    other = torch.randn(1, *PATCH)
    channels, owners = backend.compute(other)
    expected, expected_owners = torch_backend(net, CPU, None).compute(other)
    torch.testing.assert_close(channels, expected, atol=1e-3, rtol=1e-3)
    assert (owners == expected_owners).float().mean() > 0.999


@needs_openvino
def test_what_was_converted_is_used_again_and_what_is_damaged_is_made_anew(net, probe, cache, monkeypatch):
    choose(net, probe)
    (folder,) = cache.iterdir()
    calls = []
    converted = openvino_backend._converted
    monkeypatch.setattr(openvino_backend, "_converted", lambda *a: calls.append(a) or converted(*a))
    choose(net, probe)
    assert not calls
    (folder / "model.bin").write_bytes(b"\0" * 100)
    assert choose(net, probe).name.startswith("OpenVINO")
    assert len(calls) == 1 and (folder / "model.bin").stat().st_size != 100
    assert len(list(cache.iterdir())) == 1


@needs_openvino
def test_other_weights_are_another_model(net, probe, cache):
    choose(net, probe)
    choose(WindowNet(tiny_network(seed=5), net.scores), probe)
    assert len(list(cache.iterdir())) == 2


@needs_openvino
def test_a_backend_that_disagrees_is_not_used_and_the_run_says_so(net, probe, cache, monkeypatch):
    monkeypatch.setattr(Agreement, "of", classmethod(lambda cls, *answers: cls(0.9, 0.5)))
    warnings = []
    assert choose(net, probe, warnings=warnings).name == "torch, 32 bit"
    assert "agrees too little" in warnings[0]
    facts = json.loads(next(cache.rglob("facts.json")).read_text())
    assert facts["agreement"] == {"labels": 0.9, "ranks": 0.5}
    with pytest.raises(MachineError, match="agrees too little"):
        choose(net, probe, "openvino")


def test_without_openvino_torch_computes_and_asking_for_it_is_an_error(net, probe, cache, monkeypatch):
    monkeypatch.setattr(openvino_backend, "is_installed", lambda: False)
    assert choose(net, probe).name == "torch, 32 bit"
    with pytest.raises(MachineError, match="'openvino' is missing"):
        choose(net, probe, "openvino")


def test_few_windows_are_left_to_torch(net, probe, cache):
    assert choose_backend(net, [probe] * 7, len(LABELS), CPU, "auto", False, []).name == "torch, 32 bit"
    assert not cache.exists()


def test_agreement_counts_labels_and_ranks():
    one = torch.randn(3, 4, 5, 6), torch.zeros(4, 5, 6)
    other = one[0].clone(), one[1]
    other[0][:2, 0, 0, 0] = one[0][:2, 0, 0, 0].flip(0)
    agreement = Agreement.of(one, other, classes=2)
    assert agreement.labels == pytest.approx(1 - 1 / 120)
    assert agreement.ranks == pytest.approx(1.0)
    assert not agreement.suffices
    np.testing.assert_allclose(Agreement.of(one, (-one[0], one[1]), 2).ranks, -1.0)


def test_a_run_that_asks_for_no_score_gets_labels_and_owners():
    volume = Volume(np.random.default_rng(0).normal(size=(1, 4, 12, 12)).astype(np.float32),
                    Grid((12, 12, 4), (3.0, 3.0, 4.0), (0.0, 0.0, 0.0), np.eye(3)))  # fmt: skip
    labels, maps, clusters = infer(volume, tiny_bundle(), [], PredictionParameters(), silent, RunLog())
    assert labels.shape == clusters.shape == (4, 12, 12) and maps == []
