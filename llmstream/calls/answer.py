"""From the bytes of a reply to an answer that can be trusted, or the name of what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from llmstream.records import exact
from llmstream.records.values import Failure, Rejected, Reply, Usage
from llmstream.records.words import brief

Check = Callable[[Any], str | None]
MOST_TOKENS = 10**12  # of one call; what says more cannot mean it, and sums would pass what JSON readers take
# What endpoints call an end that came before the answer was whole.
_CUT = frozenset(("length", "max_tokens", "model_length", "abort", "error", "insufficient_system_resource"))


def read(body: bytes) -> Reply | Failure:
    """What a 200 says. Anything may come with a 200."""
    try:
        data = _value_of(body)
    except ValueError:
        if body.lstrip()[:1] in (b"{", b"["):
            return Failure("cut", "the reply was cut short: not whole JSON", 200)
        seen = brief(body.decode(errors="replace"), 80)
        return Failure("reply", f"the endpoint's answer is not JSON: {seen}" if seen else "the reply is empty", 200)
    if not isinstance(data, dict):
        return Failure("reply", "the endpoint's answer is not a JSON object", 200)
    try:
        choice = data["choices"][0]
        return _reply(data, choice, choice["message"])
    except (LookupError, TypeError, AttributeError):
        said = error_text(data)
        return Failure(
            "reply", f"an error, with status 200: {said}" if said else "the endpoint's answer has no choices", 200
        )


def _value_of(body: bytes) -> Any:
    """What a reply holds, mended where an endpoint put into it what no JSON text may hold."""
    try:
        return exact.loads_quickly(body)
    except ValueError:
        return exact.loads_leniently(body)


def _reply(data: dict[str, Any], choice: dict[str, Any], message: dict[str, Any]) -> Reply:
    refusal = message.get("refusal")
    return Reply(
        content=_content(message.get("content")),
        finish=str(choice.get("finish_reason") or ""),
        refusal=refusal if isinstance(refusal, str) and refusal else None,
        tools=bool(message.get("tool_calls") or message.get("function_call")),
        model=str(data.get("model") or ""),
        usage=_usage(data.get("usage")),
        tier=tier if isinstance(tier := data.get("service_tier"), str) else None,
    )


def _content(told: Any) -> str | None:
    """The text of a message; some endpoints give it in parts, the model's thoughts among them."""
    if isinstance(told, list):
        parts = [part.get("text") for part in told if isinstance(part, dict) and part.get("type") == "text"]
        return "".join(part for part in parts if isinstance(part, str)) if parts else None
    return told if isinstance(told, str) else None


def _usage(told: Any) -> Usage | None:
    if not isinstance(told, dict):
        return None

    usage = Usage(
        _count(told, "prompt_tokens"),
        _count(told, "completion_tokens"),
        _count(told.get("prompt_tokens_details"), "cached_tokens"),
        _count(told.get("completion_tokens_details"), "reasoning_tokens"),
    )
    return usage if max(usage) <= MOST_TOKENS else None


def _count(where: Any, name: str) -> int:
    found = where.get(name) if where and isinstance(where, dict) else None
    return found if type(found) is int and found >= 0 else 0


def paid(body: bytes) -> Reply | None:
    """What a reply that is no answer took nevertheless, where it says so."""
    try:
        data = exact.loads_leniently(body)
    except ValueError:
        return None
    reply = _reply(data, {}, {}) if isinstance(data, dict) else None
    return reply if reply and reply.usage else None


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
    """The value that the text of an answer stands for: itself, or with a schema the JSON in it."""
    if check is None:
        return exact.dumps_leniently(content)
    try:
        found = exact.loads_leniently(_unfenced(content.strip()).encode(errors="surrogatepass"))
    except ValueError as error:
        return Rejected("schema", f"it is not JSON ({brief(str(error), 100)})")
    wrong = check(found)
    if wrong:
        return Rejected("schema", wrong)
    try:
        return exact.dumps(found)
    except TypeError as error:
        return Rejected("schema", brief(str(error), 100))


def _unfenced(text: str) -> str:
    """What stands between ``` and ```, as models like to write it."""
    if text.startswith("```") and text.endswith("```"):
        kind, newline, inside = text[3:-3].partition("\n")
        if newline and kind.strip().lower() in ("", "json"):
            return inside.strip()
    return text


# -- errors -----------------------------------------------------------------------------------


def error_of(body: bytes) -> tuple[str, str]:
    """The message and the code in the body of an HTTP error, whoever wrote it."""
    try:
        data = exact.loads_leniently(body)
    except ValueError:
        return brief(body.decode(errors="replace"), 200), ""
    code = ""
    if isinstance(data, dict) and isinstance(data.get("error"), dict):
        code = str(data["error"].get("code") or data["error"].get("type") or "")
    return error_text(data), code


def error_text(data: Any) -> str:
    """The words in a value that tells of an error; none where it does not."""
    if isinstance(data, dict):
        told = next((data[name] for name in ("error", "message", "detail") if data.get(name)), None)
        if isinstance(told, (dict, list)):
            return error_text(told) or brief(exact.dumps(told).decode())
        return brief(str(told)) if told else ""
    if isinstance(data, list):
        return brief("; ".join(map(_complaint, data)))
    return brief(data) if isinstance(data, str) else ""


def _complaint(item: Any) -> str:
    """An entry of the list that FastAPI answers with, without the request's text that it quotes."""
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
    """Does this error say that the endpoint does not take the form of response_format?"""
    return status in (400, 404, 415, 422, 500, 501) and bool(_FORMAT.search(message))
