"""A result as one picture, `preview.png`: what a reader of the case would look at first.

Rows: axial, coronal and sagittal through the main finding. Columns: the CT, the CT with the
segmentation, the CT with the heatmap. One scale for all views; the patient's right is on the
picture's left, anterior and head are up. Heat outside the search region, where it is no finding, is faint.
"""

from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from maxquery.calibration import CalibrationTable
from maxquery.display import CT_WINDOW_HU, HEAT_RANGE, first_look_ras_mm, heat_colours, main_finding
from maxquery.findings import search_box
from maxquery.labels import Label
from maxquery.result import Finding, Prediction
from maxquery.search_region import search_region
from maxquery.volume import Volume

_MARGIN_MM = 40.0
_HEAT_OPACITY, _FAINT_OPACITY, _FILL_OPACITY = 0.65, 0.2, 0.18
_LISTED_FINDINGS = 4
# Pixels: the longest side of a view, the space between views, above and below them.
_VIEW, _GAP, _HEADER, _FOOTER, _DPI = 440, 8, 84, 156, 100
_BACK, _TEXT, _QUIET, _WARNING = "#101214", "#f2f2f2", "#a9b0b7", "#ffb000"
_COLUMNS = ("CT", "CT + segmentation", "CT + anomaly")
# Name, array axis that is cut, letters at the left, right, upper and lower edge.
_VIEWS = (("Axial", 0, "RLAP"), ("Coronal", 1, "RLSI"), ("Sagittal", 2, "APSI"))


def write_preview(
    path: Path,
    ct: Volume,
    prediction: Prediction,
    calibration: CalibrationTable,
    *,
    title: str = "",
    planted: str = "",
) -> None:
    """Draw `ct` (its first phase), the labels and the anomaly's percentiles by `calibration` into a PNG at `path`.

    `title` heads the picture; `planted`, if any, is shown as a warning that the case holds a
    synthetic lesion. Raises OSError when the file cannot be written.
    """
    case = _upright(ct, prediction)
    labels = [label for label in prediction.label_table if label.role != "background"]
    finding = main_finding(prediction.findings)
    scale = _VIEW / case.size_mm.max()
    width = 3 * _VIEW + 4 * _GAP
    heights = [scale * case.size_mm[1 if axis == 0 else 0] for _, axis, _ in _VIEWS]
    height = _HEADER + sum(heights) + 3 * _GAP + _FOOTER
    figure = Figure((width / _DPI, height / _DPI), dpi=_DPI, facecolor=_BACK)
    FigureCanvasAgg(figure)

    top = height - _HEADER
    for (name, axis, letters), row_height in zip(_VIEWS, heights, strict=True):
        for column in range(3):
            left = _GAP + column * (_VIEW + _GAP)
            axes = figure.add_axes((left / width, (top - row_height) / height, _VIEW / width,
                                    row_height / height), facecolor="black")
            _draw_grey(axes, case, axis)
            if column == 1:
                _draw_labels(axes, case, axis, labels)
            if column == 2:
                heat = _draw_heat(axes, case, axis, calibration)
            if finding is not None:
                _draw_mark(axes, case, axis, finding)
            _draw_letters(axes, letters, name if column == 0 else "")
        top -= row_height + _GAP
    _write_header(figure, width, height, title, planted)
    _write_footer(figure, width, height, prediction, labels, heat)
    figure.savefig(path, format="png", facecolor=_BACK)


@dataclass(frozen=True)
class _Case:
    """What is drawn, cropped, its axes `(z, y, x)` running to the head, to posterior, to the left."""

    hu: np.ndarray
    labels: np.ndarray
    anomaly: np.ndarray
    searched: np.ndarray
    spacing_mm: np.ndarray
    focus: np.ndarray

    @property
    def size_mm(self) -> np.ndarray:
        return self.spacing_mm * self.hu.shape

    def cut(self, array: np.ndarray, axis: int) -> np.ndarray:
        return np.take(array, self.focus[axis], axis)


def _upright(ct: Volume, prediction: Prediction) -> _Case:
    """Permute and flip the arrays to the nearest patient axes: no resampling, an oblique CT stays oblique."""
    order, flipped = prediction.grid.patient_axes()
    near, searched = search_box(prediction.labels, prediction.grid), np.zeros(prediction.labels.shape, bool)
    searched[near] = search_region(prediction.labels[near] > 0, prediction.grid.spacing_xyz_mm[::-1])
    arrays = [np.flip(array.transpose(order), np.flatnonzero(flipped))
              for array in (ct.array[0], prediction.labels, prediction.anomaly, searched)]
    spacing = np.array(prediction.grid.spacing_xyz_mm)[::-1][list(order)]
    shape = np.array(arrays[0].shape)
    focus_lps = [*(first_look_ras_mm(prediction) * (-1, -1, 1)), 1.0]
    focus = np.linalg.solve(prediction.grid.index_to_lps, focus_lps)[2::-1][list(order)]
    focus = np.where(flipped, shape - 1 - focus, focus)
    focus = np.clip(np.rint(focus).astype(int), 0, shape - 1)
    box = _surroundings(arrays[1], focus, spacing)
    return _Case(*(array[box] for array in arrays), spacing, focus - [side.start for side in box])


def _surroundings(labels: np.ndarray, focus: np.ndarray, spacing_mm: np.ndarray) -> tuple[slice, ...]:
    """The box of everything labelled and the focus, with a margin; the whole image when nothing is."""
    box = []
    for axis, size in enumerate(labels.shape):
        inside = np.flatnonzero(labels.any(axis=tuple(other for other in range(3) if other != axis)))
        margin = int(np.ceil(_MARGIN_MM / spacing_mm[axis])) if inside.size else size
        low, high = min([*inside[:1], focus[axis]]), max([*inside[-1:], focus[axis]])
        box.append(slice(max(int(low) - margin, 0), min(int(high) + margin + 1, size)))
    return tuple(box)


def _plane(case: _Case, axis: int) -> tuple[int, int]:
    """The array axes that run down and across a view."""
    down, across = (other for other in range(3) if other != axis)
    return down, across


def _show(axes: Axes, case: _Case, axis: int, picture: np.ndarray, **style: object) -> AxesImage:
    """Draw one cut in mm along its array axes; row 0 is anterior in axial views, the feet elsewhere."""
    down, across = _plane(case, axis)
    height, width = case.size_mm[down], case.size_mm[across]
    if axis == 0:
        return axes.imshow(picture, origin="upper", extent=(0, width, height, 0), **style)
    return axes.imshow(picture, origin="lower", extent=(0, width, 0, height), **style)


def _draw_grey(axes: Axes, case: _Case, axis: int) -> None:
    low, high = CT_WINDOW_HU
    _show(axes, case, axis, case.cut(case.hu, axis), cmap="gray", vmin=low, vmax=high,
          interpolation="bilinear")
    axes.autoscale(False)  # a mark at the edge must not widen the view
    axes.tick_params(left=False, bottom=False, labelleft=False, labelbottom=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_labels(axes: Axes, case: _Case, axis: int, labels: list[Label]) -> None:
    down, across = _plane(case, axis)
    values = case.cut(case.labels, axis)
    y, x = ((np.arange(n) + 0.5) * case.spacing_mm[side]
            for n, side in zip(values.shape, (down, across), strict=True))
    for label in labels:
        mask = values == label.value
        if mask.any() and min(mask.shape) > 1:
            fill = np.zeros((*mask.shape, 4))
            fill[mask] = [*np.array(label.colour) / 255, _FILL_OPACITY]
            _show(axes, case, axis, fill, interpolation="nearest")
            axes.contour(x, y, mask, [0.5], colors=[np.array(label.colour) / 255], linewidths=1.4)


def _draw_heat(axes: Axes, case: _Case, axis: int, calibration: CalibrationTable) -> AxesImage:
    colours = ListedColormap(heat_colours()).with_extremes(under=(0, 0, 0, 0))
    opacity = np.where(case.cut(case.searched, axis), _HEAT_OPACITY, _FAINT_OPACITY)
    return _show(axes, case, axis, calibration.percentile(case.cut(case.anomaly, axis)), cmap=colours,
                 vmin=HEAT_RANGE[0], vmax=HEAT_RANGE[1], alpha=opacity, interpolation="bilinear",
                 interpolation_stage="data")


def _draw_mark(axes: Axes, case: _Case, axis: int, finding: Finding) -> None:
    """Four ticks around the finding, clear of it."""
    y, x = ((case.focus[side] + 0.5) * case.spacing_mm[side] for side in _plane(case, axis))
    near = finding.longest_diameter_mm / 2 + 4
    far = near + 8
    for right, down in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        axes.plot((x + right * near, x + right * far), (y + down * near, y + down * far), color=_TEXT,
                  linewidth=1.2, scalex=False, scaley=False)


def _draw_letters(axes: Axes, letters: str, name: str) -> None:
    edges = ((0.015, 0.5, "left", "center"), (0.985, 0.5, "right", "center"),
             (0.5, 0.985, "center", "top"), (0.5, 0.015, "center", "bottom"))
    outline = withStroke(linewidth=2.5, foreground="black")
    style = {"transform": axes.transAxes, "color": _TEXT, "path_effects": [outline]}
    for letter, (x, y, horizontal, vertical) in zip(letters, edges, strict=True):
        axes.text(x, y, letter, ha=horizontal, va=vertical, fontsize=9, **style)
    axes.text(0.015, 0.985, name, ha="left", va="top", fontsize=10, **style)


def _write_header(figure: Figure, width: float, height: float, title: str, planted: str) -> None:
    figure.text(_GAP / width, 1 - 12 / height, title, color=_TEXT, fontsize=13, va="top")
    if planted:
        figure.text(_GAP / width, 1 - 38 / height, f"Contains a planted (synthetic) lesion: {planted}",
                    color=_BACK, fontsize=10, va="top", fontweight="bold",
                    bbox={"facecolor": _WARNING, "edgecolor": "none", "pad": 3})
    for column, name in enumerate(_COLUMNS):
        figure.text((_GAP + column * (_VIEW + _GAP) + _VIEW / 2) / width, 1 - (_HEADER - 6) / height, name,
                    color=_TEXT, fontsize=11, ha="center", va="bottom")


def _write_footer(
    figure: Figure, width: float, height: float, prediction: Prediction, labels: list[Label], heat: AxesImage
) -> None:
    """Findings on the left, the labels with their volumes in the middle, the heatmap's scale on the right."""
    top = (_FOOTER - 10) / height
    figure.text(_GAP / width, top, _summary(prediction), color=_TEXT, fontsize=9, va="top", linespacing=1.5)
    figure.text(_GAP / width, 10 / height, "Research use only. Not for diagnosis or treatment.", color=_QUIET,
                fontsize=9, va="bottom")
    volumes = prediction.volumes_ml()
    handles = [Patch(color=np.array(label.colour) / 255, label=f"{label.name}  {volumes[label.value]:.1f} ml")
               for label in labels]
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=((_VIEW + 2 * _GAP) / width, top),
                  ncols=1 + len(labels) // 7, fontsize=9, frameon=False, labelcolor=_TEXT, borderaxespad=0)
    bar = figure.add_axes(((2 * _VIEW + 3 * _GAP + 30) / width, top - 14 / height,
                           (_VIEW - 60) / width, 12 / height))
    scale = figure.colorbar(heat, cax=bar, orientation="horizontal")
    scale.solids.set_alpha(1)
    scale.outline.set_visible(False)
    bar.tick_params(colors=_TEXT, labelsize=9)
    legend = f"anomaly percentile (below {HEAT_RANGE[0]:g}: not drawn; faint: not in the organ)"
    bar.set_xlabel(legend, color=_TEXT, fontsize=9)


def _summary(prediction: Prediction) -> str:
    score = prediction.case_score
    lines = ["Case score: none, no tumour found" if score is None
             else f"Case score: percentile {score.percentile:.1f} (raw {score.raw:.3g})"]
    findings = prediction.findings
    lines += [
        f"{finding.id}  {shorten(finding.label, 20, placeholder='…')}: {finding.volume_ml:.1f} ml, "
        f"{finding.longest_diameter_mm:.0f} × {finding.perpendicular_diameter_mm:.0f} mm, "
        f"peak percentile {finding.peak_percentile:.1f}"
        for finding in findings[:_LISTED_FINDINGS]
    ]
    more = len(findings) - _LISTED_FINDINGS
    lines += [f"and {more} more in findings.csv"] if more > 0 else []
    return "\n".join(lines if findings else [*lines, "No findings"])
