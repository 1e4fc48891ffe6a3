"""When do two values count as the same? For counting votes and folding records."""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any

from llmstream.records import exact

Path = tuple[str, ...]


def text(value: str) -> str:
    """A string without differences that nobody means: case, white space, the way an accent is encoded."""
    return _of_label(value) if len(value) <= _LABEL else _text(value)


def _text(value: str) -> str:
    if value.isascii():
        return " ".join(value.lower().split())
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", value).casefold())
    return " ".join(folded.split())


_LABEL = 64  # characters; a text this short often comes again
_of_label = lru_cache(maxsize=1 << 14)(_text)


def decimal(value: float) -> int | Decimal:
    """A number as it was written: 0.1 is a tenth, not the double nearest to it."""
    if isinstance(value, int):
        return value
    try:
        found = Decimal(str(value))
    except ArithmeticError:  # an exponent beyond all reason
        return 0
    return found if found.adjusted() > _NEGLIGIBLE else 0


_NEGLIGIBLE = -10_000  # the power of ten below which a number is not worth the digits it would take


def number(value: float) -> Fraction:
    """A number as it was written, for arithmetic."""
    return Fraction(decimal(value))


def key(value: Any) -> Hashable:
    """A key that is equal for values that count as the same, whatever their kind."""
    match value:
        case None | bool():
            return str(value), None
        case str():
            return "str", text(value)
        case int() | float():
            return "number", decimal(value) if isinstance(value, exact.Wide) else value
        case list():
            return "list", tuple(map(key, value))
        case _:
            return "object", frozenset((name, key(inner)) for name, inner in value.items())


def exact_key(value: Any) -> Hashable:
    """A key that is equal for equal JSON values only: numbers by value, objects whatever the order of their fields."""
    match value:
        case str():
            return value
        case None | bool():
            return (str(value),)
        case int() | float():
            return "number", decimal(value)
        case list():
            return "list", tuple(map(exact_key, value))
        case _:
            return "object", frozenset((name, exact_key(inner)) for name, inner in value.items())


def identity(item: Any, match: tuple[Path, ...]) -> Hashable:
    """A key that tells an item of a list from the others: for an object, the fields that identify it."""
    if not isinstance(item, dict):
        return key(item)
    found = [at(item, path) for path in match]
    if any(value is not None for value in found):
        return "match", tuple(map(key, found))
    strings = {name: text(value) for name, value in item.items() if isinstance(value, str)}
    return ("strings", frozenset(strings.items())) if strings else key(item)


def at(data: Any, path: Path) -> Any:
    """The value at a path within objects; None where there is none."""
    for name in path:
        data = data.get(name) if isinstance(data, dict) else None
    return data
