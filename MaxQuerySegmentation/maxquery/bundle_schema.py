"""What bundle.json and queries.json say: the `Bundle`, read from JSON and written to it."""

import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from maxquery.calibration import CalibrationTable
from maxquery.checked_json import Json
from maxquery.errors import InputError
from maxquery.labels import Label, Query, QueryDistribution, Role, Terminology

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA_VERSION = 1
_MOST_SMOOTHING_MM = 50.0  # more would blur a whole liver


@dataclass(frozen=True)
class Channel:
    """One input of the model: the phase's name, and what it is ('CT', the only kind so far)."""

    name: str
    kind: str = "CT"


@dataclass(frozen=True)
class Normalisation:
    """A channel is clipped to lower…upper HU, then the mean is taken off and it is divided by std."""

    lower_hu: float
    upper_hu: float
    mean_hu: float
    std_hu: float


@dataclass(frozen=True)
class Bundle:
    """A trained model and everything that is known about it.

    The network's class `i` is `labels[i]`, whose value is `i`; `labels[0]` is the background.
    `training` says at least `data`, `limits`, `command`, `seed` and `duration_seconds`;
    `architecture` is `maxquery.network.Architecture` less what stands elsewhere here (input channels,
    classes, query distribution): `backbone` (`network_class_name`, `arch_kwargs`) and the sizes.
    `weights` keep the type they were saved in: float16, bfloat16 or float32. `score`: the anomaly score that
    the heatmap shows and `calibration` ranks, a name in `maxquery.anomaly.SCORES`; `smoothing_mm`: sigma of the
    Gaussian that its map is smoothed with before, 0 for none. `case_calibration` ranks case scores, which are means of
    Eq. 9; without it they are means of the heatmap and ranked as that.
    """

    name: str
    version: str
    licence: str
    description: str
    training: dict[str, Any]
    labels: tuple[Label, ...]
    channels: tuple[Channel, ...]
    spacing_zyx_mm: tuple[float, float, float]
    normalisation: tuple[Normalisation, ...]
    patch_zyx: tuple[int, int, int]
    architecture: dict[str, Any]
    query_distribution: QueryDistribution
    calibration: CalibrationTable
    metrics: dict[str, Any]
    sources: dict[str, Any]
    queries: tuple[Query, ...]
    score: str = "maxquery"
    smoothing_mm: float = 0.0
    case_calibration: CalibrationTable | None = None
    weights: "dict[str, Tensor]" = field(default_factory=dict, repr=False, compare=False)
    model_card: str = ""

    @property
    def tumour_values(self) -> tuple[int, ...]:
        return tuple(label.value for label in self.labels if label.role == "tumour")


def bundle_document(bundle: Bundle) -> dict[str, Any]:
    """What goes into bundle.json."""
    kept_elsewhere = ("queries", "weights", "model_card", "calibration", "case_calibration")
    plain = {name: value for name, value in vars(bundle).items() if name not in kept_elsewhere}
    return {
        "schema_version": SCHEMA_VERSION,
        **plain,
        "labels": [asdict(label) for label in bundle.labels],
        "channels": [asdict(channel) for channel in bundle.channels],
        "normalisation": [asdict(normalisation) for normalisation in bundle.normalisation],
        "query_distribution": asdict(bundle.query_distribution),
        "calibration": bundle.calibration.to_json(),
        "case_calibration": bundle.case_calibration and bundle.case_calibration.to_json(),
    }


def queries_document(bundle: Bundle) -> list[dict[str, Any]]:
    """What goes into queries.json."""
    return [asdict(query) for query in bundle.queries]


def read_bundle(document: Json, queries: Json) -> Bundle:
    """The bundle that bundle.json and queries.json describe, without its weights.

    Raises InputError: 'bundle-too-new' for a later schema, else 'bundle-invalid' with the path.
    """
    if document["schema_version"].integer(1) > SCHEMA_VERSION:
        raise InputError(
            "bundle-too-new",
            f"bundle.json: schema_version is {document['schema_version'].value}; the newest known here is "
            f"{SCHEMA_VERSION}.",
            "Update the extension.",
        )
    document.only(
        [
            "schema_version",
            *(name for name in Bundle.__annotations__ if name not in ("queries", "weights", "model_card")),
        ]
    )
    labels = tuple(_label(item, value) for value, item in enumerate(document["labels"].items()))
    if not 2 <= len(labels) <= 255:
        document["labels"].refuse(f"expected 2…255 labels, found {len(labels)}.")
    channels = tuple(
        Channel(item["name"].some_text(), item["kind"].one_of(("CT",)))
        for item in document["channels"].items()
    )
    if not channels:
        document["channels"].fail("at least one channel")
    distribution = _query_distribution(document["query_distribution"])
    spacing = tuple(item.positive() for item in document["spacing_zyx_mm"].items(3))
    patch = tuple(item.integer(1) for item in document["patch_zyx"].items(3))
    return Bundle(
        **{name: document[name].some_text() for name in ("name", "version", "licence", "description")},
        training=_training(document["training"]),
        labels=labels,
        channels=channels,
        spacing_zyx_mm=spacing,
        normalisation=tuple(_normalisation(item) for item in document["normalisation"].items(len(channels))),
        patch_zyx=patch,
        architecture=_architecture(document["architecture"]),
        query_distribution=distribution,
        calibration=_calibration(document["calibration"]),
        metrics=document["metrics"].object(),
        sources=document["sources"].object(),
        queries=tuple(
            _query(item, index, distribution, len(labels))
            for index, item in enumerate(queries.items(distribution.total))
        ),
        # Models before 0.5 lack it: Eq. 9. Which scores there are is `maxquery.anomaly`'s to say.
        score=document["score"].some_text() if "score" in document.object() else "maxquery",
        # Before 0.5.3 there was no smoothing.
        smoothing_mm=_smoothing(document["smoothing_mm"]) if "smoothing_mm" in document.object() else 0.0,
        # Before 0.5.4 a case score was a mean of the heatmap.
        case_calibration=_calibration(document["case_calibration"]) if document.value.get("case_calibration") else None,
    )


def _smoothing(item: Json) -> float:
    if not 0 <= item.number() <= _MOST_SMOOTHING_MM:
        item.fail(f"a number of mm from 0 to {_MOST_SMOOTHING_MM:g}")
    return item.number()


def _training(item: Json) -> dict[str, Any]:
    for key in ("data", "limits", "command"):
        item[key].some_text()
    item["seed"].integer(0)
    item["duration_seconds"].number()
    return item.object()


def _label(item: Json, value: int) -> Label:
    item.only(Label.__annotations__)
    if item["value"].integer(0) != value:
        item["value"].fail(f"{value}, the place in the list and the network's class")
    role = item["role"].one_of(get_args(Role))
    if (role == "background") != (value == 0):
        item["role"].fail("background for label 0 and for no other")
    colour = item["colour"]
    if not (
        isinstance(colour.value, list)
        and len(colour.value) == 3
        and all(type(part) is int and 0 <= part <= 255 for part in colour.value)
    ):
        colour.fail("three integers 0…255")
    terminology = item["terminology"]
    return Label(
        value,
        item["name"].some_text(),
        role,
        tuple(colour.value),
        None
        if terminology.value is None
        else Terminology(_code(terminology["category"]), _code(terminology["type"])),
    )


def _code(item: Json) -> tuple[str, ...]:
    return tuple(part.some_text() for part in item.items(3))


def _normalisation(item: Json) -> Normalisation:
    item.only(Normalisation.__annotations__)
    read = Normalisation(
        item["lower_hu"].number(),
        item["upper_hu"].number(),
        item["mean_hu"].number(),
        item["std_hu"].positive(),
    )
    if read.lower_hu >= read.upper_hu:
        item.fail("lower_hu below upper_hu")
    return read


def _architecture(item: Json) -> dict[str, Any]:
    """Which classes a backbone may name is `maxquery.backbone`'s to say: it looks up none but its own."""
    item["backbone"]["network_class_name"].some_text()
    item["backbone"]["arch_kwargs"].object()
    for size in ("query_channels", "embedding_channels", "heads"):
        item[size].integer(1)
    if "response" in item.object():  # models before 0.4 lack it: a product
        item["response"].one_of(("product", "cosine"))
    return item.object()


def _query_distribution(item: Json) -> QueryDistribution:
    item.only(QueryDistribution.__annotations__)
    read = QueryDistribution(*(item[group].integer(0) for group in QueryDistribution.__annotations__))
    if not 1 <= read.total <= 254:
        item.fail("1…254 queries in all")  # a cluster map is uint8, and 0 means 'not computed'
    return read


def _calibration(item: Json) -> CalibrationTable:
    item.only(CalibrationTable.__annotations__)
    columns = [tuple(part.number() for part in item[name].items()) for name in ("values", "percents")]
    try:
        return CalibrationTable(*columns)
    except ValueError as error:
        item.refuse(f"{error}.")


def _query(item: Json, index: int, distribution: QueryDistribution, classes: int) -> Query:
    item.only(Query.__annotations__)
    if item["index"].integer(0) != index:
        item["index"].fail(f"{index}, the place in the list")
    if item["group"].value != distribution.group_of(index):
        item["group"].fail(f"{distribution.group_of(index)}, which the query distribution says")
    probabilities = tuple(part.number() for part in item["class_probabilities"].items(classes))
    if min(probabilities) < 0 or not math.isclose(sum(probabilities), 1, abs_tol=0.01):
        item["class_probabilities"].fail("probabilities that add up to 1")
    return Query(index, item["group"].value, probabilities, item["name"].text(), item["note"].text())
