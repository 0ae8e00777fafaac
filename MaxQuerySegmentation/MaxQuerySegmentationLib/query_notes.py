"""What a person calls the queries of a model: name, colour and note, kept beside the models and not within them."""

import colorsys
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_HUES = {"background": (0.52, 0.72), "organ": (0.24, 0.40), "tumour": (0.92, 1.14)}
"""Where each group's colours lie on the circle: blues, greens, and from magenta over red to orange."""


@dataclass(frozen=True)
class QueryNote:
    """`colour`: sRGB 0…1."""

    name: str
    colour: tuple[float, float, float]
    note: str = ""


class QueryNotes:
    """The notes on one model's queries, in one JSON file, which is written whole with each change.

    `queries`: as report.json lists them (`index`, `group`, `name`, `note`); `file` need not exist.

    >>> notes = QueryNotes([{"index": 0, "group": "organ", "name": "", "note": ""}], Path("notes.json"))
    >>> notes[0].name
    'organ 0'
    """

    def __init__(self, queries: Sequence[Mapping], file: Path):
        self.file = file
        self._notes = [_untouched(query, queries) for query in queries]
        if file.exists():
            self.read(file)

    def __len__(self) -> int:
        return len(self._notes)

    def __getitem__(self, query: int) -> QueryNote:
        return self._notes[query]

    def set(self, query: int, note: QueryNote) -> None:
        """Keeps a note. Raises OSError."""
        self._notes[query] = note
        self.write(self.file)

    def read(self, file: Path) -> None:
        """Takes over what a file says; queries that it does not name stay as they are. Raises ValueError, OSError."""
        try:
            said = {
                int(query): QueryNote(str(note["name"]), tuple(float(c) for c in note["colour"]), str(note["note"]))
                for query, note in json.loads(file.read_text("utf-8")).items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{file} holds no notes on queries: {error}") from error
        for query, note in said.items():
            if not (0 <= query < len(self) and len(note.colour) == 3 and all(0 <= c <= 1 for c in note.colour)):
                raise ValueError(f"{file}: there is no query {query}, or its colour is not three numbers 0…1")
        for query, note in said.items():
            self._notes[query] = note

    def write(self, file: Path) -> None:
        """Raises OSError; then an older file is as it was."""
        file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({query: asdict(note) for query, note in enumerate(self._notes)}, indent=1, ensure_ascii=False)
        part = file.with_name(file.name + ".part")
        part.write_text(text, encoding="utf-8")
        os.replace(part, file)


def _untouched(query: Mapping, queries: Sequence[Mapping]) -> QueryNote:
    """The model's own name and note, and a colour from the group's part of the circle."""
    group = [other["index"] for other in queries if other["group"] == query["group"]]
    first, last = _HUES[query["group"]]
    place = group.index(query["index"])
    hue = first + (last - first) * (place + 0.5) / len(group)
    colour = colorsys.hls_to_rgb(hue % 1, (0.42, 0.58, 0.74)[place % 3], 0.75)
    return QueryNote(query["name"] or f"{query['group']} {query['index']}", colour, query["note"])
