"""The places of the answers to a schema: which labels may stand there, and where lists do."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from functools import reduce
from itertools import islice
from typing import Any, NamedTuple

from llmstream.records import equality

Path = tuple[str | None, ...]  # the names on the way to a place; None is each item of a list

MOST = 1000  # places that are looked at: types that refer to one another in many ways have more than anyone counts


class Place(NamedTuple):
    """A place of the answers: a.b, or people[].role in each item of a list."""

    path: Path
    labels: tuple[Any, ...]  # the values that the schema names: enum, const, true and false; null if it is allowed too
    closed: bool  # can nothing but these stand there?
    is_list: bool  # can a list stand there?


def as_text(path: Path) -> str:
    """A path as people write it: a.b, people[].role"""
    return "".join("[]" if name is None else f".{name}" if n else name for n, name in enumerate(path))


def places(schema: Any) -> Iterator[Place]:
    """The places of a JSON Schema that hold labels or lists, whichever of its forms they are in."""
    found = islice(_walk([_Part(schema, ())], (), schema), MOST)
    return (place for place in found if place.labels or place.is_list)


def options(schema: Any) -> dict[str, int]:
    """How many different values can stand at a place, where the schema names them all."""
    return {as_text(place.path): len(place.labels) for place in places(schema) if place.closed and place.labels}


class _Part(NamedTuple):
    """A part of a schema, and the references that led to it: a tree refers to itself."""

    schema: Any
    followed: tuple[str, ...]


class _Rule(NamedTuple):
    """What a part of a schema says about one place, through all of its forms."""

    labels: dict[Hashable, Any]
    closed: bool
    parts: tuple[_Part, ...]  # the part itself, and all forms that it has for this place

    def both(self, other: _Rule) -> _Rule:
        """A value has to fit both."""
        if self.closed and other.closed:
            labels = {key: value for key, value in self.labels.items() if key in other.labels}
        elif self.closed or other.closed:
            labels = self.labels if self.closed else other.labels
        else:
            labels = self.labels | other.labels
        return _Rule(labels, self.closed or other.closed, self.parts + other.parts)

    def either(self, other: _Rule) -> _Rule:
        """A value has to fit one of them."""
        return _Rule(self.labels | other.labels, self.closed and other.closed, self.parts + other.parts)


_ANYTHING = _Rule({}, closed=False, parts=())


def _walk(parts: Iterable[_Part], path: Path, whole: Any) -> Iterator[Place]:
    """The place that these parts of a schema describe, and all places within it."""
    rule = reduce(_Rule.either, [_rule(part, whole) for part in parts])
    labels = tuple(rule.labels.values())
    has_list = any("array" in _types(part.schema) for part in rule.parts)
    yield Place(path, () if labels == (None,) else labels, rule.closed, has_list)
    within: dict[str | None, dict[int, _Part]] = {}  # each part once, by whichever way it was reached first
    for part in rule.parts:
        for name, inner in _within(part.schema):
            within.setdefault(name, {}).setdefault(id(inner), _Part(inner, part.followed))
    for name, inner_parts in within.items():
        yield from _walk(inner_parts.values(), (*path, name), whole)


def _within(schema: dict[str, Any]) -> Iterator[tuple[str | None, Any]]:
    """The parts for the properties of an object, and for the items of a list."""
    properties = schema.get("properties")
    if isinstance(properties, dict):
        yield from properties.items()
    if isinstance(schema.get("items"), dict):
        yield None, schema["items"]


def _rule(part: _Part, whole: Any) -> _Rule:
    if not isinstance(part.schema, dict):
        return _ANYTHING
    limits = [
        _Rule({equality.exact_key(value): value for value in values}, closed=True, parts=())
        for values in _named_values(part.schema)
    ]
    rule = reduce(_Rule.both, [*_rules_of_forms(part, whole), *limits], _ANYTHING)
    return rule._replace(parts=(*rule.parts, part))


def _rules_of_forms(part: _Part, whole: Any) -> Iterator[_Rule]:
    """What other parts say about the place of this one."""
    for keyword in ("anyOf", "oneOf", "allOf"):
        forms = part.schema.get(keyword)
        if isinstance(forms, list) and forms:
            combine = _Rule.both if keyword == "allOf" else _Rule.either
            yield reduce(combine, [_rule(_Part(form, part.followed), whole) for form in forms])
    reference = part.schema.get("$ref")
    if isinstance(reference, str) and reference not in part.followed:
        yield _rule(_Part(_referred(whole, reference), (*part.followed, reference)), whole)


def _named_values(schema: dict[str, Any]) -> Iterator[list[Any]]:
    """The values to which a schema itself limits a place: one list for each keyword that does."""
    if isinstance(schema.get("enum"), list):
        yield schema["enum"]
    if "const" in schema:
        yield [schema["const"]]
    types = _types(schema)
    if types and types <= {"boolean", "null"}:
        yield [*([True, False] if "boolean" in types else []), *([None] if "null" in types else [])]


def _types(schema: dict[str, Any]) -> set[Any]:
    types = schema.get("type")
    return set(types) if isinstance(types, list) else set() if types is None else {types}


def _referred(whole: Any, reference: str) -> Any:
    """The part of a schema that #/$defs/name is."""
    start, *names = reference.split("/")
    for name in names:
        whole = whole.get(name) if isinstance(whole, dict) else None
    return whole if start == "#" else None
