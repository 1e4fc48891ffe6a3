"""Figures as a person reads them: time, rates, numbers, sizes, tokens and money."""

from __future__ import annotations

import math
from collections.abc import Iterable

UNKNOWN = "-"

# -- time -----------------------------------------------------------------------------------------


def clock(seconds: float) -> str:
    """A span as a clock shows it, in full seconds: 0:32, 1:05:09, 2d 07h."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days:,}d {hour:02}h"
    return f"{hour}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def duration(seconds: float) -> str:
    """How long something took: 320 ms, 1.44 s, 2 min 13 s, 1 d 4 h."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    if round(seconds) < 3600:
        return _two_units(round(seconds), 60, "min", "s")
    if round(seconds / 60) < 1440:
        return _two_units(round(seconds / 60), 60, "h", "min")
    return _two_units(round(seconds / 3600), 24, "d", "h")


def _two_units(number: int, size: int, large: str, small: str) -> str:
    whole, rest = divmod(number, size)
    return f"{whole:,} {large} {rest} {small}" if rest else f"{whole:,} {large}"


def rate(a_second: float, noun: str = "") -> str:
    """How many a second, minute or hour, whichever makes a number that is easy to read: 41.2/s, 18 records/min."""
    units = (("s", 1), ("min", 60), ("h", 3600))
    unit, seconds = next((pair for pair in units if a_second * pair[1] >= 1), units[-1] if a_second else units[0])
    number = a_second * seconds
    shown = f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
    return f"{shown} {noun}/{unit}" if noun else f"{shown}/{unit}"


# -- numbers --------------------------------------------------------------------------------------


def short(number: int, exact_below: int = 10_000) -> str:
    """A large number in a few characters: 9,999, 12.3k, 148M."""
    if number < exact_below:
        return f"{number:,}"
    size = float(number)
    for unit in ("k", "M", "G"):
        size /= 1000
        if size < 999.5:
            return f"{size:.3g}{unit}"
    return f"{size / 1000:,.3g}T" if size < 999_500 else f"{size / 1000:,.0f}T"


def number_of(number: int, noun: str) -> str:
    """1 answer, 2 answers."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def percent(share: float) -> str:
    """A share: never 100 before the end."""
    return f"{min(100 * share, 99.9 if share < 1 else 100):.1f} %"


def volume(size: float) -> str:
    """A number of bytes."""
    if size < 1000:
        return f"{size} B"
    units = ["TB", "GB", "MB", "kB"]
    size /= 1000
    while size >= 999.95 and len(units) > 1:
        size /= 1000
        units.pop()
    return f"{size:,.1f} {units[-1]}"


# -- what calls took ------------------------------------------------------------------------------


def tokens(read: int, written: int, cached: int = 0, reasoning: int = 0) -> str:
    """1,200 in (300 cached), 80 out (9 reasoning)"""
    of_input = f" ({cached:,} cached)" if cached else ""
    of_output = f" ({reasoning:,} reasoning)" if reasoning else ""
    return f"{read:,} in{of_input}, {written:,} out{of_output}"


def dollars(cost: float | None) -> str:
    """An amount of money; a dash where it is not known."""
    if cost is None:
        return UNKNOWN
    if cost == 0 or cost >= 1:
        return f"${cost:,.2f}"
    if cost >= 0.01:
        return f"${cost:.4f}"
    return f"${cost:.{1 - math.floor(math.log10(cost))}f}".rstrip("0")


def sum_in_dollars(costs: Iterable[float | None]) -> str:
    """What several amounts come to; a plus where some of them are not known."""
    amounts = list(costs)
    known = [cost for cost in amounts if cost is not None]
    if not known:
        return UNKNOWN
    shown = dollars(math.fsum(known))
    return shown if len(known) == len(amounts) else f"{shown}+"
