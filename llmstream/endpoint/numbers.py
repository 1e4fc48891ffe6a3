"""A number that fits a schema, and is a likely one for what it is called."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor
from typing import Any

from llmstream.endpoint.call import Call, Schema
from llmstream.endpoint.chance import Place

_LIMITS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
_USUAL = (  # what a property of that name usually is
    (re.compile(r"year"), 1900, 2025),
    (re.compile(r"(?<![a-z])age(?![a-z])"), 18, 90),
    (re.compile(r"score|rating|grade|stars"), 1, 10),
    (re.compile(r"confiden|probab|ratio|share"), 0, 1),
)


def fit_number(call: Call, schema: Schema, place: Place) -> int | float:
    whole = schema.get("type") == "integer"
    step, first, last = _grid(whole, place.name, schema.get("multipleOf"), *map(schema.get, _LIMITS))
    found = (first + call.draw(place).number % max(1, last - first + 1)) * step
    return int(found) if whole else float(found)


@lru_cache(512)
def _grid(whole: bool, name: str, multiple: Any, *limits: Any) -> tuple[Fraction, int, int]:
    """The numbers that will do: a step, and how many of them at least and at most."""
    low, above, high, below = (None if limit is None else Fraction(str(limit)) for limit in limits)
    lowest = max((limit for limit in (low, above) if limit is not None), default=None)
    highest = min((limit for limit in (high, below) if limit is not None), default=None)
    least, most = _span(name.lower(), lowest, highest)
    step = _step(whole, multiple, most - least)
    first, last = ceil(least / step), floor(most / step)
    return step, first + (first * step == above), last - (last * step == below)


def _span(name: str, low: Fraction | None, high: Fraction | None) -> tuple[Fraction, Fraction]:
    """From where to where: as the schema says, or as is usual for a property of that name."""
    usual = next(((least, most) for pattern, least, most in _USUAL if pattern.search(name)), (0, 100))
    least, most = map(Fraction, usual)
    if low is not None and high is not None:
        return low, high
    if low is not None:
        return low, max(most, low + 1)
    if high is not None:
        return (least if least < high else high - 100), high
    return least, most


def _step(whole: bool, multiple: Any, room: Fraction) -> Fraction:
    step = Fraction(str(multiple or (1 if whole else "0.01")))
    if whole:
        return Fraction(step.numerator)  # the whole ones among the multiples
    if not multiple and room > 0:
        return min(step, room / 4)  # between close limits there is room too
    return step
