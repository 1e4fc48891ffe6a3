"""A schema without its detours: each $ref is followed, of alternatives one is chosen, and what must hold is merged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmstream.endpoint.call import Call, Schema
from llmstream.endpoint.chance import Place
from llmstream.endpoint.errors import bad_schema

DEEP = 5  # levels from which on a value is as small as its schema allows: schemas may recur
BOTTOM = 40  # levels, or steps from one schema to another, at which there is no end
LARGEST = 1000  # no schema makes a list longer, or a text longer than as many words

_INDIRECT = {"$ref", "allOf", "anyOf", "oneOf"}


def settled(call: Call, schema: Any, place: Place, hops: int = 0) -> Schema:
    """The schema without $ref, allOf, anyOf, oneOf and lists of types."""
    if schema is True:
        return {}
    if not (schema.keys() & _INDIRECT or isinstance(schema.get("type"), list)):
        return schema  # type: ignore[no-any-return]
    if hops > BOTTOM:
        raise bad_schema("a $ref leads back to itself.")
    plain = {name: part for name, part in schema.items() if name not in _INDIRECT}
    if isinstance(plain.get("type"), list):
        del plain["type"]
    for part in _further_schemas(call, schema, place):
        plain = _merged(plain, settled(call, part, place, hops + 1))
    return plain


def _further_schemas(call: Call, schema: Schema, place: Place) -> list[Any]:
    """What a value must fit besides the schema's own keywords."""
    further = []
    if "$ref" in schema:
        further.append(_referred(call, schema["$ref"]))
    further = [*further, *schema.get("allOf", [])]
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            further.append(_branch(call, schema[choice], place))
    if isinstance(schema.get("type"), list):
        further.append(_branch(call, [{"type": kind} for kind in schema["type"]], place))
    return further


def _referred(call: Call, pointer: str) -> Any:
    found: Any = call.schema
    for step in pointer.removeprefix("#").split("/")[1:]:
        found = found[step.replace("~1", "/").replace("~0", "~")]
    return found


def _branch(call: Call, branches: list[Any], place: Place) -> Any:
    """One of several schemas: seldom null, but deep down the one that ends soonest."""
    null = [branch for branch in branches if branch == {"type": "null"}]
    others = [branch for branch in branches if branch != {"type": "null"}]
    drawn = call.draw(place).number
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


_MEETING: dict[str, Callable[[Any, Any], Any]] = {
    "properties": lambda one, other: {
        **one,
        **{name: {"allOf": [one[name], part]} if name in one else part for name, part in other.items()},
    },
    "required": lambda one, other: [*one, *other],
    "enum": lambda one, other: [value for value in one if value in other],
    "type": lambda one, other: "integer" if {one, other} == {"integer", "number"} else other,
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems"), min),
}


def type_of(plain: Schema) -> Any:
    """The type of a settled schema, or the one that a schema without any has in mind."""
    if plain.get("type"):
        return plain["type"]
    if plain.keys() & {"properties", "required", "additionalProperties"}:
        return "object"
    if plain.keys() & {"items", "prefixItems", "minItems", "maxItems"}:
        return "array"
    return "number" if plain.keys() & {"minimum", "maximum", "multipleOf"} else "string"
