"""The tables of the report, from what was measured."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maxquery_training.near_ood import statistics as st
from maxquery_training.near_ood.config import Network
from maxquery_training.near_ood.measuring import Measured
from maxquery_training.near_ood.methods import CHOSEN, IN_TUMOURS, rows_of
from maxquery_training.near_ood.run import BenchmarkRun, validation_limits

OURS = "MaxQuery"
HELD_AGAINST = (OURS, f"{OURS}, {IN_TUMOURS}", f"{OURS}, {CHOSEN}", f"{OURS} with exposure, {IN_TUMOURS}")
"""Our rows of Table 1: the paper's, and what we would use."""
FALSE_REGIONS = (1, 4, 8)
"""A case, at which it is asked how many outliers are found."""


@dataclass(frozen=True)
class Method:
    """A row: of each run, the score that its validation patients chose, its thresholds, and the test cases."""

    name: str
    network: Network
    scores: tuple[str, ...]
    limits: tuple[Sequence[float], ...]
    runs: tuple[Sequence[Measured], ...]

    def localisation(self, region: str = "organ", kind: str = "") -> dict[str, Any]:
        """`kind`: one outlier type alone."""
        runs = [[case for case in cases if not kind or case.outlier == kind] for cases in self.runs]
        return to_json(st.estimate(runs, lambda run, cases: st.localisation(cases, self.scores[run], region)))

    def mean_of_types(self, kinds: Sequence[str]) -> dict[str, Any]:
        return to_json(st.estimate(
            self.runs, lambda run, cases: {"auroc": st.mean_of_types(cases, self.scores[run], kinds)}
        ))["auroc"]  # fmt: skip

    def by_patient(self) -> list[dict[str, dict[str, float]]]:
        """Of each run: every patient's localisation."""
        runs = zip(self.runs, self.scores, strict=True)
        return [st.by_patient(cases, lambda some, s=score: st.localisation(some, s)) for cases, score in runs]

    def cases(self) -> dict[str, Any]:
        """What whole cases and the regions in them say."""
        def figures(run: int, cases: Sequence[Measured]) -> dict[str, float]:
            score = self.scores[run]
            found = {f"found_at_{n}_false": st.sensitivity(cases, score, n) for n in FALSE_REGIONS}
            return {"case_auc": st.detection(cases, score)} | found

        return to_json(st.estimate(self.runs, figures))

    def calibration(self) -> dict[str, Any]:
        return to_json(st.estimate(
            self.runs, lambda run, cases: st.shares_below(cases, self.scores[run], self.limits[run])
        ))  # fmt: skip


def measured_methods(runs: Sequence[BenchmarkRun], network: Network) -> list[Method]:
    """All that read a network which every run has measured, and what validation patients make of them.

    Where a run has no validation patient with an outlier, each method has the first of its settings, its paper's.
    """
    validations = [run.results(network, "val") for run in runs]
    tests = tuple(run.results(network, "test") for run in runs)
    limits = [validation_limits(validation) for validation in validations]
    rows = rows_of(network.kind, network.name)
    if not all(map(st.has_outliers, validations)):
        rows = {name: scores[:1] for name, scores in rows.items() if not name.endswith(CHOSEN)}
    chosen = [
        {name: max(scores, key=lambda score: st.localisation(validation, score)["auroc"])
         for name, scores in rows.items()} for validation in validations
    ]  # fmt: skip
    return [
        Method(
            name, network, tuple(one[name] for one in chosen),
            tuple(limit[one[name]] for limit, one in zip(limits, chosen, strict=True)), tests,
        )
        for name in rows
    ]  # fmt: skip


def localisation_row(method: Method, outliers: Sequence[str]) -> dict[str, Any]:
    """A row of Tables 1, 3 and 4."""
    return {
        "method": method.name, "network": method.network.name, "kind": method.network.kind,
        "exposed": bool(method.network.changes.get("exposure_weight")),
        "setting": list(method.scores),
        **method.localisation(),
        **method.cases(),
        "known_tumours": method.localisation("tumours"),
        "whole_volume": method.localisation("whole"),
        "real_tumours": method.localisation("real"),
        "mean_of_types": method.mean_of_types(outliers),
        "by_type": {kind: method.localisation(kind=kind) for kind in outliers},
        "calibration": method.calibration(),
        "by_patient": method.by_patient(),
    }  # fmt: skip


def segmentation_row(network: Network, runs: Sequence[BenchmarkRun]) -> dict[str, Any]:
    """A row of Table 2: DSC of inlier types on cases without an outlier; their mean also on cases of the training."""
    tests, learned = ([run.results(network, of) for run in runs] for of in ("test", "train"))
    organ, *types = tests[0][0].dice

    def overlap(run: int, cases: Sequence[Measured]) -> dict[str, float]:
        by_label = {name: st.mean_dice(cases, name) for name in (organ, *types)}
        return by_label | {"inliers": float(np.mean([by_label[name] for name in types]))}

    in_training = to_json(st.estimate(learned, overlap))["inliers"]
    return {"method": network.name, **to_json(st.estimate(tests, overlap)), "inliers_in_training": in_training}


def against_best(rows: Sequence[dict[str, Any]], ours: str) -> dict[str, Any] | None:
    """By figure: what separates the row `ours` from the `best` of all that read networks without queries, if any.

    What was exposed to strange lesions is a rival only of what was too. `margin`: of all cases pooled.
    `by_patient`: the mean over patients, each compared with itself, in all runs that it is in; `p` is that mean's, of
    `paired_test`.
    """
    mine = next(row for row in rows if row["method"] == ours)
    rivals = [
        row for row in rows
        if row["kind"] != "maxquery" and row["exposed"] <= mine["exposed"] and row["auroc"]["mean"] is not None
    ]  # fmt: skip
    if not rivals or mine["auroc"]["mean"] is None:
        return None
    result: dict[str, Any] = {}
    for figure, better in (("auroc", max), ("aupr", max), ("fpr95", min)):
        best = better(rivals, key=lambda row: row[figure]["mean"])
        differences = defaultdict(list)
        for run, other in zip(mine["by_patient"], best["by_patient"], strict=True):
            for patient in run:
                differences[patient].append(run[patient][figure] - other[patient][figure])
        margin = mine[figure]["mean"] - best[figure]["mean"]
        each = [float(np.mean(values)) for values in differences.values()]
        result[figure] = {
            "best": best["method"], "margin": margin, "by_patient": float(np.nanmean(each)), "p": st.paired_test(each)
        }  # fmt: skip
    return result


def to_json(estimates: dict[str, st.Estimate]) -> dict[str, Any]:
    return {name: value.to_json() for name, value in estimates.items()}
