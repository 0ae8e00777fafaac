"""Every way to find what a network never learned, one a row of Table 1.

To add one: write its score (a function or a callable of the network's output, higher where it is stranger; see
`maxquery.anomaly`) in a file of its own, and name it under the kind of network that it reads.
"""

from collections.abc import Callable, Mapping

from maxquery.anomaly import SCORES, Score
from maxquery_training.near_ood.feature_distance import Mahalanobis, Neighbours
from maxquery_training.near_ood.resynthesis import SynthCP
from maxquery_training.near_ood.samples import mutual_information, predictive_entropy
from maxquery_training.near_ood.standardised_maxlogit import StandardisedMaxLogit
from maxquery_training.near_ood.training_voxels import Voxels

Variants = Mapping[str, Score]
"""A method's scores by a name for its settings, the published one first; validation patients choose one."""


def _stock(voxels: Voxels) -> dict[str, Variants]:
    return {
        "MSP": {"": SCORES["msp"]},
        "MaxLogit": {"": SCORES["maxlogit"]},
        "SML": {
            "": StandardisedMaxLogit.fit(voxels),
            "no smoothing": StandardisedMaxLogit.fit(voxels, dilation=0),
            "standardised only": StandardisedMaxLogit.fit(voxels, width=0, dilation=0),
        },
        "Energy": {"": SCORES["energy"]},
        "Type doubt": {"": SCORES["type_doubt"], "entropy": SCORES["type_entropy"]},
        "Mahalanobis": {"": Mahalanobis.fit(voxels)},
        "kNN": {f"k = {k}": Neighbours.fit(voxels, k) for k in (1, 10)},
    }


_DISAGREEMENT: Variants = {"mutual information": mutual_information, "entropy": predictive_entropy}


def _dropout(voxels: Voxels | None) -> dict[str, Variants]:
    return {"MC Dropout": _DISAGREEMENT}


def _exposed(voxels: Voxels | None) -> dict[str, Variants]:
    names = {"": "msp", "type doubt": "type_doubt", "type entropy": "type_entropy"}
    return {"Outlier exposure": {name: SCORES[score] for name, score in names.items()}}


def _ensemble(voxels: Voxels | None) -> dict[str, Variants]:
    return {"Deep ensemble": _DISAGREEMENT}


def _synthesis(voxels: Voxels | None) -> dict[str, Variants]:
    return {"SynthCP": {"": SynthCP(), "without its filter": SynthCP(sure=1.0)}}


def _maxquery(voxels: Voxels | None) -> dict[str, Variants]:
    names = {"": "maxquery", "query, post-softmax": "max_assignment", "category, post-softmax": "msp",
             "category, pre-softmax": "maxlogit", "type doubt": "type_doubt",
             "type entropy": "type_entropy"}  # fmt: skip
    return {name: {"": SCORES[score]} for name, score in names.items()}


def _segmenter(voxels: Voxels | None) -> dict[str, Variants]:
    return {"MSP": {"": SCORES["msp"]}}


METHODS: dict[str, Callable[[Voxels | None], dict[str, Variants]]] = {
    "nnunet": _stock,
    "dropout": _dropout,
    "exposed": _exposed,
    "ensemble": _ensemble,
    "synthesis": _synthesis,
    "maxquery": _maxquery,
    "swin": _segmenter,
    "transunet": _segmenter,
}
"""By the kind of network: the methods that read it, fitted to its training voxels."""
NAMED_BY_NETWORK = ("maxquery", "swin", "transunet")
"""The kinds whose methods have the network's name before their own: "MaxQuery" itself (Eq. 9), "MaxQuery, query,
post-softmax" and so on (Table 4), "Swin UNETR, MSP"."""
CHOSEN = "score by validation"
"""Ours: of a network of the kind maxquery, Eq. 9, a relative in Table 4 or a doubt about the type, whichever the
validation patients choose, as they choose any other method's settings."""
FITTED = ("nnunet",)
"""The kinds with a method that needs training voxels."""


def methods_of(kind: str, network: str, voxels: Voxels | None) -> dict[str, Variants]:
    """Methods by the name of their row."""
    found = METHODS[kind](voxels)
    if kind not in NAMED_BY_NETWORK:
        return found
    return {", ".join(filter(None, (network, name))): variants for name, variants in found.items()}
