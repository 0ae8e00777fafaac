"""Runs a benchmark: data, networks, validation, test. Whatever is done already is not done again."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from maxquery.anomaly import Score
from maxquery.errors import InputError
from maxquery.prediction import PredictionParameters
from maxquery_training.folders import DatasetFiles
from maxquery_training.metrics import ScoreCounts
from maxquery_training.near_ood.config import Benchmark, Network
from maxquery_training.near_ood.data import Case, Run
from maxquery_training.near_ood.measuring import PERCENTILES, Measured, measure
from maxquery_training.near_ood.methods import SEGMENTERS, Fitted, scores_of
from maxquery_training.near_ood.training_voxels import training_voxels
from maxquery_training.prepared_case import PreparedCase, prepared_cases
from maxquery_training.preset import Preset
from maxquery_training.quiet import quiet
from maxquery_training.watching import Watcher

if TYPE_CHECKING:
    from maxquery_training.near_ood.networks import Networks

Set = Literal["train", "val", "test"]

_FIRST_ID = 702
_FITTED_TO, _LEARNED = 24, 12  # training cases: that scores are fitted to, that segmentation is looked at on


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

        preset = self.benchmark.preset.with_schedule(seed=self.run.seed)
        if not (self.files.raw / "cases.json").exists():
            self.benchmark.data.write(self.files.raw, self.run, preset, self.processes)
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

        return Networks(self.files, self.benchmark.networks, self.device, self.watcher)

    def measure(self, network: Network, say: Callable[[str], None]) -> None:
        """Trains a network and measures all that reads it on every case."""
        if not self.networks.is_trained(network):
            say(f"{self.run.name}, {network.name}: training")
            with quiet():
                self.networks.train(network)
        if self.is_measured(network):
            return
        with quiet():
            module = self.networks.load(network).to(self.device)
            scores = self._scores(network, module)
        if network.kind in SEGMENTERS:
            self._measure(network, module, {}, "train", {}, say)
        self._measure(network, module, scores, "val", {}, say)
        limits = validation_limits(self.results(network, "val"))
        self._measure(network, module, scores, "test", limits, say)

    def _measure(
        self, network: Network, module: torch.nn.Module, scores: dict[str, Score], of: Set,
        limits: dict[str, list[float]], say: Callable[[str], None],
    ) -> None:  # fmt: skip
        parameters = PredictionParameters(device=self.device.type, quality="accurate")
        for case in self.cases(of):
            if not self._has(network, case, scores):
                say(f"{self.run.name}, {network.name}: {case.name}")
                bundle = self.networks.bundle
                measure(case.read(), case.outlier, module, bundle, scores, limits, parameters).save(
                    self._file(network, case)
                )

    def _scores(self, network: Network, module: torch.nn.Module) -> dict[str, Score]:
        """Of all its methods, fitted to its training voxels."""
        scores = scores_of(network.kind, network.name)
        if not any(isinstance(score, Fitted) for score in scores.values()):
            return scores
        cases = [case.read() for case in self._training_cases(_FITTED_TO)]
        voxels = training_voxels(module, cases, self.networks.bundle, self.run.seed)
        return {name: score.by(voxels) if isinstance(score, Fitted) else score for name, score in scores.items()}

    def cases(self, of: Set) -> Sequence[Case]:
        """Some that were trained on, all to choose settings and thresholds by, or all to be tested on."""
        if of == "train":
            return self._training_cases(_LEARNED)
        data = self.benchmark.data
        return (data.validation if of == "val" else data.test)(self.files.raw, self.run)

    def _training_cases(self, number: int) -> list[PreparedCase]:
        cases = prepared_cases(self.files.raw, "train")
        return [cases[i] for i in np.random.default_rng(self.run.seed).permutation(len(cases))[:number]]

    def results(self, network: Network, of: Set) -> list[Measured]:
        """Of the cases that became what they were meant to be."""
        found = (Measured.load(self._file(network, case)) for case in self.cases(of))
        return [measured for measured in found if measured.outlier is not None]

    def is_measured(self, network: Network) -> bool:
        """By every score that it has by now."""
        scores = scores_of(network.kind, network.name)
        wanted: dict[Set, Collection[str]] = {"val": scores, "test": scores}
        if network.kind in SEGMENTERS:
            wanted["train"] = ()
        return all(self._has(network, case, names) for of, names in wanted.items() for case in self.cases(of))

    def _has(self, network: Network, case: Case, scores: Collection[str]) -> bool:
        path = self._file(network, case)
        return path.exists() and set(scores) <= set(Measured.scores(path))

    def describe(self) -> dict[str, Any]:
        """For the report."""
        return {
            "seed": self.run.seed,
            "validation_patients": sorted({case.patient for case in self.cases("val")}),
            "test_patients": sorted({case.patient for case in self.cases("test")}),
            "backbone_seconds": self.networks.backbone_seconds(),
        }

    def _file(self, network: Network, case: Case) -> Path:
        return self.measured / network.name / f"{case.name}.npz"


def validation_limits(validation: Iterable[Measured]) -> dict[str, list[float]]:
    """By score: what so many per cent of the validation patients' inlier voxels of organ and tumours stay below."""
    counts: dict[str, ScoreCounts] = defaultdict(ScoreCounts)
    for case in validation:
        for score, by_region in case.counts.items():
            counts[score] += by_region["organ"]
    return {score: [count.inlier_quantile(p / 100) for p in PERCENTILES] for score, count in counts.items()}
