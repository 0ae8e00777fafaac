"""The paper's Figures 4 to 6, drawn from what was measured and from our networks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from maxquery.bundle import Bundle
from maxquery.display import CT_WINDOW_HU
from maxquery.lattice import cut
from maxquery.model_grid import ModelGrid
from maxquery.network_run import build_network, model_input
from maxquery.query_picture import write_query_picture
from maxquery_training.label_scheme import ORGAN, OUTLIER
from maxquery_training.labelled_case import LabelledCase, model_labels
from maxquery_training.near_ood.measuring import Measured

_INCH, _MARGIN_MM = 1.7, 12.0
# Organ, inlier tumours, outlier: the paper's red, green and blue, readable on grey.
_TRUTH = {
    "organ": "#e4572e", "inlier tumour": "#4dbd5b", "outlier tumour": "#2f9df4", "tumour of unknown type": "#f2c14e",
}  # fmt: skip


def draw_maps(path: Path, cases: Sequence[Measured], columns: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Figure 4: each case's CT, truth and anomaly maps. `columns`: by a method's name, its map of each case's plane.

    Every map has its own grey scale, from the least to the greatest score inside organ and tumours, where it is shown.
    """
    heights = [_height(case) for case in cases]
    figure = Figure(((2 + len(columns)) * _INCH + 0.8, sum(heights) * _INCH + 0.8), dpi=150, layout="constrained")
    grid = figure.subplots(len(cases), 2 + len(columns), squeeze=False, height_ratios=heights)
    for number, (row, case) in enumerate(zip(grid, cases, strict=True)):
        truth = case.plane["truth"]
        box, inside = _box(truth, case.pixel_mm), truth > 0
        aspect = case.pixel_mm[0] / case.pixel_mm[1]
        _draw_ct(row[0], case.plane["ct"][box], aspect)
        _draw_ct(row[1], case.plane["ct"][box], aspect)
        _outline(row[1], truth[box], 1 + len(case.dice))
        row[0].text(0.03, 0.97, case.outlier, transform=row[0].transAxes, va="top", fontsize=6, color="white",
                    path_effects=[withStroke(linewidth=2, foreground="black")])  # fmt: skip
        for axes, maps in zip(row[2:], columns.values(), strict=True):
            anomaly = maps[number].astype(np.float32)
            low, high = anomaly[inside].min(), anomaly[inside].max()
            shown = np.where(inside, (anomaly - low) / max(high - low, 1e-6), 0)
            picture = axes.imshow(shown[box], cmap="gray", vmin=0, vmax=1, aspect=aspect)
            axes.contour(truth[box] == OUTLIER, [0.5], colors=[_TRUTH["outlier tumour"]], linewidths=0.6)
            axes.set_axis_off()
    for axes, name in zip(grid[0], ("CT", "truth", *columns), strict=True):
        axes.set_title(fill(name, 20), fontsize=8)
    figure.colorbar(picture, ax=grid[:, -1].tolist(), label="anomaly, least to greatest in the organ", shrink=0.6)
    _legend(figure)
    figure.savefig(path)


def draw_query_maps(path: Path, bundle: Bundle, inlier: LabelledCase, outlier: LabelledCase) -> None:
    """Figure 5: for a case with known tumours and one with an outlier, the cluster assignment (Eq. 3) of the two
    queries of each group that own most of the slice's background, organ and tumour."""
    distribution, names = bundle.query_distribution, ("background", "organ", "tumour")
    aspect = bundle.spacing_zyx_mm[1] / bundle.spacing_zyx_mm[2]
    figure = Figure((7 * _INCH, 2 * _INCH + 0.6), dpi=150, layout="constrained")
    grid = figure.subplots(2, 7)
    titles = ("(a) in-distribution", "(b) out-of-distribution")
    for row, case, title in zip(grid, (inlier, outlier), titles, strict=True):
        ct, truth, responses = query_slice(bundle, case)
        assignment, owner = responses.softmax(dim=0), responses.argmax(dim=0).numpy()
        _draw_ct(row[0], ct, aspect)
        _outline(row[0], truth, case.ignore)
        row[0].set_title(title, fontsize=7)
        regions = (truth == 0, truth == ORGAN, (truth > ORGAN) & (truth != case.ignore))
        for i, (group, region) in enumerate(zip(names, regions, strict=True)):
            count = np.bincount(owner[region], minlength=distribution.total)
            own = [q for q in np.argsort(-count, kind="stable") if distribution.group_of(int(q)) == group][:2]
            for axes, query in zip(row[1 + 2 * i : 3 + 2 * i], own, strict=True):
                picture = axes.imshow(assignment[query], cmap="viridis", vmin=0, vmax=1, aspect=aspect)
                axes.set_title(f"{group} {query}", fontsize=7)
                axes.set_axis_off()
    figure.colorbar(picture, ax=grid[:, -1].tolist(), label="assignment M", shrink=0.8)
    _legend(figure)
    figure.savefig(path)


def draw_all_queries(path: Path, bundle: Bundle, case: LabelledCase, title: str) -> None:
    """Figure 6: all queries on one slice, but their responses; the paper's shows assignments (Eq. 3)."""
    ct, _, responses = query_slice(bundle, case)
    distribution = bundle.query_distribution
    groups = [distribution.group_of(q) for q in range(distribution.total)]
    titles = [f"{group} {q}" for q, group in enumerate(groups)]
    write_query_picture(path, ct, responses.numpy(), titles, groups, bundle.spacing_zyx_mm[1:], title)


@torch.inference_mode()
def query_slice(bundle: Bundle, case: LabelledCase) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    """Through the middle of what was planted, in the window around it: CT `(y, x)`, truth, responses `(N, y, x)`."""
    grid = ModelGrid.of(case.volume.grid, bundle.spacing_zyx_mm)
    image, _ = model_input(case.volume, bundle, grid)
    truth = model_labels(grid, case.truth)
    planted = truth == OUTLIER if (truth == OUTLIER).any() else (truth > ORGAN) & (truth < case.ignore)
    z = int(planted.sum(dim=(1, 2)).argmax())
    middle = torch.cat([torch.tensor([z]), (truth[z] > 0).nonzero().float().mean(dim=0).long()])

    def off_centre(start: tuple[int, int, int]) -> float:
        return max(abs(m - s - n / 2) / n for m, s, n in zip(middle.tolist(), start, bundle.patch_zyx, strict=True))

    start, window = min(cut(image, bundle.patch_zyx, step=0.25), key=lambda one: off_centre(one[0]))
    responses = build_network(bundle)(window[None]).responses[0]
    ct, labels = (
        next(w for s, w in cut(array[None], bundle.patch_zyx, step=0.25) if s == start)[0][z - start[0]].numpy()
        for array in (grid.resample_in(case.volume.array[0]), truth)
    )
    return ct, labels, responses[:, z - start[0]]


def _draw_ct(axes: Axes, ct: np.ndarray, aspect: float) -> None:
    axes.imshow(ct, cmap="gray", vmin=CT_WINDOW_HU[0], vmax=CT_WINDOW_HU[1], aspect=aspect)
    axes.set_axis_off()


def _outline(axes: Axes, truth: np.ndarray, ignore: int) -> None:
    masks = (truth > 0, (truth > ORGAN) & (truth < ignore), truth == OUTLIER, truth == ignore)
    for mask, colour in zip(masks, _TRUTH.values(), strict=True):
        if mask.any():
            axes.contour(mask, [0.5], colors=[colour], linewidths=0.8)


def _height(case: Measured) -> float:
    """Of what is shown, beside its width."""
    rows, columns = (side.stop - side.start for side in _box(case.plane["truth"], case.pixel_mm))
    return rows * case.pixel_mm[0] / (columns * case.pixel_mm[1])


def _box(truth: np.ndarray, pixel_mm: tuple[float, float]) -> tuple[slice, slice]:
    """Around organ and tumours, with a margin."""
    sides = []
    for axis, step in enumerate(pixel_mm):
        hits, margin = np.flatnonzero((truth > 0).any(axis=1 - axis)), int(_MARGIN_MM / step)
        sides.append(slice(max(hits[0] - margin, 0), min(hits[-1] + margin + 1, truth.shape[axis])))
    return tuple(sides)


def _legend(figure: Figure) -> None:
    patches = [Patch(facecolor="none", edgecolor=colour, label=name) for name, colour in _TRUTH.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=4, fontsize=7, frameon=False)
