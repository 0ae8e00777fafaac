"""How good a bundle is, on patients that it neither learned from nor was calibrated on (the paper's Sec. 4.2)."""

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from maxquery.anomaly import SCORES, Score, score_of
from maxquery.bundle import Bundle
from maxquery.organ import keep_organ
from maxquery.prediction import PredictionParameters, RunLog, case_score, infer
from maxquery.progress import silent
from maxquery_training.labelled_case import LabelledCase
from maxquery_training.metrics import ScoreCounts, dice

_RESAMPLES, _DEFINED = 1000, 0.95  # bootstrap; in what share of it a figure must be defined to have an interval


@dataclass(frozen=True)
class CaseFigures:
    """What was measured on one case.

    `dice` by label, NaN where a label is neither there nor found. `anomaly` is the case score: the mean raw
    anomaly over predicted tumour, -inf where none was predicted. `counts` by score, in organ and tumours.
    """

    case: str
    patient: str
    dice: dict[str, float]
    anomaly: float
    has_outlier: bool
    counts: dict[str, ScoreCounts]


def scores_of(bundle: Bundle) -> dict[str, Score]:
    """What a bundle is measured with: first the score that its case score is the mean of."""
    of_case = {"maxquery": SCORES["maxquery"]} if bundle.case_calibration else {}
    return of_case | {bundle.score: score_of(bundle)} | SCORES


def measure(
    case: LabelledCase,
    bundle: Bundle,
    parameters: PredictionParameters,
    scores: Mapping[str, Score],
    network: nn.Module | None = None,
) -> CaseFigures:
    """Predicts as in use, or with another `network` than the bundle's, one that may know fewer `scores`.

    The organ counts with its tumours, as a liver volume does; voxels of tumours of unknown or untrained type
    count for the organ and are left out for the types. The case's anomaly is that of the first score.
    """
    labels, maps, _ = infer(case.volume, bundle, list(scores.values()), parameters, silent, RunLog(), network)
    keep_organ(labels, bundle.labels, case.volume.grid.voxel_volume_ml, [])
    known = case.inlier | (case.truth == 0)
    overlap = {
        label.name: dice(labels > 0, case.truth > 0)
        if label.role == "organ"
        else dice((labels == label.value) & known, case.truth == label.value)
        for label in bundle.labels[1:]
    }
    asked, counts = case.inlier | case.outlier, {}
    for score, anomaly in zip(scores, maps, strict=True):
        counts[score] = ScoreCounts()
        counts[score].add(anomaly[asked], case.outlier[asked])
    score = case_score(labels, maps[0], bundle)
    return CaseFigures(
        case.name, case.patient, overlap, -np.inf if score is None else score.raw, bool(case.outlier.any()), counts
    )


def segmentation_figures(cases: Iterable[CaseFigures]) -> dict[str, float]:
    """Mean Dice over cases by label; a case with nothing to find and nothing found does not count."""
    found: dict[str, list[float]] = defaultdict(list)
    for case in cases:
        for label, value in case.dice.items():
            found[label].append(value)
    return {
        label: float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
        for label, values in found.items()
    }


def ood_localisation(cases: Sequence[CaseFigures]) -> dict[str, dict[str, float]]:
    """AUROC, AUPR, FPR95 by score: outlier voxels against inlier voxels of organ and tumours, all cases pooled.

    Without a score for which one of the two kinds is missing.
    """
    pooled: dict[str, ScoreCounts] = defaultdict(ScoreCounts)
    for case in cases:
        for score, counts in case.counts.items():
            pooled[score] += counts
    return {
        score: counts.figures() for score, counts in pooled.items() if counts.inlier.any() and counts.outlier.any()
    }


def case_detection(cases: Sequence[CaseFigures]) -> float:
    """The AUC of the case score: cases with an outlier against cases without."""
    return case_auc(*([case.anomaly for case in cases if case.has_outlier is kind] for kind in (True, False)))


def case_auc(outlier: Sequence[float], inlier: Sequence[float]) -> float:
    """How often an `outlier` case scores higher than an `inlier` case, ties counting half."""
    high, low = np.array(outlier)[:, None], np.array(inlier)
    return float(np.mean((high > low) + 0.5 * (high == low)))


def figures(cases: Sequence[CaseFigures]) -> dict[str, float]:
    """Every figure by its name, such as `dsc.liver`, `ood.maxquery.auroc` and `case_auc`, but for those that these
    cases leave undefined."""
    named = {f"dsc.{label}": value for label, value in segmentation_figures(cases).items()}
    with_outlier = {case.has_outlier for case in cases}
    if True in with_outlier:
        for score, values in ood_localisation(cases).items():
            named |= {f"ood.{score}.{name}": value for name, value in values.items()}
    if len(with_outlier) == 2:
        named["case_auc"] = case_detection(cases)
    return {name: value for name, value in named.items() if np.isfinite(value)}


def intervals(cases: Sequence[CaseFigures], seed: int = 0) -> dict[str, tuple[float, float]]:
    """The 95 % bootstrap interval of figures by name, patients drawn with all their cases; empty for one patient.

    Where the only patient with an outlier is not drawn, what needs outliers is undefined: there is no interval then.
    """
    by_patient: dict[str, list[CaseFigures]] = defaultdict(list)
    for case in cases:
        by_patient[case.patient].append(case)
    patients, rng = list(by_patient.values()), np.random.default_rng(seed)
    if len(patients) < 2:
        return {}
    drawn: dict[str, list[float]] = defaultdict(list)
    for _ in range(_RESAMPLES):
        picked = rng.integers(len(patients), size=len(patients))
        for name, value in figures([case for i in picked for case in patients[i]]).items():
            drawn[name].append(value)
    return {
        name: tuple(np.percentile(values, [2.5, 97.5]).tolist())
        for name, values in drawn.items() if len(values) >= _DEFINED * _RESAMPLES
    }  # fmt: skip


def write_evaluation(folder: Path, cases: Sequence[CaseFigures], about: dict[str, Any]) -> dict[str, float]:
    """`evaluation.json` (`about` and the figures), `evaluation.csv` and `evaluation_cases.csv`; returns the figures."""
    named, bounds = figures(cases), intervals(cases)
    rows = [{"figure": name, "value": value, **_bounds(bounds.get(name))} for name, value in named.items()]
    patients = len({case.patient for case in cases})
    document = about | {"patients": patients, "figures": {row.pop("figure"): row for row in map(dict, rows)}}
    folder.mkdir(parents=True, exist_ok=True)
    _write_table(folder / "evaluation.csv", rows)
    _write_table(folder / "evaluation_cases.csv", [_row(case) for case in cases])
    (folder / "evaluation.json").write_text(json.dumps(document, indent=2, ensure_ascii=False), encoding="utf-8")
    return named


def _bounds(interval: tuple[float, float] | None) -> dict[str, float]:
    return {} if interval is None else {"low": interval[0], "high": interval[1]}


def _row(case: CaseFigures) -> dict[str, Any]:
    scored = {} if np.isinf(case.anomaly) else {"case_score": case.anomaly}
    overlap = {f"dsc.{label}": value for label, value in case.dice.items() if np.isfinite(value)}
    return {"case": case.case, "patient": case.patient, "outlier": case.has_outlier, **scored, **overlap}


def _write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """A column for every key of any row, in the order they come up; what a row lacks stays empty."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
