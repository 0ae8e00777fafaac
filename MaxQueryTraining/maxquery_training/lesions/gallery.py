"""A contact sheet of planted lesions: `python -m maxquery_training.lesions.gallery CT SEG OUT.png`.

SEG holds the liver as 1 and, as in LiTS, its own tumours as 2: lesions keep away from those.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import SimpleITK as sitk

from maxquery_training.lesions.planting import Planted, plant
from maxquery_training.lesions.types import LESION_TYPES

EXAMPLES = 3
WINDOW_HU = (-160, 240)


def read(path: Path) -> tuple[np.ndarray, tuple[float, float, float]]:
    """`(Z, Y, X)` and its spacing, mm; rows run to the patient's back, columns to the left."""
    image = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
    return sitk.GetArrayFromImage(image), image.GetSpacing()[::-1]


def axial_crop(planted: Planted, spacing_zyx_mm: tuple[float, float, float]) -> np.ndarray:
    """`(Y, X)` HU: the slice that shows most of the lesion, and what lies around it."""
    z = int(planted.mask.sum(axis=(1, 2)).argmax())
    half_mm = max(40.0, planted.diameter_mm)
    rows, columns = (
        slice(max(0, int(c - half_mm / s)), int(c + half_mm / s) + 1)
        for c, s in zip(planted.centre_zyx[1:], spacing_zyx_mm[1:], strict=True)
    )
    return planted.image[z, rows, columns]


def draw(ct: Path, seg: Path, out: Path, seed: int = 0) -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    image, spacing = read(ct)
    labels, _ = read(seg)
    liver, tumour = labels == 1, labels == 2
    rows = len(LESION_TYPES) // 2
    figure, panels = plt.subplots(rows, 2 * EXAMPLES, figsize=(13, 11.5), layout="constrained")
    panels = panels.reshape(rows, 2, EXAMPLES).transpose(1, 0, 2)  # inliers left, outliers right
    rng = np.random.default_rng(seed)
    for kind, row in zip(LESION_TYPES, panels.reshape(-1, EXAMPLES), strict=True):
        for panel in row:
            panel.axis("off")
            attempts = (plant(image, liver, spacing, kind, rng, forbidden=tumour) for _ in range(5))
            planted = next((p for p in attempts if p is not None), None)
            if planted is None:
                panel.set_title(f"{kind}: no room", fontsize=8)
                continue
            panel.imshow(
                axial_crop(planted, spacing), cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1],
                aspect=spacing[1] / spacing[2], interpolation="bilinear",
            )  # fmt: skip
            panel.set_title(f"{kind}, {planted.diameter_mm:.0f} mm", fontsize=8)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ct", type=Path)
    parser.add_argument("seg", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw(arguments.ct, arguments.seg, arguments.out, arguments.seed)
