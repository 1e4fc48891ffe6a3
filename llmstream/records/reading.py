"""JSON Lines to records; and failed records, for the errors file and back from it."""

from __future__ import annotations

import json
from typing import Any

from llmstream.records import exact, splicing
from llmstream.records.decoding import NOT_UTF8, Utf8
from llmstream.records.values import BadLine, Failure, Found, Record
from llmstream.records.words import brief, name_of_input

LONGEST = 32 << 20  # bytes of a line; a longer one is a failed record, and does not fill the memory
KEPT = 64 << 10  # bytes of a line that is too long, for the errors file
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
        """Of a line that is too long, only enough to show that it is."""
        self._begun += part[: LONGEST + 1 - len(self._begun)]


class Source:
    """The records of one file of JSON Lines, or of lines of text, from its bytes as they come."""

    def __init__(self, name: str, encoding: str = "utf-8", *, raw_text: bool = False) -> None:
        self._name = name_of_input(name)
        self._raw_text = raw_text
        self._number = 0
        self._utf8 = Utf8(self._name, encoding)
        self._lines = Lines()

    def feed(self, chunk: bytes) -> Found:
        """The records that this chunk completes."""
        return self._parsed(self._lines.feed(self._utf8.feed(chunk)))

    def end(self) -> Found:
        """The record on a last line without its newline."""
        lines = self._lines.feed(self._utf8.end())
        last = self._lines.rest()
        return self._parsed([*lines, last] if last else lines)

    def _parsed(self, lines: list[bytes]) -> Found:
        found: Found = []
        for number, line in enumerate(lines, self._number + 1):
            if line and not line.isspace():
                found.append(parse(line, f"{self._name}:{number}", raw_text=self._raw_text))
        self._number += len(lines)
        return self._utf8.name_encoding(found)


def parse(line: bytes, where: str, *, raw_text: bool = False) -> Record | BadLine:
    """The record on a line; what an earlier run said about it in `error` is taken off again."""
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
        return _restored(line, data, where)
    return Record(line, data, where)


_TOO_LONG = "line longer than"
_NOT_KEPT = (NOT_UTF8, _TOO_LONG)  # the errors file cannot hold the very bytes of these lines


def _text(line: bytes, where: str) -> Record | BadLine:
    try:
        data = {"text": line.removesuffix(b"\r").decode()}
    except UnicodeDecodeError:
        return BadLine(line, where, NOT_UTF8)
    return Record(exact.dumps(data), data, where)


def _why_not(line: bytes, error: ValueError) -> str:
    try:
        line.decode()
    except UnicodeDecodeError:
        return NOT_UTF8
    if line in (b"{", b"[", b"[{"):
        return "not a JSON object on one line; jq -c makes lines of a whole file"
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON: {error.msg} at column {error.colno}"
    return f"not valid JSON: {error}"


# -- failed records, out and in -----------------------------------------------------------


def failed_line(source: Record | BadLine, failure: Failure, by: str) -> bytes:
    """The line for the errors file: the record as it came, and what went wrong."""
    error: dict[str, Any] = {"by": by, **failure._asdict()}
    if isinstance(source, BadLine):
        return exact.dumps({"error": {**error, "raw": source.raw.decode(errors="backslashreplace")}})
    line = exact.dumps(error)
    source = source._replace(data=exact.loads(source.line))  # a fold may have gone on with its data
    if "error" in source.data:
        line = b'%b,"was":%b}' % (line[:-1], splicing.text_of(source.line.decode(), "error").encode())
    return splicing.put(source, ("error",), line)


def _is_ours(error: Any) -> bool:
    """Is this what failed_line() puts into a record?"""
    return (
        isinstance(error, dict)
        and str(error.get("by")).startswith("llm-")
        and {"type", "message", "status", "attempts"} <= error.keys()
    )


def _restored(line: bytes, data: dict[str, Any], where: str) -> Record | BadLine:
    """What failed_line() was given, byte for byte."""
    error = data["error"]
    if "raw" in error and len(data) == 1:
        bad = _bad_again(error, where)
        return bad if bad.why.startswith(_NOT_KEPT) else parse(bad.raw, where)
    text = line.decode()
    if "was" in error:
        was = splicing.text_of(splicing.text_of(text, "error"), "was")
        line = splicing.put(Record(line, data, where), ("error",), was.encode())
    else:
        line = splicing.without(text, "error").encode()
    return Record(line, exact.loads(line), where)


def _bad_again(error: dict[str, Any], where: str) -> BadLine:
    """A line that was not kept as it was: what is left of it must not pass for the whole."""
    return BadLine(str(error["raw"]).encode(), where, str(error["message"]))


def _failed_text(line: bytes, where: str) -> Record | BadLine | None:
    """What failed_line() was given in a run with -R; None if this line is a text like any other."""
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
