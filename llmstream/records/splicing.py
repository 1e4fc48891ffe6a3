"""A record's own bytes with something spliced in: everything else stays as it was written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from llmstream.records import exact
from llmstream.records.values import Record


def put(record: Record, path: tuple[str, ...], value: bytes) -> bytes:
    """The record's bytes with a value at a path."""
    if path[0] not in record.data:
        for name in reversed(path[1:]):
            value = b"{%b:%b}" % (exact.dumps(name), value)
        comma = b"," if record.data else b""
        return b"%b%b%b:%b}" % (record.line[:-1], comma, exact.dumps(path[0]), value)
    return _put(record.line.decode(), path, value.decode()).encode()


def put_each(record: Record, places: Sequence[tuple[tuple[str, ...], bytes]]) -> bytes:
    """The record's bytes with values at several paths."""
    for path, value in places[:-1]:
        record = with_value(record, path, value)
    return put(record, *places[-1]) if places else record.line


def with_value(record: Record, path: tuple[str, ...], value: bytes) -> Record:
    """The record with a value at a path. In its data only the names of the fields are up to date: put needs no more."""
    return record._replace(line=put(record, path, value), data={**record.data, path[0]: None})


def merge(record: Record, answer: bytes) -> Record:
    """The record with the fields of an object put into it."""
    for name, value in exact.loads(answer).items():
        record = with_value(record, (name,), exact.dumps(value))
    return record


def blocked(data: dict[str, Any], path: tuple[str, ...]) -> str | None:
    """The field on the way to a path that is not an object, if there is one."""
    here: Any = data
    for depth, name in enumerate(path[:-1]):
        here = here.get(name)
        if here is None:
            return None
        if not isinstance(here, dict):
            return ".".join(path[: depth + 1])
    return None


def holds(data: dict[str, Any], path: tuple[str, ...]) -> bool:
    """Is there something at a path already?"""
    here: Any = data
    for name in path:
        if not isinstance(here, dict) or name not in here:
            return False
        here = here[name]
    return True


_skip = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode
_space = re.compile(r"[ \t\n\r]*").match


def _after_space(text: str, at: int) -> int:
    found = _space(text, at)
    return found.end() if found else at


def _members(text: str) -> Iterator[tuple[str, int, int, int]]:
    """Each member of an object's text: its name, where it begins, where its value does, where it ends."""
    at = _after_space(text, 1)
    while text[at] != "}":
        start = at
        name, at = _skip(text, at)
        value = _after_space(text, _after_space(text, at) + 1)
        _, at = _skip(text, value)
        yield name, start, value, at
        at = _after_space(text, at)
        if text[at] == ",":
            at = _after_space(text, at + 1)


def _put(text: str, path: tuple[str, ...], value: str) -> str:
    name, inner = path[0], path[1:]
    found = [member for member in _members(text) if member[0] == name]
    if not found:
        for part in reversed(inner):
            value = f"{{{exact.dumps(part).decode()}:{value}}}"
        comma = "," if text[1:-1].strip() else ""
        return f"{text[:-1]}{comma}{exact.dumps(name).decode()}:{value}}}"
    _, _, start, end = found[-1]  # if a name is repeated, the last one wins
    if inner:
        value = _put(text[start:end] if text[start] == "{" else "{}", inner, value)
    return text[:start] + value + text[end:]


def text_of(text: str, name: str) -> str:
    """The text of a member's value."""
    *_, (_, _, start, end) = (member for member in _members(text) if member[0] == name)
    return text[start:end]


def without(text: str, name: str) -> str:
    """An object's text without a member: undoes put, byte for byte."""
    members = list(_members(text))
    at = max(n for n, member in enumerate(members) if member[0] == name)
    _, start, _, end = members[at]
    if at:
        return text[: text.index(",", members[at - 1][3])] + text[end:]
    return text[:start] + text[members[1][1] if len(members) > 1 else end :]
