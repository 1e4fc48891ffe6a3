"""A string that fits a schema: of its format, or else made of the words of the call's text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

from llmstream.endpoint.call import Call, Schema
from llmstream.endpoint.chance import Place, number
from llmstream.endpoint.schemas import LARGEST
from llmstream.endpoint.words import EDGES, names, sentences, words


def fit_string(call: Call, schema: Schema, place: Place) -> str:
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]](call, place)
    made = _maker(place.name)(call, place)
    for _ in range(LARGEST):
        if len(made) >= schema.get("minLength", 0):
            break
        made += f" {words(call.text)[len(made) % len(words(call.text))]}"
    return made[: schema.get("maxLength", len(made))]


def sentence(call: Call, place: Place) -> str:
    """At most twenty words of the text; a script without spaces has long ones."""
    drawn = call.draw(place)
    if drawn.natural:
        found = sentences(call.text)
        said = found[place.turn % len(found)].split()
    else:
        said = list(words(call.text)[drawn.number % len(words(call.text)) :])
    return " ".join(said[:20])[:200]


def _name(call: Call, place: Place) -> str:
    found = names(call.text)
    return found[call.draw(place).number % len(found)]


def _phrase(call: Call, place: Place) -> str:
    drawn = call.draw(place).number
    found = words(call.text)
    begin = drawn % len(found)
    return " ".join(found[begin : begin + 3 + drawn // len(found) % 5])[:100].strip(EDGES + " ") or found[0]


def _date(call: Call, place: Place) -> str:
    drawn = call.draw(place).number
    return f"{2000 + drawn % 25}-{1 + drawn // 25 % 12:02}-{1 + drawn // 300 % 28:02}"


def _name_in_ascii(call: Call, place: Place) -> str:
    """A name as it stands in an address."""
    plain = unicodedata.normalize("NFKD", _name(call, place)).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", ".", plain).strip(".") or f"x{call.draw(place).number % 1000}"


def _uuid(call: Call, place: Place) -> str:
    digits = f"{number(b'%d' % call.draw(place).number):016x}" * 2
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:32]}"


_FORMATS: dict[str, Callable[[Call, Place], str]] = {
    "date": _date,
    "date-time": lambda call, place: f"{_date(call, place)}T12:00:00Z",
    "time": lambda call, place: f"{call.draw(place).number % 24:02}:00:00Z",
    "email": lambda call, place: f"{_name_in_ascii(call, place)}@example.com",
    "uri": lambda call, place: f"https://example.com/{_name_in_ascii(call, place)}",
    "url": lambda call, place: f"https://example.com/{_name_in_ascii(call, place)}",
    "uuid": _uuid,
}
_CALLED = (  # what a property of that name usually holds
    (re.compile(r"summar|descri|reason|explan|comment|sentence|justif|abstract|translat"), sentence),
    (re.compile(r"name|person|people|place|location|city|countr|org|compan|title|entit|author|product"), _name),
    (re.compile(r"(?<![a-z])date(?![a-z])"), _date),
)


@lru_cache(512)
def _maker(name: str) -> Callable[[Call, Place], str]:
    return next((make for pattern, make in _CALLED if pattern.search(name.lower())), _phrase)
