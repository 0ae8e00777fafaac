"""What a person looks at while a model trains: every curve, and which query owns what.

In matplotlib's own style: nnU-Net's trainer, where it runs in the same process, makes every letter 2.5 times as large.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
from matplotlib import style
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from maxquery.labels import QueryDistribution, Role
from maxquery_training.watching import Epoch


@style.context("default")
def draw_curves(epochs: Sequence[Epoch], path: Path) -> None:
    """Losses by term, Dice by label and the rate over the epochs of one stage, as a PNG."""
    figure = Figure(figsize=(9, 9), layout="constrained")
    losses, dice, rate = figure.subplots(3, 1, sharex=True)
    numbers = [epoch.epoch + 1 for epoch in epochs]
    for name in epochs[0].losses:
        losses.plot(numbers, [epoch.losses[name] for epoch in epochs], marker=".", label=name)
    losses.plot(numbers, [epoch.validation_loss for epoch in epochs], "k:", label="total, validation")
    losses.set_ylabel("loss (unweighted terms)")
    for name in epochs[0].dice:
        values = [np.nan if epoch.dice[name] is None else epoch.dice[name] for epoch in epochs]
        dice.plot(numbers, values, marker=".", label=name)
    dice.set(ylabel="Dice, validation windows", ylim=(0, 1))
    rate.plot(numbers, [epoch.rate for epoch in epochs], marker=".")
    rate.set(ylabel="learning rate", xlabel="epoch")
    for axes in (losses, dice):
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.suptitle(f"{epochs[0].stage} stage, {len(epochs)} of {epochs[0].epochs} epochs")
    figure.savefig(path, dpi=90)


@style.context("default")
def draw_ownership(owned: np.ndarray, distribution: QueryDistribution, labels: Sequence[str], path: Path) -> None:
    """Of each label's voxels, which share each query owns, as a PNG: `owned` `(N, K)` counts voxels.

    A query that owns nothing anywhere has collapsed; a label owned by another group's queries is not learned.
    """
    share = owned / np.maximum(owned.sum(axis=0), 1)
    figure = Figure(figsize=(4 + 0.24 * len(owned), 1.8 + 0.36 * len(labels)), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(share.T, cmap="viridis", norm=PowerNorm(0.5, 0, 1), aspect="auto")
    figure.colorbar(picture, ax=axes, label="share of the label's voxels")
    names = [f"{name} ({count} voxels)" for name, count in zip(labels, owned.sum(axis=0), strict=True)]
    axes.set_yticks(range(len(labels)), names)
    axes.set_xticks(range(len(owned)), range(len(owned)), fontsize=7)
    axes.set_xlabel("query")
    start = 0
    for group, size in zip(get_args(Role), distribution.sizes, strict=True):
        axes.text(start + (size - 1) / 2, -0.8, group, ha="center", va="bottom")
        start += size
        axes.axvline(start - 0.5, color="white", linewidth=2)
    idle = int((owned.sum(axis=1) == 0).sum())
    axes.set_title(f"Which query owns what; {idle} of {len(owned)} own nothing", pad=28)
    figure.savefig(path, dpi=90)
