"""One case, one network, all scores that read it: what is counted, kept in a file, and added up later."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from maxquery.anomaly import Score
from maxquery.bundle import Bundle
from maxquery.findings import ood_regions
from maxquery.labels import Label
from maxquery.model_grid import ModelGrid
from maxquery.organ import keep_organ
from maxquery.prediction import PredictionParameters, RunLog, infer
from maxquery.progress import silent
from maxquery.search_region import search_region
from maxquery_training.checkpoints import write_whole
from maxquery_training.labelled_case import LabelledCase
from maxquery_training.metrics import ScoreCounts, dice

REGIONS = ("organ", "tumours", "whole", "real")
PERCENTILES = (80.0, 90.0, 95.0, 97.0, 98.0, 99.0, 99.5, 99.8, 99.9, 99.97, 99.99, 99.997)
FOUND_IOU = 0.1


@dataclass(frozen=True)
class Regions:
    """At one threshold: whether an OOD region found the outlier (None: there is none), how many lie elsewhere."""

    found: bool | None
    false: int


@dataclass(frozen=True)
class Measured:
    """Of one case and one network.

    `outlier`: the type of its outlier, "" where none was wanted, None where one was and found no room. `dice` by
    label, NaN of one that the truth does not have. By score: `case_score`, the mean anomaly over predicted tumour
    (None: none predicted); `regions`, one for each of `PERCENTILES`, empty where no threshold was known; `counts` by
    region of `REGIONS`: outlier voxels against inlier voxels in organ and tumours, against those of known tumours
    alone, against all known voxels of the volume, and real tumours of unknown type against organ. `plane`: an axial
    slice through the middle of what was planted, for pictures: `ct`, `truth` and each score's map `(Y, X)`, the
    patient's right on the left, front up; `pixel_mm` along y and x.
    """

    case: str
    patient: str
    outlier: str | None
    dice: dict[str, float]
    case_score: dict[str, float | None]
    regions: dict[str, list[Regions]]
    counts: dict[str, dict[str, ScoreCounts]]
    pixel_mm: tuple[float, float]
    plane: dict[str, np.ndarray]

    def save(self, path: Path) -> None:
        """All of it or nothing."""
        facts = asdict(replace(self, counts={}, plane={}))
        del facts["counts"], facts["plane"]
        arrays = {
            f"{score}/{region}": count.occurring
            for score, by_region in self.counts.items() for region, count in by_region.items()
        }  # fmt: skip
        arrays |= {f"{name}/plane": image for name, image in self.plane.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        with write_whole(path) as file:
            np.savez_compressed(file, facts=np.array(json.dumps(facts)), **arrays)

    @staticmethod
    def scores(path: Path) -> list[str]:
        """The names of those in a file."""
        with np.load(path) as arrays:
            return list(json.loads(str(arrays["facts"]))["case_score"])

    @classmethod
    def load(cls, path: Path) -> "Measured":
        with np.load(path) as arrays:
            facts = json.loads(str(arrays["facts"]))
            counts: dict[str, dict[str, ScoreCounts]] = {}
            plane = {}
            for key in arrays.files:
                name, _, part = key.rpartition("/")
                if part == "plane":
                    plane[name] = arrays[key]
                elif part in REGIONS:
                    counts.setdefault(name, {})[part] = ScoreCounts.of(arrays[key])
        regions = {score: [Regions(**one) for one in found] for score, found in facts.pop("regions").items()}
        return cls(**facts, regions=regions, counts=counts, plane=plane)


def measure(
    case: LabelledCase, outlier: str, network: nn.Module, bundle: Bundle, scores: Mapping[str, Score],
    thresholds: Mapping[str, Sequence[float]], parameters: PredictionParameters,
) -> Measured:  # fmt: skip
    """Predicts as in use. `outlier`: the type of the case's outlier, or nothing; `thresholds` by score: raw, for
    each of `PERCENTILES`."""
    labels, found, _ = infer(case.volume, bundle, list(scores.values()), parameters, silent, RunLog(), network)
    maps = dict(zip(scores, found, strict=True))
    keep_organ(labels, bundle.labels, case.volume.grid.voxel_volume_ml, [])
    known, tumour = case.truth != case.ignore, np.isin(labels, bundle.tumour_values)
    overlap = {label.name: _overlap(labels, label, case) for label in bundle.labels[1:]}
    real = case.truth == case.ignore
    among = {
        "organ": case.inlier | case.outlier, "tumours": case.known_tumour | case.outlier, "whole": known,
        "real": case.inlier | real,
    }  # fmt: skip
    positive = {region: real if region == "real" else case.outlier for region in REGIONS}
    counts: dict[str, dict[str, ScoreCounts]] = {}
    for score, anomaly in maps.items():
        counts[score] = {region: ScoreCounts() for region in REGIONS}
        for region, count in counts[score].items():
            count.add(anomaly[among[region]], positive[region][among[region]])
    there = case.outlier.any() or not outlier
    return Measured(
        case.name, case.patient, outlier if there else None, overlap,
        {score: float(anomaly[tumour].mean(dtype=np.float64)) if tumour.any() else None
         for score, anomaly in maps.items()},
        ood_regions_of(case, labels, maps, thresholds),
        counts,
        *_plane(case, maps),
    )  # fmt: skip


def _overlap(labels: np.ndarray, label: Label, case: LabelledCase) -> float:
    """DSC of an organ with all in it, or of a tumour type beside unknown tumours and outliers."""
    if label.role == "organ":
        return dice(labels > 0, case.truth > 0)
    truth = case.truth == label.value
    considered = (case.truth != case.ignore) & ~case.outlier
    return dice((labels == label.value) & considered, truth) if truth.any() else float("nan")


def _plane(case: LabelledCase, maps: Mapping[str, np.ndarray]) -> tuple[tuple[float, float], dict[str, np.ndarray]]:
    grid = ModelGrid.of(case.volume.grid, case.volume.grid.spacing_xyz_mm[::-1])
    truth, ct = grid.canonical(case.truth), grid.canonical(case.volume.array[0])
    shown = grid.canonical(case.outlier if case.outlier.any() else case.known_tumour)
    z = int(shown.sum(axis=(1, 2)).argmax())
    spacing = [case.volume.grid.spacing_xyz_mm[::-1][axis] for axis in grid.axes]
    images = {"ct": ct[z].astype(np.int16), "truth": truth[z]}
    return (spacing[1], spacing[2]), images | {score: grid.canonical(anomaly)[z] for score, anomaly in maps.items()}


def ood_regions_of(
    case: LabelledCase, labels: np.ndarray, maps: Mapping[str, np.ndarray], thresholds: Mapping[str, Sequence[float]]
) -> dict[str, list[Regions]]:
    """By score, for each threshold. An IoU of `FOUND_IOU` finds the outlier; any other region is false, unless it lies
    mostly on the outlier, or on a real tumour of unknown type, which is neither right nor wrong."""
    if not thresholds:
        return {score: [] for score in maps}
    grid, outlier = case.volume.grid, case.outlier
    spared = outlier | (case.truth == case.ignore)
    searched = search_region(labels > 0, grid.spacing_xyz_mm[::-1])
    result: dict[str, list[Regions]] = {}
    for score, anomaly in maps.items():
        result[score] = []
        for threshold in thresholds[score]:
            found = false = 0
            for box, mask in ood_regions(searched & (anomaly >= np.float16(threshold)), grid):
                shared = int((mask & outlier[box]).sum())
                hit = shared >= FOUND_IOU * (int(mask.sum()) + int(outlier.sum()) - shared) and shared > 0
                elsewhere = 2 * int((mask & spared[box]).sum()) <= int(mask.sum())
                found, false = found + hit, false + (not hit and elsewhere)
            result[score].append(Regions(bool(found) if outlier.any() else None, false))
    return result
