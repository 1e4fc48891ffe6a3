"""From a command line to how the model is asked. Whatever is wrong here costs nothing."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from llmstream.calls import prices, wire
from llmstream.calls.answer import Check
from llmstream.prompts import bodies
from llmstream.records import schema
from llmstream.shell import options
from llmstream.shell.messages import FIX_FIRST, Stop, warn

DEFAULT_MODEL = "gpt-5.4-mini"


class Access(NamedTuple):
    """How to reach the endpoint, and what it charges: options of these names."""

    base_url: str | None
    key_file: str | None
    prices: str | None
    timeout: float
    offline: bool


class Policy(NamedTuple):
    """How to ask: options of these names."""

    jobs: int
    retries: int
    reask: int
    once: bool
    offline: bool
    max_cost: float | None
    share: bool = False


class Wording(NamedTuple):
    """What a request says besides the prompt: options of these names."""

    system: str | None
    param: Sequence[tuple[str, Any]]
    schema: str | None
    raw_input: bool


class Asking(NamedTuple):
    """The model's side of a run."""

    policy: Policy
    models: Sequence[str]
    check: Check | None  # of an answer
    load: Callable[[], None]  # imports what calls need
    connect: Callable[[], wire.Endpoint]  # opens the way to the endpoint, at the first call
    prices: prices.Prices


def account(access: Access) -> wire.Account | None:
    """Whom to ask; nobody with --offline, which needs no key either."""
    return None if access.offline else wire.account(access.base_url, access.key_file, os.environ)


def model(name: str | None, access: Access, account: wire.Account | None) -> str:
    """The model that was named, or the one that need not be."""
    if name:
        return name
    url = account.url if account else access.base_url or os.environ.get("OPENAI_BASE_URL")
    if not url or wire.Account(url, "").is_openai:
        return DEFAULT_MODEL
    if account is None or account.azure:
        raise Stop(FIX_FIRST, "no model: name one with -m")
    only = wire.only_model(account, access.timeout)
    warn(f"using the model {only}, the only one there")
    return only


def shape(text: str | None) -> schema.Shape | None:
    """What -S says."""
    if text is None:
        return None
    try:
        return schema.read(options.text_or_file("schema", text))
    except schema.SchemaError as error:
        raise Stop(FIX_FIRST, f"cannot use the schema: {error}") from None


def builder(
    prompt: str, wording: Wording, shape: schema.Shape | None, model: str, constants: Mapping[str, Any] | None = None
) -> bodies.Build:
    """What makes a record's request. constants: what a template can say beside the record's fields."""
    params = dict(wording.param)
    if shape and "response_format" in params:
        raise Stop(FIX_FIRST, "cannot use -S and -P response_format together")
    system = options.text_or_file("system message", wording.system) if wording.system is not None else None
    form = shape.response_format if shape else None
    try:
        return bodies.builder(
            prompt, system, model, params, form, raw_text=wording.raw_input, constants=constants or {}
        )
    except ValueError as error:
        raise Stop(FIX_FIRST, f"cannot use the template: {error}") from None


def asking(
    access: Access,
    policy: Policy,
    wording: Wording,
    account: wire.Account | None,
    models: Sequence[str],
    shape: schema.Shape | None,
) -> Asking:
    """All that calls need."""

    def load() -> None:
        if account:
            wire.load(account)

    def connect() -> wire.Endpoint:
        assert account is not None  # --offline fails a record before it comes here
        endpoint = wire.connect(account, access.timeout)
        gc.freeze()  # what was imported stays: no need to look through it again
        return endpoint

    check = shape.check if shape else None
    return Asking(policy, models, check, load, connect, _pricing(access, policy, wording, account, models))


def _pricing(
    access: Access, policy: Policy, wording: Wording, account: wire.Account | None, models: Sequence[str]
) -> prices.Prices:
    """What the models cost. --max-cost needs to know it of all of them."""
    own = prices.read(access.prices) if access.prices else {}
    tier = dict(wording.param).get("service_tier")
    found = prices.Prices(account.url if account else "", own, tier if isinstance(tier, str) else None)
    for name in models if policy.max_cost is not None and account else ():
        if not found.known(name):
            reason = f"the price of {name} is not known; --prices FILE tells it"
            raise Stop(FIX_FIRST, f"cannot hold --max-cost: {reason}")
    return found
