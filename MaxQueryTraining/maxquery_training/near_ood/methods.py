"""Every way to find what a network never learned, one a row of Table 1.

To add one: write its score (a function or a callable of the network's output, higher where it is stranger) in a file
of its own, and name it under the kind of network that it reads. `maxquery.anomaly` has those that a model may show.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from maxquery.anomaly import SCORES, Score, tumour_probability
from maxquery_training.near_ood.feature_distance import Mahalanobis, Neighbours, TumourNeighbours
from maxquery_training.near_ood.resynthesis import SynthCP
from maxquery_training.near_ood.samples import mutual_information, predictive_entropy
from maxquery_training.near_ood.standardised_maxlogit import StandardisedMaxLogit
from maxquery_training.near_ood.training_voxels import Voxels


@dataclass(frozen=True)
class Fitted:
    """A score with statistics of training voxels, which `by` makes of them."""

    by: Callable[[Voxels], Score]


Variants = Mapping[str, Score | Fitted]
"""A method's scores by a name for its settings; validation patients choose one."""

IN_TUMOURS = "in tumours"
"""Of a network with queries: `tumour_maxquery`, what we would use."""
P_TUMOUR = "P(tumour)"
"""What stands for no anomaly at all: how much of an outlier is found because it looks like any tumour."""
_DOUBT: Variants = {"": SCORES["type_doubt"], "entropy": SCORES["type_entropy"]}
_DISAGREEMENT: Variants = {"mutual information": mutual_information, "entropy": predictive_entropy}

SEGMENTERS = ("nnunet", "exposed", "swin", "transunet", "maxquery")
"""The kinds of network of Table 2; the others segment as nnU-Net does."""

METHODS: Mapping[str, Mapping[str, Variants]] = {
    "nnunet": {
        "MSP": {"": SCORES["msp"]},
        "MaxLogit": {"": SCORES["maxlogit"]},
        "SML": {
            "": Fitted(StandardisedMaxLogit.fit),
            "no smoothing": Fitted(partial(StandardisedMaxLogit.fit, dilation=0)),
            "standardised only": Fitted(partial(StandardisedMaxLogit.fit, width=0, dilation=0)),
        },
        "Energy": {"": SCORES["energy"]},
        "Type doubt": _DOUBT,
        "Mahalanobis": {"": Fitted(Mahalanobis.fit)},
        "kNN": {"": Fitted(Neighbours.fit), "classes alike": Fitted(partial(Neighbours.fit, alike=True))},
        # What stands for responses where there are no queries are the logits (`Logits`).
        "nnU-Net, in tumours": {
            "MaxLogit": SCORES["tumour_maxquery"], "kNN": Fitted(TumourNeighbours.fit),
            "kNN, classes alike": Fitted(partial(TumourNeighbours.fit, alike=True)),
        },
        f"nnU-Net, {P_TUMOUR}": {"": tumour_probability},
    },
    "dropout": {"MC Dropout": _DISAGREEMENT},
    "exposed": {
        "Outlier exposure": {"": SCORES["msp"]},
        "Outlier exposure, type doubt": _DOUBT,
        f"Outlier exposure, {IN_TUMOURS}": {"": SCORES["tumour_maxquery"]},
        f"Outlier exposure, {P_TUMOUR}": {"": tumour_probability},
    },
    "ensemble": {"Deep ensemble": _DISAGREEMENT},
    "synthesis": {"SynthCP": {"": SynthCP(), "without its filter": SynthCP(sure=1.0)}},
    "maxquery": {
        "": {"": SCORES["maxquery"]},
        "query, post-softmax": {"": SCORES["max_assignment"]},
        "category, post-softmax": {"": SCORES["msp"]},
        "category, pre-softmax": {"": SCORES["maxlogit"]},
        "type doubt": {"": SCORES["type_doubt"]},
        "type entropy": {"": SCORES["type_entropy"]},
        IN_TUMOURS: {"": SCORES["tumour_maxquery"]},
        P_TUMOUR: {"": tumour_probability},
    },
    "swin": {"MSP": {"": SCORES["msp"]}},
    "transunet": {"MSP": {"": SCORES["msp"]}},
}  # fmt: skip
"""By the kind of network: the methods that read it."""
NAMED_BY_NETWORK = ("maxquery", "swin", "transunet")
"""The kinds whose methods have the network's name before their own: "MaxQuery" itself (Eq. 9), "MaxQuery, query,
post-softmax" and so on (Table 4), "Swin UNETR, MSP"."""
CHOSEN = "score by validation"
"""Of a network with several methods: whichever of their scores the validation patients choose, as they choose a single
method's settings."""


def methods_of(kind: str, network: str) -> dict[str, Variants]:
    """Methods by the name of their row."""
    if kind not in NAMED_BY_NETWORK:
        return dict(METHODS[kind])
    return {", ".join(filter(None, (network, name))): variants for name, variants in METHODS[kind].items()}


def scores_of(kind: str, network: str) -> dict[str, Score | Fitted]:
    """Every variant of every method, by `key`."""
    return {
        key(method, name): score
        for method, variants in methods_of(kind, network).items() for name, score in variants.items()
    }  # fmt: skip


def key(method: str, variant: str) -> str:
    return f"{method} [{variant}]" if variant else method


def rows_of(kind: str, network: str) -> dict[str, list[str]]:
    """By the name of its row: the scores that a method may choose among."""
    rows = {method: [key(method, name) for name in variants] for method, variants in methods_of(kind, network).items()}
    if len(rows) > 1:
        rows[f"{network}, {CHOSEN}"] = list(scores_of(kind, network))
    return rows
