"""What a request asks for: its text, its schema, and what makes it a call of its own."""

from __future__ import annotations

import contextlib
import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from llmstream.endpoint.chance import Draw, Place, digest, number
from llmstream.endpoint.errors import ApiError, bad_schema
from llmstream.records.tokens import text_of_message

Schema = dict[str, Any]

TEXT_LIMIT = 4000  # characters of a text that are looked at: a long text costs no more than this
STRIDE = 7919  # a prime: neighbours in a list differ as long as there is anything to choose from


class Call(NamedTuple):
    """What an answer is drawn from."""

    natural: bytes  # the digest of the seed and the request: what most votes agree on
    own: bytes  # the digest of those and the Idempotency-Key; without one the same
    said: str  # what the user's messages say, without a schema that stood there
    text: str  # the part of it that is about something
    schema: Schema | None

    def draw(self, place: Place) -> Draw:
        """Calls that differ in nothing but the Idempotency-Key agree in four places out of five."""
        path = place.path.encode()
        own = number(self.own, path, b"%d" % place.turn)
        if own % 5 or self.own == self.natural:
            return Draw(True, number(self.natural, path) + place.turn * STRIDE)
        return Draw(False, own // 5)


def parse_body(body: bytes) -> dict[str, Any]:
    """The body of a request, checked as far as a wrong one would get an answer here."""
    try:
        asked = orjson.loads(body)
    except ValueError:
        raise ApiError(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(asked, dict):
        raise ApiError(400, "The JSON body of your request is not an object.")
    messages = asked.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
        raise ApiError(400, "Missing required parameter: 'messages', a list of objects.", param="messages")
    if asked.get("stream"):
        raise ApiError(400, "Streaming is not simulated.", param="stream", code="unsupported_value")
    if asked.get("n") not in (None, 1):
        raise ApiError(400, "More than one choice (n) is not simulated.", param="n", code="unsupported_value")
    return asked


def read_call(seed: int, body: bytes, key: str, asked: dict[str, Any]) -> Call:
    """The call that a body makes, which parse_body() has found to ask this, with its Idempotency-Key."""
    natural = digest(str(seed).encode(), body)
    own = digest(natural, key.encode()) if key else natural
    heard = [(message.get("role"), *_cut_schema(text_of_message(message))) for message in asked["messages"]]
    in_a_message = next((schema for _, schema, _ in heard if schema is not None), None)
    said = "\n\n".join(text for role, _, text in heard if role == "user")
    return Call(natural, own, said, subject(said), _schema(asked.get("response_format"), in_a_message))


def _schema(form: Any, in_a_message: Schema | None) -> Schema | None:
    """The schema that is asked for: by response_format, else in the words of a message."""
    match form:
        case {"type": "json_schema", "json_schema": {"schema": dict() as schema, **rest}}:
            if rest.get("strict") and schema.get("type") != "object":
                raise bad_schema(f"its root must be of type object, got {json.dumps(schema.get('type'))}.")
            return schema
        case {"type": "json_schema"}:
            raise bad_schema("response_format.json_schema.schema must be an object.")
        case {"type": "json_object", "schema": dict() as schema}:
            return schema
        case {"type": "json_object"}:
            return in_a_message or {"type": "object", "properties": {"answer": {"type": "string"}}}
    return in_a_message


def _cut_schema(text: str) -> tuple[Schema | None, str]:
    """A schema that stands in a message, and the message without it."""
    last = text.rfind('"properties"')
    start = text.find("{") if last >= 0 else -1
    while 0 <= start < last:
        try:
            found, end = json.JSONDecoder().raw_decode(text, start)
        except (ValueError, RecursionError):
            found, end = None, start
        if isinstance(found, dict) and found.get("type") == "object" and isinstance(found.get("properties"), dict):
            return found, text[:start] + text[end:]
        start = text.find("{", start + 1)
    return None, text


def subject(said: str) -> str:
    """The part of a prompt that is probably the text it is about: its longest paragraph."""
    longest = max(said.split("\n\n"), key=len)
    brace = longest.find("{")
    if brace >= 0:
        with contextlib.suppress(ValueError):
            longest = max(_strings(orjson.loads(longest[brace:])), key=len, default=longest)
    instruction, *text = re.split(r":\s+", longest, maxsplit=1)
    longest = max(instruction, *text, key=len) if text else longest
    return unicodedata.normalize("NFC", longest[:TEXT_LIMIT].strip())


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)
