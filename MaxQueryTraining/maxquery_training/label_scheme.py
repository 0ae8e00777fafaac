"""What the values in a dataset's masks mean: organ, tumour types, outliers, and what teaches nothing."""

import codecs
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from maxquery.checked_json import Json, parse
from maxquery.errors import InputError
from maxquery_training.lesions.types import INLIERS

BACKGROUND, ORGAN = 0, 1
OUTLIER = 254
"""In masks to test on, real or planted: a tumour of a type that is never trained on."""


@dataclass(frozen=True)
class LabelScheme:
    """The model's labels and what they are in the masks.

    `organ` is label 1, `types` are labels 2, 3, …, and what is to be ignored gets the label after the last
    type (nnU-Net asks for that). `meaning` maps each value that a mask may hold to one of these labels, to
    BACKGROUND or to OUTLIER; a value that it does not list is an error in the mask. `planted` are the labels of
    the kinds of synthetic lesion that may be planted.
    """

    organ: str
    types: tuple[str, ...]
    meaning: Mapping[int, int]
    planted: Mapping[str, int] = field(default_factory=dict)

    @property
    def ignore(self) -> int:
        return ORGAN + 1 + len(self.types)

    @property
    def nnunet_labels(self) -> dict[str, int]:
        """dataset.json's `labels`."""
        types = {name: ORGAN + 1 + i for i, name in enumerate(self.types)}
        return {"background": BACKGROUND, self.organ: ORGAN, **types, "ignore": self.ignore}

    def type_of(self, label: int) -> str | None:
        """The name of a tumour type's label; None for any other label."""
        return self.types[label - ORGAN - 1] if ORGAN < label < self.ignore else None

    def map(self, mask: np.ndarray) -> np.ndarray:
        """A mask of the dataset, any shape, in the model's labels (uint8). All its values must be listed."""
        lookup = np.zeros(max(self.meaning) + 1, np.uint8)
        lookup[list(self.meaning)] = list(self.meaning.values())
        return lookup[mask]


def read_label_scheme(file: str, content: bytes) -> LabelScheme:
    """The scheme in a JSON document. Raises InputError with the path of what is wrong.

    >>> read_label_scheme("labels.json", b'''{"organ": {"name": "liver", "values": [1]},
    ...     "types": [{"name": "cyst", "values": [2, 3]}], "ignore": [4], "outlier": [9]}''').meaning
    {0: 0, 1: 1, 2: 2, 3: 2, 4: 3, 9: 254}
    """
    try:
        return _scheme(parse(file, content.removeprefix(codecs.BOM_UTF8)))  # as Windows' Notepad saves it
    except InputError as error:
        raise InputError("labels", error.message, "Mend that entry; see --help for an example.") from error


def _scheme(document: Json) -> LabelScheme:
    document.only(("organ", "types", "ignore", "outlier", "background"))
    organ, types = document["organ"], document["types"].items()
    meaning = {0: BACKGROUND}
    names: list[str] = []
    planted: dict[str, int] = {}

    def name_of(entry: Json) -> str:
        entry.only(("name", "values", "plant") if names else ("name", "values"))
        name = entry["name"].some_text()
        if name in (*names, "background", "ignore"):
            entry["name"].refuse(f"the name '{name}' is taken.")
        names.append(name)
        return name

    def assign(values: Json, label: int) -> None:
        for value in values.items():
            if value.integer(least=1) in meaning:
                value.refuse(f"the value {value.value} has a meaning already.")
            meaning[value.value] = label

    organ_name = name_of(organ)
    assign(organ["values"], ORGAN)
    type_names = tuple(name_of(entry) for entry in types)
    for i, entry in enumerate(types):
        assign(entry["values"], ORGAN + 1 + i)
        if "plant" in entry.object():
            planted[entry["plant"].one_of(INLIERS)] = ORGAN + 1 + i
    rest = {"background": BACKGROUND, "ignore": ORGAN + 1 + len(types), "outlier": OUTLIER}
    for key, label in rest.items():
        if key in document.object():
            assign(document[key], label)
    return LabelScheme(organ_name, type_names, meaning, planted)
