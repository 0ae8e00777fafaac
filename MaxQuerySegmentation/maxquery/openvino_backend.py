"""OpenVINO computes a window on a CPU: the same network, faster than torch.

Converting takes seconds, so what was converted is kept in the user's cache under a checksum of all that went into it,
with the precision that is fastest on this computer, and how far it agreed with torch there.
"""

import hashlib
import json
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import maxquery.network
from maxquery import anomaly, backbone, backend, kmeans_attention, pixel_embedding
from maxquery.backend import Agreement, Answer, Backend, WindowNet, torch_backend
from maxquery.cache import cache_folder

CPU = torch.device("cpu")
_FACTS, _MODEL, _WEIGHTS = "facts.json", "model.xml", "model.bin"
_NAMES = {"f32": "32 bit", "bf16": "bfloat16"}


def is_installed() -> bool:
    return find_spec("openvino") is not None


@dataclass(frozen=True)
class Facts:
    """What is kept beside a converted network: OpenVINO's name of the precision that it computes in here, and how far
    it agrees with torch then."""

    precision: str
    agreement: Agreement


def openvino_backend(
    network: WindowNet, probe: Tensor, classes: int, precisions: Sequence[str]
) -> tuple[Backend, Agreement]:
    """The backend for windows of the size of `probe` `(C, Z, Y, X)`, and how far it agrees with torch there.

    `precisions`: "f32", "bf16" or both; of those that agree with torch the faster one here. No rule tells which: with
    AVX-512's own bfloat16 a paper-size window took half as long as in 32 bit on one processor, 1.6 times on another.
    """
    import openvino

    core = _core()
    processor = core.get_property("CPU", "FULL_DEVICE_NAME")
    key = _key(network, [list(probe.shape), openvino.__version__, torch.__version__, *precisions, processor])
    folder = cache_folder("openvino") / key
    kept = _load(core, folder)
    model, facts = kept or (_converted(network, probe), None)
    if facts is None or not facts.agreement.suffices:  # one CT's window must not speak against all that come
        facts = _chosen(core, model, precisions, probe, torch_backend(network, CPU, None).compute(probe), classes)
        if not kept or facts.agreement.suffices:
            _save(model, facts, folder)
    name = f"OpenVINO {openvino.__version__.partition('-')[0]}, {_NAMES[facts.precision]}"
    return Backend(name, _compiled(core, model, facts.precision)), facts.agreement


@cache
def _core() -> Any:
    """One for the process. Each brings its own stack for signal handlers, and of two the one that goes last leaves the
    first one's behind, whose memory is gone: the next signal, of Ctrl+C or of a child that ended, would be a crash."""
    import openvino

    return openvino.Core()


def _compiled(core: Any, model: Any, precision: str) -> Callable[[Tensor], Answer]:
    compiled = core.compile_model(
        model, "CPU", {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    )

    def compute(window: Tensor) -> Answer:
        channels, owners = compiled(window[None].numpy()).values()
        return torch.from_numpy(channels), torch.from_numpy(owners)

    return compute


def _chosen(
    core: Any, model: Any, precisions: Sequence[str], probe: Tensor, reference: Answer, classes: int
) -> Facts:  # fmt: skip
    """The fastest of those that agree with the `reference`; where none does, the one that is nearest to it."""
    tried = []
    for precision in precisions:
        compute = _compiled(core, model, precision)
        agreement = Agreement.of(reference, compute(probe), classes)
        start = time.perf_counter()  # the first window takes longer than any other
        compute(probe)
        seconds = time.perf_counter() - start
        rank = (0, seconds) if agreement.suffices else (1, -agreement.ranks)
        tried.append((rank, Facts(precision, agreement)))
    return min(tried, key=lambda one: one[0])[1]


@torch.inference_mode()
def _converted(network: WindowNet, probe: Tensor) -> Any:
    """Traced: what `torch.export` gives takes more than twice as long to convert, and normalises less exactly."""
    import openvino

    fast, example = torch.backends.mha.get_fastpath_enabled(), probe[None]
    torch.backends.mha.set_fastpath_enabled(False)  # one operator that OpenVINO does not know
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of constants in the trace, and of what torch will give up one day
            traced = torch.jit.trace(network, example, check_trace=False)
            return openvino.convert_model(traced, input=list(example.shape))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _key(network: WindowNet, others: list[Any]) -> str:
    """Of the code, the architecture, every weight, the scores by their names, and `others`."""
    digest = hashlib.sha256(json.dumps([score.__qualname__ for score in network.scores] + others).encode())
    digest.update(repr(getattr(network.network, "architecture", network)).encode())
    modules = (anomaly, backbone, backend, kmeans_attention, maxquery.network, pixel_embedding)
    for file in (__file__, *(module.__file__ for module in modules)):
        digest.update(Path(file).read_bytes())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy())
    return digest.hexdigest()


def _load(core: Any, folder: Path) -> tuple[Any, Facts] | None:
    """None where there is nothing, or nothing whole: that is removed."""
    try:
        facts = json.loads((folder / _FACTS).read_text("utf-8"))
        if facts["sha256"] != _sums(folder):
            raise ValueError("a file is damaged")
        return core.read_model(folder / _MODEL), Facts(facts["precision"], Agreement(**facts["agreement"]))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _save(model: Any, found: Facts, folder: Path) -> None:
    """Whole or not at all, in place of what is there; a full disk is no reason to stop."""
    import openvino

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".converting-", dir=folder.parent) as beside:
            fresh = Path(beside, "fresh")
            fresh.mkdir()
            openvino.save_model(model, fresh / _MODEL, compress_to_fp16=False)
            facts: Mapping[str, Any] = {"sha256": _sums(fresh), **asdict(found)}
            (fresh / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)
    except (OSError, RuntimeError):
        return


def _sums(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (_MODEL, _WEIGHTS)}
