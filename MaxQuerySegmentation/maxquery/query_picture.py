"""All queries side by side on one slice, as in the paper's Fig. 6, but R over the CT, where it shows M (Eq. 3)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from maxquery.display import CT_WINDOW_HU

_COLUMNS = 8
_INCH = 1.6
_GROUP_COLOURS = {"background": "#6f8fb0", "organ": "#3d9a57", "tumour": "#c2413b"}


def write_query_picture(
    path: Path,
    ct_hu: np.ndarray,
    responses: np.ndarray,
    titles: Sequence[str],
    groups: Sequence[str],
    pixel_mm: tuple[float, float],
    title: str = "",
) -> None:
    """Draws `responses` `(N, Y, X)` over `ct_hu` `(Y, X)`, both with the patient's right on the left; PNG or PDF.

    One colour scale for all, from the lowest to the highest response on the slice. `pixel_mm`: along y and x.
    Raises OSError when the file cannot be written.
    """
    rows = -(-len(responses) // _COLUMNS)
    aspect = pixel_mm[0] / pixel_mm[1]
    height = _INCH * aspect * ct_hu.shape[0] / ct_hu.shape[1] + 0.28
    figure = Figure((_COLUMNS * _INCH + 0.9, rows * height + 0.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    picture = None
    for number, each in enumerate(axes):
        each.set_axis_off()
        if number < len(responses):
            each.imshow(ct_hu, cmap="gray", vmin=CT_WINDOW_HU[0], vmax=CT_WINDOW_HU[1], aspect=aspect)
            picture = each.imshow(
                responses[number], cmap="inferno", vmin=float(responses.min()), vmax=float(responses.max()),
                alpha=0.55, aspect=aspect,
            )  # fmt: skip
            each.set_title(titles[number], fontsize=7, color=_GROUP_COLOURS[groups[number]], pad=2)
    figure.colorbar(picture, ax=axes.tolist(), shrink=0.8, label="response")
    figure.suptitle(title, fontsize=9)
    figure.savefig(path)
