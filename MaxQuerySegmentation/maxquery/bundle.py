"""Model bundles on the disk: found, loaded with everything checked, and saved whole or not at all.

network = build_network(load_bundle(find_bundle("liver-demo")))  # maxquery.network_run
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from maxquery.archive import ALLOWED, ASK, LITTER, pickle_error, read_files
from maxquery.bundle_schema import (
    Bundle,
    Channel,
    Normalisation,
    bundle_document,
    queries_document,
    read_bundle,
)
from maxquery.checked_json import parse
from maxquery.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Bundle",
    "Channel",
    "Normalisation",
    "check_tensors",
    "find_bundle",
    "list_bundles",
    "load_bundle",
    "save_bundle",
    "weights_sha256",
]

# In the repository the models lie beside MaxQuerySegmentation/; in an installed extension beside maxquery/.
_SHIPPED = tuple(folder / "Resources" / "Models" for folder in Path(__file__).resolve().parents[1:3])
USER_MODELS = Path(os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")) / "maxquery" / "models"
"""Where a person's own models are found by name."""
ROOTS = (*_SHIPPED, USER_MODELS)
PICKLE_STARTS = (b"PK\x03\x04", *(bytes([0x80, protocol]) for protocol in range(1, 6)))


def list_bundles(roots: Iterable[Path] = ROOTS) -> dict[str, Path]:
    """Name (of the folder, or of the zip without its ending) → path of the bundles in `roots`.

    They are listed, not checked; of two with one name the earlier root's counts.
    """
    found: dict[str, Path] = {}
    for root in roots:
        for path in sorted(root.iterdir()) if root.is_dir() else ():
            if (path / "bundle.json").is_file():
                found.setdefault(path.name, path)
            elif path.suffix == ".zip":
                found.setdefault(path.stem, path)
    return found


def find_bundle(name_or_path: str | Path, roots: Iterable[Path] = ROOTS) -> Path:
    """Where the bundle called `name_or_path` lies: a name in `roots`, else a folder or zip.

    Raises InputError 'bundle-not-found', and 'bundle-ambiguous' where another bundle lies under that path.
    """
    known, path = list_bundles(roots), Path(name_or_path)
    named = known.get(str(name_or_path))
    if named is not None and (path / "bundle.json").is_file() and not path.samefile(named):
        raise InputError(
            "bundle-ambiguous", f"Two bundles are called '{name_or_path}': {named} and {path.absolute()}.",
            "Give the path of the one that you mean.",
        )  # fmt: skip
    if named is not None:
        return named
    if path.exists():
        return path
    raise InputError(
        "bundle-not-found",
        f"No bundle is called '{name_or_path}', and there is no such folder or zip.",
        f"Known by name: {', '.join(known)}." if known else "Give the path of a bundle's folder or zip.",
    )


def load_bundle(path: str | Path, with_weights: bool = True) -> Bundle:
    """The bundle at `path` (a folder or a zip), every file checked against its sum and its schema.

    Without the weights (they are empty then) nothing needs torch: enough to show what a model is.
    Raises InputError as `read_files` and `read_bundle` do, and 'bundle-damaged' for a wrong sum or for
    weights that cannot be read, 'bundle-pickle' for a pickle under the name of weights.
    """
    files = read_files(Path(path))
    _check_sums(files)
    bundle = read_bundle(
        parse("bundle.json", files["bundle.json"]), parse("queries.json", files["queries.json"])
    )
    return replace(
        bundle,
        weights=_read_weights(files["weights.safetensors"]) if with_weights else {},
        model_card=files.get("README.md", b"").decode(errors="replace"),
    )


def save_bundle(bundle: Bundle, directory: str | Path) -> Path:
    """Writes the bundle as the folder `directory`, and returns it.

    It is written beside and renamed, so that no reader meets half a bundle. An older bundle there is
    replaced; any other folder that holds something is refused (InputError 'bundle-not-replaced').
    What could not be loaded again is not saved (InputError as `load_bundle`'s).
    """
    directory = Path(directory).absolute()
    if not _may_replace(directory):
        raise InputError(
            "bundle-not-replaced",
            f"{directory} exists and is not a model bundle; it was left as it is.",
            "Choose another folder for the bundle.",
        )
    files = {
        "bundle.json": _json_bytes(bundle_document(bundle)),
        "queries.json": _json_bytes(queries_document(bundle)),
        "weights.safetensors": _weight_bytes(bundle.weights),
    }
    if bundle.model_card:
        files["README.md"] = bundle.model_card.encode()
    read_bundle(parse("bundle.json", files["bundle.json"]), parse("queries.json", files["queries.json"]))
    sums = (f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())
    files["SHA256SUMS"] = "".join(sums).encode()

    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent) as beside:
        fresh, old = Path(beside, "fresh"), Path(beside, "old")
        fresh.mkdir()
        for name, content in files.items():
            (fresh / name).write_bytes(content)
        if directory.exists():
            directory.rename(old)
        try:
            fresh.rename(directory)
        except OSError:
            if old.exists():
                old.rename(directory)
            raise
    return directory


def check_tensors(weights: Mapping[str, "Tensor"], expected: Mapping[str, "Tensor"]) -> None:
    """Raises InputError 'bundle-weights-mismatch' unless `weights` fit a network's state dict `expected`."""
    for name, tensor in expected.items():
        found = tuple(weights[name].shape) if name in weights else "none"
        if found != tuple(tensor.shape):
            _mismatch(f"tensor {name}: expected {tuple(tensor.shape)}, found {found}.")
    for name in weights:
        if name not in expected:
            _mismatch(f"tensor {name}: expected none, found {tuple(weights[name].shape)}.")


def weights_sha256(weights: Mapping[str, "Tensor"]) -> str:
    """The same for a bundle in memory and on the disk, whatever file holds it: of names, types, shapes and values."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _mismatch(sentence: str) -> None:
    raise InputError(
        "bundle-weights-mismatch",
        f"The weights do not fit the network that bundle.json describes: {sentence}",
        "Export the bundle again with this version.",
    )


def _check_sums(files: dict[str, bytes]) -> None:
    listed: dict[str, str] = {}
    for line in files["SHA256SUMS"].decode(errors="replace").splitlines():
        match = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](\S+)", line)
        if not match:
            raise InputError("bundle-damaged", f"SHA256SUMS: a line is no sum and name: {line[:80]!r}.", ASK)
        listed[match[2]] = match[1].lower()
    contents = {name: content for name, content in files.items() if name != "SHA256SUMS"}
    for name in sorted(listed.keys() ^ contents.keys()):
        what = "is listed in SHA256SUMS but missing" if name in listed else "is not listed in SHA256SUMS"
        raise InputError("bundle-damaged", f"{name} {what}.", ASK)
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != listed[name]:
            raise InputError(
                "bundle-damaged", f"{name} is damaged or was changed: its SHA-256 is not the one listed.", ASK
            )


def _read_weights(content: bytes) -> "dict[str, Tensor]":
    import safetensors.torch

    # A safetensors file opens with 8 bytes, which may look like a pickle's start, and then '{'.
    if content[8:9] != b"{" and content.startswith(PICKLE_STARTS):
        raise pickle_error("weights.safetensors")
    try:
        weights = safetensors.torch.load(content)
    except (safetensors.SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise InputError("bundle-damaged", f"weights.safetensors cannot be read: {error}.", ASK) from error
    _check_types(weights)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    shared = parse("weights.safetensors", (header.get("__metadata__") or {}).get("shared", "{}").encode())
    for alias in shared.object():
        name = shared[alias].text()
        if name not in weights or alias in weights:
            shared[alias].fail("the name of a stored tensor, under one that is not stored")
        weights[alias] = weights[name]
    return weights


def _weight_bytes(weights: "Mapping[str, Tensor]") -> bytes:
    """The safetensors file. Shared tensors are stored once; the metadata's 'shared' says alias → name."""
    import safetensors.torch

    _check_types(weights)
    stored, aliases, first = {}, {}, {}
    for name, tensor in weights.items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and place in first:
            aliases[name] = first[place]
        else:
            first[place] = name
            stored[name] = tensor.detach().cpu().contiguous().clone()
    return safetensors.torch.save(stored, metadata={"shared": json.dumps(aliases)})


def _check_types(weights: "Mapping[str, Tensor]") -> None:
    import torch

    if not weights:
        raise InputError("bundle-invalid", "weights.safetensors holds no tensor.", "Export the bundle again.")
    for name, tensor in weights.items():
        if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32):
            sentence = (
                f"expected float16, bfloat16 or float32, found {str(tensor.dtype).removeprefix('torch.')}."
            )
        elif not torch.isfinite(tensor).all():
            sentence = "expected finite numbers, found NaN or infinity."
        else:
            continue
        raise InputError(
            "bundle-invalid", f"weights.safetensors: tensor {name}: {sentence}", "Export the bundle again."
        )


def _may_replace(directory: Path) -> bool:
    if not os.path.lexists(directory):
        return True
    if not directory.is_dir() or directory.is_symlink():
        return False
    names = {entry.name for entry in directory.iterdir()} - set(LITTER)
    return not names or ("bundle.json" in names and names <= set(ALLOWED))


def _json_bytes(document: object) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
