"""What a model's labels and queries are called, and what role they play."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["background", "organ", "tumour"]


@dataclass(frozen=True)
class Terminology:
    """A coded concept (DICOM code value, coding scheme, meaning) of a segment's category and type."""

    category: tuple[str, str, str]
    type: tuple[str, str, str]


@dataclass(frozen=True)
class Label:
    """One class of the segmentation: `value` in the label map, `colour` sRGB 0…255."""

    value: int
    name: str
    role: Role
    colour: tuple[int, int, int]
    terminology: Terminology | None = None


@dataclass(frozen=True)
class QueryDistribution:
    """How many queries belong to background, organ and tumours: the paper's (N1, N2, N3).

    >>> QueryDistribution(16, 4, 12).group_of(17)
    'organ'
    """

    background: int = 16
    organ: int = 4
    tumour: int = 12

    @property
    def total(self) -> int:
        return self.background + self.organ + self.tumour

    @property
    def sizes(self) -> tuple[int, int, int]:
        return self.background, self.organ, self.tumour

    def group_of(self, query: int) -> Role:
        if query < self.background:
            return "background"
        return "organ" if query < self.background + self.organ else "tumour"


@dataclass(frozen=True)
class Query:
    """One object query of a trained model: its class distribution and what a person calls it."""

    index: int
    group: Role
    class_probabilities: tuple[float, ...]
    name: str = ""
    note: str = ""
