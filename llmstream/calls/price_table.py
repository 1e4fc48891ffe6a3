"""What models cost, as a table that comes with the program: by the endpoint's address, and by a model's name.

prices.jsonl is made from the package genai-prices (make prices, which needs it; a run does not). Its first
line says from which version, and how each provider is known; each further line is one model. A line is parsed
when a look-up comes to it, so a look-up takes a few milliseconds, and nothing of the table stays in memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from llmstream.records import exact

TABLE = Path(__file__).with_name("prices.jsonl")
HALF = ("flex", "batch")  # what these service tiers cost where the table does not say

Rate = tuple[tuple[int, float], ...]  # USD for a million tokens, each from so many input tokens of a call on
Rule = Mapping[str, list[Any]]  # {"equals": ["gpt-5"], "starts_with": [...], ...}: a name fits if any of it holds


class Price(NamedTuple):
    """USD for a million tokens. A rate of ((0, 0.75), (272_000, 1.5)) is 1.5 for calls with a longer input."""

    input: Rate
    cached: Rate
    output: Rate


Tiers = Mapping[str, Price]  # by service tier, the usual one being "default"; empty: unknown


class Span(NamedTuple):
    """What a model costs from a day on ("2026-10-19"), or from a time of each day on ("16:30"), in UTC."""

    day: str  # "" is the first one
    clock: str
    tiers: Tiers


def tiers_at(spans: Sequence[Span], day: str, clock: str) -> Tiers:
    """What holds then: the last of what has begun."""
    begun = [span.tiers for span in spans if span.day <= day and span.clock <= clock]
    return begun[-1] if begun else {}


def find(url: str, name: str) -> tuple[Span, ...]:
    """What a model costs at an endpoint, or by its name alone if the table does not know the endpoint."""
    header, *models = TABLE.read_bytes().splitlines()
    providers = exact.loads(header)["providers"]
    name = name.lower()
    dashed = re.sub(r"-(20\d\d)(\d\d)(\d\d)(?=-|:|$)", _with_dashes, name)  # some gateways write -20251211
    provider = _first(providers, "url", url) or _first(providers, "serves", name)
    if provider is None:
        return ()
    others = [other for key in provider["resells"] for other in providers if other["id"] == key]
    for spelling in dict.fromkeys((name, dashed)):
        for seller in (provider, *others):
            begin, end = seller["lines"]
            model = _first(map(exact.loads, models[begin:end]), "match", spelling)
            if model:
                return tuple(_span(entry, own=seller is provider) for entry in model["prices"])
    return ()


def _first(entries: Iterable[dict[str, Any]], key: str, name: str) -> dict[str, Any] | None:
    return next((entry for entry in entries if _fits(entry[key], name)), None)


def _fits(rule: Rule, name: str) -> bool:
    return any(_FITS[kind](name, operand) for kind, operands in rule.items() for operand in operands)


_FITS: dict[str, Callable[[str, Any], object]] = {
    "equals": str.__eq__,
    "starts_with": str.startswith,
    "ends_with": str.endswith,
    "contains": str.__contains__,
    "regex": lambda name, pattern: re.search(pattern, name),
    "all": lambda name, rules: all(_fits(rule, name) for rule in rules),
}


def _with_dashes(found: re.Match[str]) -> str:
    try:
        return f"-{date(*map(int, found.groups()))}"
    except ValueError:  # no day
        return found[0]


def _span(entry: Mapping[str, Any], *, own: bool) -> Span:
    """own: the provider's own model. Whoever resells it need not have its tiers, nor their prices."""
    names = [key for key in entry if key not in ("from", "at")] if own else ["default"]
    listed = {tier: _price(entry[tier]) for tier in names}
    usual = listed["default"]
    tiers = ({tier: _half(usual) for tier in HALF} if usual else {}) | listed
    return Span(entry.get("from", ""), entry.get("at", ""), {tier: price for tier, price in tiers.items() if price})


def _price(rates: Sequence[Any] | None) -> Price | None:
    """A rate is a number, or [[0, 0.75], [272000, 1.5]]."""
    if rates is None:
        return None
    return Price(*(tuple(map(tuple, rate)) if isinstance(rate, list) else ((0, rate),) for rate in rates))


def _half(price: Price) -> Price:
    return Price(*(tuple((start, usd / 2) for start, usd in rate) for rate in price))
