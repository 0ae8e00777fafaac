"""Anomaly in units that people can compare: the calibration table and the three views of one map."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

AnomalyUnits = Literal["raw", "minmax", "percentile"]

# Half a percent in the bulk; finer where a threshold is set, up to the one in ten thousand.
PERCENTS = np.round(
    np.concatenate([np.arange(0, 95, 0.5), np.arange(95, 99, 0.05), np.arange(99, 99.995, 0.01), [100.0]]), 2
)
CHUNK_VOXELS = 1 << 22


@dataclass(frozen=True)
class CalibrationTable:
    """Raw anomaly against its percentile among inlier foreground voxels of the calibration set.

    `values[i]` is the raw score below which `percents[i]` % of those voxels lie; both ascend, percents
    from 0 to 100. Between two entries the table is linear, outside it 0 or 100. A case score (a mean of
    voxel scores) is given as a percentile by such a table of its score: 'an average tumour voxel of this
    case scores higher than so many of the voxels that the model knows', not a rank among cases.

    >>> table = CalibrationTable.from_samples(np.linspace(-10, 0, 1001))
    >>> table.percentile(np.array([-11.0, -5.0, -0.1, 3.0]))
    array([  0.,  50.,  99., 100.], dtype=float32)
    """

    values: tuple[float, ...]
    percents: tuple[float, ...]

    def __post_init__(self) -> None:
        """Raises ValueError, in words for a person, when the two columns are no table."""
        if len(self.values) != len(self.percents) or len(self.values) < 2:
            raise ValueError(f"{len(self.values)} values do not match {len(self.percents)} percents")
        if not (np.isfinite(self.values).all() and (np.diff(self.values) >= 0).all()):
            raise ValueError("the values do not ascend")
        if self.percents[0] != 0 or self.percents[-1] != 100 or not (np.diff(self.percents) > 0).all():
            raise ValueError("the percents do not ascend from 0 to 100")

    @classmethod
    def from_samples(cls, samples: np.ndarray) -> "CalibrationTable":
        """The table of raw scores `samples`, of any shape.

        A hundred thousand voxels or more give the 99.99th percentile a meaning. Raises ValueError for
        no samples, or ones that are not finite.
        """
        samples = np.asarray(samples).ravel()
        if not samples.size or not np.isfinite(samples).all():
            raise ValueError("calibration needs finite samples, and at least one")
        values = np.quantile(samples.astype(np.float64), PERCENTS / 100)
        # Rounding inside the interpolation may undo the order by one unit in the last place.
        return cls(tuple(np.maximum.accumulate(values).tolist()), tuple(PERCENTS.tolist()))

    def percentile(self, raw: np.ndarray) -> np.ndarray:
        """Raw scores as percentiles 0…100, float32, in the shape that came in."""
        raw = np.asarray(raw)
        result = np.empty(raw.shape, np.float32)
        source, target = raw.reshape(-1), result.reshape(-1)
        for start in range(0, source.size, CHUNK_VOXELS):  # both ways need 8 bytes a voxel
            chunk = slice(start, start + CHUNK_VOXELS)
            if raw.dtype == np.float16:
                target[chunk] = self._of_float16[source[chunk].view(np.uint16)]
            else:
                target[chunk] = self._interpolate(source[chunk])
        return result

    @cached_property
    def _of_float16(self) -> np.ndarray:
        """Percentiles of all scores that there are in 16 bit, by their bits: each is worked out once."""
        scores = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
        with np.errstate(invalid="ignore"):  # NaNs are among them
            return self._interpolate(scores).astype(np.float32)

    def _interpolate(self, raw: np.ndarray) -> np.ndarray:
        return np.interp(raw, self.values, self.percents, left=0, right=100)

    def to_json(self) -> dict[str, Any]:
        return {"percents": list(self.percents), "values": list(self.values)}


def minmax(anomaly: np.ndarray, extremes: tuple[float, float] | None = None) -> np.ndarray:
    """The paper's normalisation of one case: lowest 0, highest 1; a constant map is 0. float32.

    `extremes`: the lowest and the highest, where `anomaly` is a part of the case.
    """
    low, high = extremes or _extremes(anomaly)
    if low == high:
        return np.zeros(anomaly.shape, np.float32)
    # float16 would lose the difference of two large scores.
    scaled = anomaly.astype(np.float32)
    scaled -= low
    scaled /= high - low
    return scaled


def in_units(anomaly: np.ndarray, units: AnomalyUnits, table: CalibrationTable) -> np.ndarray:
    """A raw anomaly map in the `units` asked for, float32."""
    if units == "percentile":
        return table.percentile(anomaly)
    if units == "minmax":
        return minmax(anomaly)
    return anomaly.astype(np.float32, copy=False)


def planes_in_units(anomaly: np.ndarray, units: AnomalyUnits, table: CalibrationTable) -> Iterator[np.ndarray]:
    """`in_units` plane after plane `(Y, X)` of a map `(Z, Y, X)`, which never exists as a whole in float32."""
    extremes = _extremes(anomaly) if units == "minmax" else None
    for plane in anomaly:
        yield minmax(plane, extremes) if units == "minmax" else in_units(plane, units, table)


def _extremes(anomaly: np.ndarray) -> tuple[float, float]:
    return float(anomaly.min()), float(anomaly.max())
