"""What a benchmark compares, on which data: a JSON file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from maxquery.checked_json import Json, parse
from maxquery.errors import InputError
from maxquery_training.cohort import read_cohort
from maxquery_training.dataset import TrainingCase
from maxquery_training.label_scheme import ORGAN
from maxquery_training.lesions.types import OUTLIERS
from maxquery_training.near_ood.data import Data, Run
from maxquery_training.near_ood.deep_ensemble import MEMBERS
from maxquery_training.near_ood.methods import METHODS, NAMED_BY_NETWORK
from maxquery_training.near_ood.planted_data import PlantedData
from maxquery_training.near_ood.prepared_data import PreparedData
from maxquery_training.planting import UNKNOWN_TUMOUR
from maxquery_training.preset import PRESETS, Preset, as_tuples

_HOW = ("copies", "weight", "above", "below")
_MEANINGS = {"organ": ORGAN, "unknown": UNKNOWN_TUMOUR}


@dataclass(frozen=True)
class Network:
    """One network to train: `kind` is one of `METHODS`, `changes` what differs from the preset; `members` of an
    ensemble."""

    name: str
    kind: str
    changes: Mapping[str, Any]
    members: int = MEMBERS


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
        return _benchmark(_extended(path), data)
    except InputError as error:
        if error.code != "bundle-invalid":
            raise
        raise InputError("config", error.message, "Mend that entry; see Testing/benchmarks/near_ood.") from error


def _extended(path: Path) -> Json:
    """With `extends`, the entries of the file of that name beside it, but for those that this one has too."""
    document = parse(path.name, path.read_bytes())
    if "extends" not in document.object():
        return document
    base = path.with_name(Path(document["extends"].some_text()).name)
    if not base.is_file():
        document["extends"].refuse(f"there is no file {base}.")
    own = {name: value for name, value in document.value.items() if name != "extends"}
    return Json(path.name, _extended(base).object() | own)


def _benchmark(document: Json, folder: Path) -> Benchmark:
    planted = "scans" in document.object()
    of_data = ("scans", "outliers", "rounds") if planted else ("prepared", "leave_out")
    document.only(("name", "preset", "changes", "runs", "networks", *of_data))
    preset = PRESETS[document["preset"].one_of(tuple(PRESETS))]
    networks = tuple(_network(name, document["networks"][name]) for name in document["networks"].object())
    if not networks:
        document["networks"].refuse("there is none.")
    kinds = [network.kind for network in networks]
    for kind in set(kinds) - set(NAMED_BY_NETWORK):
        if kinds.count(kind) > 1:
            document["networks"].refuse(f"{kinds.count(kind)} are of the kind {kind}, whose rows are named alike.")
    if {"synthesis", "ensemble"} & set(kinds) and "nnunet" not in kinds:
        document["networks"].refuse("synthesis and ensemble need a network of the kind nnunet.")
    if planted:
        data = _planted(document, folder)
        patients = list({scan.patient: None for scan in data.scans if scan.mask})
        runs = tuple(_run(entry, patients) for entry in document["runs"].items())
    else:
        data, runs = _prepared(document, folder), tuple(_seed(entry) for entry in document["runs"].items())
    changes = _changes(document["changes"])
    return Benchmark(document["name"].some_text(), replace(preset, **changes), data, runs, networks)


def _planted(document: Json, folder: Path) -> PlantedData:
    kinds = tuple(entry.one_of(OUTLIERS) for entry in document["outliers"].items())
    rounds = document["rounds"]
    rounds.only(("validation", "test"))
    often = {name: rounds[name].integer(least=1) for name in ("validation", "test")}
    return PlantedData(_scans(document["scans"], folder), kinds, often)


def _prepared(document: Json, folder: Path) -> PreparedData:
    source = folder / document["prepared"].some_text()
    if not (source / "cases.json").is_file():
        document["prepared"].refuse(f"{source} is no dataset that 'maxquery-train prepare' wrote: prepare it first.")
    return PreparedData(source, tuple(entry.some_text() for entry in document["leave_out"].items()))


def _seed(entry: Json) -> Run:
    entry.only(("seed",))
    return Run(entry["seed"].integer(least=0))


def _scans(entries: Json, folder: Path) -> tuple[TrainingCase, ...]:
    scans: dict[str, TrainingCase] = {}
    beyond: dict[str, dict[str, Json]] = {}
    for entry in entries.items():
        for scan in _cohort(entry, folder) if "cases" in entry.object() else [_scan(entry, folder)]:
            if scan.name in scans:
                entry.refuse(f"there are two scans '{scan.name}'.")
            scans[scan.name] = scan
            beyond[scan.name] = {side: entry[side] for side in ("above", "below") if side in entry.object()}
    return tuple(
        replace(scan, **{side: scans[other.one_of(tuple(scans))] for side, other in beyond[name].items()})
        for name, scan in scans.items()
    )


def _scan(entry: Json, folder: Path) -> TrainingCase:
    entry.only(("name", "patient", "image", "mask", "labels", "slices", *_HOW))
    given = entry.object()
    return TrainingCase(
        entry["name"].some_text(), entry["patient"].some_text(), _file(entry["image"], folder),
        _file(entry["mask"], folder) if "mask" in given else None,
        _labels(entry["labels"]) if "mask" in given else None,
        slice(*(value.value for value in entry["slices"].items(2))) if "slices" in given else slice(None),
        **_numbers(entry),
    )  # fmt: skip


def _cohort(entry: Json, folder: Path) -> list[TrainingCase]:
    """Every case with a mask of a folder or table, as `maxquery-train prepare` reads it; `patients` names those of
    whom there are several."""
    entry.only(("cases", "labels", "patients", *_HOW))
    labels = _labels(entry["labels"])
    cases = [case for case in read_cohort(folder / entry["cases"].some_text()).cases if case.mask]
    patient_of = {case.case: case.patient for case in cases}
    if "patients" in entry.object():
        for patient in entry["patients"].object():
            for name in entry["patients"][patient].items():
                patient_of[name.one_of(tuple(patient_of))] = patient
    return [
        TrainingCase(case.case, patient_of[case.case], case.images[0], case.mask, labels, **_numbers(entry))
        for case in cases
    ]


def _numbers(entry: Json) -> dict[str, int]:
    return {name: entry[name].integer(least=least) for name, least in (("copies", 0), ("weight", 1))
            if name in entry.object()}  # fmt: skip


def _file(entry: Json, data: Path) -> Path:
    path = data / entry.some_text()
    if not path.is_file():
        raise InputError("missing", f"{entry.path}: there is no file {path}.", "It is looked for under --data.")
    return path


def _labels(entry: Json) -> dict[int, int]:
    entry.only(_MEANINGS)
    return {value.integer(least=1): _MEANINGS[name] for name in entry.object() for value in entry[name].items()}


def _run(entry: Json, patients: Sequence[str]) -> Run:
    """`validation` and `test` are lists of patients, or shares of those that no list of the run names."""
    entry.only(("seed", "validation", "test"))
    seed, taken = entry["seed"].integer(least=0), set()
    chosen = {}
    for name in ("validation", "test"):
        if isinstance(entry[name].value, list):
            chosen[name] = tuple(item.one_of(tuple(patients)) for item in entry[name].items())
            taken |= set(chosen[name])
    free = [patient for patient in patients if patient not in taken]
    order = np.random.default_rng(seed).permutation(len(free)).tolist()
    for name in ("validation", "test"):
        if name not in chosen:
            count = round(entry[name].positive() * len(free))
            chosen[name], order = tuple(sorted(free[i] for i in order[:count])), order[count:]
    if not chosen["validation"] or not chosen["test"]:
        entry.refuse("a run needs patients to validate on and to test on.")
    both = set(chosen["validation"]) & set(chosen["test"])
    if both:
        entry.refuse(f"{', '.join(sorted(both))} cannot both validate and test.")
    return Run(seed, **chosen)


def _network(name: str, entry: Json) -> Network:
    kind, given = entry["kind"].one_of(tuple(METHODS)), entry.object()
    entry.only(("kind", "changes", "members") if kind == "ensemble" else ("kind", "changes"))
    return Network(
        name, kind, _changes(entry["changes"]) if "changes" in given else {},
        entry["members"].integer(least=2) if "members" in given else MEMBERS,
    )  # fmt: skip


def _changes(entry: Json) -> dict[str, Any]:
    """What differs from a preset."""
    entry.only(Preset.__dataclass_fields__)
    return {name: as_tuples(value) for name, value in entry.object().items()}
