"""The short notation for the shape of an answer, to JSON Schema.

As a grammar:

    notation  = fields | "{" fields "}"
    fields    = field { ("," | newline) field } [","]
    field     = name [type] ["?"] [":" words]         without a type: str
    type      = ("str" | "int" | "float" | "bool" | "[" type "]" | "{" fields "}"
                 | low ".." high | value "|" value { "|" value }) ["?"]
    name      = letters, digits, "_" and "-", or a JSON string
    value     = anything without , : | ? [ ] { } and quotes, or a JSON string
    words     = up to the next comma, or, where the fields stand on lines of their own, up to the
                end of the line; brackets in them are balanced, and keep their commas

There is a function for each rule, which leaves the cursor after what it read.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

import orjson

from llmstream.records.words import both_ends

Schema = dict[str, Any]


class NotationError(ValueError):
    """One line that says what to fix."""


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


def read(text: str) -> Schema:
    """The JSON Schema that a text in the short notation stands for."""
    cursor = _Cursor(text)
    braces = cursor.take("{")
    schema = _fields(cursor, "}" if braces else "")
    cursor.skip(_BLANK)
    if cursor.next():
        raise NotationError(f"{cursor.rest()} follows the closing '}}' of the schema")
    return schema


class _Cursor:
    """Where the reader is in the text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.path: list[str] = []  # the names of the fields around `at`
        self.depth = 0  # of types in types

    def next(self) -> str:
        """The character here; none at the end."""
        return self.text[self.at : self.at + 1]

    def take(self, char: str) -> bool:
        """Is it this character? Then go past it."""
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
        return repr(both_ends(before + self.text[self.at : self.at + 30], 20)) if self.next() or before else "the end"


# -- fields -------------------------------------------------------------------------------------------


def _fields(cursor: _Cursor, end: str) -> Schema:
    by_line = _is_one_a_line(cursor)
    properties: Schema = {}
    while not _is_ended(cursor, end):
        name, schema = _field(cursor, by_line)
        if name in properties:
            raise NotationError(f"field {name!r} is there twice{cursor.inside()}")
        properties[name] = schema
        _separator(cursor, end)
    if not properties:
        raise NotationError(f"no field{cursor.inside() or ' in the schema'}: name one, such as 'name str'")
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _is_one_a_line(cursor: _Cursor) -> bool:
    """Does a line end between two fields of the group that begins here, not deeper?"""
    depth = 0
    for found in _BRACKET_OR_LINE.finditer(cursor.text, cursor.skip(_BLANK)):
        if found[0] == "\n" and depth == 0:
            return True
        depth += (found[0] in "[{") - (found[0] in "]}")
        if depth < 0:
            break
    return False


def _is_ended(cursor: _Cursor, end: str) -> bool:
    cursor.skip(_BLANK)
    if cursor.next():
        return bool(end) and cursor.take(end)
    if end:
        raise NotationError(f"missing {end!r} at the end{cursor.inside()}")
    return True


def _separator(cursor: _Cursor, end: str) -> None:
    cursor.skip(_SPACE)
    newline = cursor.next() == "\n"
    cursor.skip(_BLANK)
    if not cursor.take(",") and not newline and cursor.next() not in (end, ""):
        raise NotationError(f"{cursor.rest()} stands where the next field, or a comma, should{cursor.inside()}")


def _field(cursor: _Cursor, by_line: bool) -> tuple[str, Schema]:
    name = _name(cursor)
    cursor.path.append(name)
    cursor.skip(_SPACE)
    typed = cursor.next() not in ("", ",", "\n", "]", "}", ":", "?")
    schema = _type(cursor) if typed else _question(cursor, {"type": "string"})
    cursor.skip(_SPACE)
    if cursor.take(":"):
        schema = {**schema, "description": _description(cursor, by_line, typed)}
    cursor.path.pop()
    return name, schema


def _name(cursor: _Cursor) -> str:
    quoted = cursor.next() == '"'
    name = _string(cursor) if quoted else _bare_name(cursor)
    cursor.skip(_SPACE)
    if cursor.next() == "|" or (not name and cursor.next() in ("[", "{")):
        raise NotationError(f"give the field a name: 'NAME TYPE', not {cursor.rest(name)}{cursor.inside()}")
    if not name:
        raise NotationError(f"a field without a name before {cursor.rest()}{cursor.inside()}")
    return name


def _bare_name(cursor: _Cursor) -> str:
    name = cursor.match(_NAME)
    if name in _TYPES or _RANGE.fullmatch(name):
        raise NotationError(f"give the field a name: 'NAME {name}', or {_quote(name)} as a name{cursor.inside()}")
    if not all(map(_may_be_in_name, name)):
        raise NotationError(f"quote the name of field {both_ends(name)!r}, as {_quote(name)}{cursor.inside()}")
    return name


def _may_be_in_name(char: str) -> bool:
    """Letters, digits and marks of any script, and pictures."""
    kind = unicodedata.category(char)
    return char in "_-" or kind[0] in "LMN" or kind == "So"


def _description(cursor: _Cursor, by_line: bool, typed: bool) -> str:
    start = cursor.at
    while cursor.next() not in ("", "\n", "}", "]", "" if by_line else ","):
        cursor.at = _after_pair(cursor)
    words = cursor.text[start : cursor.at].strip().removesuffix(",").rstrip()
    if not words:
        raise NotationError(f"no words after the colon of {cursor.here()}")
    if not typed and _TYPE_MISPLACED.fullmatch(words):
        name = cursor.path[-1]
        hint = f"'{name} {both_ends(words, 40)}' (as a description: '{name} str: …')"
        raise NotationError(f"the type of {cursor.here()} goes before the colon: {hint}")
    return words


def _after_pair(cursor: _Cursor) -> int:
    """Where a description goes on: after the bracket that closes the one here, or after the character."""
    closing: list[str] = []
    for at in range(cursor.at, len(cursor.text)):
        char = cursor.text[at]
        if char in _PARTNER:
            closing.append(_PARTNER[char])
        elif char == "\n" or (closing and char in ")]}" and char != closing.pop()):
            break
        if not closing:
            return at + 1
    if cursor.next() != "(":  # a parenthesis means nothing to the notation, so it may stand alone
        raise NotationError(f"{cursor.next()!r} is never closed in the description of {cursor.here()}")
    return cursor.at + 1


# -- types --------------------------------------------------------------------------------------------


def _type(cursor: _Cursor) -> Schema:
    cursor.depth += 1
    if cursor.depth > _DEEPEST:
        raise NotationError(f"nested deeper than {_DEEPEST} levels: {both_ends(cursor.here())}")
    schema = _brackets(cursor) or _word_type(cursor)
    cursor.depth -= 1
    cursor.skip(_SPACE)
    return _question(cursor, schema)


def _question(cursor: _Cursor, schema: Schema) -> Schema:
    """The type; null is allowed beside it if a question mark follows."""
    if not cursor.take("?"):
        return schema
    enum = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, "type": [schema["type"], "null"], **enum}


def _brackets(cursor: _Cursor) -> Schema | None:
    if cursor.take("{"):
        return _fields(cursor, "}")
    if not cursor.take("["):
        return None
    cursor.skip(_BLANK)
    items = _type(cursor)
    cursor.skip(_BLANK)
    if not cursor.take("]"):
        raise NotationError(f"missing ']' before {cursor.rest()} in {cursor.here()}")
    return {"type": "array", "items": items}


def _word_type(cursor: _Cursor) -> Schema:
    word = cursor.match(_VALUE).strip()
    if cursor.next() == "|" or (not word and cursor.next() == '"'):
        return _enumeration(cursor, word)
    if word in _TYPES:
        return {"type": _TYPES[word]}
    if ".." in word:
        return _range(cursor, word)
    if not word:
        raise NotationError(f"a type is missing before {cursor.rest()} in {cursor.here()} {_FORMS}")
    raise NotationError(f"unknown type {both_ends(word)!r} of {cursor.here()} {_FORMS}")


def _range(cursor: _Cursor, word: str) -> Schema:
    found = _RANGE.fullmatch(word)
    if not found:
        raise NotationError(f"range {both_ends(word)!r} of {cursor.here()} needs two whole numbers, such as 1..10")
    low, high = map(int, found.groups())
    if low > high:
        raise NotationError(f"range {word!r} of {cursor.here()} is empty: the lower number comes first")
    return {"type": "integer", "minimum": low, "maximum": high}


def _enumeration(cursor: _Cursor, word: str) -> Schema:
    values = [_value(cursor, word)]
    while cursor.take("|"):
        cursor.skip(_BLANK)
        value = _value(cursor, cursor.match(_VALUE).strip())
        if value in values:
            raise NotationError(f"value {both_ends(value)!r} of {cursor.here()} is there twice")
        values.append(value)
    if len(values) == 1:
        only = f"has one value only: {_quote(values[0])}; write two or more, such as a|b"
        raise NotationError(f"{cursor.here()} {only}")
    return {"type": "string", "enum": values}


def _value(cursor: _Cursor, word: str) -> str:
    if not word and cursor.next() == '"':
        return _string(cursor)
    if not word:
        raise NotationError(f"an empty value of {cursor.here()}")
    if word in _TYPES or _RANGE.fullmatch(word):
        raise NotationError(f"{word!r} is a type, not a value, of {cursor.here()}: quote it if it is meant as a word")
    return word


# -- strings ------------------------------------------------------------------------------------------


def _string(cursor: _Cursor) -> str:
    text = cursor.match(_STRING)
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        why = error.msg if text else "the closing quote is missing"
        raise NotationError(f"not a JSON string: {both_ends(text) or cursor.rest()} ({why})") from None
    cursor.skip(_SPACE)
    return str(found)


def _quote(name: str) -> str:
    return json.dumps(both_ends(name), ensure_ascii=False)
