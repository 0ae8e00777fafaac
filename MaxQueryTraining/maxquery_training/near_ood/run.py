"""Runs a benchmark: data, networks, validation, test. Whatever is done already is not done again."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from maxquery.anomaly import Score
from maxquery.errors import InputError
from maxquery.prediction import PredictionParameters
from maxquery_training.dataset import TrainingCase, write_raw_dataset
from maxquery_training.folders import DatasetFiles
from maxquery_training.labelled_case import LabelledCase, read_prepared
from maxquery_training.lesions.types import INLIERS, OUTLIERS
from maxquery_training.metrics import ScoreCounts
from maxquery_training.near_ood.config import Benchmark, Network, Run
from maxquery_training.near_ood.measuring import PERCENTILES, Measured, measure
from maxquery_training.near_ood.methods import FITTED, Variants, methods_of
from maxquery_training.near_ood.training_voxels import training_voxels
from maxquery_training.planted_cases import planted_case
from maxquery_training.preset import Preset
from maxquery_training.quiet import quiet
from maxquery_training.watching import Watcher

if TYPE_CHECKING:
    from maxquery_training.near_ood.networks import Networks

_FIRST_ID = 702
_FITTED_CASES = 24
_VALIDATION_SEED, _TEST_SEED = 1000, 2000  # so that no lesion is planted twice


@dataclass(frozen=True)
class Planted:
    """A case to measure on: the scan, what is planted into it, and from which seed."""

    scan: TrainingCase
    kinds: tuple[str, ...]
    seed: int

    @property
    def outlier(self) -> str:
        return self.kinds[0] if self.kinds[0] in OUTLIERS else ""

    @property
    def name(self) -> str:
        return f"{self.scan.name}_{self.outlier or 'inliers'}_{self.seed}"

    def read(self) -> LabelledCase:
        case = planted_case(self.scan.image, self.scan.mask, self.kinds, self.seed, self.scan.labels)
        return replace(case, name=self.name, patient=self.scan.patient)


def planted(scans: list[TrainingCase], outliers: tuple[str, ...], rounds: int, seed: int) -> list[Planted]:
    """Of each scan and round: one case with all inlier types, and one for each of the `outliers` alone."""
    kinds = (INLIERS, *((kind,) for kind in outliers))
    return [Planted(scan, kind, seed + i) for scan in scans for i in range(rounds) for kind in kinds]


class BenchmarkRun:
    """One run of a benchmark in a work folder."""

    def __init__(
        self, benchmark: Benchmark, run: Run, work: Path, device: torch.device, processes: int = 1,
        watcher: Watcher | None = None,
    ):  # fmt: skip
        self.benchmark, self.run, self.processes = benchmark, run, processes
        self.device, self.watcher = device, watcher or Watcher()
        self.files = DatasetFiles(work, f"Dataset{_FIRST_ID + run.seed:03d}_NearOOD")
        self.measured = work / "measured" / run.name

    def prepare(self) -> None:
        """The training data, planned and preprocessed."""
        from maxquery_training.planning import plan_and_preprocess

        preset, seen = self.benchmark.preset.with_schedule(seed=self.run.seed), []
        for scan in self.benchmark.scans:
            if scan.patient not in self.run.test and (scan.copies or scan.mask is None):
                seen.append(scan)
        if not (self.files.raw / "cases.json").exists():
            write_raw_dataset(
                self.files.raw, seen, self.run.validation, preset.spacing_zyx_mm, self.run.seed, self.processes
            )
        if not self.files.plans.with_name("splits_final.json").exists():
            plan_and_preprocess(_FIRST_ID + self.run.seed, self.files.dataset, preset, self.processes)
        if Preset.from_json(self.files.read_plans()["maxquery"]) != preset:
            raise InputError(
                "plans", f"{self.files.plans} was planned with other numbers than the benchmark's.",
                "Choose another --work, or remove that dataset.",
            )  # fmt: skip

    @cached_property
    def networks(self) -> "Networks":
        from maxquery_training.near_ood.networks import Networks  # nnU-Net reads where its folders are

        return Networks(self.files, self.device, self.watcher)

    def measure(self, say: Callable[[str], None]) -> None:
        """Trains every network and measures it on every case."""
        reference = None
        for network in sorted(self.benchmark.networks, key=lambda one: one.kind != "nnunet"):
            say(f"{self.run.name}, {network.name}: training")
            with quiet():
                checkpoint = self.networks.train(network, reference if network.kind == "synthesis" else None)
                reference = checkpoint if network.kind == "nnunet" else reference
            if not self.is_measured(network):
                with quiet():
                    module = self.networks.load(network, checkpoint, reference)
                    scores = scores_of(self._methods(network, module))
                self._measure(network, module, scores, self.cases(validation=True), {}, say)
                limits = thresholds(self.results(network, validation=True))
                self._measure(network, module, scores, self.cases(validation=False), limits, say)

    def _measure(
        self, network: Network, module: torch.nn.Module, scores: dict[str, Score], cases: list[Planted],
        limits: dict[str, list[float]], say: Callable[[str], None],
    ) -> None:  # fmt: skip
        parameters = PredictionParameters(device=self.device.type)
        for case in cases:
            path = self._file(network, case)
            if not path.exists():
                say(f"{self.run.name}, {network.name}: {case.name}")
                bundle = self.networks.bundle
                measure(case.read(), case.outlier, module, bundle, scores, limits, parameters).save(path)

    def _methods(self, network: Network, module: torch.nn.Module) -> dict[str, Variants]:
        voxels = None
        if network.kind in FITTED:
            cases = list(read_prepared(self.files.raw, ("train",)))
            chosen = np.random.default_rng(self.run.seed).permutation(len(cases))[:_FITTED_CASES]
            voxels = training_voxels(module, [cases[i] for i in chosen], self.networks.bundle, self.run.seed)
        return methods_of(network.kind, network.name, voxels)

    def cases(self, validation: bool) -> list[Planted]:
        """To choose settings and thresholds by, or to be tested on."""
        benchmark = self.benchmark
        if validation:
            return planted(benchmark.scans_of(self.run.validation), benchmark.outliers, 1, _VALIDATION_SEED)
        return planted(benchmark.scans_of(self.run.test), benchmark.outliers, benchmark.rounds, _TEST_SEED)

    def results(self, network: Network, validation: bool) -> list[Measured]:
        """Of the cases that became what they were meant to be."""
        found = (Measured.load(self._file(network, case)) for case in self.cases(validation))
        return [measured for measured in found if measured.outlier is not None]

    def is_measured(self, network: Network) -> bool:
        return all(self._file(network, case).exists() for kind in (True, False) for case in self.cases(kind))

    def describe(self) -> dict[str, Any]:
        """For the report."""
        return {
            "seed": self.run.seed,
            "validation_patients": list(self.run.validation),
            "test_patients": list(self.run.test),
            "test_cases": len(self.cases(validation=False)),
            "backbone_seconds": self.networks.backbone_seconds(),
        }

    def _file(self, network: Network, case: Planted) -> Path:
        return self.measured / network.name / f"{case.name}.npz"


def scores_of(methods: dict[str, Variants]) -> dict[str, Score]:
    """Every variant of every method, by `key`."""
    return {key(method, name): score for method, variants in methods.items() for name, score in variants.items()}


def key(method: str, variant: str) -> str:
    return f"{method} [{variant}]" if variant else method


def thresholds(validation: Iterable[Measured]) -> dict[str, list[float]]:
    """By score: what so many per cent of the validation patients' inlier voxels of organ and tumours stay below."""
    counts: dict[str, ScoreCounts] = defaultdict(ScoreCounts)
    for case in validation:
        for score, by_region in case.counts.items():
            counts[score] += by_region["organ"]
    return {score: [count.inlier_quantile(p / 100) for p in PERCENTILES] for score, count in counts.items()}
