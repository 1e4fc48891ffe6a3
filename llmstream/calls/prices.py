"""What the tokens of a call cost, in USD.

The list of prices is the package genai-prices. Importing it takes longer than the rest of a
filter's start and more than half as much memory again, so a child process does, beside the
filter's own start: it gets a question on stdin, answers with one line of JSON and is gone.
Whatever goes wrong with it, prices are unknown and nothing else happens.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from llmstream.records.values import Usage
from llmstream.records.words import brief
from llmstream.shell.messages import FIX_FIRST, Stop

if TYPE_CHECKING:  # a quarter of a second, and the child alone needs it
    import subprocess
    from datetime import datetime
    from decimal import Decimal

    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

LONGEST = 10  # seconds; a look-up takes a quarter of one
FURTHER = 20  # names that only replies tell and that are looked up; some endpoints have a new one each time
LONGEST_NAME = 200  # characters; no model is called more than that
SIMULATED = "sim"  # what llm-sim serves: nobody sells it, and a rehearsal need not start a process to hear so

STANDARD = ("auto", "default", "standard", "standard_only", "on_demand")  # the usual service tier's names
HALF = ("flex", "batch")  # what these cost where the list does not say
# What a call is billed for beside its tokens in and out. Without it the sum would be too low.
BESIDE = ("requests_kcount", "output_reasoning_mtok", "output_citation_mtok")

Rate = tuple[tuple[int, float], ...]  # USD for a million tokens, each from so many input tokens of a call on
Tiers = Mapping[str, "Price"]  # by service tier, the usual one being "default"; empty: unknown


class Price(NamedTuple):
    """USD for a million tokens. A rate of ((0, 0.75), (272_000, 1.5)) is 1.5 for calls with a longer input."""

    input: Rate
    cached: Rate
    output: Rate


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
    from llmstream.records import exact
    from llmstream.shell import options

    raw = options.text_of("prices", path).encode()
    try:
        told = exact.loads(raw)
        if not isinstance(told, dict):
            raise ValueError('an object is wanted, {"model": {"input": 0.25, "output": 2}}')
        if exact.repeats_a_key(raw, told):
            raise ValueError("a name stands there twice")
        return {model: _own(model, prices) for model, prices in told.items()}
    except ValueError as error:
        raise Stop(FIX_FIRST, f"cannot use the prices in {path}: {_reason(error)}") from None


def _reason(error: ValueError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
    return str(error)


def _own(model: str, told: Any) -> Price:
    """The prices of one model; ValueError says what is wrong with them."""
    name = brief(model, 60) or '""'
    if not isinstance(told, dict):
        raise ValueError(f"{name}: an object with input and output is wanted")
    for field in told:
        if field not in Price._fields:
            raise ValueError(f"{name}: no such price {brief(field, 60)}: input, output or cached")
    for field in ("input", "output"):
        if field not in told:
            raise ValueError(f"{name}: no price for {field}")
    given = {"cached": told["input"], **told}
    return Price(*(((0, _amount(given[field], f"{name}: {field}")),) for field in Price._fields))


def _amount(value: Any, what: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return float(value)
    raise ValueError(f"{what} wants USD for a million tokens, a number, 0 or more")


# -- the prices of a run ------------------------------------------------------------------------


class Prices:
    """The prices of one run: one's own first, then the list's, asked for when they are needed."""

    def __init__(self, url: str, models: Sequence[str], own: Mapping[str, Price], tier: str | None = None) -> None:
        """tier: of service, as it was requested; it counts where a reply does not say which one it was."""
        self._url = url
        self._own = own
        self._tier = tier
        self._due = [name for name in dict.fromkeys(models) if name not in own and _may_be_listed(name)]
        self._under_way: tuple[subprocess.Popen[bytes] | None, list[str]] | None = None
        self._listed: dict[str, Tiers] = {}
        self._further = FURTHER

    def start(self) -> None:
        """Begin to look up the models, unless all are one's own. It goes on beside whatever comes next."""
        if self._due:
            self._under_way = _ask(self._url, self._due), self._due
            self._due = []

    def known(self, asked: str) -> bool:
        """Is it known what calls of this model will cost?"""
        return self.of(asked, asked, None) is not None

    def cost(self, model: str, asked: str, tier: str | None, usage: Usage | None) -> float | None:
        """What a call cost in USD; None: unknown."""
        price = self.of(model, asked, tier) if usage else None
        return cost(price, usage) if price and usage else None

    def of(self, model: str, asked: str, tier: str | None) -> Price | None:
        """The price of a call that asked for one name and was answered under another; None: unknown.

        It may wait for the child: once for what start() began, and once for each name that is new.
        """
        own = self._own.get(model) or self._own.get(asked)
        if own:
            return own  # whatever the tier: it is what somebody says that they pay
        tiers = self._look_up(asked) or self._look_up(model)
        tier = tier or self._tier or "default"
        return tiers.get("default" if tier in STANDARD else tier)

    def close(self) -> None:
        """End a child that nobody waited for, and look nothing up any more."""
        self._due, self._further = [], 0
        if self._under_way and self._under_way[0]:
            _end(self._under_way[0])
        self._under_way = None

    def _look_up(self, name: str) -> Tiers:
        self.start()
        if self._under_way:
            child, names = self._under_way
            self._under_way = None
            self._hear(child, names)
        if name not in self._listed and self._further and _may_be_listed(name):
            self._further -= 1
            self._hear(_ask(self._url, [name]), [name])
        return self._listed.get(name, {})

    def _hear(self, child: subprocess.Popen[bytes] | None, names: Sequence[str]) -> None:
        """Take down what the child says. Nothing: there is no list to be had, and no use in asking again."""
        said = _answer(child) if child else None
        self._listed |= {name: (said or {}).get(name, {}) for name in names}
        if said is None:
            self._further = 0


def _may_be_listed(name: str) -> bool:
    return 0 < len(name) <= LONGEST_NAME and name != SIMULATED


# -- the child, seen from outside ---------------------------------------------------------------

# It has its parent's path, so that both find the same packages, and nothing else: -S spares looking for
# them again, and the current directory is off the path before anything is imported.
_PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from llmstream import prices; prices.tell()"
_FOREIGN = ("PYTHON", "PYDANTIC_", "OPENAI_", "AZURE_")
_NEEDED = ("PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")


def _ask(url: str, names: Sequence[str]) -> subprocess.Popen[bytes] | None:
    """Start a child with its question. In a session of its own, ^C does not reach it."""
    import subprocess

    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN) or name in _NEEDED}
    try:
        child = subprocess.Popen(  # noqa: S603 - this very interpreter, and our own program
            [sys.executable, "-S", "-c", _PROGRAM, *sys.path],
            stdin=subprocess.PIPE,  # not the command line, which everybody can see: a URL may hold a secret
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=kept | {"PYDANTIC_DISABLE_PLUGINS": "1"},  # what others plug in there may do anything, and takes time
            start_new_session=True,
        )
    except (OSError, ValueError):
        return None
    assert child.stdin
    with contextlib.suppress(OSError), child.stdin as question:
        question.write(json.dumps({"url": _bare(url), "names": names}).encode())
    child.stdin = None  # communicate() would close it again
    return child


def _bare(url: str) -> str:
    """The URL without a user and a password, which the list's patterns do not know either."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}{parts.path}"


def _answer(child: subprocess.Popen[bytes]) -> dict[str, Tiers] | None:
    """Wait for what the child says; None if that is nothing, or nonsense."""
    import subprocess

    try:
        said = json.loads(child.communicate(timeout=LONGEST)[0])
        return {name: {tier: _price(rates) for tier, rates in tiers.items()} for name, tiers in said.items()}
    except (OSError, ValueError, TypeError, AttributeError, subprocess.SubprocessError):
        _end(child)
        return None


def _price(rates: Any) -> Price:
    return Price(*(tuple((start, usd) for start, usd in rate) for rate in rates))


def _end(child: subprocess.Popen[bytes]) -> None:
    import subprocess

    child.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):  # it is dead, but for a disk that does not answer
        child.wait(1)
    if child.stdout:
        child.stdout.close()


# -- the child, seen from inside: the only place that knows genai_prices -----------------------


def tell() -> None:
    """Answer the question on stdin, and be gone."""
    import gc
    import signal

    signal.alarm(LONGEST)  # also where the parent is dead
    gc.disable()  # nothing here lives long enough
    question = json.load(sys.stdin.buffer)
    os.write(1, json.dumps(_listed(question["url"], question["names"])).encode())
    os._exit(0)  # taking everything down in order takes a fifth of the time


def _listed(url: str, names: Iterable[str]) -> dict[str, Any]:
    """The prices of each model by service tier: at the endpoint, or by its name alone if nobody knows the endpoint."""
    from datetime import UTC, datetime

    from genai_prices import data_snapshot

    snapshot, now = data_snapshot.get_snapshot(), datetime.now(UTC)
    known: str | None = url
    try:
        snapshot.find_provider(None, None, url)
    except LookupError:
        known = None
    return {name: _tiers_of(snapshot, name, known, now) for name in names}


def _tiers_of(snapshot: DataSnapshot, name: str, url: str | None, now: datetime) -> dict[str, Any]:
    try:
        provider, model = snapshot.find_provider_model(name, None, None, url)
    except LookupError:
        return {}
    standard = model.get_prices(now)
    found = {"default": _rates(standard)}
    if provider.id == "openrouter" and name.endswith(":free") and standard.input_mtok is standard.output_mtok is None:
        found["default"] = [[(0, 0.0)]] * 3  # the list leaves out what is nought
    for tier in _variants(provider, model, now):
        found[tier] = _rates(model.get_prices(now, {"service_tier": tier, "processing": tier}))
    halves = {tier: _rates(standard, 2) for tier in HALF}
    return {tier: rates for tier, rates in (halves | found).items() if rates}


def _variants(provider: Provider, model: ModelInfo, now: datetime) -> list[str]:
    """The service tiers that have prices of their own now: of the model's own provider, as the list has it."""
    if not any(model is own for own in provider.models):
        return []
    wanted = [v for v in model.price_variants or () if v.constraint is None or v.constraint.active(now)]
    whens = [list(variant.when.items()) for variant in wanted]
    return [when[0][1] for when in whens if len(when) == 1 and when[0][0] in ("service_tier", "processing")]


def _rates(prices: ModelPrice, part: int = 1) -> list[list[tuple[int, float]]] | None:
    """The three rates, or so large a part of them; None where they are not all that a call costs."""
    into, read_again, out = prices.input_mtok, prices.cache_read_mtok, prices.output_mtok
    if into is None or out is None or any(getattr(prices, name, None) is not None for name in BESIDE):
        return None
    return [_steps(price, part) for price in (into, into if read_again is None else read_again, out)]


def _steps(price: Decimal | TieredPrices, part: int) -> list[tuple[int, float]]:
    from genai_prices.types import TieredPrices

    if not isinstance(price, TieredPrices):
        return [(0, float(price / part))]
    return [(0, float(price.base / part)), *((tier.start, float(tier.price / part)) for tier in price.tiers)]
