"""JSON from a stranger, read with the path of every value at hand: an error says where and what."""

import json
import math
from collections.abc import Iterable
from typing import Any, NoReturn

from maxquery.errors import InputError

HINT = "Export the bundle again, or ask whoever gave it to you for a corrected one."


class Json:
    """One value of a JSON document and the path that leads to it.

    >>> patch = Json("bundle.json", {"patch": [32, "x"]})["patch"].items()
    >>> patch[0].integer(least=1), patch[1].path
    (32, 'patch[1]')
    """

    def __init__(self, file: str, value: Any, path: str = ""):
        self.file, self.value, self.path = file, value, path

    def fail(self, expected: str) -> NoReturn:
        found = repr(self.value)
        self.refuse(f"expected {expected}, found {found if len(found) <= 60 else found[:57] + '…'}.")

    def refuse(self, sentence: str) -> NoReturn:
        where = f"{self.file}: {self.path}: " if self.path else f"{self.file}: "
        raise InputError("bundle-invalid", where + sentence, HINT)

    def __getitem__(self, key: str) -> "Json":
        if key not in self.object():
            self.refuse(f"'{key}' is missing.")
        return Json(self.file, self.value[key], f"{self.path}.{key}" if self.path else key)

    def only(self, keys: Iterable[str]) -> None:
        """Refuses entries beyond `keys`: most are typing errors in a name."""
        for key in sorted(set(self.object()) - set(keys)):
            self.refuse(f"unknown entry '{key}'.")

    def object(self) -> dict[str, Any]:
        if not isinstance(self.value, dict):
            self.fail("an object")
        return self.value

    def items(self, count: int | None = None) -> list["Json"]:
        if not isinstance(self.value, list) or count not in (None, len(self.value)):
            self.fail("a list" if count is None else f"a list of {count}")
        return [Json(self.file, value, f"{self.path}[{i}]") for i, value in enumerate(self.value)]

    def text(self) -> str:
        if not isinstance(self.value, str):
            self.fail("text")
        return self.value

    def some_text(self) -> str:
        if not self.text().strip():
            self.fail("some text")
        return self.value

    def one_of(self, choices: tuple[str, ...]) -> str:
        if self.value not in choices:
            self.fail(f"one of {', '.join(choices)}")
        return self.value

    def integer(self, least: int) -> int:
        if type(self.value) is not int or self.value < least:
            self.fail(f"an integer of at least {least}")
        return self.value

    def number(self) -> float:
        # bool is an int to Python, never to a person.
        if type(self.value) not in (int, float) or not math.isfinite(self.value):
            self.fail("a number")
        return float(self.value)

    def positive(self) -> float:
        if self.number() <= 0:
            self.fail("a number above 0")
        return float(self.value)


def parse(file: str, content: bytes) -> Json:
    """The document in `content` (UTF-8). NaN, Infinity and numbers too large for a float are refused.

    Raises InputError 'bundle-invalid'.
    """
    try:
        return Json(file, json.loads(content.decode(), parse_constant=_refuse_number, parse_float=_finite))
    except (ValueError, RecursionError) as error:
        raise InputError("bundle-invalid", f"{file} is not valid JSON: {error}.", HINT) from error


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number in JSON")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse_number(text)
