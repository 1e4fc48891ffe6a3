"""JSON in and out without losing a digit.

orjson reads and writes. What it would silently change (whole numbers beyond 64 bits, long
decimals) is read by the standard library instead, and remembers how it was written.
"""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from itertools import chain
from typing import Any, Self

import orjson

DEEPEST = 200  # levels of lists and objects; jq and orjson write little more than that

# Makes the digits, signs and brackets of a text alike, so that a number shows which may not fit a double or
# a 64-bit integer. This is ten times as fast as a regular expression.
_OUTLINE = bytes.maketrans(b"123456789.E+{", b"0000000000e-[")
_SIXTEEN_DIGITS = b"0" * 16
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Wide(float):
    """A number that prints as it was written."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Self:
        made = super().__new__(cls, text)
        made.text = text
        return made

    def __str__(self) -> str:
        return self.text


class WideInt(int):
    """A whole number that may be beyond 64 bits."""


def _whole(text: str) -> int:
    if len(text) < 19:
        return int(text)
    _in_range(text)
    return WideInt(text)


def _decimal(text: str) -> float:
    value = _in_range(text)
    try:
        return value if Decimal(text) == Decimal(repr(value)) else Wide(text)
    except ArithmeticError:  # an exponent beyond all reason
        return Wide(text)


def _in_range(text: str) -> float:
    """The nearest double. Where there is none, orjson and others do not read the number at all."""
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"number out of range: {text[:40]}")
    return value


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_int=_whole, parse_float=_decimal, parse_constant=_constant)


def loads(raw: bytes) -> Any:
    """The value of a JSON text; ValueError says what is wrong with it."""
    outline = raw.translate(_OUTLINE)
    if _SIXTEEN_DIGITS in outline or b"0e000" in outline or b"0e-000" in outline:
        value = _carefully(raw)
    else:
        value = orjson.loads(raw)
    if outline.count(b"[") > DEEPEST:
        _refuse_deep(value)
    return value


def _carefully(raw: bytes) -> Any:
    try:
        value = _decoder.decode(raw.decode())
        if _ESCAPED_SURROGATE.search(raw):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError:
        raise ValueError("not valid UTF-8") from None
    except UnicodeEncodeError:
        raise ValueError("half a surrogate pair in a string") from None
    except RecursionError:
        raise ValueError("nested too deep") from None
    return value


def _refuse_deep(value: Any) -> None:
    level: list[Any] = [[value]]
    for _ in range(DEEPEST + 1):
        inside = chain.from_iterable(part.values() if isinstance(part, dict) else part for part in level)
        level = [part for part in inside if isinstance(part, (dict, list))]
        if not level:
            return
    raise ValueError("nested too deep")


def loads_leniently(raw: bytes) -> Any:
    """Like loads, for what a model or an endpoint sent: what no JSON text may hold becomes U+FFFD."""
    try:
        return loads(raw)
    except ValueError:
        try:
            value = _decoder.decode(raw.decode(errors="replace"))
        except RecursionError:
            raise ValueError("nested too deep") from None
        _refuse_deep(value)
        return scrub(value)


def loads_quickly(raw: bytes) -> Any:
    """The value of a JSON text whose numbers nobody looks at; ValueError says what is wrong with it."""
    return orjson.loads(raw)


def scrub(value: Any) -> Any:
    """The value with U+FFFD for each half of a surrogate pair."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [scrub(item) for item in value]
    if isinstance(value, dict):
        return {scrub(name): scrub(item) for name, item in value.items()}
    return value


def _as_written(value: Any) -> orjson.Fragment:
    if isinstance(value, (Wide, WideInt)):
        return orjson.Fragment(str(value))
    raise TypeError(f"{value} is not JSON")  # str() of a template's undefined value says which it is


def dumps(value: Any) -> bytes:
    """JSON on one line; TypeError for a value that JSON does not have."""
    return orjson.dumps(value, default=_as_written, option=orjson.OPT_PASSTHROUGH_SUBCLASS)


def dumps_leniently(value: Any) -> bytes:
    """Like dumps, with U+FFFD for each half of a surrogate pair."""
    try:
        return dumps(value)
    except TypeError:
        return dumps(scrub(value))


def pretty(value: Any) -> bytes:
    """JSON on several lines, for people."""
    return orjson.dumps(value, default=_as_written, option=orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_INDENT_2)


def repeats_a_key(raw: bytes, data: dict[str, Any]) -> bool:
    """Does an object in this line name a field twice? Cheap where counting colons settles it."""
    colons = raw.count(b":")
    if colons == len(data) or colons == dumps(data).count(b":"):
        return False
    found = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal found
        found = found or len({name for name, _ in pairs}) < len(pairs)

    json.loads(raw, object_pairs_hook=look, parse_int=str, parse_float=str)
    return found
