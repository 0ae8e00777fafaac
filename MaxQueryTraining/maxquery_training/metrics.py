"""Figures of merit as the paper defines them (Sec. 4.2)."""

import numpy as np


def dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    """2 |A ∩ B| / (|A| + |B|) of two masks; NaN when both are empty."""
    total = int(predicted.sum()) + int(truth.sum())
    return 2.0 * int((predicted & truth).sum()) / total if total else float("nan")


class ScoreCounts:
    """How often each anomaly score occurs among inlier and among outlier voxels.

    Maps are 16-bit floats, which know 65,536 values: counting them gives every figure exactly, over any
    number of voxels and cases, in one megabyte.

    >>> counts = ScoreCounts()
    >>> counts.add(np.array([-3, -2, -1, 0], np.float16), np.array([False, False, True, True]))
    >>> counts.figures()
    {'auroc': 1.0, 'aupr': 1.0, 'fpr95': 0.0}
    """

    def __init__(self) -> None:
        self.inlier, self.outlier = np.zeros((2, 1 << 16), np.int64)

    @classmethod
    def of(cls, occurring: np.ndarray) -> "ScoreCounts":
        """From another one's `occurring`."""
        counts = cls()
        ranks = occurring[0]
        counts.inlier[ranks], counts.outlier[ranks] = occurring[1:]
        return counts

    @property
    def occurring(self) -> np.ndarray:
        """`(3, scores)` uint32: for each score that occurs its rank, and how often among inliers and outliers."""
        ranks = np.flatnonzero(self.inlier + self.outlier)
        return np.stack([ranks, self.inlier[ranks], self.outlier[ranks]]).astype(np.uint32)

    def add(self, scores: np.ndarray, outlier: np.ndarray) -> None:
        """Count `scores` float16; `outlier` bool, of the same shape, says which are positive."""
        if scores.dtype != np.float16:
            raise TypeError(f"scores are {scores.dtype}, not float16")
        ranks = _ranks(scores)
        self.inlier += np.bincount(ranks[~outlier], minlength=1 << 16)
        self.outlier += np.bincount(ranks[outlier], minlength=1 << 16)

    def __iadd__(self, other: "ScoreCounts") -> "ScoreCounts":
        self.inlier += other.inlier
        self.outlier += other.outlier
        return self

    def inlier_quantile(self, share: float) -> float:
        """The score that at least `share` of the inlier voxels do not exceed."""
        below = self.inlier.cumsum()
        return float(_scores(np.searchsorted(below, share * below[-1])))

    def inlier_share_below(self, score: float) -> float:
        """Of the inlier voxels."""
        return float(self.inlier[: _ranks(np.array([score], np.float16))[0]].sum() / self.inlier.sum())

    def figures(self) -> dict[str, float]:
        """AUROC, AUPR (average precision), and the lowest FPR at a TPR of at least 95 %; both kinds must occur."""
        occurring = np.flatnonzero(self.outlier + self.inlier)[::-1]  # highest first
        if not occurring.size:
            raise ValueError("nothing was counted")
        true, false = (counts[occurring].cumsum() for counts in (self.outlier, self.inlier))
        if not (true[-1] and false[-1]):
            raise ValueError("there are no outlier voxels" if false[-1] else "there are no inlier voxels")
        sensitivity, false_rate = (np.concatenate([[0.0], counts / counts[-1]]) for counts in (true, false))
        precision = true / (true + false)
        return {
            "auroc": float(np.trapezoid(sensitivity, false_rate)),
            "aupr": float((np.diff(sensitivity) * precision).sum()),
            "fpr95": float(false_rate[np.searchsorted(sensitivity, 0.95)]),
        }


def _ranks(scores: np.ndarray) -> np.ndarray:
    """uint16 in the order of the float16 `scores`: equal for equal ones, -0 and 0 among them."""
    bits = (scores + np.float16(0)).view(np.uint16)
    return np.where(bits & 0x8000, ~bits, bits | 0x8000)


def _scores(ranks: np.ndarray) -> np.ndarray:
    """The float16 scores of `ranks`: the way back."""
    ranks = np.asarray(ranks, np.uint16)
    return np.where(ranks & 0x8000, ranks & 0x7FFF, ~ranks).astype(np.uint16).view(np.float16)
