"""Answers with status 200 that are of no use: garbled in one of several ways, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from llmstream.endpoint.call import Call
from llmstream.endpoint.chance import Place
from llmstream.endpoint.filling import fit
from llmstream.endpoint.replies import Body
from llmstream.endpoint.schemas import settled

Completion = dict[str, Any]


def refused(completion: Completion) -> Body:
    return _with(completion, content=None, refusal="I'm sorry, but I can't help with that.")


def garbled(call: Call, completion: Completion, drawn: int) -> tuple[str, Body]:
    """One of the ways in which an answer can be of no use, and its name."""
    ways = _WAYS if call.schema is None else _WAYS | _WAYS_WITH_A_SCHEMA
    way = [*ways][drawn % len(ways)]
    return way, ways[way](call, completion)


def _with(completion: Completion, finish: str = "stop", **fields: Any) -> Body:
    """The completion with other fields in its message."""
    choice = completion["choices"][0]
    choice = {**choice, "finish_reason": finish, "message": {**choice["message"], **fields}}
    return Body(orjson.dumps({**completion, "choices": [choice]}))


def _cut(call: Call, completion: Completion) -> Body:
    content = completion["choices"][0]["message"]["content"]
    return _with(completion, "length", content=content[: len(content) // 2])


def _half(call: Call, completion: Completion) -> Body:
    data = orjson.dumps(completion)
    return Body(data, cut=len(data) // 2)


def _misfit(call: Call, completion: Completion) -> Body:
    """Without something that the schema requires, or a list where it has none."""
    value = fit(call, call.schema, Place())
    required = settled(call, call.schema, Place()).get("required")
    wrong: Any = [value]
    if required and isinstance(value, dict):
        wrong = {name: part for name, part in value.items() if name != required[-1]}
    return _with(completion, content=orjson.dumps(wrong).decode())


_WAYS: dict[str, Callable[[Call, Completion], Body]] = {
    "cut": _cut,
    "filtered": lambda call, completion: _with(completion, "content_filter", content=None),
    "html": lambda call, completion: Body(b"<html><body><h1>Just a moment...</h1></body></html>\n", "text/html"),
    "nothing": lambda call, completion: Body(b""),
    "half": _half,
    "error": lambda call, completion: Body(b'{"error":{"message":"Upstream failed.","type":"server_error"}}'),
    "choiceless": lambda call, completion: Body(orjson.dumps({**completion, "choices": []})),
}
_WAYS_WITH_A_SCHEMA: dict[str, Callable[[Call, Completion], Body]] = {
    "misfit": _misfit,
    "prose": lambda call, completion: _with(completion, content=f"Sure! Here is what I found: {call.text[:80]}"),
    "empty": lambda call, completion: _with(completion, content=""),
}
