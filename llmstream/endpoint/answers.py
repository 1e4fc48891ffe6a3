"""What a call is answered: a pure function of the seed, the request and its Idempotency-Key.

An answer fits the schema that was asked for and is made of words of the text that was sent.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from llmstream.endpoint.call import Call
from llmstream.endpoint.chance import Place
from llmstream.endpoint.errors import ApiError, bad_schema
from llmstream.endpoint.filling import fit
from llmstream.endpoint.replies import Usage
from llmstream.endpoint.texts import sentence
from llmstream.records.tokens import BYTES_OF_A_TOKEN, text_of_message, tokens_of_text


class Answer(NamedTuple):
    content: str
    finish: str
    usage: Usage


def answer(call: Call, asked: dict[str, Any]) -> Answer:
    content, finish = _content(call), "stop"
    limit = next((asked[name] for name in ("max_completion_tokens", "max_tokens") if asked.get(name) is not None), None)
    if limit is not None:
        if not isinstance(limit, int) or limit < 1:
            raise ApiError(
                400, "max_completion_tokens must be a whole number, 1 or more.", param="max_completion_tokens"
            )
        if tokens_of_text(content) > limit:
            content, finish = content.encode()[: BYTES_OF_A_TOKEN * limit].decode(errors="ignore"), "length"
    prompt = "".join(map(text_of_message, asked["messages"]))
    return Answer(content, finish, Usage(tokens_of_text(prompt), tokens_of_text(content)))


def _content(call: Call) -> str:
    if call.schema is None:
        return sentence(call, Place())
    try:
        return orjson.dumps(fit(call, call.schema, Place())).decode()
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        # Whatever can be wrong with a schema is the caller's to mend, and not worth a check of its own.
        raise bad_schema(f"{type(error).__name__}: {error}") from None


def as_completion(call: Call, given: Answer, model: str, created: int) -> dict[str, Any]:
    """An answer in the form that OpenAI gives it."""
    return {
        "id": f"chatcmpl-{call.own.hex()}",
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": given.content, "refusal": None},
                "logprobs": None,
                "finish_reason": given.finish,
            }
        ],
        "usage": given.usage.as_dict(),
        "system_fingerprint": "fp_llmstream",
    }
