"""`REPORT.md`: the tables of `report.json` for people, and what they show in sentences."""

from collections.abc import Callable, Sequence
from typing import Any

from maxquery_training.near_ood.measuring import FOUND_IOU
from maxquery_training.near_ood.methods import CHOSEN
from maxquery_training.near_ood.tables import FALSE_REGIONS, OURS

_FROM_SCRATCH = ("swin", "transunet", "synthesis")
_ALSO: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "AUROC, each type of outlier alike": lambda row: row["mean_of_types"],
    "AUROC against known tumours alone": lambda row: row["known_tumours"]["auroc"],
    "Case AUC": lambda row: row["case_auc"],
    "Outliers found at 1 false region a case": lambda row: row["found_at_1_false"],
}
"""What the summary says of rows beside their margins."""
_CHOSEN_BY_VALIDATION = (
    "Settings were chosen by AUROC on the validation patients, who have other outliers of the same types as the test "
    f"patients; '{CHOSEN}' is whichever of all scores of that network they choose."
)
_NOT_CHOSEN = "No validation patient has an outlier to choose settings by: each method has its first."
_FOUND = (
    "Outliers found at so many false OOD regions a case. A region finds an outlier with an IoU of "
    f"{FOUND_IOU} or more; others are false, unless they lie mostly on the outlier or on a real tumour of unknown type:"
)


def markdown(report: dict[str, Any]) -> str:
    tables, outliers = report["tables"], report["outliers"]
    parts = [f"# {report['benchmark']}", *_summary(report), "## Table 1: where is the outlier?", _how(report)]
    parts.append(_table(
        ("method", "AUROC ↑", "AUPR ↑", "FPR95 ↓", "case AUC ↑", "known tumours ↑", "whole volume ↑",
         "real tumours"),
        [(row["method"], *(_percent(row[f], spread=True) for f in ("auroc", "aupr", "fpr95", "case_auc")),
          *(_percent(row[among]["auroc"]) for among in ("known_tumours", "whole_volume", "real_tumours")))
         for row in tables["1"]],
    ))  # fmt: skip
    parts += [_FOUND, _table(
        ("method", *(f"{n} false" for n in FALSE_REGIONS)),
        [(row["method"], *(_percent(row[f"found_at_{n}_false"]) for n in FALSE_REGIONS)) for row in tables["1"]],
    )]  # fmt: skip
    parts += ["AUROC by type of outlier, against the organ of the cases that have it:", _table(
        ("method", *outliers, "mean of types"),
        [(row["method"], *(_percent(row["by_type"][kind]["auroc"]) for kind in outliers),
          _percent(row["mean_of_types"])) for row in tables["1"]],
    )]  # fmt: skip
    parts += ["How many per cent of a new patient's voxels of organ and known tumours lie below a percentile of the "
              "validation patients:", _table(("method", "90", "95", "99", "99.9"), [
                  (row["method"], *(_number(row["calibration"][p]) for p in ("90", "95", "99", "99.9")))
                  for row in tables["1"]])]  # fmt: skip
    means = ("inliers", "inliers_in_training")
    labels = [name for name in tables["2"][0] if name not in ("method", *means)] if tables["2"] else []
    told = (
        "DSC on cases without an outlier, of each label where it is; in the last column on cases that the network was "
        "trained on."
    )
    parts += ["## Table 2: are the known tumours segmented?", told, _table(
        ("network", *labels, "mean of types", "the same, in training"),
        [(row["method"], *(_percent(row[name]) for name in (*labels, *means)))
         for row in tables["2"]],
    )]  # fmt: skip
    if tables["3"]:
        parts += ["## Table 3: how the queries are dealt out", _table(
            ("N1, N2, N3", "AUROC ↑", "AUPR ↑", "FPR95 ↓", "DSC of inliers ↑"),
            [(str(tuple(row["distribution"])), *(_percent(row[f]) for f in ("auroc", "aupr", "fpr95", "inliers")))
             for row in sorted(tables["3"], key=lambda row: row["distribution"])])]  # fmt: skip
    if tables["4"]:
        parts += ["## Table 4: level and softmax", f"All of the network '{OURS}'.", _table(
            ("level", "softmax", "AUROC ↑", "AUPR ↑", "FPR95 ↓"),
            [(row["level"], row["softmax"], *(_percent(row[f]) for f in ("auroc", "aupr", "fpr95")))
             for row in tables["4"]])]  # fmt: skip
    parts += [f"## {title}\n\n![{title}]({file})" for file, title in report["figures"].items()]
    parts += ["## What was run", *_what_ran(report)]
    return "\n\n".join(parts) + "\n"


def _summary(report: dict[str, Any]) -> list[str]:
    """What holds and what does not, in sentences."""
    if not report.get("against_best"):
        return []
    margins = _table(("", "AUROC ↑", "AUPR ↑", "FPR95 ↓"), [
        (ours, *(_margin(against[figure]) for figure in ("auroc", "aupr", "fpr95")))
        for ours, against in report["against_best"].items()
    ])  # fmt: skip
    sentences = []
    rows = {row["method"]: row for row in report["tables"]["1"]}
    for name, of in _ALSO.items():
        known = [row for row in rows.values() if of(row)["mean"] is not None]
        if not known:
            continue
        best = max(known, key=lambda row: of(row)["mean"])
        ours = "".join(f"{row} {_percent(of(rows[row]))}; " for row in report["against_best"])
        sentences.append(f"- **{name}**: {ours}the best is {best['method']}, {_percent(of(best))}.")
    patients = len({patient for run in report["runs"] for patient in run["test_patients"]})
    how = (
        "Points by which each differs from the best method without queries, another for each figure; methods with "
        "outlier exposure are rivals only of what had it too. In brackets the mean over patients, each compared with "
        f"itself, and its p: as if patients were independent, though those of a run share its networks; of {patients} "
        f"none can be below {2 / 2**patients:.2g}. The best is the one on these patients."
    )
    return ["## What holds", how, margins, "\n".join(sentences)]


def _margin(against: dict[str, float]) -> str:
    tested = "" if against["p"] is None else f" ({100 * against['by_patient']:+.1f}, p = {against['p']:.2f})"
    return f"{100 * against['margin']:+.1f} against {against['best']}{tested}"


def _how(report: dict[str, Any]) -> str:
    patients = len({patient for run in report["runs"] for patient in run["test_patients"]})
    return (
        f"{len(report['runs'])} run(s), {patients} test patients in all, "
        f"{sum(run['test_cases'] for run in report['runs'])} cases: {report['cases_are']}. "
        "In per cent: mean over runs, ± their standard deviation, in brackets the 95 % bootstrap interval by patient. "
        "Outlier voxels against "
        "voxels of organ and known tumours, all cases of a run pooled. *Case AUC*: cases with an outlier against those "
        "without, by the mean score over predicted tumour, real ones of unknown type too; a case without predicted "
        "tumour comes last. *Known tumours*: AUROC against those alone; "
        "*whole volume*: against every known voxel, those around the patient too, which have the least of each score. "
        "*Real tumours*: AUROC of tumours of unknown type against organ; none says which way is right. "
        f"{_CHOSEN_BY_VALIDATION if report['chosen_by_validation'] else _NOT_CHOSEN} "
        "*Outlier exposure* and *with exposure*: lesions of arbitrary looks were planted in "
        "training, none of them of a type that is tested."
    )


def _what_ran(report: dict[str, Any]) -> list[str]:
    runs = [
        f"- seed {run['seed']}: validation {', '.join(run['validation_patients'])}; test "
        f"{', '.join(run['test_patients'])}; backbone {_minutes(run['backbone_seconds'])}" for run in report["runs"]
    ]  # fmt: skip
    networks = [
        f"- {network['name']}: {', '.join(map(_minutes, network['training_seconds']))} "
        + ("from scratch" if network["kind"] in _FROM_SCRATCH else "after the backbone")
        for network in report["networks"]
    ]
    environment = "; ".join(f"{name} {value}" for name, value in report["environment"].items())
    settings = [
        f"- {row['method']}: {', '.join(sorted(set(row['setting'])))}"
        for row in report["tables"]["1"] if set(row["setting"]) != {row["method"]}
    ]  # fmt: skip
    chosen = ["Settings chosen on validation patients:", "\n".join(settings)] if settings else []
    return ["\n".join(runs), "Training time:", "\n".join(networks), *chosen, f"Environment: {environment}."]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(estimate: dict[str, Any], spread: bool = False) -> str:
    return _number(estimate, 100, spread)


def _number(estimate: dict[str, Any], times: float = 1, spread: bool = False) -> str:
    """Mean and interval, as far as there are; `spread`: between them the standard deviation over runs."""
    if estimate["mean"] is None:
        return "–"
    text = f"{times * estimate['mean']:.1f}"
    if spread and estimate["sd_over_runs"] is not None:
        text += f" ± {times * estimate['sd_over_runs']:.1f}"
    if estimate["ci"]:
        text += " ({:.1f}–{:.1f})".format(*(times * end for end in estimate["ci"]))
    return text


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min"
