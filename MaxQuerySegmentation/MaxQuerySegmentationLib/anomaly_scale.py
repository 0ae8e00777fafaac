"""One anomaly map in three units: which score a threshold is in another unit, exactly as the engine has it."""

import numpy as np

UNITS = ("percentile", "minmax", "raw")
_LOWEST_PERCENTILE = 90.0  # below it every second case would light up as a whole


class AnomalyScale:
    """All scores that one map can hold, in order, in each of UNITS.

    The engine's maps hold 16-bit scores, so these are at most 63,488 steps from its lowest to its highest, and what
    is true of a score is true of its step.

    `lowest`, `highest`: of the raw map; `calibration`: the model's `maxquery.calibration.CalibrationTable`.

    >>> scale = AnomalyScale(-4.0, 2.0, CalibrationTable((-4.0, 0.0), (0.0, 100.0)))
    >>> scale.convert(50.0, "percentile", "raw"), scale.convert(1.0, "minmax", "raw")
    (-2.0, 2.0)
    """

    def __init__(self, lowest: float, highest: float, calibration):
        from maxquery.calibration import in_units

        every = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)  # by its bits
        held = (every >= np.float32(lowest)) & (every <= np.float32(highest))
        self._raw = np.unique(every[held])
        self._step_of_bits = np.where(held, np.searchsorted(self._raw, every) + 1, 0).astype(np.uint16)
        self._in = {units: in_units(self._raw, units, calibration) for units in UNITS}

    @classmethod
    def of(cls, raw: np.ndarray, calibration) -> "AnomalyScale":
        return cls(float(raw.min()), float(raw.max()), calibration)

    def steps(self, raw: np.ndarray) -> np.ndarray:
        """The step of each score, uint16 from 1 on; 0 is left for what is no score."""
        return self._step_of_bits[raw.astype(np.float16).view(np.uint16)]

    def values(self, steps: np.ndarray, units: str) -> np.ndarray:
        """The scores of these steps, float32; the lowest of all for step 0."""
        scores = self._in[units].astype(np.float32)
        return np.concatenate([scores[:1], scores])[steps]

    def lowest(self, units: str) -> float:
        return float(self._in[units][0])

    def first_step(self, value: float, units: str) -> int:
        """Of the lowest score at or above `value`; one more than the last step where there is none."""
        return int(np.searchsorted(self._in[units], np.float32(value))) + 1

    def convert(self, value: float, units: str, other: str) -> float:
        """The same threshold in other units."""
        step = min(self.first_step(value, units), len(self._raw))
        return float(self._in[other][step - 1])

    def bounds(self, units: str) -> tuple[float, float]:
        """The lowest threshold that a person may set, and the highest score."""
        highest = 100.0 if units == "percentile" else float(self._in[units][-1])
        return self.convert(_LOWEST_PERCENTILE, "percentile", units), highest
