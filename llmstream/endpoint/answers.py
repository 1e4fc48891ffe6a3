"""What llm-sim answers: pure functions of the seed, the request and its Idempotency-Key.

An answer fits the schema that was asked for and is made of words of the text that was sent. Two
calls that differ in nothing but the Idempotency-Key agree in four places out of five: votes.
"""

from __future__ import annotations

import contextlib
import json
import re
import string
import unicodedata
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import lru_cache
from hashlib import blake2b
from math import ceil, floor
from typing import Any, NamedTuple

import orjson

Schema = dict[str, Any]

TEXT_LIMIT = 4000  # characters of a text that are looked at: a long text costs no more than this
LARGEST = 1000  # no schema makes a list longer, or a text longer than as many words
DEEP = 5  # levels from which on a value is as small as its schema allows: schemas may recur
BOTTOM = 40  # levels at which a schema has no end
STRIDE = 7919  # a prime: neighbours in a list differ as long as there is anything to choose from


class Bad(Exception):
    """A request that is answered with an error, in the form that OpenAI gives it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class Call(NamedTuple):
    """What an answer is drawn from."""

    natural: bytes  # the digest of the seed and the request: what most votes agree on
    own: bytes  # the digest of those and the Idempotency-Key; without one the same
    said: str  # what the user's messages say, without a schema that stood there
    text: str  # the part of it that is about something
    schema: Schema | None


class Answer(NamedTuple):
    content: str
    finish: str
    usage: dict[str, Any]


class Sent(NamedTuple):
    """The body of a reply, and how much of it goes out before the line drops."""

    body: bytes
    kind: str = "application/json"
    cut: int | None = None


# -- the request ------------------------------------------------------------------------------


def parsed(body: bytes) -> dict[str, Any]:
    """The body of a request, checked as far as a wrong one would get an answer here."""
    try:
        asked = orjson.loads(body)
    except ValueError:
        raise Bad(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(asked, dict):
        raise Bad(400, "The JSON body of your request is not an object.")
    messages = asked.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
        raise Bad(400, "Missing required parameter: 'messages', a list of objects.", param="messages")
    if asked.get("stream"):
        raise Bad(400, "Streaming is not simulated.", param="stream", code="unsupported_value")
    if asked.get("n") not in (None, 1):
        raise Bad(400, "More than one choice (n) is not simulated.", param="n", code="unsupported_value")
    return asked


def call_of(seed: int, body: bytes, key: str, asked: dict[str, Any]) -> Call:
    natural = digest(str(seed).encode(), body)
    heard = [(message.get("role"), *_cut_schema(_text(message))) for message in asked["messages"]]
    written = next((schema for _, schema, _ in heard if schema is not None), None)
    said = "\n\n".join(text for role, _, text in heard if role == "user")
    schema = _format(asked.get("response_format"), written)
    return Call(natural, digest(natural, key.encode()) if key else natural, said, subject(said), schema)


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return "\n\n".join(text for text in texts if isinstance(text, str))


def _format(form: Any, written: Schema | None) -> Schema | None:
    """The schema that is asked for: by response_format, else by the words of a message."""
    match form:
        case {"type": "json_schema", "json_schema": {"schema": dict() as schema, **rest}}:
            if rest.get("strict") and schema.get("type") != "object":
                raise _bad_schema(f"its root must be of type object, got {json.dumps(schema.get('type'))}.")
            return schema
        case {"type": "json_schema"}:
            raise _bad_schema("response_format.json_schema.schema must be an object.")
        case {"type": "json_object", "schema": dict() as schema}:
            return schema
        case {"type": "json_object"}:
            return written or {"type": "object", "properties": {"answer": {"type": "string"}}}
    return written


def _bad_schema(reason: str) -> Bad:
    return Bad(400, f"Invalid schema for response_format: {reason}", param="response_format")


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


# -- chance that is none ----------------------------------------------------------------------


def digest(*parts: bytes) -> bytes:
    return blake2b(b"\0".join(parts), digest_size=16).digest()


def number(*parts: bytes) -> int:
    """A number of 64 bits that is always the same for the same parts."""
    return int.from_bytes(blake2b(b"\0".join(parts), digest_size=8).digest(), "big")


def unit(drawn: int) -> float:
    """A number of 64 bits as one between 0 and 1, neither of them included."""
    return ((drawn >> 12) + 0.5) / 2**52


class Place(NamedTuple):
    """Where in the answer a value stands."""

    path: str = ""
    name: str = ""  # of the nearest property: what the value is called
    turn: int = 0  # its number in a list
    level: int = 0

    def under(self, name: str) -> Place:
        return Place(f"{self.path}/{name}", name, self.turn, self.level + 1)

    def item(self, turn: int) -> Place:
        return Place(f"{self.path}/*", self.name, 31 * self.turn + turn, self.level + 1)


class Draw(NamedTuple):
    natural: bool  # what most votes say
    number: int


def draw(call: Call, place: Place) -> Draw:
    path = place.path.encode()
    own = number(call.own, path, b"%d" % place.turn)
    if own % 5 or call.own == call.natural:
        return Draw(True, number(call.natural, path) + place.turn * STRIDE)
    return Draw(False, own // 5)


# -- schemas ----------------------------------------------------------------------------------


def fit(call: Call, schema: Any, place: Place) -> Any:
    """A value that fits the schema."""
    if place.level > BOTTOM:
        raise _bad_schema("it has no end.")
    plain = settled(call, schema, place)
    if "const" in plain:
        return plain["const"]
    if "enum" in plain:
        return _one_of(call, plain["enum"], place)
    return MAKERS[plain.get("type") or _type(plain)](call, plain, place)


def settled(call: Call, schema: Any, place: Place, hops: int = 0) -> Schema:
    """The schema without $ref, allOf, anyOf, oneOf and lists of types: each is followed or chosen from."""
    if schema is True:
        return {}
    if not (schema.keys() & _INDIRECT or isinstance(schema.get("type"), list)):
        return schema  # type: ignore[no-any-return]
    if hops > BOTTOM:
        raise _bad_schema("a $ref leads back to itself.")
    rest = {name: part for name, part in schema.items() if name not in _INDIRECT}
    parts = [*([_referred(call, schema["$ref"])] if "$ref" in schema else []), *schema.get("allOf", [])]
    parts += [_branch(call, schema[choice], place) for choice in ("anyOf", "oneOf") if choice in schema]
    if isinstance(rest.get("type"), list):
        parts.append(_branch(call, [{"type": kind} for kind in rest.pop("type")], place))
    for part in parts:
        rest = _merged(rest, settled(call, part, place, hops + 1))
    return rest


_INDIRECT = {"$ref", "allOf", "anyOf", "oneOf"}


def _referred(call: Call, pointer: str) -> Any:
    found: Any = call.schema
    for step in pointer.removeprefix("#").split("/")[1:]:
        found = found[step.replace("~1", "/").replace("~0", "~")]
    return found


def _branch(call: Call, branches: list[Any], place: Place) -> Any:
    """One of several schemas: seldom null, but deep down the one that ends soonest."""
    null = [branch for branch in branches if branch == {"type": "null"}]
    others = [branch for branch in branches if branch != {"type": "null"}]
    drawn = draw(call, place).number
    if null and (not others or place.level >= DEEP or drawn % 10 == 0):
        return null[0]
    if place.level >= DEEP:
        return min(others, key=lambda branch: len(str(branch)) + 1000 * ("$ref" in str(branch)))
    return others[drawn // 10 % len(others)]


def _merged(one: Schema, other: Schema) -> Schema:
    """What fits both."""
    both = {**one, **other}
    for name in one.keys() & other.keys() & _MEETING.keys():
        both[name] = _MEETING[name](one[name], other[name])
    return both


def _both_properties(one: Schema, other: Schema) -> Schema:
    return {**one, **{name: {"allOf": [one[name], part]} if name in one else part for name, part in other.items()}}


_MEETING: dict[str, Callable[[Any, Any], Any]] = {
    "properties": _both_properties,
    "required": lambda one, other: [*one, *other],
    "enum": lambda one, other: [value for value in one if value in other],
    "type": lambda one, other: "integer" if {one, other} == {"integer", "number"} else other,
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems"), min),
}


def _type(schema: Schema) -> str:
    """The type that a schema without one has in mind."""
    if schema.keys() & {"properties", "required", "additionalProperties"}:
        return "object"
    if schema.keys() & {"items", "prefixItems", "minItems", "maxItems"}:
        return "array"
    return "number" if schema.keys() & {"minimum", "maximum", "multipleOf"} else "string"


def _one_of(call: Call, values: list[Any], place: Place) -> Any:
    """One of the values; the natural one stands in the text if any does."""
    drawn = draw(call, place)
    seen = [value for value in values if isinstance(value, str) and value and _stands_in(value, call.text)]
    choice = seen if drawn.natural and seen and not place.turn else values
    return choice[drawn.number % len(choice)]


def _stands_in(value: str, text: str) -> bool:
    word, text = value.casefold(), _folded(text)
    return word in text and re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None


def _object(call: Call, schema: Schema, place: Place) -> dict[str, Any]:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    more = schema.get("additionalProperties", True)
    wanted = [name for name, part in properties.items() if name in required or (part and place.level < DEEP)]
    wanted += [name for name in required if name not in wanted]
    if more is not False:
        usual = 0 if properties or place.level >= DEEP else min(2, schema.get("maxProperties", 2))
        few = min(schema.get("minProperties", usual), LARGEST)
        spare = schema.get("propertyNames", {}).get("enum") or [*names(call.text), *(f"key{n}" for n in range(few))]
        wanted += [name for name in spare if name not in wanted][: max(0, few - len(wanted))]
    return {name: fit(call, properties.get(name, more), place.under(name)) for name in wanted}


def _array(call: Call, schema: Schema, place: Place) -> list[Any]:
    first, items = schema.get("prefixItems", []), schema.get("items", {})
    low = min(schema.get("minItems", 0), LARGEST)
    high = min(schema.get("maxItems", LARGEST), len(first) if items is False else LARGEST)
    ids = _ids(call, items, place)
    usual = len(ids) or (0 if place.level >= DEEP else 1 + draw(call, place).number % 4)
    count = min(high, max(low, usual))
    made = [fit(call, part, place.item(turn)) for turn, part in enumerate(first[:count])]
    made += _different(call, items, place, count - len(made), ids)
    return made if schema.get("uniqueItems") else made + made[-1:] * (low - len(made))


def _different(call: Call, items: Any, place: Place, count: int, ids: list[Any]) -> list[Any]:
    """Items no two of which are equal, as many as there are when a good deal more is tried."""
    made: list[Any] = []
    for turn in range(8 * count + 16):
        if len(made) >= count:
            break
        value = fit(call, items, place.item(turn))
        if len(made) < len(ids) and isinstance(value, dict) and "id" in value:
            value["id"] = ids[len(made)]
        if value not in made:
            made.append(value)
    return made


def _ids(call: Call, items: Any, place: Place) -> list[Any]:
    """Where a list is of things with an id: the ids that the schema, or else the prompt, names."""
    if items in (True, False, {}) or place.level >= DEEP:
        return []
    part = settled(call, items, place).get("properties", {}).get("id")
    if not part:
        return []
    part = settled(call, part, place)
    if "enum" in part:
        return list(part["enum"])
    found = dict.fromkeys(_ID.findall(call.said))
    if part.get("type") == "integer":
        return [int(text) for text in found if text.isascii() and text.isdigit()]
    return list(found) if part.get("type", "string") == "string" else []


_ID = re.compile(r"""\bid["']?\s*[:=]\s*["']?([^\s"',;}\]>]{1,80})""")


# -- numbers ----------------------------------------------------------------------------------

_LIMITS = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
_USUAL = (  # what a property of that name usually is
    (re.compile(r"year"), 1900, 2025),
    (re.compile(r"(?<![a-z])age(?![a-z])"), 18, 90),
    (re.compile(r"score|rating|grade|stars"), 1, 10),
    (re.compile(r"confiden|probab|ratio|share"), 0, 1),
)


def _number(call: Call, schema: Schema, place: Place) -> int | float:
    whole = schema.get("type") == "integer"
    step, first, last = _grid(whole, place.name, schema.get("multipleOf"), *map(schema.get, _LIMITS))
    found = (first + draw(call, place).number % max(1, last - first + 1)) * step
    return int(found) if whole else float(found)


@lru_cache(512)
def _grid(whole: bool, name: str, multiple: Any, *limits: Any) -> tuple[Fraction, int, int]:
    """The numbers that will do: a step, and how many of them at least and at most."""
    low, above, high, below = (None if limit is None else Fraction(str(limit)) for limit in limits)
    lowest = max((limit for limit in (low, above) if limit is not None), default=None)
    highest = min((limit for limit in (high, below) if limit is not None), default=None)
    least, most = _span(name.lower(), lowest, highest)
    step = Fraction(str(multiple or (1 if whole else "0.01")))
    if whole:
        step = Fraction(step.numerator)  # the whole ones among the multiples
    elif not multiple and least < most:
        step = min(step, (most - least) / 4)  # between close limits there is room too
    first, last = ceil(least / step), floor(most / step)
    return step, first + (first * step == above), last - (last * step == below)


def _span(name: str, low: Fraction | None, high: Fraction | None) -> tuple[Fraction, Fraction]:
    """From where to where: as the schema says, or as is usual for a property of that name."""
    usual = next(((least, most) for pattern, least, most in _USUAL if pattern.search(name)), (0, 100))
    least, most = map(Fraction, usual)
    if low is not None and high is not None:
        return low, high
    if low is not None:
        return low, max(most, low + 1)
    if high is not None:
        return (least if least < high else high - 100), high
    return least, most


# -- words ------------------------------------------------------------------------------------

_EDGES = string.punctuation + "“”„‘’«»‹›…–—¿¡、。，：；！？「」『』（）"
_EDGES_OF_SENTENCES = " \t\n\"'“”‘’«»"
_CAPITAL = "".join(filter(str.isupper, map(chr, range(0x2000))))  # of every alphabet; re has no name for it
_NAME = rf"[{_CAPITAL}]\w*(?:['’-]\w+)*"
_RUN = re.compile(rf"(?<!\w){_NAME}(?: {_NAME}){{0,3}}")
_COMMON = re.compile(  # what begins sentences, and no names
    r"an?|and|as|at|but|by|for|from|he|her|his|how|i|if|in|is|it|its|on|she|so|that|the|they|this|to|was|we|wh\w+|with|you",
    re.IGNORECASE,
)


@lru_cache(64)
def _folded(text: str) -> str:
    return text.casefold()


@lru_cache(64)
def words(text: str) -> tuple[str, ...]:
    return tuple(text.split()) or ("nothing",)


@lru_cache(64)
def names(text: str) -> tuple[str, ...]:
    """Runs of capitalised words, at most four; in a script without capitals the words themselves."""
    runs = [(run[0].split(" "), run.start()) for run in _RUN.finditer(text)]
    sure = [run for run, start in runs if len(run) > 1 or not _begins_sentence(text, start)]
    found = (" ".join(run[1:] if _COMMON.fullmatch(run[0]) else run) for run in sure or [run for run, _ in runs])
    others = (word.strip(_EDGES)[:20] for word in words(text))
    return tuple(filter(None, dict.fromkeys(found))) or tuple(filter(None, dict.fromkeys(others))) or ("Nothing",)


def _begins_sentence(text: str, start: int) -> bool:
    """A capital there says nothing."""
    before = text[max(0, start - 4) : start].rstrip(_EDGES_OF_SENTENCES)
    return not before or before[-1] in ".!?…:"


@lru_cache(64)
def sentences(text: str) -> tuple[str, ...]:
    return tuple(filter(None, re.split(r"(?<=[.!?…])\s+|(?<=[。！？])", text))) or ("Nothing.",)


def _cut(text: str) -> str:
    """At most twenty words; a script without spaces has long ones."""
    return " ".join(text.split()[:20])[:200]


def sentence(call: Call, place: Place) -> str:
    drawn = draw(call, place)
    found = sentences(call.text)
    if drawn.natural:
        return _cut(found[place.turn % len(found)])
    begin = drawn.number % len(words(call.text))
    return _cut(" ".join(words(call.text)[begin : begin + 20]))


def _name(call: Call, place: Place) -> str:
    found = names(call.text)
    return found[draw(call, place).number % len(found)]


def _phrase(call: Call, place: Place) -> str:
    drawn = draw(call, place).number
    told = words(call.text)
    begin = drawn % len(told)
    return " ".join(told[begin : begin + 3 + drawn // len(told) % 5])[:100].strip(_EDGES + " ") or told[0]


def _day(call: Call, place: Place) -> str:
    drawn = draw(call, place).number
    return f"{2000 + drawn % 25}-{1 + drawn // 25 % 12:02}-{1 + drawn // 300 % 28:02}"


def _ascii(call: Call, place: Place) -> str:
    """A name as it stands in an address."""
    plain = unicodedata.normalize("NFKD", _name(call, place)).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", ".", plain).strip(".") or f"x{draw(call, place).number % 1000}"


def _uuid(call: Call, place: Place) -> str:
    digits = f"{number(b'%d' % draw(call, place).number):016x}" * 2
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:32]}"


FORMATS: dict[str, Callable[[Call, Place], str]] = {
    "date": _day,
    "date-time": lambda call, place: f"{_day(call, place)}T12:00:00Z",
    "time": lambda call, place: f"{draw(call, place).number % 24:02}:00:00Z",
    "email": lambda call, place: f"{_ascii(call, place)}@example.com",
    "uri": lambda call, place: f"https://example.com/{_ascii(call, place)}",
    "url": lambda call, place: f"https://example.com/{_ascii(call, place)}",
    "uuid": _uuid,
}
_CALLED = (  # what a property of that name is usually filled with
    (re.compile(r"summar|descri|reason|explan|comment|sentence|justif|abstract|translat"), sentence),
    (re.compile(r"name|person|people|place|location|city|countr|org|compan|title|entit|author|product"), _name),
    (re.compile(r"(?<![a-z])date(?![a-z])"), _day),
)


@lru_cache(512)
def _filler(name: str) -> Callable[[Call, Place], str]:
    return next((make for pattern, make in _CALLED if pattern.search(name.lower())), _phrase)


def _string(call: Call, schema: Schema, place: Place) -> str:
    if schema.get("format") in FORMATS:
        return FORMATS[schema["format"]](call, place)
    made = _filler(place.name)(call, place)
    for _ in range(LARGEST):
        if len(made) >= schema.get("minLength", 0):
            break
        made += f" {words(call.text)[len(made) % len(words(call.text))]}"
    return made[: schema.get("maxLength", len(made))]


MAKERS: dict[str, Callable[[Call, Schema, Place], Any]] = {
    "object": _object,
    "array": _array,
    "string": _string,
    "integer": _number,
    "number": _number,
    "boolean": lambda call, schema, place: draw(call, place).number % 2 == 0,
    "null": lambda call, schema, place: None,
}


# -- the answer -------------------------------------------------------------------------------


def answer(call: Call, asked: dict[str, Any]) -> Answer:
    content = _content(call)
    finish = "stop"
    limit = next((asked[name] for name in ("max_completion_tokens", "max_tokens") if asked.get(name) is not None), None)
    if limit is not None:
        if not isinstance(limit, int) or limit < 1:
            raise Bad(400, "max_completion_tokens must be a whole number, 1 or more.", param="max_completion_tokens")
        if tokens(content) > limit:
            content, finish = content.encode()[: 4 * limit].decode(errors="ignore"), "length"
    return Answer(content, finish, _usage("".join(map(_text, asked["messages"])), content))


def _content(call: Call) -> str:
    if call.schema is None:
        return sentence(call, Place())
    try:
        return orjson.dumps(fit(call, call.schema, Place())).decode()
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        # Whatever can be wrong with a schema is the caller's to mend, and not worth a check of its own.
        raise _bad_schema(f"{type(error).__name__}: {error}") from None


def tokens(text: str) -> int:
    return -(-len(text.encode()) // 4)


def _usage(prompt: str, content: str) -> dict[str, Any]:
    return {
        "prompt_tokens": tokens(prompt),
        "completion_tokens": tokens(content),
        "total_tokens": tokens(prompt) + tokens(content),
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def completion(call: Call, given: Answer, model: str, created: int) -> dict[str, Any]:
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
        "usage": given.usage,
        "system_fingerprint": "fp_llmstream",
    }


# -- bad answers ------------------------------------------------------------------------------


def refused(reply: dict[str, Any]) -> Sent:
    return _with(reply, content=None, refusal="I'm sorry, but I can't help with that.")


def garbled(call: Call, reply: dict[str, Any], drawn: int) -> tuple[str, Sent]:
    """One of the ways in which an answer with status 200 can be of no use, and its name."""
    ways = [*_GARBLES, *(_SCHEMA_GARBLES if call.schema is not None else ())]
    way = ways[drawn % len(ways)]
    return way, {**_GARBLES, **_SCHEMA_GARBLES}[way](call, reply)


def _with(reply: dict[str, Any], finish: str = "stop", **fields: Any) -> Sent:
    """The reply with other fields in its message."""
    choice = reply["choices"][0]
    choice = {**choice, "finish_reason": finish, "message": {**choice["message"], **fields}}
    return Sent(orjson.dumps({**reply, "choices": [choice]}))


def _said(reply: dict[str, Any]) -> str:
    return str(reply["choices"][0]["message"]["content"])


def _half(call: Call, reply: dict[str, Any]) -> Sent:
    body = orjson.dumps(reply)
    return Sent(body, cut=len(body) // 2)


def _misfit(call: Call, reply: dict[str, Any]) -> Sent:
    """Without something that the schema requires, or a list where it wants no list."""
    value = fit(call, call.schema, Place())
    required = settled(call, call.schema, Place()).get("required")
    wrong: Any = [value]
    if required and isinstance(value, dict):
        wrong = {name: part for name, part in value.items() if name != required[-1]}
    return _with(reply, content=orjson.dumps(wrong).decode())


_GARBLES: dict[str, Callable[[Call, dict[str, Any]], Sent]] = {
    "cut": lambda call, reply: _with(reply, "length", content=_said(reply)[: len(_said(reply)) // 2]),
    "filtered": lambda call, reply: _with(reply, "content_filter", content=None),
    "html": lambda call, reply: Sent(b"<html><body><h1>Just a moment...</h1></body></html>\n", "text/html"),
    "nothing": lambda call, reply: Sent(b""),
    "half": _half,
    "error": lambda call, reply: Sent(b'{"error":{"message":"Upstream failed.","type":"server_error"}}'),
    "choiceless": lambda call, reply: Sent(orjson.dumps({**reply, "choices": []})),
}
_SCHEMA_GARBLES: dict[str, Callable[[Call, dict[str, Any]], Sent]] = {
    "misfit": _misfit,
    "prose": lambda call, reply: _with(reply, content=f"Sure! Here is what I found: {call.text[:80]}"),
    "empty": lambda call, reply: _with(reply, content=""),
}
