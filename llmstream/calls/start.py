"""From a command line to the parts of a run. Whatever is wrong here costs nothing."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from types import SimpleNamespace
from typing import Any, NamedTuple

from llmstream.books import labels
from llmstream.calls import prices, wire
from llmstream.prompts import bodies
from llmstream.records import schema
from llmstream.shell import options
from llmstream.shell.messages import FIX_FIRST, Stop, warn

DEFAULT_MODEL = "gpt-5.4-mini"


def check(o: SimpleNamespace) -> None:
    """Options that do not go together."""
    if o.share and not o.done:
        raise Stop(FIX_FIRST, "cannot use --share alone: it wants -d FILE")
    if o.offline and not o.done:
        raise Stop(FIX_FIRST, "cannot use --offline alone: it wants -d FILE")
    if not o.output and not o.schema:
        raise Stop(FIX_FIRST, "cannot use -o . alone: only an object can be merged, so it wants -S SCHEMA")
    if o.meta and o.raw_output:
        raise Stop(FIX_FIRST, "cannot use -r and -M together: -r prints the answer alone")
    check_places(o)


def check_places(o: SimpleNamespace) -> None:
    """No place in the record may lie within another."""
    places = [(flag, getattr(o, name, None)) for flag, name in _PLACES]
    for (one, here), (other, there) in combinations([(flag, path) for flag, path in places if path], 2):
        if all(name == same for name, same in zip(here, there, strict=False)):
            both = f"{one} {'.'.join(here)} and {other} {'.'.join(there)}"
            raise Stop(FIX_FIRST, f"cannot use {both}: one is within the other")


_PLACES = (("-o", "output"), ("-M", "meta"), ("--votes-field", "votes_field"), ("--conflicts", "conflicts"))


def account(o: SimpleNamespace) -> wire.Account | None:
    """Whom to ask; nobody with --offline, which needs no key either."""
    return None if o.offline else wire.account(o.base_url, o.key_file, os.environ)


def model(name: str | None, o: SimpleNamespace, account: wire.Account | None) -> str:
    """The model that was named, or the one that need not be."""
    if name:
        return name
    url = account.url if account else o.base_url or os.environ.get("OPENAI_BASE_URL")
    if not url or wire.Account(url, "").is_openai:
        return DEFAULT_MODEL
    if account is None or account.azure:
        raise Stop(FIX_FIRST, "no model: name one with -m")
    only = wire.only_model(account, o.timeout)
    warn(f"using the model {only}, the only one there")
    return only


class Asking(NamedTuple):
    """What the flow has to know of the model's side."""

    check: Callable[[Any], str | None] | None  # of an answer
    labels: labels.Labels | None
    load: Callable[[], None]
    connect: Callable[[], wire.Endpoint]
    prices: prices.Prices


def asking(
    o: SimpleNamespace, models: Sequence[str], shape: schema.Shape | None, account: wire.Account | None
) -> Asking:
    return Asking(
        shape.check if shape else None,
        labels.of(shape) if shape else None,
        lambda: wire.load(account) if account else None,
        _connector(o, account),
        pricing(o, account, models),
    )


def _connector(o: SimpleNamespace, account: wire.Account | None) -> Callable[[], wire.Endpoint]:
    """What opens the way to the endpoint, once there is something to ask."""

    def connect() -> wire.Endpoint:
        assert account is not None  # --offline fails a record before it comes here
        endpoint = wire.connect(account, o.timeout)
        gc.freeze()  # what was imported stays: no need to look through it again
        return endpoint

    return connect


def pricing(o: SimpleNamespace, account: wire.Account | None, models: Sequence[str]) -> prices.Prices:
    """What the models cost. --max-cost wants to know it of all of them."""
    own = prices.read(o.prices) if o.prices else {}
    tier = dict(o.param).get("service_tier")
    found = prices.Prices(account.url if account else "", models, own, tier if isinstance(tier, str) else None)
    if o.max_cost is not None and account:
        for name in models:
            if not found.known(name):
                raise Stop(
                    FIX_FIRST, f"cannot hold --max-cost: the price of {name} is not known; --prices FILE tells it"
                )
    return found


def shape(o: SimpleNamespace) -> schema.Shape | None:
    if o.schema is None:
        return None
    try:
        return schema.read(options.text_or_file("schema", o.schema))
    except schema.SchemaError as error:
        raise Stop(FIX_FIRST, f"cannot use the schema: {error}") from None


def builder(
    o: SimpleNamespace, text: str, model: str, shape: schema.Shape | None, constants: Mapping[str, Any] | None = None
) -> bodies.Build:
    """The function that makes a request of a record."""
    params = dict(o.param)
    if shape and "response_format" in params:
        raise Stop(FIX_FIRST, "cannot use -S and -P response_format together")
    system = options.text_or_file("system message", o.system) if o.system is not None else None
    response_format = shape.response_format if shape else None
    try:
        return bodies.builder(
            text, system, model, params, response_format, raw_text=o.raw_input, constants=constants or {}
        )
    except ValueError as error:
        raise Stop(FIX_FIRST, f"cannot use the template: {error}") from None
