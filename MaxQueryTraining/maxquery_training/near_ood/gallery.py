"""What the report's figures show: which cases, which methods."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maxquery_training.label_scheme import OUTLIER
from maxquery_training.near_ood.config import Benchmark, Network
from maxquery_training.near_ood.figures import draw_all_queries, draw_maps, draw_query_maps
from maxquery_training.near_ood.measuring import Measured
from maxquery_training.near_ood.methods import CHOSEN
from maxquery_training.near_ood.run import BenchmarkRun
from maxquery_training.near_ood.tables import HELD_AGAINST, OURS

WITHOUT_QD = "MaxQuery without QD"
_FIGURE_4 = (
    "MSP", "MaxLogit", "SML", "Type doubt", "Outlier exposure", *(row for row in HELD_AGAINST if CHOSEN not in row)
)


def draw(benchmark: Benchmark, run: BenchmarkRun, rows: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, str]:
    """Figures 4 to 6 of a run, the report's first, as far as its networks are measured: titles by the files' names.

    `rows`: those of Table 1.
    """
    ready = {network.name: network for network in benchmark.networks if run.is_measured(network)}
    figures = {}
    shown = [row for name in _FIGURE_4 for row in rows if row["method"] == name]
    if shown:
        figures["figure4.png"] = "Figure 4: anomaly maps, each from its least to its greatest score in the organ"
        _draw_maps(folder / "figure4.png", run, ready, shown)
    inlier, outlier = (
        next(case for case in run.cases("test") if bool(case.outlier) is kind) for kind in (False, True)
    )
    if OURS in ready:
        figures["figure5.png"] = f"Figure 5: representative queries, {inlier.name} and {outlier.name}"
        draw_query_maps(folder / "figure5.png", run.networks.bundle_of(ready[OURS]), inlier.read(), outlier.read())
    for name, file in ((WITHOUT_QD, "figure6_without_qd.png"), (OURS, "figure6_with_qd.png")):
        if name in ready:
            figures[file] = f"Figure 6: all queries of {name}"
            draw_all_queries(folder / file, run.networks.bundle_of(ready[name]), inlier.read(), name)
    return figures


def _draw_maps(
    path: Path, run: BenchmarkRun, ready: Mapping[str, Network], rows: Sequence[Mapping[str, Any]]
) -> None:  # fmt: skip
    """One case of each type of outlier: the one with the largest, in the slice that is shown."""
    results = {name: {case.case: case for case in run.results(ready[name], "test")}
               for name in {row["network"] for row in rows}}  # fmt: skip
    cases = results[rows[0]["network"]].values()
    chosen = [max((case for case in cases if case.outlier == kind), key=_shown_voxels, default=None)
              for kind in run.benchmark.data.outliers]  # fmt: skip
    chosen = [case for case in chosen if case is not None]
    columns = {
        row["method"]: [results[row["network"]][case.case].plane[row["setting"][0]] for case in chosen] for row in rows
    }
    draw_maps(path, chosen, columns)


def _shown_voxels(case: Measured) -> int:
    return int((case.plane["truth"] == OUTLIER).sum())
