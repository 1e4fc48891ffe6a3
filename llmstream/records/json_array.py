"""One JSON array: its elements to records, and records to an array."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from llmstream.records import exact, reading
from llmstream.records.decoding import Utf8
from llmstream.records.values import BadLine, Found, Record
from llmstream.records.words import name_of_input

# -- in -----------------------------------------------------------------------------------------------

_line_break = re.compile(rb"[ \t\r]*\n[ \t\r\n]*")


class _Head(NamedTuple):
    """The beginning of a value that is too long to be kept."""

    raw: bytes
    line: int


class JsonArray:
    """The elements of an array, read one after the other; also one object alone, or several."""

    def __init__(self, name: str, encoding: str = "utf-8") -> None:
        self._name = name_of_input(name)
        self._utf8 = Utf8(self._name, encoding)
        self._held = bytearray()  # what is not done with yet
        self._values = _Values(self._held)
        self._places = _Places(self._held)
        self._head: _Head | None = None
        self._stopped = False

    def feed(self, chunk: bytes) -> Found:
        self._held += self._utf8.feed(chunk)
        return self._take(final=False)

    def end(self) -> Found:
        self._held += self._utf8.end()
        return self._take(final=True)

    def _take(self, *, final: bool) -> Found:
        found: Found = []
        try:
            while not self._stopped and (span := self._values.next(final=final)):
                found.append(self._value(*span))
            if final and not self._stopped:
                self._values.end()
        except _Broken as broken:
            found.append(self._broken(broken))
        self._forget()
        return self._utf8.name_encoding(found)

    def _value(self, start: int, end: int) -> Record | BadLine:
        raw, line = bytes(self._held[start:end]), self._places.line(start)
        if self._head is not None or len(raw) > reading.LONGEST:
            head, self._head = self._head or _Head(raw, line), None
            self._stopped = not _shows_its_end(head.raw)
            return self._bad(head.raw, head.line, f"value longer than {reading.LONGEST >> 20} MB")
        one = reading.parse(raw, f"{self._name}:{line}")
        if isinstance(one, BadLine):
            self._stopped = one.why.startswith("not valid") and not _shows_its_end(raw)
            return one._replace(why=self._with_place(one.why, raw, start))
        if b"\n" in one.line:  # of JSON that was read, so never within a string
            return one._replace(line=_line_break.sub(b"", one.line))
        return one

    def _with_place(self, why: str, raw: bytes, start: int) -> str:
        """What is wrong, with its place in the file."""
        if not why.startswith("not valid JSON"):
            return why
        try:
            exact.loads(raw)
        except json.JSONDecodeError as error:
            column = error.colno + (self._places.column(start) - 1 if error.lineno == 1 else 0)
            return f"not valid JSON: {error.msg} at line {self._places.line(start) + error.lineno - 1} column {column}"
        except ValueError:  # a number out of range has no place
            pass
        return why

    def _broken(self, broken: _Broken) -> BadLine:
        self._stopped = True
        start = self._values.begun
        head = self._head or (None if start is None else _Head(bytes(self._held[start:]), self._places.line(start)))
        line, column = self._places.line(broken.at), self._places.column(broken.at)
        head = head or _Head(bytes(self._held[broken.at :][:1]), line)
        return self._bad(head.raw, head.line, f"not valid JSON: {broken.what} at line {line} column {column}")

    def _bad(self, raw: bytes, line: int, why: str) -> BadLine:
        return BadLine(raw[: reading.KEPT], f"{self._name}:{line}", why)

    def _forget(self) -> None:
        """Keep only the value that is not whole yet; of one that is too long only the beginning."""
        start = self._values.begun
        if start is not None and self._head is None and len(self._held) - start > reading.LONGEST:
            self._head = _Head(bytes(self._held[start:][: reading.KEPT]), self._places.line(start))
        done = self._values.at if start is None or self._head is not None else start
        if self._stopped:
            done = len(self._held)
        self._places.forget(done)
        self._values.forget(done)
        del self._held[:done]


def _shows_its_end(raw: bytes) -> bool:
    """Has a value brackets or quotes? A wrong one without may be a piece of anything."""
    return raw[:1] in (b"{", b"[", b'"')


class _Places:
    """Lines and columns in the file, of offsets in the bytes that are held."""

    def __init__(self, held: bytearray) -> None:
        self._held = held
        self._line, self._counted = 1, 0  # the line at an offset
        self._first_column = 1

    def line(self, at: int) -> int:
        if at < self._counted:
            return self._line - self._held.count(b"\n", at, self._counted)
        self._line += self._held.count(b"\n", self._counted, at)
        self._counted = at
        return self._line

    def column(self, at: int) -> int:
        newline = self._held.rfind(b"\n", 0, at)
        return self._first_column + at if newline < 0 else at - newline

    def forget(self, done: int) -> None:
        """So many of the first bytes are about to be dropped."""
        self._line, self._first_column, self._counted = self.line(done), self.column(done), 0


# -- where a value begins and ends --------------------------------------------------------------------

# Where the reader is: outside an array; in one: at its first element, behind a comma, behind an element.
_TOP, _FIRST, _NEXT, _AFTER = range(4)
_STEPS = {(_TOP, ord("[")): _FIRST, (_FIRST, ord("]")): _TOP, (_AFTER, ord(",")): _NEXT, (_AFTER, ord("]")): _TOP}
_QUOTE, _OPENING, _QUICK_DEPTH = ord('"'), b"{[", 3

_FLAT = rb'[^"{}\[\]]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*"[^"{}\[\]]*+)*'  # what stands before a bracket


def _shallow(depth: int) -> bytes:
    """A pattern for what stands within brackets where others are not nested deeper than this."""
    return rb"%b(?:[{\[]%b[}\]]%b)*" % (_FLAT, _shallow(depth - 1), _FLAT) if depth else _FLAT


_object = re.compile(rb"[ \t\r\n]*+(,?)[ \t\r\n]*+(\{%b\})" % _shallow(_QUICK_DEPTH), re.DOTALL).match
_flat = re.compile(_FLAT, re.DOTALL).match
_space = re.compile(rb"[ \t\r\n]*+").match
_word = re.compile(rb'[^ \t\r\n,\[\]{}"]*+').match
_string = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*', re.DOTALL).match  # up to its closing quote


class _Broken(Exception):
    """Nothing behind this can be told apart any more."""

    def __init__(self, what: str, at: int) -> None:
        super().__init__(what)
        self.what, self.at = what, at


class _Values:
    """Finds where values begin and end. A value may come in pieces; each byte of it is looked at once."""

    def __init__(self, held: bytearray) -> None:
        self._held = held
        self.begun: int | None = None  # where a value begins that is not whole yet
        self.at = 0  # up to where the bytes have been looked at
        self._state = _TOP
        self._depth = 0  # of brackets, and
        self._in_string = False  # in the value that has begun

    def next(self, *, final: bool) -> tuple[int, int] | None:
        """Where the next value begins and ends; None if that has not come yet."""
        span = self._next_object() or self._next_value(final=final)
        if span:
            self.begun, self.at = None, span[1]
            if self._state != _TOP:
                self._state = _AFTER
        return span

    def end(self) -> None:
        """Is this a good place for the file to end? _Broken if it is not."""
        if self.begun is not None:
            raise _Broken("the file ends in the middle of a value", len(self._held))
        if self._state != _TOP:
            raise _Broken("the file ends before its array does", len(self._held))

    def forget(self, done: int) -> None:
        """So many of the first bytes are about to be dropped."""
        self.at -= done
        self.begun = None if self.begun is None else 0

    def _next_object(self) -> tuple[int, int] | None:
        """The quick way, for an object that is there as a whole and not deep."""
        one = None if self.begun is not None else _object(self._held, self.at)
        if one is None or (self._state == _AFTER) != bool(one[1]):
            return None
        return one.span(2)

    def _next_value(self, *, final: bool) -> tuple[int, int] | None:
        if self.begun is None:
            self._go_to_value()
        start = self.begun
        if start is None:
            return None
        if self._in_string or self._depth or self._held[start] in _OPENING:
            end = self._find_closing()
        else:
            word = _end(_word(self._held, start))
            is_whole = word < len(self._held) or final or word - start > reading.LONGEST
            end = word if is_whole else None
        return None if end is None else (start, end)

    def _go_to_value(self) -> None:
        """To where a value begins, or as far as the bytes reach."""
        held = self._held
        while True:
            self.at = _end(_space(held, self.at))
            if self.at == len(held):
                return
            step = _STEPS.get((self._state, held[self.at]))
            if step is None:
                break
            self._state = step
            self.at += 1
        if self._state == _AFTER:
            raise _Broken("no comma or ]", self.at)
        if held[self.at] in b",:]}":
            raise _Broken("no value", self.at)
        self.begun = self.at
        self._depth = 0
        self._in_string = held[self.at] == _QUOTE
        self.at += self._in_string

    def _find_closing(self) -> int | None:
        """Where the bracket or the quote is that ends the value."""
        held, at, depth = self._held, self.at, self._depth
        while True:
            at = _end((_string if self._in_string else _flat)(held, at))
            if at == len(held) or (self._in_string and held[at] != _QUOTE):  # that is a backslash, the last byte
                self.at, self._depth = at, depth
                return None
            byte = held[at]
            at += 1
            if byte == _QUOTE:
                self._in_string = not self._in_string
            else:
                depth += 1 if byte in _OPENING else -1
            if not depth and not self._in_string:
                return at


def _end(found: re.Match[bytes] | None) -> int:
    assert found  # these patterns match nothing at all, too
    return found.end()


# -- out ----------------------------------------------------------------------------------------------


class JsonWriter:
    """One array, an element a line."""

    def __init__(self) -> None:
        self._begun = False

    def element(self, line: bytes) -> bytes:
        before = b",\n" if self._begun else b"[\n"
        self._begun = True
        return before + line

    def end(self) -> bytes:
        return b"\n]\n" if self._begun else b"[]\n"
