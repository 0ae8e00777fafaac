"""A trained checkpoint becomes a bundle that the segmentation module opens."""

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import Tensor

import maxquery
from maxquery.bundle import Bundle, Channel, Normalisation
from maxquery.calibration import CalibrationTable
from maxquery.labels import Label, Query
from maxquery.lattice import cut
from maxquery.model_grid import ModelGrid
from maxquery.network_run import build_network, model_input
from maxquery.volume import Volume
from maxquery_training.checkpoints import read_checkpoint
from maxquery_training.class_weights import CLASS_CONSTANT, unweighted
from maxquery_training.preset import CONFIGURATION, Preset
from maxquery_training.trainers import architecture_of

_ORGAN_COLOUR = (221, 130, 101)
_TYPE_COLOURS = (
    (230, 60, 60), (250, 200, 60), (170, 90, 220), (60, 190, 110), (70, 160, 240), (240, 130, 200), (150, 220, 80),
    (120, 90, 60), (90, 220, 220), (250, 150, 60), (130, 130, 250), (200, 200, 160),
)  # fmt: skip


def export(
    checkpoint: Path, plans: dict, labels: Sequence[Label], query_volume: Volume, *, name: str, version: str,
    licence: str, description: str, channels: Sequence[str], training: dict[str, Any], model_card: str,
) -> Bundle:  # fmt: skip
    """The bundle of nnU-Net's `checkpoint`, not calibrated yet: its percentiles mean nothing.

    What a query stands for depends on the image, so its class distribution is the mean over the windows
    of `query_volume`. Weights are stored in 16 bit, and without what classes weighed in training.
    """
    trained, preset = read_checkpoint(checkpoint)["network_weights"], Preset.from_json(plans["maxquery"])
    bundle = replace(
        plans_bundle(plans, labels, channels), name=name, version=version, licence=licence, description=description,
        training=training, model_card=model_card, weights=_halved(unweighted(trained, CLASS_CONSTANT, preset)),
    )  # fmt: skip
    probabilities = query_classes(bundle, query_volume)
    queries = tuple(
        Query(i, bundle.query_distribution.group_of(i), tuple(round(float(p), 4) for p in row))
        for i, row in enumerate(probabilities)
    )
    return replace(bundle, queries=queries)


def plans_bundle(plans: dict, labels: Sequence[Label], channels: Sequence[str]) -> Bundle:
    """What nnU-Net's plans say of a model that has no weights yet: grid, windows, normalisation, network."""
    manager = PlansManager(plans)
    configuration, preset = manager.get_configuration(CONFIGURATION), Preset.from_json(plans["maxquery"])
    architecture = architecture_of(configuration, preset, len(channels), len(labels))
    properties = manager.foreground_intensity_properties_per_channel
    return Bundle(
        name="",
        version="",
        licence="",
        description="",
        training={},
        labels=tuple(labels),
        channels=tuple(Channel(channel) for channel in channels),
        spacing_zyx_mm=tuple(float(s) for s in configuration.spacing),
        normalisation=tuple(_normalisation(properties[str(i)]) for i in range(len(channels))),
        patch_zyx=tuple(int(n) for n in configuration.patch_size),
        architecture={
            "backbone": architecture.backbone,
            "query_channels": architecture.query_channels,
            "embedding_channels": architecture.embedding_channels,
            "response": architecture.response,
            "heads": architecture.heads,
        },
        query_distribution=architecture.distribution,
        calibration=CalibrationTable((0.0, 1.0), (0.0, 100.0)),
        metrics={},
        sources={"maxquery": maxquery.__version__, "nnunetv2": package_version("nnunetv2"), "torch": torch.__version__},
        queries=(),
        score=preset.score,
        smoothing_mm=preset.smoothing_mm,
        weights={},
        model_card="",
    )


def bundle_labels(dataset_json: dict) -> tuple[Label, ...]:
    """The labels of a prepared dataset, in colours that are told apart; what is to be ignored is no label."""
    names = {value: name for name, value in dataset_json["labels"].items() if name != "ignore"}
    colours = ((0, 0, 0), _ORGAN_COLOUR, *_TYPE_COLOURS)
    roles = ("background", "organ")
    return tuple(
        Label(value, names[value], roles[value] if value < 2 else "tumour", colours[value % len(colours)])
        for value in sorted(names)
    )


def _halved(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """In 16 bit; what nnU-Net's blocks list under two names stays one tensor, and is stored once."""
    halves: dict[int, Tensor] = {}
    return {name: halves.setdefault(tensor.data_ptr(), tensor.half()) for name, tensor in weights.items()}


@torch.inference_mode()
def query_classes(bundle: Bundle, volume: Volume) -> np.ndarray:
    """`(N, K)`: each query's class probabilities, the mean over windows of `volume`."""
    network = build_network(bundle)
    grid = ModelGrid.of(volume.grid, bundle.spacing_zyx_mm)
    image, _ = model_input(volume, bundle, grid)
    windows = cut(image, bundle.patch_zyx, step=1.0)
    total = [network(window[None]).classification[0].softmax(dim=-1) for _, window in windows]
    return torch.stack(total).mean(dim=0).numpy()


def _normalisation(properties: dict[str, float]) -> Normalisation:
    return Normalisation(
        properties["percentile_00_5"], properties["percentile_99_5"], properties["mean"], properties["std"]
    )
