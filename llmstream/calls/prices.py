"""What the tokens of a call cost, in USD: by a file of one's own, or else by the table that comes with the program."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from typing import Any

from llmstream.calls import price_table
from llmstream.calls.price_table import Price, Rate, Span, Tiers
from llmstream.records import exact
from llmstream.records.values import Usage
from llmstream.records.words import brief
from llmstream.shell import options
from llmstream.shell.messages import FIX_FIRST, Stop

MOST_NAMES = 200  # that are looked up; some endpoints reply under a new name each time
LONGEST_NAME = 200  # characters; no model is called more than that
SIMULATED = "sim"  # what llm-sim serves: nobody sells it

STANDARD = ("auto", "default", "standard", "standard_only", "on_demand")  # the usual service tier's names


def cost(price: Price, usage: Usage) -> float:
    """What one call costs. Not for the sum of several: the rates depend on the length of the input."""
    cached = min(usage.cached, usage.input)
    counts = (usage.input - cached, cached, usage.output)
    total = sum(_rate(rate, usage.input) * count for rate, count in zip(price, counts, strict=True))
    return round(total / 1e6, 12)  # 0.000615, not 0.0006150000000001


def _rate(rate: Rate, length: int) -> float:
    """The rate at this length holds for all tokens of the call, not only for those beyond it."""
    (_, base), *further = rate
    return [base, *(usd for start, usd in further if start < length)][-1]


# -- prices of one's own ------------------------------------------------------------------------


def read(path: str) -> dict[str, Price]:
    """The prices in a file: {"my-model": {"input": 0.25, "output": 2, "cached": 0.025}}; cached may be left out."""
    raw = options.text_of("prices", path).encode()
    try:
        models = exact.loads(raw)
        if not isinstance(models, dict):
            raise ValueError('they must be an object, {"model": {"input": 0.25, "output": 2}}')
        if exact.repeats_a_key(raw, models):
            raise ValueError("a name is repeated")
        return {model: _own_price(model, fields) for model, fields in models.items()}
    except json.JSONDecodeError as error:
        reason = f"not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
    except ValueError as error:
        reason = str(error)
    raise Stop(FIX_FIRST, f"cannot use the prices in {path}: {reason}")


def _own_price(model: str, fields: Any) -> Price:
    """The price of one model; ValueError says what is wrong with it."""
    name = brief(model, 60) or '""'
    if not isinstance(fields, dict):
        raise ValueError(f"{name}: must be an object with input and output")
    for field in fields:
        if field not in Price._fields:
            raise ValueError(f"{name}: no such price {brief(field, 60)}: input, output or cached")
    for field in ("input", "output"):
        if field not in fields:
            raise ValueError(f"{name}: no price for {field}")
    given = {"cached": fields["input"], **fields}
    return Price(*(((0, _amount(given[field], f"{name}: {field}")),) for field in Price._fields))


def _amount(value: Any, what: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return float(value)
    raise ValueError(f"{what} must be USD for a million tokens, a number, 0 or more")


# -- the prices of a run ------------------------------------------------------------------------


class Prices:
    """The prices of one run: one's own first, then the table's, which is read when a call has been made."""

    def __init__(self, url: str, own: Mapping[str, Price], tier: str | None = None) -> None:
        """tier: of service, as it was requested; it counts where a reply does not say which one it was."""
        self._url = url
        self._own = own
        self._tier = tier
        self._listed: dict[str, tuple[Span, ...]] = {}

    def known(self, asked: str) -> bool:
        """Is it known what calls of this model will cost?"""
        return self.of(asked, asked, None) is not None

    def cost(self, model: str, asked: str, tier: str | None, usage: Usage | None) -> float | None:
        """What a call cost in USD; None: unknown."""
        price = self.of(model, asked, tier) if usage else None
        return cost(price, usage) if price and usage else None

    def of(self, model: str, asked: str, tier: str | None) -> Price | None:
        """The price of a call that asked for one name and was answered under another; None: unknown."""
        own = self._own.get(model) or self._own.get(asked)
        if own:
            return own  # whatever the tier: it is what somebody says that they pay
        tiers = self._tiers(asked) or self._tiers(model)
        tier = tier or self._tier or "default"
        return tiers.get("default" if tier in STANDARD else tier)

    def _tiers(self, name: str) -> Tiers:
        """What the model costs now, by the table."""
        may_be_listed = 0 < len(name) <= LONGEST_NAME and name != SIMULATED
        if may_be_listed and name not in self._listed and len(self._listed) < MOST_NAMES:
            with contextlib.suppress(OSError):  # no descriptor is free: one may be at the next call
                self._listed[name] = price_table.find(_bare(self._url), name)
        day, clock = time.strftime("%Y-%m-%d %H:%M", time.gmtime()).split()
        return price_table.tiers_at(self._listed.get(name, ()), day, clock)


def _bare(url: str) -> str:
    """The URL without a user and a password, which the table's patterns do not know either."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}{parts.path}"
