"""What an answer must look like: the short notation or a JSON Schema goes in, a Shape comes out.

The short notation, as a grammar:

    notation  = fields | "{" fields "}"
    fields    = field { ("," | newline) field } [","]
    field     = name [type] ["?"] [":" words]         without a type: str
    type      = ("str" | "int" | "float" | "bool" | "[" type "]" | "{" fields "}"
                 | low ".." high | value "|" value { "|" value }) ["?"]
    name      = letters, digits, "_" and "-", or a JSON string
    value     = anything without , : | ? [ ] { } and quotes, or a JSON string
    words     = up to the next comma, or, where the fields stand on lines of their own, up to the
                end of the line; brackets in them are balanced, and keep their commas
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError, Validator

Schema = dict[str, Any]


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
    return Shape(schema, strict, _response_format(schema, strict), check)


def _response_format(schema: Schema, strict: bool) -> bytes:
    asked = {"name": "answer", "strict": strict, "schema": schema}
    try:
        return orjson.dumps({"type": "json_schema", "json_schema": asked})
    except TypeError as error:  # a number beyond 64 bits
        raise SchemaError(f"the schema cannot be sent as JSON: {_brief(str(error))}") from None


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
            return _Notation(text.strip()).read()
        raise SchemaError(f"not JSON: {error.msg} (line {error.lineno}, column {error.colno})") from None
    try:
        schema = json.loads(text)  # orjson would round a whole number beyond 64 bits
    except RecursionError:
        raise SchemaError("the schema is nested too deep") from None
    if not isinstance(schema, dict):
        raise SchemaError(f"a JSON Schema is an object, not {_brief(text)}")
    if not _SAYS_WHAT & schema.keys():  # an example of an answer is a JSON Schema too, one that any answer fits
        hint = "the short notation is written 'name str, age int'"
        raise SchemaError(f"no type, properties or the like in the JSON Schema {_brief(text, 60)} ({hint})")
    return schema


def _validator(schema: Schema) -> Validator:
    import jsonschema_rs  # here: only who has a schema waits for it

    try:
        return jsonschema_rs.validator_for(schema, offline=True, validate_formats=True)
    except jsonschema_rs.ValidationError as error:
        reason = "a reference cannot be followed" if error.kind.name == "$ref" else "not a JSON Schema"
        raise SchemaError(f"{reason}: {_told([error])}") from None
    except ValueError as error:
        raise SchemaError(f"not a JSON Schema: {_brief(str(error))}") from None


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


def labels(schema: Schema, path: str = "") -> dict[str, list[Any]]:
    """The places of an answer that hold one of a few values: a.b, or in a list people[].role."""
    kinds = _list(schema.get("type"))
    found = {path: schema["enum"]} if isinstance(schema.get("enum"), list) else {}
    if "boolean" in kinds and set(kinds) <= {"boolean", "null"}:
        found = {path: [True, False, *([None] if "null" in kinds else [])]}
    for name, part in schema.get("properties", {}).items():
        found |= labels(part, f"{path}.{name}" if path else name) if isinstance(part, dict) else {}
    items = schema.get("items")
    return found | (labels(items, f"{path}[]") if isinstance(items, dict) else {})


# -- judging a value ------------------------------------------------------------------------------

_FAULTS = 3  # as many as a model can be expected to mend at once


def _checker(validator: Validator) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        try:
            return _told(validator.iter_errors(value)) or None
        except ValueError:  # it takes no subclass of int or float, such as a number that keeps its digits
            return check_plain(value)

    def check_plain(value: Any) -> str | None:
        try:
            return _told(validator.iter_errors(_plain(value))) or None
        except (ValueError, RecursionError) as error:
            return f"not a JSON value: {_brief(str(error))}"

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


def _told(errors: Iterable[ValidationError]) -> str:
    """The first faults, each with its place."""
    return "; ".join(map(_line, islice(_causes(errors), _FAULTS)))


def _line(error: ValidationError) -> str:
    place = ".".join(map(str, error.instance_path))
    message = _brief(error.message)
    return f"{_brief(place)}: {message}" if place else message


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


def _brief(text: str, limit: int = 120) -> str:
    """One line; of a long one the beginning and the end, which says what was expected."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit // 2]} … {line[-limit // 2 :]}"


# -- the short notation -----------------------------------------------------------------------------

_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_FORMS = "(str, int, float, bool, [T], a|b, 1..10, {…})"
_DEEPEST = 50
_PARTNER = {"(": ")", "[": "]", "{": "}"}

_SPACE = re.compile(r"[^\S\n]*")
_BLANK = re.compile(r"\s*")
_NAME = re.compile(r"[^\s,:|?\[\]{}\"]*")
_VALUE = re.compile(r"[^,:|?\[\]{}\"\n]*")
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_RANGE = re.compile(r"(-?[0-9]{1,18})\s*\.\.\s*(-?[0-9]{1,18})")
# Strings, and descriptions, where a quote is only a quote, are passed over: what else is a bracket counts.
_BRACKET_OR_LINE = re.compile(rf"{_STRING.pattern}|:[^,\n\[\]{{}}]*|[\[\]{{}}]|\n(?=\s*[^\s\]}}])")
# A description that is a type, or single words with bars between: somebody's "name: int".
_TYPE_MISPLACED = re.compile(rf"({'|'.join(_TYPES)}|\[.*\]|\{{.*\}}|{_RANGE.pattern}|[^\s|]+(\|[^\s|]+)+)\??")


def _in_name(char: str) -> bool:
    """Letters, digits and marks of any script, and pictures."""
    kind = unicodedata.category(char)
    return char in "_-" or kind[0] in "LMN" or kind == "So"


def _object(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _nullable(schema: Schema) -> Schema:
    enum = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": [schema["type"], "null"], **enum}


class _Notation:
    """A reader of the short notation: a method for each rule, which leaves `at` after what it read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.path: list[str] = []  # the names of the fields around `at`
        self.depth = 0  # of types in types

    def read(self) -> Schema:
        braces = self.take("{")
        schema = self.fields("}" if braces else "")
        self.skip(_BLANK)
        if self.next():
            raise SchemaError(f"{self.rest()} follows the closing '}}' of the schema")
        return schema

    def fields(self, end: str) -> Schema:
        by_line = self.one_a_line()
        properties: Schema = {}
        while not self.ended(end):
            name, schema = self.field(by_line)
            if name in properties:
                raise SchemaError(f"field {name!r} is there twice{self.inside()}")
            properties[name] = schema
            self.separator(end)
        if not properties:
            raise SchemaError(f"no field{self.inside() or ' in the schema'}: name one, such as 'name str'")
        return _object(properties)

    def one_a_line(self) -> bool:
        """Does a line end between two fields of the group that begins here, not deeper?"""
        depth = 0
        for found in _BRACKET_OR_LINE.finditer(self.text, self.skip(_BLANK)):
            if found[0] == "\n" and depth == 0:
                return True
            depth += (found[0] in "[{") - (found[0] in "]}")
            if depth < 0:
                break
        return False

    def ended(self, end: str) -> bool:
        self.skip(_BLANK)
        if self.next():
            return bool(end) and self.take(end)
        if end:
            raise SchemaError(f"missing {end!r} at the end{self.inside()}")
        return True

    def separator(self, end: str) -> None:
        self.skip(_SPACE)
        newline = self.next() == "\n"
        self.skip(_BLANK)
        if not self.take(",") and not newline and self.next() not in (end, ""):
            raise SchemaError(f"{self.rest()} stands where the next field, or a comma, should{self.inside()}")

    # -- a field --

    def field(self, by_line: bool) -> tuple[str, Schema]:
        name = self.name()
        self.path.append(name)
        self.skip(_SPACE)
        typed = self.next() not in ("", ",", "\n", "]", "}", ":", "?")
        schema = self.type() if typed else self.question({"type": "string"})
        self.skip(_SPACE)
        if self.take(":"):
            schema = {**schema, "description": self.description(by_line, typed)}
        self.path.pop()
        return name, schema

    def name(self) -> str:
        quoted = self.next() == '"'
        name = self.string() if quoted else self.bare_name()
        self.skip(_SPACE)
        if self.next() == "|" or (not name and self.next() in ("[", "{")):
            raise SchemaError(f"give the field a name: 'NAME TYPE', not {self.rest(name)}{self.inside()}")
        if not name:
            raise SchemaError(f"a field without a name before {self.rest()}{self.inside()}")
        return name

    def bare_name(self) -> str:
        name = self.match(_NAME)
        if name in _TYPES or _RANGE.fullmatch(name):
            raise SchemaError(f"give the field a name: 'NAME {name}', or {_quote(name)} as a name{self.inside()}")
        if not all(map(_in_name, name)):
            raise SchemaError(f"quote the name of field {_brief(name)!r}, as {_quote(name)}{self.inside()}")
        return name

    def description(self, by_line: bool, typed: bool) -> str:
        start = self.at
        while self.next() not in ("", "\n", "}", "]", "" if by_line else ","):
            self.at = self.after_pair()
        words = self.text[start : self.at].strip().removesuffix(",").rstrip()
        if not words:
            raise SchemaError(f"no words after the colon of {self.here()}")
        if not typed and _TYPE_MISPLACED.fullmatch(words):
            name = self.path[-1]
            hint = f"'{name} {_brief(words, 40)}' (as a description: '{name} str: …')"
            raise SchemaError(f"the type of {self.here()} goes before the colon: {hint}")
        return words

    def after_pair(self) -> int:
        """Where a description goes on: after the bracket that closes the one here, or after the character."""
        closing: list[str] = []
        for at in range(self.at, len(self.text)):
            char = self.text[at]
            if char in _PARTNER:
                closing.append(_PARTNER[char])
            elif char == "\n" or (closing and char in ")]}" and char != closing.pop()):
                break
            if not closing:
                return at + 1
        if self.next() != "(":  # a parenthesis means nothing to the notation, so it may stand alone
            raise SchemaError(f"{self.next()!r} is never closed in the description of {self.here()}")
        return self.at + 1

    # -- a type --

    def type(self) -> Schema:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise SchemaError(f"nested deeper than {_DEEPEST} levels: {_brief(self.here())}")
        schema = self.brackets() or self.words()
        self.depth -= 1
        self.skip(_SPACE)
        return self.question(schema)

    def question(self, schema: Schema) -> Schema:
        return _nullable(schema) if self.take("?") else schema

    def brackets(self) -> Schema | None:
        if self.take("{"):
            return self.fields("}")
        if not self.take("["):
            return None
        self.skip(_BLANK)
        items = self.type()
        self.skip(_BLANK)
        if not self.take("]"):
            raise SchemaError(f"missing ']' before {self.rest()} in {self.here()}")
        return {"type": "array", "items": items}

    def words(self) -> Schema:
        word = self.match(_VALUE).strip()
        if self.next() == "|" or (not word and self.next() == '"'):
            return self.enumeration(word)
        if word in _TYPES:
            return {"type": _TYPES[word]}
        if ".." in word:
            return self.range(word)
        if not word:
            raise SchemaError(f"a type is missing before {self.rest()} in {self.here()} {_FORMS}")
        raise SchemaError(f"unknown type {_brief(word)!r} of {self.here()} {_FORMS}")

    def range(self, word: str) -> Schema:
        found = _RANGE.fullmatch(word)
        if not found:
            raise SchemaError(f"range {_brief(word)!r} of {self.here()} wants two whole numbers, such as 1..10")
        low, high = map(int, found.groups())
        if low > high:
            raise SchemaError(f"range {word!r} of {self.here()} is empty: the lower number comes first")
        return {"type": "integer", "minimum": low, "maximum": high}

    def enumeration(self, word: str) -> Schema:
        values = [self.value(word)]
        while self.take("|"):
            self.skip(_BLANK)
            value = self.value(self.match(_VALUE).strip())
            if value in values:
                raise SchemaError(f"value {_brief(value)!r} of {self.here()} is there twice")
            values.append(value)
        if len(values) == 1:
            raise SchemaError(f"{self.here()} has one value only: {_quote(values[0])}; write two or more, such as a|b")
        return {"type": "string", "enum": values}

    def value(self, word: str) -> str:
        if not word and self.next() == '"':
            return self.string()
        if not word:
            raise SchemaError(f"an empty value of {self.here()}")
        if word in _TYPES or _RANGE.fullmatch(word):
            raise SchemaError(f"{word!r} is a type, not a value, of {self.here()}: quote it if it is meant as a word")
        return word

    # -- characters --

    def string(self) -> str:
        text = self.match(_STRING)
        try:
            found = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            why = error.msg if text else "the closing quote is missing"
            raise SchemaError(f"not a JSON string: {_brief(text) or self.rest()} ({why})") from None
        self.skip(_SPACE)
        return str(found)

    def next(self) -> str:
        """The character here; none at the end."""
        return self.text[self.at : self.at + 1]

    def take(self, char: str) -> bool:
        found = self.next() == char
        self.at += found
        return found

    def match(self, what: re.Pattern[str]) -> str:
        start, end = self.at, self.skip(what)
        return self.text[start:end]

    def skip(self, what: re.Pattern[str]) -> int:
        found = what.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return self.at

    # -- where an error is --

    def here(self) -> str:
        return f"field '{'.'.join(self.path)}'"

    def inside(self) -> str:
        return f" in {self.here()}" if self.path else ""

    def rest(self, before: str = "") -> str:
        return repr(_brief(before + self.text[self.at : self.at + 30], 20)) if self.next() or before else "the end"


def _quote(name: str) -> str:
    return json.dumps(_brief(name), ensure_ascii=False)
