"""What is computed of a CT, and by whom: shortcuts that change nothing, and how that is checked."""

import json
import multiprocessing
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from maxquery import openvino_backend
from maxquery.anomaly import SCORES
from maxquery.backend import Agreement, Backend, WindowNet, torch_backend
from maxquery.backend_choice import choose_backend
from maxquery.errors import InputError, MachineError
from maxquery.prediction import PredictionParameters, RunLog, infer
from maxquery.progress import silent
from maxquery.volume import Grid, Volume
from maxquery.window_queue import WindowQueue
from maxquery.windows import stitch

from .networks import LABELS, PATCH, tiny_bundle, tiny_network
from .slices import stacked

CPU = torch.device("cpu")
needs_openvino = pytest.mark.skipif(not openvino_backend.is_installed(), reason="openvino is not installed")


def test_a_queue_gives_each_window_at_most_once_and_none_that_is_not_wanted():
    every = [(0, y, x) for y in range(4) for x in range(4)]
    queue, found = WindowQueue([index for index in every if index[1]], [(0, 2, 2), (0, 0, 0)]), []
    for index in queue:
        found.append(index)
        queue.grow([(0, index[1] + y, index[2] + x) for y, x in ((-1, 0), (1, 0), (0, -1), (0, 1))])
        assert queue.fraction <= 1
    assert found[0] == (0, 2, 2) and sorted(found) == [index for index in every if index[1]]


def test_windows_without_any_of_the_patient_are_not_computed():
    computed = []

    def compute(window: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        computed.append(window)
        return torch.ones(2, *PATCH), torch.zeros(PATCH, dtype=torch.uint8)

    image = torch.randn(1, PATCH[0], PATCH[1], 6 * PATCH[2])
    body = torch.zeros(image.shape[1:], dtype=torch.bool)
    body[..., : PATCH[2]] = True
    channels, owner = stacked(stitch(image, PATCH, 1.0, 2, compute, CPU, lambda fraction: None, body))
    assert len(computed) == 1
    assert (owner[..., : PATCH[2]] == 1).all() and (owner[..., PATCH[2] :] == 0).all()
    assert (channels[..., PATCH[2] :] == 0).all()


def test_an_organ_is_followed_out_of_the_part_that_comes_first():
    image = torch.zeros(1, PATCH[0], PATCH[1], 8 * PATCH[2])
    image[..., 2 * PATCH[2] : 5 * PATCH[2]] = 1.0  # the organ; the part holds a corner of it
    part = (slice(0, PATCH[0]), slice(0, PATCH[1]), slice(4 * PATCH[2], 5 * PATCH[2]))
    computed = []

    def compute(window: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        computed.append(window)
        return torch.cat([0.5 - window, window - 0.5]), torch.zeros(PATCH, dtype=torch.uint8)

    def shows_organ(channels: torch.Tensor) -> bool:
        return bool((channels[1] > channels[0]).any())

    def run(**only):
        computed.clear()
        channels, _ = stacked(stitch(image, PATCH, 0.5, 2, compute, CPU, lambda fraction: None, **only))
        return channels[1] > channels[0], len(computed)

    (whole, of_whole), (part, of_part) = run(), run(part=part, shows_organ=shows_organ)
    assert (part == whole).all() and of_part < of_whole


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


@pytest.mark.parametrize("has_bfloat16", [False, True])
def test_the_default_may_compute_in_16_bit_where_a_cpu_has_instructions_for_it(net, has_bfloat16, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bfloat16)
    monkeypatch.setattr(openvino_backend, "is_installed", lambda: True)
    asked = []

    def spy(network, probe, classes, precisions):
        asked.append(precisions)
        return Backend("spy", None), Agreement(1.0, 1.0)

    monkeypatch.setattr(openvino_backend, "openvino_backend", spy)
    for fast in (True, False):
        choose_backend(net, [torch.zeros(1, *PATCH)] * 8, len(LABELS), CPU, "auto", fast, [])
    assert asked == [("bf16", "f32") if has_bfloat16 else ("f32",), ("f32",)]


def test_logits_and_scores_are_in_32_bit_where_a_network_computes_in_16(probe):
    class Whole(torch.nn.Module):  # not a few slices at a time
        def __init__(self):
            super().__init__()
            self.network = tiny_network()

        def forward(self, image):
            return self.network(image)

    def summed(output):
        responses = output.responses.movedim(1, -1)
        return responses @ torch.ones(responses.shape[-1])

    for network in (tiny_network(), Whole()):
        channels, _ = torch_backend(WindowNet(network, [summed]), CPU, torch.bfloat16).compute(probe)
        for channel in channels:
            assert len(channel.unique()) > 0.9 * channel.numel()  # in 16 bit most would be equal


@needs_openvino
@pytest.mark.parametrize("slow", ["bf16", "f32"])
def test_of_two_precisions_the_faster_one_computes_and_is_kept(net, probe, cache, slow, monkeypatch):
    compiled, tried = openvino_backend._compiled, []

    def delayed(core, model, precision):
        tried.append(precision)
        answer = compiled(core, model, "f32")

        def compute(window):
            time.sleep(0.3 if precision == slow else 0.0)
            return answer(window)

        return compute

    monkeypatch.setattr(openvino_backend, "_compiled", delayed)
    fast = {"bf16": "f32", "f32": "bf16"}[slow]
    for calls in (["bf16", "f32", fast], [fast]):  # the second time nothing is tried
        tried.clear()
        backend, _ = openvino_backend.openvino_backend(net, probe, len(LABELS), ("bf16", "f32"))
        assert tried == calls
        assert backend.name.endswith({"bf16": "bfloat16", "f32": "32 bit"}[fast])


@needs_openvino
def test_a_precision_that_disagrees_is_not_used_however_fast(net, probe, cache, monkeypatch):
    agreements = iter([Agreement(0.9, 0.5), Agreement(1.0, 1.0)])
    monkeypatch.setattr(Agreement, "of", classmethod(lambda cls, *answers: next(agreements)))
    backend, agreement = openvino_backend.openvino_backend(net, probe, len(LABELS), ("bf16", "f32"))
    assert backend.name.endswith("32 bit") and agreement.suffices


@needs_openvino
def test_openvino_answers_as_torch_does(net, probe, cache):
    backend, agreement = openvino_backend.openvino_backend(net, probe, len(LABELS), ("f32",))
    assert agreement.labels >= 0.999 and agreement.ranks >= 0.9999
    other = torch.randn(1, *PATCH)
    channels, owners = backend.compute(other)
    expected, expected_owners = torch_backend(net, CPU, None).compute(other)
    torch.testing.assert_close(channels, expected, atol=1e-3, rtol=1e-3)
    assert (owners == expected_owners).float().mean() > 0.999


def _two_networks_then_a_signal():
    """Python's own handler runs, or the process dies."""
    probe, two = torch.randn(1, *PATCH), [WindowNet(tiny_network(seed), [SCORES["maxquery"]]) for seed in (1, 2)]
    backends = [choose(net, probe) for net in two]
    backends.pop(0)
    backends.pop()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    signal.raise_signal(signal.SIGTERM)


@needs_openvino
def test_a_signal_is_heard_after_two_networks_were_converted(cache):
    child = multiprocessing.get_context("spawn").Process(target=_two_networks_then_a_signal)
    child.start()
    child.join()
    assert child.exitcode == 7


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


@needs_openvino
def test_what_disagreed_on_one_ct_is_tried_again_on_the_next(net, probe, cache, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Agreement, "of", classmethod(lambda cls, *answers: cls(0.9, 0.5)))
        assert choose(net, probe).name == "torch, 32 bit"
    monkeypatch.setattr(openvino_backend, "_converted", lambda *a: pytest.fail("it was converted before"))
    for _ in range(2):
        assert choose(net, probe).name.startswith("OpenVINO")
    facts = json.loads(next(cache.rglob("facts.json")).read_text())
    assert facts["agreement"]["labels"] > 0.999


@needs_openvino
def test_of_two_precisions_that_disagree_the_nearer_one_is_told_of(net, probe, cache, monkeypatch):
    agreements = iter([Agreement(0.9, 0.99), Agreement(0.9, 0.5)])
    monkeypatch.setattr(Agreement, "of", classmethod(lambda cls, *answers: next(agreements)))
    _, agreement = openvino_backend.openvino_backend(net, probe, len(LABELS), ("bf16", "f32"))
    assert agreement.ranks == 0.99


def test_without_openvino_torch_computes_and_asking_for_it_is_an_error(net, probe, cache, monkeypatch):
    monkeypatch.setattr(openvino_backend, "is_installed", lambda: False)
    assert choose(net, probe).name == "torch, 32 bit"
    with pytest.raises(MachineError, match="'openvino' is missing"):
        choose(net, probe, "openvino")


def test_openvino_is_not_asked_for_on_a_device_that_it_does_not_compute_on(net, probe):
    with pytest.raises(InputError, match="computes on the CPU here, and the device is cuda"):
        choose_backend(net, [probe], len(LABELS), torch.device("cuda"), "openvino", True, [])


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
