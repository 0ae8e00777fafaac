"""What a benchmark compares, on which data: a JSON file."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maxquery.checked_json import Json, parse
from maxquery.errors import InputError
from maxquery_training.dataset import TrainingCase
from maxquery_training.label_scheme import ORGAN
from maxquery_training.lesions.types import OUTLIERS
from maxquery_training.near_ood.data import Data, Run
from maxquery_training.near_ood.planted_data import PlantedData
from maxquery_training.near_ood.prepared_data import PreparedData
from maxquery_training.planting import UNKNOWN_TUMOUR
from maxquery_training.preset import PRESETS, Preset, as_tuples

NETWORKS = ("nnunet", "dropout", "synthesis", "maxquery")
_MEANINGS = {"organ": ORGAN, "unknown": UNKNOWN_TUMOUR}


@dataclass(frozen=True)
class Network:
    """One network to train: `kind` is one of `NETWORKS`, `changes` what differs from the preset."""

    name: str
    kind: str
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Benchmark:
    name: str
    preset: Preset
    data: Data
    runs: tuple[Run, ...]
    networks: tuple[Network, ...]


def read_benchmark(path: Path, data: Path) -> Benchmark:
    """The benchmark in a JSON file; the files it names lie under `data`. Raises InputError that says where it is."""
    if not path.is_file():
        raise InputError("missing", f"There is no file {path}.", "See Testing/benchmarks/near_ood for an example.")
    try:
        return _benchmark(parse(path.name, path.read_bytes()), data)
    except InputError as error:
        if error.code != "bundle-invalid":
            raise
        raise InputError("config", error.message, "Mend that entry; see Testing/benchmarks/near_ood.") from error


def _benchmark(document: Json, folder: Path) -> Benchmark:
    planted = "scans" in document.object()
    of_data = ("scans", "outliers", "rounds") if planted else ("prepared", "leave_out")
    document.only(("name", "preset", "changes", "runs", "networks", *of_data))
    preset = PRESETS[document["preset"].one_of(tuple(PRESETS))]
    networks = tuple(_network(name, document["networks"][name]) for name in document["networks"].object())
    if any(one.kind == "synthesis" for one in networks) and not any(one.kind == "nnunet" for one in networks):
        document["networks"].refuse("one of the kind synthesis needs one of the kind nnunet to compare by.")
    if planted:
        data = _planted(document, folder)
        patients = tuple({scan.patient: None for scan in data.scans})
        runs = tuple(_run(entry, patients) for entry in document["runs"].items())
    else:
        data, runs = _prepared(document, folder), tuple(_seed(entry) for entry in document["runs"].items())
    changes = _changes(document["changes"])
    return Benchmark(document["name"].some_text(), replace(preset, **changes), data, runs, networks)


def _planted(document: Json, folder: Path) -> PlantedData:
    kinds = tuple(entry.one_of(OUTLIERS) for entry in document["outliers"].items())
    return PlantedData(_scans(document["scans"], folder), kinds, document["rounds"].integer(least=1))


def _prepared(document: Json, folder: Path) -> PreparedData:
    source = folder / document["prepared"].some_text()
    if not (source / "cases.json").is_file():
        document["prepared"].refuse(f"{source} is no dataset that 'maxquery-train prepare' wrote.")
    return PreparedData(source, tuple(entry.some_text() for entry in document["leave_out"].items()))


def _seed(entry: Json) -> Run:
    entry.only(("seed",))
    return Run(entry["seed"].integer(least=0))


def _scans(entries: Json, data: Path) -> tuple[TrainingCase, ...]:
    scans: dict[str, TrainingCase] = {}
    beyond: dict[str, dict[str, Json]] = {}
    for entry in entries.items():
        entry.only(("name", "patient", "image", "mask", "labels", "slices", "copies", "weight", "above", "below"))
        given = entry.object()
        name = entry["name"].some_text()
        if name in scans:
            entry["name"].refuse(f"there are two scans '{name}'.")
        scans[name] = TrainingCase(
            name, entry["patient"].some_text(), _file(entry["image"], data),
            _file(entry["mask"], data) if "mask" in given else None,
            _labels(entry["labels"]) if "mask" in given else None,
            slice(*(value.value for value in entry["slices"].items(2))) if "slices" in given else slice(None),
            copies=entry["copies"].integer(least=0) if "copies" in given else 0,
            weight=entry["weight"].integer(least=1) if "weight" in given else 1,
        )  # fmt: skip
        beyond[name] = {side: entry[side] for side in ("above", "below") if side in given}
    return tuple(
        replace(scan, **{side: scans[other.one_of(tuple(scans))] for side, other in beyond[name].items()})
        for name, scan in scans.items()
    )


def _file(entry: Json, data: Path) -> Path:
    path = data / entry.some_text()
    if not path.is_file():
        raise InputError("missing", f"{entry.path}: there is no file {path}.", "Say where the data lie with --data.")
    return path


def _labels(entry: Json) -> dict[int, int]:
    entry.only(_MEANINGS)
    return {value.integer(least=1): _MEANINGS[name] for name in entry.object() for value in entry[name].items()}


def _run(entry: Json, patients: tuple[str, ...]) -> Run:
    entry.only(("seed", "validation", "test"))
    validation, test = (
        tuple(item.one_of(patients) for item in entry[name].items()) for name in ("validation", "test")
    )
    if not validation or not test:
        entry.refuse("a run needs patients to validate on and to test on.")
    if set(validation) & set(test):
        entry.refuse(f"{', '.join(set(validation) & set(test))} cannot both validate and test.")
    return Run(entry["seed"].integer(least=0), validation, test)


def _network(name: str, entry: Json) -> Network:
    kind = entry["kind"].one_of(NETWORKS)
    return Network(name, kind, _changes(entry["changes"]) if "changes" in entry.object() else {})


def _changes(entry: Json) -> dict[str, Any]:
    """What differs from a preset."""
    entry.only(Preset.__dataclass_fields__)
    return {name: as_tuples(value) for name, value in entry.object().items()}
