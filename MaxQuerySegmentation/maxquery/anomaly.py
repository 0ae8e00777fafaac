"""Anomaly scores: one small function each, from the network's `Output` to `(B, Z, Y, X)`.

Higher means less like anything the model has learned. To add a score, write a function and name it in
`SCORES`. Maps are kept in 16 bits, which tell numbers near 0 apart far better than numbers near 1: so a largest
probability p scores 1 − p, which ranks as the papers' −p does.
"""

from collections.abc import Callable

from torch import Tensor

from maxquery.bundle_schema import Bundle
from maxquery.errors import InputError
from maxquery.network import Output, cluster_assignment

Score = Callable[[Output], Tensor]


def maxquery(output: Output) -> Tensor:
    """A = −max_N R (Eq. 9), the paper's."""
    return -output.responses.amax(dim=1)


def max_assignment(output: Output) -> Tensor:
    """A′ = 1 − max_N M, the same after the softmax over queries (Sec. 3.3, Table 4)."""
    return 1 - cluster_assignment(output.responses).amax(dim=1)


def maxlogit(output: Output) -> Tensor:
    """−max_K Z, category level before the softmax (Hendrycks et al., ICML 2022)."""
    return -output.segmentation.amax(dim=1)


def msp(output: Output) -> Tensor:
    """1 − max_K softmax(Z), maximal softmax probability (Hendrycks & Gimpel, ICLR 2017)."""
    return 1 - output.segmentation.softmax(dim=1).amax(dim=1)


def energy(output: Output) -> Tensor:
    """−log Σ_K exp Z, free energy at temperature 1 (Liu et al., NeurIPS 2020)."""
    return -output.segmentation.logsumexp(dim=1)


def type_doubt(output: Output) -> Tensor:
    """Σ_types p − max_types p with p = softmax Z: what is a tumour, but not sure of which type.

    Ours. Unlike 1 − max p it is low where organ and background, or a known lesion and the organ, meet. Always 0 for a
    model of one tumour type.
    """
    types = output.segmentation.softmax(dim=1)[:, 2:]
    return types.sum(dim=1) - types.amax(dim=1)


def type_entropy(output: Output) -> Tensor:
    """P(tumour) · H(type | tumour), in nats, from softmax Z: how little is known of the type of what is a tumour.

    Ours. The part of the softmax's entropy that lies among the types. To hover between two of many types is less than
    to know none, which `type_doubt` hardly tells apart. Always 0 for a model of one tumour type.
    """
    log_types = output.segmentation[:, 2:].log_softmax(dim=1)
    return -tumour_probability(output) * (log_types.exp() * log_types).sum(dim=1)


def tumour_maxquery(output: Output) -> Tensor:
    """√(P(tumour) · σ(−max_N R)) with the logistic function σ: Eq. 9 among tumours.

    Ours. Eq. 9 tells strange tumours from known ones, and is as high where organs meet; P(tumour) tells tumours from
    everything else, and knows no strange one. Their product asks both. Its root ranks a voxel alike; where windows
    overlap and are averaged, one that is sure then does not outweigh the others.
    """
    return (tumour_probability(output) * (-output.responses.amax(dim=1)).sigmoid()).sqrt()


def tumour_probability(output: Output) -> Tensor:
    """Σ_types softmax(Z), P(tumour): labels 0 and 1 are background and organ."""
    return output.segmentation.softmax(dim=1)[:, 2:].sum(dim=1)


SCORES: dict[str, Score] = {
    "maxquery": maxquery,
    "max_assignment": max_assignment,
    "maxlogit": maxlogit,
    "msp": msp,
    "energy": energy,
    "type_doubt": type_doubt,
    "type_entropy": type_entropy,
    "tumour_maxquery": tumour_maxquery,
}


def scores_in_use(bundle: Bundle) -> tuple[Score, ...]:
    """The one that the case score is the mean of, if it is another, and last the heatmap's. Raises as `score_of`."""
    return (maxquery, score_of(bundle)) if bundle.case_calibration else (score_of(bundle),)


def score_of(bundle: Bundle) -> Score:
    """The score that the bundle was calibrated for. Raises InputError 'bundle-too-new'."""
    if bundle.score not in SCORES:
        raise InputError(
            "bundle-too-new", f"bundle.json: the anomaly score is '{bundle.score}'; known here: {', '.join(SCORES)}.",
            "Update the extension.",
        )  # fmt: skip
    return SCORES[bundle.score]
