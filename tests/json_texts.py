"""Any JSON text that RFC 8259 allows, and what it means, independent of what is tested."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import strategies as st

SPACE = st.text(" \t\r", max_size=2)  # a newline would end the record


LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters='"\\', min_codepoint=32)


ESCAPES = st.sampled_from([r"\"", r"\\", r"\/", r"\b", r"\n", r"\u0000", r"\u00e9", r"\uD83D\ude00", r"\u2028", "\x7f"])


STRINGS = st.lists(LETTERS | ESCAPES, max_size=6).map(lambda parts: f'"{"".join(parts)}"')


NAMES = STRINGS | st.sampled_from(['"a"', '"b"', r'"\u0061"', '"error"', '"text"', '"x:y"', '""'])


@st.composite
def numbers(draw: st.DrawFn) -> str:
    digits = st.text("0123456789", min_size=1, max_size=30)
    whole = draw(digits).lstrip("0") or "0"
    part = "." + draw(digits) if draw(st.booleans()) else ""
    signs = st.sampled_from(["e", "E", "e+", "E-", "e-0"])
    exponent = draw(signs) + str(draw(st.integers(0, 30) | st.integers(0, 400))) if draw(st.booleans()) else ""
    return draw(st.sampled_from(["", "-"])) + whole + part + exponent


HARD_NUMBERS = ["-0", "-0.0", "0e0", "1E5", "1.50", "1e-400", "-1e-400", "5e-324", "1e-99999999999999999999", "0.1"]


HARD_NUMBERS += ["9007199254740993", "9223372036854775807", "9223372036854775808", "18446744073709551616"]


HARD_NUMBERS += [
    "123456789012345e10",
    "9007199254740993e1",
    "0.30000000000000004",
    "1.7976931348623157e308",
    "1" * 300,
    "0." + "1" * 5000,
]


SCALARS = STRINGS | numbers() | st.sampled_from([*HARD_NUMBERS, "null", "true", "false", "[]", "{}", "[ ]", "{ }"])


def _inside(opening: str, parts: list[tuple[str, str, str]], closing: str) -> str:
    return opening + ",".join("".join(part) for part in parts) + closing


def list_texts(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(st.tuples(SPACE, values, SPACE), max_size=4).map(lambda parts: _inside("[", parts, "]"))


def object_texts(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.tuples(SPACE, NAMES, SPACE, SPACE, values, SPACE).map(
        lambda m: (m[0] + m[1] + m[2] + ":", m[3], m[4] + m[5])
    )
    return st.lists(member, max_size=5).map(lambda parts: _inside("{", parts, "}"))


VALUES = st.recursive(SCALARS, lambda inner: list_texts(inner) | object_texts(inner), max_leaves=12)


OBJECTS = object_texts(VALUES)


def number(text: str) -> tuple[str, str, int]:
    """A number as sign, digits without zeros around them, and exponent: exact, whatever its size."""
    mantissa, _, exponent = text.lower().partition("e")
    whole, _, part = mantissa.lstrip("-").partition(".")
    digits = (whole + part).lstrip("0")
    short = digits.rstrip("0")
    if not short:
        return "", "0", 0
    return "-" * text.startswith("-"), short, int(exponent or 0) - len(part) + len(digits) - len(short)


def meaning(text: str | bytes) -> Any:
    return json.loads(text, parse_int=number, parse_float=number)


def has_huge(text: str) -> bool:
    """Does a number in the text lie beyond what a double holds?"""
    found: list[float] = []
    json.loads(text, parse_int=lambda t: found.append(float(t)), parse_float=lambda t: found.append(float(t)))
    return any(map(math.isinf, found))
