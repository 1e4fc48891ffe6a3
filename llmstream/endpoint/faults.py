"""Which call meets which fault: a function of the seed, the call, and how often the call came before."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import orjson

from llmstream.endpoint.call import Call
from llmstream.endpoint.chance import number, share
from llmstream.endpoint.errors import ApiError
from llmstream.endpoint.garbling import garbled, refused
from llmstream.endpoint.replies import Body, Reply, Usage, error_reply

REMEMBERED = 100_000  # calls of which is known how often they came; the oldest are forgotten

# What a provider's proxy says of its server.
_BAD_GATEWAY = Body(b"<html><head><title>502 Bad Gateway</title></head></html>\n", "text/html")


class Faults(NamedTuple):
    """The share of the calls that meets each fault; together they are at most 1."""

    error: float = 0.0
    hang: float = 0.0
    garble: float = 0.0
    refuse: float = 0.0

    def at(self, chance: float) -> str | None:
        for name, part in zip(self._fields, self, strict=True):
            if chance < part:
                return name
            chance -= part
        return None


class Tries:
    """How often each call came."""

    def __init__(self) -> None:
        self.counts: OrderedDict[bytes, int] = OrderedDict()

    def number_of(self, call: Call) -> bytes:
        """How often this one came before: a further try draws anew."""
        before = self.counts.pop(call.own, 0)
        self.counts[call.own] = before + 1
        if len(self.counts) > REMEMBERED:
            self.counts.popitem(last=False)
        return b"%d" % before


def reply_to(call: Call, nth: bytes, faults: Faults, completion: dict[str, Any], usage: Usage) -> Reply:
    """The whole answer, or the fault that this try of the call meets."""
    fault, drawn = faults.at(share(call.own, b"fault", nth)), number(call.own, b"which", nth)
    if fault == "error":
        status = (500, 502, 503)[drawn % 3]
        error = ApiError(status, "The server had an error while processing your request.", kind="server_error")
        return Reply(status, _BAD_GATEWAY if status == 502 else error_reply(error).body, fault=fault)
    if fault == "hang":
        return Reply(0, Body(b""), usage=usage, fault=fault)
    if fault == "garble":
        way, body = garbled(call, completion, drawn)
        return Reply(200, body, usage=usage, fault=f"garble:{way}")
    body = refused(completion) if fault == "refuse" else Body(orjson.dumps(completion))
    return Reply(200, body, usage=usage, fault=fault)
