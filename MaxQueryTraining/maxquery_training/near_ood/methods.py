"""Every way to find what a network never learned, one a row of Table 1.

To add one: write its score (a function or a callable of the network's output, higher where it is stranger; see
`maxquery.anomaly`) in a file of its own, and name it under the kind of network that it reads.
"""

from collections.abc import Callable, Mapping

from maxquery.anomaly import SCORES, Score
from maxquery_training.near_ood.feature_distance import Mahalanobis, Neighbours
from maxquery_training.near_ood.monte_carlo_dropout import mutual_information, predictive_entropy
from maxquery_training.near_ood.resynthesis import SynthCP
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
        "Mahalanobis": {"": Mahalanobis.fit(voxels)},
        "kNN": {f"k = {k}": Neighbours.fit(voxels, k) for k in (10, 50)},
    }


def _dropout(voxels: Voxels) -> dict[str, Variants]:
    return {"MC Dropout": {"mutual information": mutual_information, "entropy": predictive_entropy}}


def _synthesis(voxels: Voxels) -> dict[str, Variants]:
    return {"SynthCP": {"": SynthCP(), "without its filter": SynthCP(sure=1.0)}}


def _maxquery(voxels: Voxels | None) -> dict[str, Variants]:
    names = {"": "maxquery", "query, post-softmax": "max_assignment", "category, post-softmax": "msp",
             "category, pre-softmax": "maxlogit"}  # fmt: skip
    return {name: {"": SCORES[score]} for name, score in names.items()}


METHODS: dict[str, Callable[[Voxels | None], dict[str, Variants]]] = {
    "nnunet": _stock,
    "dropout": _dropout,
    "synthesis": _synthesis,
    "maxquery": _maxquery,
}
"""By the kind of network: the methods that read it, fitted to its training voxels. Of a network named X, the kind
`maxquery` gives "X" itself (Eq. 9) and "X, query, post-softmax" and so on (Table 4)."""
FITTED = ("nnunet",)
"""The kinds with a method that needs training voxels."""


def methods_of(kind: str, network: str, voxels: Voxels | None) -> dict[str, Variants]:
    """Methods by the name of their row."""
    found = METHODS[kind](voxels)
    if kind != "maxquery":
        return found
    return {", ".join(filter(None, (network, name))): variants for name, variants in found.items()}
