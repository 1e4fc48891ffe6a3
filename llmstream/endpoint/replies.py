"""What a request gets, before it is HTTP: an answer, an error, or nothing at all."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

from llmstream.endpoint.errors import ApiError


class Usage(NamedTuple):
    """How many tokens a call is billed for."""

    prompt: int
    completion: int

    @property
    def total(self) -> int:
        return self.prompt + self.completion

    def as_dict(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.total,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }


class Body(NamedTuple):
    """The body of a reply, and how much of it goes out before the line drops."""

    data: bytes
    kind: str = "application/json"
    cut: int | None = None


class Reply(NamedTuple):
    status: int  # 0: there will be none
    body: Body
    headers: Mapping[str, str] = MappingProxyType({})
    delay: float = 0.0
    model: str | None = None
    usage: Usage | None = None
    fault: str | None = None


def json_reply(value: Any) -> Reply:
    return Reply(200, Body(orjson.dumps(value)))


def error_reply(error: ApiError) -> Reply:
    return Reply(error.status, Body(orjson.dumps(error.body)), error.headers)
