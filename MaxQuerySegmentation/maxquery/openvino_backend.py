"""OpenVINO computes a window on a CPU: the same network, faster than torch.

Converting takes seconds, so what was converted is kept in the user's cache under a checksum of all that went into it,
with how far it agreed with torch on this computer.
"""

import hashlib
import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import maxquery.network
from maxquery import anomaly, backbone, backend, kmeans_attention, pixel_embedding
from maxquery.backend import Agreement, Answer, Backend, WindowNet, torch_backend
from maxquery.cache import cache_folder

_FACTS, _MODEL, _WEIGHTS = "facts.json", "model.xml", "model.bin"


def is_installed() -> bool:
    return find_spec("openvino") is not None


def openvino_backend(
    network: WindowNet, probe: Tensor, classes: int, half: bool, cache: Path | None = None
) -> tuple[Backend, Agreement]:
    """The backend for windows of the size of `probe` `(C, Z, Y, X)`, and how far it agrees with torch there.

    `half`: in bfloat16.
    """
    import openvino

    core = openvino.Core()
    processor = core.get_property("CPU", "FULL_DEVICE_NAME")
    key = _key(network, [list(probe.shape), openvino.__version__, torch.__version__, half, processor])
    folder = (cache or cache_folder("openvino")) / key
    kept = _load(core, folder)
    model = kept[0] if kept else _converted(network, probe)
    compiled = core.compile_model(
        model, "CPU",
        {"INFERENCE_PRECISION_HINT": "bf16" if half else "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()},
    )  # fmt: skip

    def compute(window: Tensor) -> Answer:
        channels, owners = compiled(window[None].numpy()).values()
        return torch.from_numpy(channels), torch.from_numpy(owners)

    name = f"OpenVINO {openvino.__version__.partition('-')[0]}, {'bfloat16' if half else '32 bit'}"
    if kept:
        return Backend(name, compute), kept[1]
    reference = torch_backend(network, torch.device("cpu"), None)
    agreement = Agreement.of(reference.compute(probe), compute(probe), classes)
    _save(model, agreement, folder)
    return Backend(name, compute), agreement


def _converted(network: WindowNet, probe: Tensor) -> Any:
    import openvino

    fast, example = torch.backends.mha.get_fastpath_enabled(), probe[None]
    torch.backends.mha.set_fastpath_enabled(False)  # one operator that OpenVINO does not know
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what torch will call otherwise one day
            model = openvino.convert_model(torch.export.export(network, (example,)))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    model.reshape(list(example.shape))
    return model


def _key(network: WindowNet, others: list[Any]) -> str:
    """Of the code, the architecture, every weight, the scores by their names, and `others`."""
    digest = hashlib.sha256(json.dumps([score.__qualname__ for score in network.scores] + others).encode())
    digest.update(repr(getattr(network.network, "architecture", network)).encode())
    for module in (anomaly, backbone, backend, kmeans_attention, maxquery.network, pixel_embedding):
        digest.update(Path(module.__file__).read_bytes())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy())
    return digest.hexdigest()


def _load(core: Any, folder: Path) -> tuple[Any, Agreement] | None:
    """None where there is nothing, or nothing whole: that is removed."""
    try:
        facts = json.loads((folder / _FACTS).read_text("utf-8"))
        if facts["sha256"] != _sums(folder):
            raise ValueError("a file is damaged")
        return core.read_model(folder / _MODEL), Agreement(**facts["agreement"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        shutil.rmtree(folder, ignore_errors=True)
        return None


def _save(model: Any, agreement: Agreement, folder: Path) -> None:
    """Whole or not at all; of two processes that come with the same, one is kept. A full disk is no reason to stop."""
    import openvino

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".converting-", dir=folder.parent) as beside:
            fresh = Path(beside, "fresh")
            fresh.mkdir()
            openvino.save_model(model, fresh / _MODEL, compress_to_fp16=False)
            facts: Mapping[str, Any] = {"sha256": _sums(fresh), "agreement": asdict(agreement)}
            (fresh / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
            fresh.rename(folder)
    except (OSError, RuntimeError):
        return


def _sums(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (_MODEL, _WEIGHTS)}
