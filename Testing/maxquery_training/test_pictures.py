"""Pictures of a training."""

import matplotlib
import numpy as np

from maxquery.labels import QueryDistribution
from maxquery_training.pictures import draw_curves, draw_ownership
from maxquery_training.watching import Epoch


def test_they_look_alike_whatever_style_another_program_has_set(tmp_path):
    labels, distribution = ("background", "liver", "HCC"), QueryDistribution(2, 1, 1)
    epochs = [Epoch("joint", n, 2, {"total": 1.0}, 1.2, {"liver": 0.9}, 1e-3, 10.0) for n in range(2)]
    drawn = []
    for large in (False, True):
        with matplotlib.rc_context({"font.size": 40, "axes.facecolor": "green"} if large else {}):
            draw_curves(epochs, tmp_path / "curves.png")
            draw_ownership(np.ones((4, 3)), distribution, labels, tmp_path / "queries.png")
        drawn.append([(tmp_path / name).read_bytes() for name in ("curves.png", "queries.png")])
    assert drawn[0] == drawn[1]
