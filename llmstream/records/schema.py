"""What an answer must look like: the short notation or a JSON Schema goes in, a Shape comes out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from llmstream.records import notation
from llmstream.records.notation import Schema
from llmstream.records.words import both_ends

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError, Validator


class SchemaError(ValueError):
    """One line that says what to fix."""


class Shape(NamedTuple):
    """A schema in the forms that the rest needs."""

    schema: Schema  # JSON Schema, properties in the order given
    strict: bool  # does it keep to what strict structured output demands
    response_format: bytes  # JSON without white space, properties in the order given
    check: Callable[[Any], str | None]  # None if a value fits, else one line what is wrong with it


def read(text: str) -> Shape:
    """The shape that the short notation, or the text of a JSON Schema, describes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise SchemaError("the schema is not valid UTF-8") from None
    schema = _schema(text.removeprefix("\ufeff"))
    check = _checker(_validator(schema))
    strict = _is_strict(schema)
    asked = {"name": "answer", "strict": strict, "schema": schema}
    try:
        response_format = orjson.dumps({"type": "json_schema", "json_schema": asked})
    except TypeError as error:  # a number beyond 64 bits
        raise SchemaError(f"the schema cannot be sent as JSON: {both_ends(str(error))}") from None
    return Shape(schema, strict, response_format, check)


# -- JSON Schema --------------------------------------------------------------------------------

_LIKE_JSON = re.compile(r'\s*\{\s*"(?:[^"\\]|\\.)*"\s*:', re.DOTALL)

_SAYS_WHAT = frozenset(("type", "properties", "items", "enum", "const", "anyOf", "oneOf", "allOf", "$ref"))

# Strict structured output finds schemas here, and refuses the keywords of the last set.
_NAMED = ("properties", "$defs", "definitions")
_LISTED = ("anyOf", "prefixItems", "items")
_NOT_STRICT = frozenset(
    ("allOf", "oneOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties")
)


def _schema(text: str) -> Schema:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        if not _LIKE_JSON.match(text):
            return _schema_of_notation(text)
        raise SchemaError(f"not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from None
    try:
        schema = json.loads(text)  # orjson would round a whole number beyond 64 bits
    except RecursionError:
        raise SchemaError("the schema is nested too deep") from None
    if not isinstance(schema, dict):
        raise SchemaError(f"a JSON Schema is an object, not {both_ends(text)}")
    if not _SAYS_WHAT & schema.keys():  # an example of an answer is a JSON Schema too, one that any answer fits
        hint = "the short notation is written 'name str, age int'"
        raise SchemaError(f"no type, properties or the like in the JSON Schema {both_ends(text, 60)} ({hint})")
    return schema


def _schema_of_notation(text: str) -> Schema:
    try:
        return notation.read(text.strip())
    except notation.NotationError as error:
        raise SchemaError(str(error)) from None


def _validator(schema: Schema) -> Validator:
    import jsonschema_rs  # here: only who has a schema waits for it

    try:
        return jsonschema_rs.validator_for(schema, offline=True, validate_formats=True)
    except jsonschema_rs.ValidationError as error:
        reason = "a reference cannot be followed" if error.kind.name == "$ref" else "not a JSON Schema"
        raise SchemaError(f"{reason}: {_faults([error])}") from None
    except ValueError as error:
        raise SchemaError(f"not a JSON Schema: {both_ends(str(error))}") from None


def _is_strict(schema: Schema) -> bool:
    """Does strict structured output take it: closed objects that require all their properties, and no more?"""
    try:
        return schema.get("type") == "object" and all(map(_keeps_strict_rules, _parts(schema)))
    except (TypeError, AttributeError):  # a keyword that the schema's draft does not know holds anything
        return False


def _parts(schema: Any) -> Iterator[Any]:
    """The schema and every schema inside it."""
    yield schema
    if not isinstance(schema, dict):
        return
    for keyword in _NAMED:
        for part in schema.get(keyword, {}).values():
            yield from _parts(part)
    for keyword in _LISTED:
        for part in _list(schema.get(keyword, [])):
            yield from _parts(part)


def _keeps_strict_rules(part: Any) -> bool:
    if not isinstance(part, dict) or _NOT_STRICT & part.keys() or not str(part.get("$ref", "#")).startswith("#"):
        return False
    if "properties" not in part and "object" not in _list(part.get("type")):
        return True
    required, properties = _list(part.get("required", [])), part.get("properties", {})
    return part.get("additionalProperties") is False and sorted(required) == sorted(properties)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


# -- judging a value ------------------------------------------------------------------------------

_MOST_FAULTS = 3  # as many as a model can be expected to mend at once


def _checker(validator: Validator) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        try:
            return _faults(validator.iter_errors(value)) or None
        except ValueError:  # it takes no subclass of int or float, such as a number that keeps its digits
            pass
        try:
            return _faults(validator.iter_errors(_plain(value))) or None
        except (ValueError, RecursionError) as error:
            return f"not a JSON value: {both_ends(str(error))}"

    return check


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    for base in (int, float):
        if isinstance(value, base) and not isinstance(value, bool):
            return base(value)
    return value


def _faults(errors: Iterable[ValidationError]) -> str:
    """The first faults, each with its place."""
    faults = []
    for error in islice(_causes(errors), _MOST_FAULTS):
        place = ".".join(map(str, error.instance_path))
        message = both_ends(error.message)
        faults.append(f"{both_ends(place)}: {message}" if place else message)
    return "; ".join(faults)


def _causes(errors: Iterable[ValidationError]) -> Iterator[ValidationError]:
    """The errors; where all of several alternatives failed, those of the one that came closest."""
    for error in errors:
        branches = getattr(error.kind, "context", ())
        if branches and all(branches):
            yield from _causes(min(branches, key=lambda branch: _distance(branch, error.instance_path)))
        else:
            yield error


def _distance(branch: Iterable[ValidationError], path: list[str | int]) -> tuple[bool, int]:
    """How far a value is from fitting: another type altogether is farthest."""
    faults = list(branch)
    return any(error.kind.name == "type" and error.instance_path == path for error in faults), len(faults)
