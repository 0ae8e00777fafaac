"""A small bundle, and ways to change it on disk."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from maxquery.bundle import Bundle, Channel, Normalisation, load_bundle
from maxquery.calibration import CalibrationTable
from maxquery.errors import InputError
from maxquery.labels import Label, Query, QueryDistribution, Terminology

LIVER = Terminology(("123037004", "SCT", "Anatomical Structure"), ("10200004", "SCT", "Liver"))


def small_bundle() -> Bundle:
    return Bundle(
        name="liver",
        version="1.0",
        licence="CC-BY-4.0",
        description="Liver tumours on portal venous CT.",
        training={
            "data": "12 phantoms",
            "limits": "no patient",
            "command": "train",
            "seed": 1,
            "duration_seconds": 2,
        },
        labels=(
            Label(0, "background", "background", (0, 0, 0)),
            Label(1, "liver", "organ", (221, 130, 101), LIVER),
            Label(2, "HCC", "tumour", (144, 238, 144)),
        ),
        channels=(Channel("portal venous"),),
        spacing_zyx_mm=(2.5, 0.8, 0.8),
        normalisation=(Normalisation(-150, 250, 60.0, 40.0),),
        patch_zyx=(32, 64, 64),
        architecture={
            "backbone": {
                "network_class_name": "a.Network",
                "arch_kwargs": {"conv_op": "torch.nn.modules.conv.Conv3d"},
            },
            "query_channels": 128,
            "embedding_channels": 32,
            "heads": 8,
        },
        query_distribution=QueryDistribution(1, 1, 1),
        calibration=CalibrationTable.from_samples(np.linspace(-10, 0, 500)),
        metrics={"dice": 0.9},
        sources={"git": "abc"},
        queries=tuple(
            Query(i, group, tuple(float(i == j) for j in range(3)), name="Rand" if i == 2 else "")
            for i, group in enumerate(("background", "organ", "tumour"))
        ),
        weights={"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16)},
        model_card="# Liver – model card\n",
    )


def sign(folder: Path) -> None:
    """Makes the sums right again, so that a test reaches what lies behind them."""
    names = sorted(path.name for path in folder.iterdir() if path.name != "SHA256SUMS")
    sums = (f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    (folder / "SHA256SUMS").write_text("".join(sums))


def zipped(folder: Path, top: str = "", compression: int = zipfile.ZIP_DEFLATED) -> Path:
    path = folder.parent / "bundle.zip"
    with zipfile.ZipFile(path, "w", compression) as out:
        for file in sorted(folder.iterdir()):
            out.write(file, top + file.name)
    return path


def refusal(path: Path) -> InputError:
    with pytest.raises(InputError) as caught:
        load_bundle(path)
    assert caught.value.hint, "every refusal says what to do"
    return caught.value
