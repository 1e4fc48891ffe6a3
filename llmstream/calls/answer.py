"""From the bytes of a reply to an answer that can be trusted, or the name of what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from llmstream.records import exact
from llmstream.records.values import Failure, Rejected, Reply, Usage
from llmstream.records.words import brief

Check = Callable[[Any], str | None]
MOST_TOKENS = 10**12  # of one call; a larger count is a mistake, and sums would exceed what JSON readers take
# What endpoints call an end that came before the answer was complete.
_CUT = frozenset(("length", "max_tokens", "model_length", "abort", "error", "insufficient_system_resource"))
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def loads(body: bytes) -> Any:
    """The JSON value that an endpoint sent; ValueError if it is none. Some begin it with a byte-order mark."""
    return exact.loads_leniently(body.removeprefix(_BYTE_ORDER_MARK))


# -- a reply --------------------------------------------------------------------------------------


def read(body: bytes) -> Reply | Failure:
    """What a 200 says. Anything may come with a 200."""
    try:
        data = _loads_quickly(body)
    except ValueError:
        return _not_json(body.removeprefix(_BYTE_ORDER_MARK))
    if not isinstance(data, dict):
        return Failure("reply", "the endpoint's answer is not a JSON object", 200)
    try:
        choice = data["choices"][0]
        return _reply(data, choice, choice["message"])
    except (LookupError, TypeError, AttributeError):
        error = error_text(data)
        if error:
            return Failure("reply", f"an error, with status 200: {error}", 200)
        return Failure("reply", "the endpoint's answer has no choices", 200)


def _loads_quickly(body: bytes) -> Any:
    try:
        return exact.loads_quickly(body)
    except ValueError:  # it may hold something that no JSON text may hold
        return loads(body)


def _not_json(body: bytes) -> Failure:
    if body.lstrip().startswith((b"{", b"[")):
        return Failure("cut", "the reply was cut short: its JSON is incomplete", 200)
    text = brief(body.decode(errors="replace"), 80)
    if not text:
        return Failure("reply", "the reply is empty", 200)
    return Failure("reply", f"the endpoint's answer is not JSON: {text}", 200)


def _reply(data: dict[str, Any], choice: dict[str, Any], message: dict[str, Any]) -> Reply:
    refusal, tier = message.get("refusal"), data.get("service_tier")
    return Reply(
        content=_text_of(message.get("content")),
        finish=str(choice.get("finish_reason") or ""),
        refusal=refusal if isinstance(refusal, str) and refusal else None,
        tools=bool(message.get("tool_calls") or message.get("function_call")),
        model=str(data.get("model") or ""),
        usage=_usage(data.get("usage")),
        tier=tier if isinstance(tier, str) else None,
    )


def _text_of(content: Any) -> str | None:
    """The text of a message; some endpoints send it in parts, the model's thoughts among them."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return None
    texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
    if not texts:
        return None
    return "".join(text for text in texts if isinstance(text, str))


def _usage(fields: Any) -> Usage | None:
    if not isinstance(fields, dict):
        return None
    usage = Usage(
        _count(fields, "prompt_tokens"),
        _count(fields, "completion_tokens"),
        _count(fields.get("prompt_tokens_details"), "cached_tokens"),
        _count(fields.get("completion_tokens_details"), "reasoning_tokens"),
    )
    return usage if max(usage) <= MOST_TOKENS else None


def _count(fields: Any, name: str) -> int:
    """A number of tokens; zero if there is none that makes sense."""
    count = fields.get(name) if isinstance(fields, dict) else None
    return count if type(count) is int and count >= 0 else 0


def paid(body: bytes) -> Reply | None:
    """What a reply without an answer used nevertheless; None if it does not say."""
    try:
        data = loads(body)
    except ValueError:
        return None
    if not isinstance(data, dict):
        return None
    reply = _reply(data, {}, {})
    return reply if reply.usage else None


# -- an answer ------------------------------------------------------------------------------------


def judge(reply: Reply, check: Check | None) -> bytes | Rejected:
    """The value of a reply as JSON on one line, or why it is none."""
    if reply.refusal is not None:
        return Rejected("refusal", f"the model refused: {brief(reply.refusal)}")
    if reply.finish.lower() in _CUT:
        return Rejected("length", f"the answer was cut off (finish_reason {reply.finish})")
    if reply.finish == "content_filter":
        return Rejected("content_filter", "the provider's content filter stopped the answer")
    if reply.content is None or (check and not reply.content.strip()):
        if reply.tools:
            return Rejected("tool_calls", "the model called a tool instead of answering")
        return Rejected("empty", "the answer is empty")
    return value(reply.content, check)


def value(content: str, check: Check | None) -> bytes | Rejected:
    """The value that the text of an answer stands for: the text itself or, with a schema, the JSON in it."""
    if check is None:
        return exact.dumps_leniently(content)
    try:
        found = exact.loads_leniently(_without_fence(content.strip()).encode(errors="surrogatepass"))
    except ValueError as error:
        return Rejected("schema", f"it is not JSON ({brief(str(error), 100)})")
    wrong = check(found)
    if wrong:
        return Rejected("schema", wrong)
    try:
        return exact.dumps(found)
    except TypeError as error:
        return Rejected("schema", brief(str(error), 100))


def _without_fence(text: str) -> str:
    """What stands between ``` and ```, where models like to put JSON."""
    if text.startswith("```") and text.endswith("```"):
        kind, newline, inside = text[3:-3].partition("\n")
        if newline and kind.strip().lower() in ("", "json"):
            return inside.strip()
    return text


# -- errors -----------------------------------------------------------------------------------


def error_of(body: bytes) -> tuple[str, str]:
    """The message and the code in the body of an HTTP error, whoever wrote it."""
    try:
        data = loads(body)
    except ValueError:
        return brief(body.removeprefix(_BYTE_ORDER_MARK).decode(errors="replace"), 200), ""
    code = ""
    if isinstance(data, dict) and isinstance(data.get("error"), dict):
        code = str(data["error"].get("code") or data["error"].get("type") or "")
    return error_text(data), code


def error_text(data: Any) -> str:
    """The words in a JSON value that reports an error; empty if it reports none."""
    if isinstance(data, dict):
        error = next((data[name] for name in ("error", "message", "detail") if data.get(name)), None)
        if isinstance(error, (dict, list)):
            return error_text(error) or brief(exact.dumps(error).decode())
        return brief(str(error)) if error else ""
    if isinstance(data, list):
        return brief("; ".join(map(_complaint, data)))
    return brief(data) if isinstance(data, str) else ""


def _complaint(item: Any) -> str:
    """An entry of the list that FastAPI answers with, without the text of the request that it quotes."""
    if isinstance(item, dict) and "msg" in item:
        place = item.get("loc")
        return f"{'.'.join(map(str, place))}: {item['msg']}" if isinstance(place, list) else str(item["msg"])
    return exact.dumps(item).decode()


# Words of the endpoints themselves. An error may also quote the user's text, and that may be about grammar.
_FORMAT = re.compile(
    r"response.format|response_(?:json_)?schema|json.schema|json_object|structured.outputs?\b|guided.(?:json|decoding)"
    r"|xgrammar|grammar error:|grammar specification|(?:parse|compile|convert|initialize) (?:the )?grammar",
    re.IGNORECASE,
)


def refuses_format(status: int, message: str) -> bool:
    """Does this error say that the endpoint does not accept this form of response_format?"""
    return status in (400, 404, 415, 422, 500, 501) and bool(_FORMAT.search(message))
