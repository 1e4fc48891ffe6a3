"""Bytes to records, and a record's own bytes with an answer spliced in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from llmstream import exact
from llmstream.complain import brief
from llmstream.values import BadLine, Failure, Record

LONGEST = 32 << 20  # of one line; more is one failed record, not all of the memory
KEPT = 64 << 10  # of a line that is too long, for the errors file
_BLANK = b" \t\r\n"


class Lines:
    """Cuts chunks of bytes into lines; holds at most the beginning of one unfinished line."""

    def __init__(self) -> None:
        self._begun = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines that this chunk completes, each without its newline."""
        if b"\n" not in chunk:
            self._keep(chunk)
            return []
        first, *lines = chunk.split(b"\n")
        self._keep(first)
        done = [self.rest(), *lines[:-1]]
        self._keep(lines[-1])
        return done

    def rest(self) -> bytes:
        """What is left at the end of the input: a last line without its newline."""
        line = bytes(self._begun)
        self._begun.clear()
        return line

    def _keep(self, part: bytes) -> None:
        """Of a line that is too long only so much that this shows."""
        self._begun += part[: LONGEST + 1 - len(self._begun)]


class Source:
    """The records of one file, a line each, from its bytes as they come."""

    def __init__(self, name: str, *, raw_text: bool) -> None:
        self._name = "<stdin>" if name == "-" else name
        self._raw_text = raw_text
        self._number = 0
        self._lines = Lines()

    def feed(self, chunk: bytes) -> list[Record | BadLine]:
        """The records that this chunk completes."""
        return self._parsed(self._lines.feed(chunk))

    def end(self) -> list[Record | BadLine]:
        """The record on a last line without its newline."""
        last = self._lines.rest()
        return self._parsed([last] if last else [])

    def _parsed(self, lines: list[bytes]) -> list[Record | BadLine]:
        if lines and not self._number:
            lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")  # a byte order mark is no part of the line
        found: list[Record | BadLine] = []
        for number, line in enumerate(lines, self._number + 1):
            if line and not line.isspace():
                found.append(parse(line, f"{self._name}:{number}", raw_text=self._raw_text))
        self._number += len(lines)
        return found


def parse(line: bytes, where: str, *, raw_text: bool = False) -> Record | BadLine:
    """The record on a line; what an earlier run said of it in `error` is taken off again."""
    if len(line) > LONGEST:
        return BadLine(line[:KEPT], where, f"{_TOO_LONG} {LONGEST >> 20} MB")
    if raw_text:
        return _failed_text(line, where) or _text(line, where)
    line = line.strip(_BLANK)
    try:
        data = exact.loads(line)
    except ValueError as error:
        return BadLine(line, where, _why_not(line, error))
    if not isinstance(data, dict):
        return BadLine(line, where, f"not a JSON object: {brief(line.decode(), 60)}")
    if _is_ours(data.get("error")):
        return _healed(line, data, where)
    return Record(line, data, where)


# Of these lines the errors file cannot hold the very bytes.
_NOT_UTF8 = "not valid UTF-8"
_TOO_LONG = "line longer than"


def _text(line: bytes, where: str) -> Record | BadLine:
    try:
        data = {"text": line.removesuffix(b"\r").decode()}
    except UnicodeDecodeError:
        return BadLine(line, where, _NOT_UTF8)
    return Record(exact.dumps(data), data, where)


def _why_not(line: bytes, error: ValueError) -> str:
    try:
        line.decode()
    except UnicodeDecodeError:
        return _NOT_UTF8
    if line in (b"{", b"[", b"[{"):
        return "not a JSON object on one line; jq -c makes lines of a whole file"
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON: {error.msg} at column {error.colno}"
    return f"not valid JSON: {error}"


# -- failed records, out and in -----------------------------------------------------------


def failed(source: Record | BadLine, failure: Failure, by: str) -> bytes:
    """The line for the errors file: the record as it came, and what went wrong."""
    error: dict[str, Any] = {"by": by, **failure._asdict()}
    if isinstance(source, BadLine):
        return exact.dumps({"error": {**error, "raw": source.raw.decode(errors="backslashreplace")}})
    told = exact.dumps(error)
    source = source._replace(data=exact.loads(source.line))  # a fold may have gone on with its data
    if "error" in source.data:
        told = b'%b,"was":%b}' % (told[:-1], _text_of(source.line.decode(), "error").encode())
    return put(source, ("error",), told)


def _is_ours(error: Any) -> bool:
    """Is this what failed() puts into a record?"""
    return (
        isinstance(error, dict)
        and str(error.get("by")).startswith("llm-")
        and {"type", "message", "status", "attempts"} <= error.keys()
    )


def _healed(line: bytes, data: dict[str, Any], where: str) -> Record | BadLine:
    """What failed() was given, byte for byte."""
    error = data["error"]
    if "raw" in error and len(data) == 1:
        bad = _bad_again(error, where)
        return bad if bad.why.startswith((_NOT_UTF8, _TOO_LONG)) else parse(bad.raw, where)
    text = line.decode()
    if "was" in error:
        line = put(Record(line, data, where), ("error",), _text_of(_text_of(text, "error"), "was").encode())
    else:
        line = _without(text, "error").encode()
    return Record(line, exact.loads(line), where)


def _bad_again(error: dict[str, Any], where: str) -> BadLine:
    """A line that was not kept as it was: what is left of it must not pass for the whole."""
    return BadLine(str(error["raw"]).encode(), where, str(error["message"]))


def _failed_text(line: bytes, where: str) -> Record | BadLine | None:
    """What failed() was given in a run with -R; None if this line is a text like any other."""
    if b'"error":{"by":"llm-' not in line:
        return None
    try:
        data = exact.loads(line)
        error = data.pop("error")
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    if not _is_ours(error):
        return None
    if not data and "raw" in error:
        return _bad_again(error, where)
    is_text = len(data) == 1 and isinstance(data.get("text"), str)
    return Record(exact.dumps(data), data, where) if is_text else None


# -- splicing -------------------------------------------------------------------------------


def put(record: Record, path: tuple[str, ...], value: bytes) -> bytes:
    """The record's bytes with a value at a path; all else stays as it was written."""
    if path[0] not in record.data:
        for name in reversed(path[1:]):
            value = b"{%b:%b}" % (exact.dumps(name), value)
        comma = b"," if record.data else b""
        return b"%b%b%b:%b}" % (record.line[:-1], comma, exact.dumps(path[0]), value)
    return _put(record.line.decode(), path, value.decode()).encode()


def put_each(record: Record, places: Sequence[tuple[tuple[str, ...], bytes]]) -> bytes:
    """The same for several paths, each with a value of its own."""
    for path, value in places[:-1]:
        record = with_value(record, path, value)
    return put(record, *places[-1]) if places else record.line


def with_value(record: Record, path: tuple[str, ...], value: bytes) -> Record:
    """The record with a value at a path. Of its data only the names of the fields are kept up: put looks for these."""
    return record._replace(line=put(record, path, value), data={**record.data, path[0]: None})


def merge(record: Record, answer: bytes) -> Record:
    """The record with the fields of an object put into it."""
    for name, value in exact.loads(answer).items():
        record = with_value(record, (name,), exact.dumps(value))
    return record


def blocked(data: dict[str, Any], path: tuple[str, ...]) -> str | None:
    """The field on the way to a path that is no object, if there is one."""
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
    _, _, start, end = found[-1]  # of names that stand twice the last one counts
    if inner:
        value = _put(text[start:end] if text[start] == "{" else "{}", inner, value)
    return text[:start] + value + text[end:]


def _text_of(text: str, name: str) -> str:
    """The text of a member's value."""
    *_, (_, _, start, end) = (member for member in _members(text) if member[0] == name)
    return text[start:end]


def _without(text: str, name: str) -> str:
    """An object's text without a member: the inverse of put, byte for byte."""
    members = list(_members(text))
    at = max(n for n, member in enumerate(members) if member[0] == name)
    _, start, _, end = members[at]
    if at:
        return text[: text.index(",", members[at - 1][3])] + text[end:]
    return text[:start] + text[members[1][1] if len(members) > 1 else end :]


# -- for people -------------------------------------------------------------------------------

_RAW_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def for_terminal(out: bytes) -> bytes:
    """Output with its control characters escaped as JSON would; newlines and tabs stay."""
    return _RAW_CONTROL.sub(_harmless, out.decode(errors="replace")).encode()


def _harmless(found: re.Match[str]) -> str:
    # A record's own white space may hold a carriage return, and no JSON text an escape there.
    return " " if found[0] == "\r" else f"\\u{ord(found[0]):04x}"
