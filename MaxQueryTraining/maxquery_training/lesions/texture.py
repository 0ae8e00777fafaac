"""Random fields: smooth ones that shape and colour a lesion, and noise that sounds like the scan's own."""

import numpy as np
from scipy import fft
from scipy.ndimage import binary_erosion, gaussian_filter

Axes = tuple[np.ndarray, np.ndarray, np.ndarray]


def smooth_field(axes_mm: Axes, scale_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Stationary Gaussian field `(Z, Y, X)` of mean 0 and variance 1 whose lumps are about 2 `scale_mm` wide.

    `axes_mm` are the voxels' positions along z, y, x. White noise on a grid of pitch `scale_mm` is
    blurred by a Gaussian of the same width: one small matrix an axis.
    """
    weights = []
    for axis in axes_mm:
        nodes = np.arange(axis[0] - 3 * scale_mm, axis[-1] + 4 * scale_mm, scale_mm)
        weight = np.exp(-0.5 * ((axis[:, None] - nodes) / scale_mm) ** 2)
        weights.append((weight / np.linalg.norm(weight, axis=1, keepdims=True)).astype(np.float32))
    white = rng.standard_normal([w.shape[1] for w in weights], np.float32)
    for weight in weights:  # each turn consumes the first axis and appends its voxels as the last
        white = np.tensordot(white, weight, axes=(0, 1))
    return white


def scan_noise(
    image_hu: np.ndarray, liver: np.ndarray, spacing_zyx_mm: tuple, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """New noise `(Z, Y, X)` with the power and the grain of the scan's, and its standard deviation in HU.

    The residual of the healthy `liver` around its local mean gives a power spectrum; random phases give a
    fresh draw from it. Keeping the residual in place instead would leave the ghosts of vessels in a lesion.
    """
    plain = _parenchyma(image_hu, liver)
    weight = plain.astype(np.float32)
    sigma = 5.0 / np.asarray(spacing_zyx_mm)
    mean = gaussian_filter(image_hu * weight, sigma, truncate=2.5)
    mean /= np.maximum(gaussian_filter(weight, sigma, truncate=2.5), 1e-3)
    residual = (image_hu - mean) * weight
    level = _spread(residual[plain])
    spectrum = np.abs(fft.rfftn(np.clip(residual, -3 * level, 3 * level)))
    white = fft.rfftn(rng.standard_normal(image_hu.shape, np.float32))
    noise = fft.irfftn(spectrum * white, image_hu.shape)
    return (noise * (level / max(float(noise.std()), 1e-6))).astype(np.float32), level


def _parenchyma(image_hu: np.ndarray, liver: np.ndarray) -> np.ndarray:
    """The liver without rim, vessels and fissures, which are no noise; all of it where little is left."""
    smooth = gaussian_filter(image_hu, 1.0)
    core = binary_erosion(liver)
    if core.any():
        core &= np.abs(smooth - np.median(smooth[core])) < 2 * _spread(smooth[core])
    return core if core.sum() > 50 else liver


def _spread(values: np.ndarray) -> float:
    """Standard deviation, from the median absolute deviation: a few odd values do not change it."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))
