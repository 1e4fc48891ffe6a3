"""Make llmstream/calls/prices.jsonl from the package genai-prices: make prices.

The table holds what a run needs of the package's data: how to recognise a provider by its address and a model
by its name, and for each span of time what a million tokens of input, cached input and output cost.
Which prices hold when, and in which service tier, is asked of the package itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib import metadata
from itertools import product
from typing import Any

from genai_prices import data_snapshot
from genai_prices.types import (
    ClauseAnd,
    ClauseContains,
    ClauseEndsWith,
    ClauseEquals,
    ClauseOr,
    ClauseRegex,
    ClauseStartsWith,
    MatchLogic,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

from llmstream.calls.price_table import TABLE

# What a call is billed for beside its tokens in and out. Without it the sum would be too low.
BESIDE = ("requests_kcount", "output_reasoning_mtok", "output_citation_mtok")
LONG_AGO = date(2020, 1, 1)  # before the first price
MIDNIGHT = time(0, tzinfo=UTC)


# -- names ------------------------------------------------------------------------------------------


def rule_of(clause: MatchLogic) -> dict[str, list[Any]]:
    """Any of these makes a match: {"equals": [...], "starts_with": [...], "all": [[rule, rule], ...]}."""
    rule: dict[str, list[Any]] = {}
    for kind, operand in _alternatives(clause):
        rule.setdefault(kind, []).append(operand)
    return rule


def _alternatives(clause: MatchLogic) -> Iterator[tuple[str, Any]]:
    match clause:
        case ClauseOr(clauses):
            for one in clauses:
                yield from _alternatives(one)
        case ClauseAnd(clauses):
            yield "all", [rule_of(one) for one in clauses]
        case ClauseRegex(pattern):
            yield "regex", pattern
        case ClauseEquals(text):
            yield "equals", text.lower()
        case ClauseStartsWith(text):
            yield "starts_with", text.lower()
        case ClauseEndsWith(text):
            yield "ends_with", text.lower()
        case ClauseContains(text):
            yield "contains", text.lower()
        case _:
            raise TypeError(f"a new kind of match: {clause}")


def rule_of_url(pattern: str) -> dict[str, list[str]]:
    """The same for an address: most patterns are how it begins, and need not be compiled."""
    begins = re.sub(r"\\([./])", r"\1", pattern)
    return {"starts_with": [begins]} if re.fullmatch(r"[\w:/.-]+", begins) else {"regex": [rf"\A(?:{pattern})"]}


# -- prices -----------------------------------------------------------------------------------------


def spans_of(provider: Provider, model: ModelInfo) -> list[dict[str, Any]]:
    """What the model costs, from each day ("from"), and each time of the day ("at", UTC), when that changes."""
    spans: list[dict[str, Any]] = []
    before: Any = None
    days, clocks = _changes(model)
    for day, clock in product(days, clocks):
        tiers = _tiers(provider, model, datetime.combine(day, clock))
        if tiers == before and len(clocks) == 1:
            continue
        begins = {"from": str(day)} if day != LONG_AGO else {}
        if clock != MIDNIGHT:
            begins["at"] = f"{clock:%H:%M}"
        spans.append(begins | tiers)
        before = tiers
    return spans


def _changes(model: ModelInfo) -> tuple[list[date], list[time]]:
    """The days, and the times of each day, from which another price may hold."""
    days, times = {LONG_AGO}, {MIDNIGHT}
    listed = [] if isinstance(model.prices, ModelPrice) else model.prices
    for constraint in [price.constraint for price in [*listed, *(model.price_variants or ())]]:
        match constraint:
            case StartDateConstraint(day):
                days.add(day)
            case TimeOfDateConstraint(begins, ends):
                times |= {begins, ends}
            case None:
                pass
            case _:
                raise TypeError(f"a new kind of condition: {constraint}")
    return sorted(days), sorted(times)


def _tiers(provider: Provider, model: ModelInfo, now: datetime) -> dict[str, Any]:
    """The prices by service tier. A tier without prices of its own is left out; null: they are not known."""
    found = {"default": _rates(model.get_prices(now))}
    if provider.id == "openrouter" and model.id.endswith(":free") and not vars(model.get_prices(now)):
        found["default"] = [0, 0, 0]
    for variant in model.price_variants or ():
        if variant.constraint is None or variant.constraint.active(now):
            (key, tier), *others = variant.when.items()
            if key in ("service_tier", "processing") and not others:
                found[tier] = _rates(model.get_prices(now, {"service_tier": tier, "processing": tier}))
    return found


def _rates(prices: ModelPrice) -> list[Any] | None:
    """USD for a million tokens of input, of cached input and of output; None if they are not all that a call costs."""
    into, cached, out = prices.input_mtok, prices.cache_read_mtok, prices.output_mtok
    if into is None or out is None or any(getattr(prices, name) is not None for name in BESIDE):
        return None
    return [_rate(price) for price in (into, into if cached is None else cached, out)]


def _rate(price: Decimal | TieredPrices) -> Any:
    """One number, or for a price that depends on the length of the input [[0, 1.25], [200000, 2.5]]."""
    if isinstance(price, TieredPrices):
        return [[0, _number(price.base)], *([tier.start, _number(tier.price)] for tier in price.tiers)]
    return _number(price)


def _number(price: Decimal) -> float:
    return int(price) if price == int(price) else float(price)


# -- the table --------------------------------------------------------------------------------------


def table(made_on: str) -> str:
    """The whole file: how to recognise each provider and where its models are, then a line for each model."""
    providers: list[dict[str, Any]] = []
    models: list[dict[str, Any]] = []
    for provider in data_snapshot.get_snapshot().providers:
        begin = len(models)
        models += [{"match": rule_of(model.match), "prices": spans_of(provider, model)} for model in provider.models]
        providers.append(
            {
                "id": provider.id,
                "url": rule_of_url(provider.api_pattern),
                "serves": rule_of(provider.model_match) if provider.model_match else {},
                "resells": provider.fallback_model_providers or [],
                "lines": [begin, len(models)],
            }
        )
    version = metadata.version("genai-prices")
    header = {"made_from": f"genai-prices {version}", "made_on": made_on, "providers": providers}
    return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in (header, *models))


if __name__ == "__main__":
    TABLE.write_text(table(f"{datetime.now(UTC):%Y-%m-%d}"))
