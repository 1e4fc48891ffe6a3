"""One HTTP call, and the choice of the way that it goes. Only the modules wire* know openai and the HTTP library.

Every variable that the openai package knows means here what it means there. A plain endpoint is called directly.
Where more than a plain POST is needed (Azure, a proxy, a password in the URL), and for whatever is not understood
here, the package makes the calls itself. Both ways end in the same values.
"""

from __future__ import annotations

import asyncio
import os

from llmstream.calls import answer, wire_direct, wire_package
from llmstream.calls.wire_account import Account, account
from llmstream.calls.wire_secrets import url_without_secrets
from llmstream.calls.wire_values import Endpoint, Sent, Trouble
from llmstream.records.words import brief
from llmstream.shell.messages import FIX_FIRST, LATER, Stop

__all__ = ["Account", "Endpoint", "Sent", "Trouble", "account", "connect", "load", "only_model"]

MODELS_SHOWN = 20  # of those that a server lists


def load(account: Account) -> None:
    """Import what this account needs: a tenth of a second, or half of one."""
    if wire_direct.target(account, os.environ):
        wire_direct.load_aiohttp()
    else:
        import openai  # noqa: F401


def connect(account: Account, timeout: float) -> Endpoint:
    """Open the way that this account needs. An event loop must be running."""
    target = wire_direct.target(account, os.environ)
    if target:
        return wire_direct.DirectEndpoint(account, target, timeout)
    return wire_package.PackageEndpoint(account, timeout)


# -- the one model of a small server ------------------------------------------------------------


def only_model(account: Account, timeout: float) -> str:
    """The name of the model that an endpoint serves, if it serves exactly one."""
    names = _names_of_models(account, timeout)
    if len(names) == 1:
        return names[0]
    if not names:
        raise Stop(FIX_FIRST, "no model: name one with -m; the endpoint lists none")
    listed = ", ".join(names[:MODELS_SHOWN])
    if len(names) > MODELS_SHOWN:
        listed += ", ..."
    raise Stop(FIX_FIRST, f"no model: name one with -m; the endpoint serves {listed}")


def _names_of_models(account: Account, timeout: float) -> list[str]:
    got = asyncio.run(_get_models(account, timeout))
    asking = f"cannot ask {url_without_secrets(account.url)} for its model"
    if isinstance(got, Trouble):
        raise Stop(LATER, f"{asking}: {got.reason}; or name it with -m")
    if got.status != 200:
        status = LATER if got.status >= 500 or got.status == 429 else FIX_FIRST
        said = brief(got.body.decode(errors="replace"), 200)
        raise Stop(status, f"{asking}: HTTP {got.status}: {said}; name it with -m")
    try:
        return [str(model["id"]) for model in answer.loads(got.body)["data"]]
    except (ValueError, LookupError, TypeError):
        return []


async def _get_models(account: Account, timeout: float) -> Sent | Trouble:
    endpoint = connect(account, timeout)
    try:
        return await endpoint.get("models")
    finally:
        await endpoint.close()
