"""A value that fits a schema."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from llmstream.endpoint.call import Call, Schema
from llmstream.endpoint.chance import Place
from llmstream.endpoint.errors import bad_schema
from llmstream.endpoint.numbers import fit_number
from llmstream.endpoint.schemas import BOTTOM, DEEP, LARGEST, settled, type_of
from llmstream.endpoint.texts import fit_string
from llmstream.endpoint.words import names, stands_in


def fit(call: Call, schema: Any, place: Place) -> Any:
    if place.level > BOTTOM:
        raise bad_schema("it has no end.")
    plain = settled(call, schema, place)
    if "const" in plain:
        return plain["const"]
    if "enum" in plain:
        return _one_of(call, plain["enum"], place)
    return _MAKERS[type_of(plain)](call, plain, place)


def _one_of(call: Call, values: list[Any], place: Place) -> Any:
    """One of the values; the natural one stands in the text if any does."""
    drawn = call.draw(place)
    seen = [value for value in values if isinstance(value, str) and value and stands_in(value, call.text)]
    choice = seen if drawn.natural and seen and not place.turn else values
    return choice[drawn.number % len(choice)]


# -- objects ----------------------------------------------------------------------------------


def _object(call: Call, schema: Schema, place: Place) -> dict[str, Any]:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    more = schema.get("additionalProperties", True)
    chosen = [name for name, part in properties.items() if name in required or (part and place.level < DEEP)]
    chosen += [name for name in required if name not in chosen]
    if more is not False:
        chosen += _free_names(call, schema, place, chosen)
    return {name: fit(call, properties.get(name, more), place.under(name)) for name in chosen}


def _free_names(call: Call, schema: Schema, place: Place, taken: list[str]) -> list[str]:
    """Names of properties that the schema allows or demands without naming them."""
    usual = 0 if schema.get("properties") or place.level >= DEEP else min(2, schema.get("maxProperties", 2))
    count = min(schema.get("minProperties", usual), LARGEST)
    free = schema.get("propertyNames", {}).get("enum") or [*names(call.text), *(f"key{n}" for n in range(count))]
    return [name for name in free if name not in taken][: max(0, count - len(taken))]


# -- lists ------------------------------------------------------------------------------------


def _array(call: Call, schema: Schema, place: Place) -> list[Any]:
    first, items = schema.get("prefixItems", []), schema.get("items", {})
    low = min(schema.get("minItems", 0), LARGEST)
    high = min(schema.get("maxItems", LARGEST), len(first) if items is False else LARGEST)
    ids = _ids(call, items, place)
    usual = len(ids) or (0 if place.level >= DEEP else 1 + call.draw(place).number % 4)
    count = min(high, max(low, usual))
    made = [fit(call, part, place.item(turn)) for turn, part in enumerate(first[:count])]
    made += _different(call, items, place, count - len(made), ids)
    if not schema.get("uniqueItems"):
        made += made[-1:] * (low - len(made))
    return made


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


_MAKERS: dict[str, Callable[[Call, Schema, Place], Any]] = {
    "object": _object,
    "array": _array,
    "string": fit_string,
    "integer": fit_number,
    "number": fit_number,
    "boolean": lambda call, schema, place: call.draw(place).number % 2 == 0,
    "null": lambda call, schema, place: None,
}
