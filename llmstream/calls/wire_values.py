"""What comes back over the wire, and what an open way looks like, whichever way it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from llmstream.calls.causes import Cause


class Sent(NamedTuple):
    """A reply that came back complete."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Trouble(NamedTuple):
    """A call without a complete reply."""

    cause: Cause
    reason: str


class Endpoint(Protocol):
    """An open way to an account. Neither post nor get raises anything but Stop."""

    async def post(self, body: bytes, key: str) -> Sent | Trouble: ...  # asks for an answer; key: Idempotency-Key

    async def get(self, path: str) -> Sent | Trouble: ...

    async def close(self) -> None: ...
