"""From counts to the figures of a table: means over runs, intervals and tests by patient."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
from scipy import stats

from maxquery_training.evaluation import case_auc
from maxquery_training.metrics import ScoreCounts
from maxquery_training.near_ood.measuring import PERCENTILES, Measured

_RESAMPLES = 1000
Cases = Sequence[Measured]
T = TypeVar("T")


@dataclass(frozen=True)
class Estimate:
    """The mean over runs; `low` and `high`: its 95 % bootstrap interval by patient, None where there is a single one;
    `spread`: the standard deviation over runs, None of a single run."""

    mean: float
    low: float | None
    high: float | None
    spread: float | None

    def to_json(self) -> dict[str, object]:
        """JSON knows no NaN."""
        if not np.isfinite(self.mean):
            return {"mean": None, "ci": None, "sd_over_runs": None}
        interval = None if self.low is None else [self.low, self.high]
        return {"mean": self.mean, "ci": interval, "sd_over_runs": self.spread}


def localisation(cases: Cases, score: str, region: str = "organ") -> dict[str, float]:
    """`auroc`, `aupr`, `fpr95` (Sec. 4.2), voxels of all cases pooled; NaN where one kind of voxel is missing."""
    total = pooled(cases, score, region)
    try:
        return total.figures()
    except ValueError:
        return dict.fromkeys(("auroc", "aupr", "fpr95"), float("nan"))


def has_outliers(cases: Cases) -> bool:
    return any(case.outlier for case in cases)


def mean_of_types(cases: Cases, score: str, kinds: Sequence[str]) -> float:
    """AUROC, each type of outlier counting alike, however large its lesions are."""
    return float(np.mean([localisation([c for c in cases if c.outlier == kind], score)["auroc"] for kind in kinds]))


def pooled(cases: Cases, score: str, region: str) -> ScoreCounts:
    total = ScoreCounts()
    for case in cases:
        total += case.counts[score][region]
    return total


def detection(cases: Cases, score: str) -> float:
    """The AUC of the case score: cases with an outlier against cases without. No tumour predicted: the lowest score."""
    values = {kind: [-np.inf if case.case_score[score] is None else case.case_score[score]
                     for case in cases if bool(case.outlier) is kind] for kind in (True, False)}  # fmt: skip
    return case_auc(values[True], values[False])


def sensitivity(cases: Cases, score: str, false_per_case: float) -> float:
    """The most outliers found, as a share, at so many false regions a case: free-response ROC, with a line from the
    threshold that finds nothing to the strictest that was tried, and on from each to the next."""
    found = np.array([[region.found for region in case.regions[score]] for case in cases if case.outlier], float)
    false = np.array([[region.false for region in case.regions[score]] for case in cases], float)
    if not found.size:
        return float("nan")
    curve = [(0.0, 0.0), *zip(false.mean(axis=0)[::-1], found.mean(axis=0)[::-1], strict=True)]
    best = max(share for number, share in curve if number <= false_per_case)
    for (few, less), (many, more) in pairwise(curve):
        if few <= false_per_case < many:
            best = max(best, less + (more - less) * (false_per_case - few) / (many - few))
    return float(best)


def shares_below(cases: Cases, score: str, limits: Sequence[float]) -> dict[str, float]:
    """By nominal percentile: how many per cent of inlier voxels of organ and tumours stay below its threshold."""
    total = pooled(cases, score, "organ")
    return {f"{p:g}": 100 * total.inlier_share_below(limit) for p, limit in zip(PERCENTILES, limits, strict=True)}


def mean_dice(cases: Cases, label: str) -> float:
    """Over cases without an outlier that have the label."""
    values = [case.dice[label] for case in cases if not case.outlier]
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def estimate(
    runs: Sequence[Cases], figures: Callable[[int, Cases], Mapping[str, float]], seed: int = 0
) -> dict[str, Estimate]:
    """Of `figures`, which are worked out of a run's number and its cases.

    Patients of all runs are drawn together, a run weighs as many as are drawn of it: so that what differs from run to
    run is in the interval too.
    """
    rng = np.random.default_rng(seed)
    patients = [_by_patient(cases) for cases in runs]
    everybody = sorted({patient for groups in patients for patient in groups})
    worked_out: list[dict[tuple[str, ...], Mapping[str, float]]] = [{} for _ in runs]

    def of(run: int, picked: Sequence[str]) -> Mapping[str, float]:
        group, known = tuple(sorted(picked)), worked_out[run]
        if group not in known:
            known[group] = figures(run, [case for patient in group for case in patients[run][patient]])
        return known[group]

    def resampled() -> dict[str, float]:
        drawn = rng.choice(everybody, len(everybody)).tolist()
        picked = [[patient for patient in drawn if patient in groups] for groups in patients]
        weights = [len(some) for some in picked if some]
        ones = [of(run, some) for run, some in enumerate(picked) if some]
        return {name: float(np.average([one[name] for one in ones], weights=weights)) for name in ones[0]}

    whole = [of(run, list(groups)) for run, groups in enumerate(patients)]
    drawn = [resampled() for _ in range(_RESAMPLES)] if len(everybody) > 1 else []
    return {
        name: Estimate(
            float(np.mean([one[name] for one in whole])),
            *_interval([one[name] for one in drawn]),
            float(np.std([one[name] for one in whole], ddof=1)) if len(whole) > 1 else None,
        )
        for name in whole[0]
    }  # fmt: skip


def _interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    if not np.isfinite(values).any():
        return None, None
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def _by_patient(cases: Cases) -> dict[str, list[Measured]]:
    groups: dict[str, list[Measured]] = defaultdict(list)
    for case in cases:
        groups[case.patient].append(case)
    return dict(groups)


def paired_test(differences: Sequence[float]) -> float | None:
    """Two-sided p of a sign-flip test on differences, one a patient; None of fewer than two."""
    known = [value for value in differences if np.isfinite(value)]
    if len(known) < 2:
        return None
    return float(stats.permutation_test((known,), np.mean, permutation_type="samples", rng=0).pvalue)


def by_patient(cases: Cases, figures: Callable[[Cases], T]) -> dict[str, T]:
    return {patient: figures(group) for patient, group in _by_patient(cases).items()}
