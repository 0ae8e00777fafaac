"""Figures of merit as the paper defines them (Sec. 4.2)."""

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve


def dice(predicted: np.ndarray, truth: np.ndarray) -> float:
    """2 |A ∩ B| / (|A| + |B|) of two masks; NaN when both are empty."""
    total = int(predicted.sum()) + int(truth.sum())
    return 2.0 * int((predicted & truth).sum()) / total if total else float("nan")


def ood_figures(scores: np.ndarray, outlier: np.ndarray) -> dict[str, float]:
    """AUROC, AUPR and FPR at 95 % TPR of anomaly `scores` `(voxels,)`; `outlier` says which are positive."""
    fpr, tpr, _ = roc_curve(outlier, scores)
    return {
        "auroc": float(roc_auc_score(outlier, scores)),
        "aupr": float(average_precision_score(outlier, scores)),
        "fpr95": float(fpr[np.searchsorted(tpr, 0.95)]),
    }
