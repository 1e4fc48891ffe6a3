"""Other formats than JSON Lines: CSV, one JSON array, whole texts; records from them and back into them.

A reader is fed chunks of bytes, cut anywhere, and gives back the records that each of them
completes; what it holds meanwhile is bounded. What cannot be read is a bad line with its place,
and costs no more of what stands around it than it must.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
import sys
from collections import deque
from collections.abc import Iterable
from itertools import accumulate
from typing import Any, NamedTuple

from llmstream.records import exact, reading
from llmstream.records.values import BadLine, Reader, Record

READ = ("csv", "json", "jsonl", "text")
WRITTEN = ("csv", "json", "jsonl")
_BY_NAME = {"csv": "csv", "tsv": "csv", "json": "json", "jsonl": "jsonl", "ndjson": "jsonl", "txt": "text"}

Found = list[Record | BadLine]


class Unreadable(ValueError):
    """Why nothing of a file can be read until somebody changes something, in one line."""


class Dialect(NamedTuple):
    """How a file is written, as far as nobody can tell from the file."""

    encoding: str = "utf-8"
    delimiter: str = ","
    header: bool = True  # does the first row name the fields?
    columns: tuple[str, ...] = ()  # their names where it does not; without any, they are 1, 2, 3 ...


def format_of(name: str) -> str:
    """The format that a file's name speaks of."""
    return _BY_NAME.get(_suffix(name), "jsonl")


def delimiter_of(name: str) -> str:
    return "\t" if _suffix(name) == "tsv" else ","


def _suffix(name: str) -> str:
    _, dot, suffix = _base(name).rpartition(".")
    return suffix.lower() if dot else ""


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _shown(name: str) -> str:
    return "<stdin>" if name == "-" else name


def reader(kind: str, name: str, dialect: Dialect | None = None, *, raw_text: bool = False) -> Reader:
    """The reader for a file in one of the formats. ValueError if the dialect makes no sense."""
    dialect = dialect or Dialect(delimiter=delimiter_of(name))
    match kind:
        case "csv":
            return Csv(name, dialect)
        case "json":
            return JsonArray(name, dialect.encoding)
        case "text":
            return Text(name, dialect.encoding)
    return Jsonl(name, dialect.encoding, raw_text=raw_text)


# -- bytes in any encoding ----------------------------------------------------------------------

_BOM = b"\xef\xbb\xbf"
_NOT_UTF8 = "not valid UTF-8"  # as records says it
_MARK = "llmstream.mark"


def _mark(error: UnicodeError) -> tuple[str | bytes, int]:
    """What stands for bytes that cannot be decoded: no UTF-8 has it, so whoever reads on finds it."""
    if isinstance(error, UnicodeDecodeError):
        return "\udcff", error.end
    if isinstance(error, UnicodeEncodeError):
        return b"\xff" * (error.end - error.start), error.end
    raise error


codecs.register_error(_MARK, _mark)


class _Utf8:
    """Bytes in some encoding to UTF-8 without a byte order mark. Those that are UTF-8 already pass as they are."""

    def __init__(self, name: str, encoding: str) -> None:
        self._name = _shown(name)
        self._encoding = encoding
        self._decoder = _decoder(encoding)
        self.why = f"not valid {encoding}" if self._decoder else _NOT_UTF8
        self._first = b""
        self._begun = False

    def feed(self, chunk: bytes, *, final: bool = False) -> bytes:
        data = self._convert(chunk, final=final) if self._decoder else chunk
        if self._begun:
            return data
        self._first += data
        if len(self._first) < len(_BOM) and not final:
            return b""  # it may be half of a byte order mark
        self._begun = True
        return self._first.removeprefix(_BOM)

    def end(self) -> bytes:
        return self.feed(b"", final=True)

    def _convert(self, chunk: bytes, *, final: bool) -> bytes:
        assert self._decoder
        try:
            return self._decoder.decode(chunk, final).encode("utf-8", _MARK)
        except UnicodeError as error:  # a file of the wrong kind: UTF-16 without a byte order mark
            raise Unreadable(f"{self._name}: cannot be read as {self._encoding}: {error}") from None


def _decoder(encoding: str) -> codecs.IncrementalDecoder | None:
    """None for UTF-8."""
    try:
        "a".encode(encoding)  # refuses what is no encoding of text, such as base64
        if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig"):
            return None
        return codecs.getincrementaldecoder(encoding)(_MARK)
    except (LookupError, ValueError):
        raise ValueError(f"unknown encoding {encoding}") from None


# -- JSON Lines -----------------------------------------------------------------------------------


class Jsonl:
    """JSON Lines, or with raw_text lines of text, in any encoding."""

    def __init__(self, name: str, encoding: str = "utf-8", *, raw_text: bool = False) -> None:
        self._utf8 = _Utf8(name, encoding)
        self._source = reading.Source(name, raw_text=raw_text)

    def feed(self, chunk: bytes) -> Found:
        return self._renamed(self._source.feed(self._utf8.feed(chunk)))

    def end(self) -> Found:
        return self._renamed(self._source.feed(self._utf8.end()) + self._source.end())

    def _renamed(self, found: Found) -> Found:
        return found if self._utf8.why == _NOT_UTF8 else [_renamed(one, self._utf8) for one in found]


def _renamed(one: Record | BadLine, utf8: _Utf8) -> Record | BadLine:
    """A bad line says which encoding it is not in."""
    if isinstance(one, BadLine) and one.why == _NOT_UTF8:
        return one._replace(why=utf8.why)
    return one


# -- whole texts ----------------------------------------------------------------------------------


class Text:
    """A file that is one record."""

    def __init__(self, name: str, encoding: str = "utf-8") -> None:
        self._name = name
        self._utf8 = _Utf8(name, encoding)
        self._held = bytearray()

    def feed(self, chunk: bytes) -> Found:
        self._keep(self._utf8.feed(chunk))
        return []

    def end(self) -> Found:
        self._keep(self._utf8.end())
        raw = bytes(self._held)
        if len(raw) > reading.LONGEST:
            return [BadLine(raw[: reading.KEPT], _shown(self._name), f"text longer than {reading.LONGEST >> 20} MB")]
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            return [BadLine(raw, _shown(self._name), self._utf8.why)]
        path = exact.scrub(self._name)  # a file's name may be bytes that are no text
        data = {"file_name": _base(path), "path": path, "text": text}
        return [Record(exact.dumps(data), data, _shown(self._name))]

    def _keep(self, part: bytes) -> None:
        self._held += part[: reading.LONGEST + 1 - len(self._held)]


# -- CSV in ---------------------------------------------------------------------------------------

csv.field_size_limit(sys.maxsize)  # records.LONGEST is the limit here; the library's own is 128 KB

_STRAY_QUOTE = "text behind the closing quote of a cell"
_UNCLOSED = "a quoted cell that is not closed"
_CONVINCING = 3  # rows that fit, one after the other: prose with commas in it hardly ever does that

_LINE = re.compile(r"[^\r]*+(?:\r\n?|\Z)")


class Csv:
    """Rows of CSV.

    The standard library's reader pulls lines from a queue. When that runs empty in the middle of
    a row, the reader forgets the row, and gets all of its lines again when the row is whole.
    """

    def __init__(self, name: str, dialect: Dialect = Dialect()) -> None:  # noqa: B008 - it is frozen
        self._name = _shown(name)
        self._dialect = dialect
        self._utf8 = _Utf8(name, dialect.encoding)
        self._lines = reading.Lines()
        self._queue: deque[str] = deque()
        self._reader = csv.reader(iter(self._queue.popleft, None), delimiter=dialect.delimiter, strict=True)
        self._goes_on = _open_after(dialect.delimiter)
        self._names = None if dialect.header or not dialect.columns else _named(dialect.columns)
        self._open: list[str] = []  # the lines of a row that is not whole yet,
        self._size = 0  # and how long they are together
        self._number = 1  # of the line with which the next row begins

    def feed(self, chunk: bytes) -> Found:
        return self._take(self._lines.feed(self._utf8.feed(chunk)))

    def end(self) -> Found:
        found = self._take(self._lines.feed(self._utf8.end()))
        if last := self._lines.rest():
            found += self._take([last])
        lines, self._open = self._open, []
        if lines:
            lost = self._give_up(lines, _UNCLOSED, found)
            found += self._rows(lines[lost:])
        return found

    def _take(self, lines: list[bytes]) -> Found:
        if max(map(len, lines), default=0) <= reading.LONGEST:
            return self._rows(self._lengthen(_text_lines(lines)))
        found: Found = []
        for line in lines:
            found += self._too_long(line) if len(line) > reading.LONGEST else self._take([line])
        return found

    def _lengthen(self, lines: list[str]) -> list[str]:
        """The lines to be read now. Those with which an open row only goes on are kept until it is whole, or
        each line of a long cell would have the reader begin with the row anew."""
        if not self._open:
            return lines
        at = 0
        while at < len(lines) and self._size <= reading.LONGEST and self._only_goes_on(lines[at]):
            self._size += len(lines[at])
            at += 1
        self._open += lines[:at]
        if at == len(lines) and self._size <= reading.LONGEST:
            return []
        lines, self._open = self._open + lines[at:], []
        return lines

    def _only_goes_on(self, line: str) -> bool:
        return '"' not in line.replace('""', "") or bool(self._goes_on(line))

    def _rows(self, lines: list[str]) -> Found:
        found: Found = []
        self._queue.extend(lines)
        at = 0
        while at < len(lines):
            at = self._run(lines, at, found)
        return found

    def _run(self, lines: list[str], at: int, found: Found) -> int:
        """Read rows until something is wrong with one, or to the end; where to go on."""
        csv_reader, done = self._reader, self._reader.line_num - at
        try:
            for row in csv_reader:
                end = csv_reader.line_num - done
                if end - at > 1 and _size(lines[at:end]) > reading.LONGEST:
                    return self._skip(lines, at, end, found)
                if row:  # there is nothing in an empty line
                    self._add(row, lines, at, end, found)
                self._number += 1 if end - at == 1 else _newlines(lines[at:end])
                at = end
        except csv.Error:
            return self._skip(lines, at, csv_reader.line_num - done, found)
        except IndexError:
            if self._queue:
                raise
        size = _size(lines[at:])
        if size > reading.LONGEST:
            return self._skip(lines, at, len(lines), found)
        self._open, self._size = lines[at:], size
        return len(lines)

    def _add(self, row: list[str], lines: list[str], at: int, end: int, found: Found) -> None:
        names = self._names
        if names is None:
            if self._begin(row):
                return
            names = self._names
            assert names
        if len(row) != len(names):
            why = f"{len(row)} cell{'s' * (len(row) > 1)} where there are {len(names)} columns"
            found.append(self._bad(lines[at:end], why))
            return
        data = dict(zip(names, row, strict=True))
        try:
            found.append(Record(exact.dumps(data), data, f"{self._name}:{self._number}"))
        except TypeError:  # half a surrogate pair, which stands for what could not be decoded
            found.append(self._bad(lines[at:end], self._utf8.why))

    def _begin(self, row: list[str]) -> bool:
        """The names of the fields from the first row; was that all it is there for?"""
        if not self._dialect.header:
            self._names = _named([""] * len(row))
            return False
        where = f"{self._name}:{self._number}"
        if not _is_text("".join(row)):
            raise Unreadable(f"{where}: the header is {self._utf8.why}; --encoding says what it is in")
        try:
            self._names = _named(row)
        except ValueError as error:
            raise Unreadable(f"{where}: {error}; take that line out and name them with --no-header --columns") from None
        return True

    def _skip(self, lines: list[str], at: int, end: int, found: Found) -> int:
        """Past a row that cannot be read, of which the reader has had the lines up to end; where to go on."""
        sizes = accumulate(map(len, lines[at:end]))
        too_long = next((n for n, size in enumerate(sizes, at + 1) if size > reading.LONGEST), None)
        why = _row_too_long() if too_long else _STRAY_QUOTE
        go_on = at + self._give_up(lines[at : too_long or end], why, found)
        self._queue.extendleft(reversed(lines[go_on:end]))
        return go_on

    def _give_up(self, lines: list[str], why: str, found: Found) -> int:
        """How many lines of a row that cannot be read are lost: the first, if all behind it are rows themselves."""
        lost = 1 if self._are_rows(lines[1:]) else len(lines)
        number = self._number + _newlines(lines[:lost])
        if number - self._number > 1:
            why += f", lines {self._number} to {number - 1}"
        found.append(self._bad(lines[:lost], why))
        self._number = number
        return lost

    def _are_rows(self, lines: list[str]) -> bool:
        """Do lines that could be the inside of a quoted cell look like rows with the right number of cells? Text
        that was cut off must not become records."""
        if self._names is None or len(self._names) < 2 or not lines:
            return False
        fits = _whole_row(self._dialect.delimiter, len(self._names))
        return all(map(fits, lines)) and (len(lines) >= _CONVINCING or any('"' in line for line in lines))

    def _too_long(self, line: bytes) -> Found:
        """A line of which only the beginning was kept: with it ends the row that it is in."""
        lines, self._open = [*self._open, line.decode(errors="surrogateescape")], []
        bad = self._bad(lines, _row_too_long())
        self._number += _newlines(lines)
        return [bad]

    def _bad(self, lines: list[str], why: str) -> BadLine:
        where = f"{self._name}:{self._number}"
        if self._names is None and self._dialect.header:
            raise Unreadable(f"{where}: the header cannot be read: {why}")
        raw = "".join(lines).rstrip("\r\n").encode(errors="surrogateescape")
        return BadLine(raw[: reading.KEPT if len(raw) > reading.LONGEST else None], where, why)


def _text_lines(lines: list[bytes]) -> list[str]:
    """The lines with their ends. A lone carriage return ends a line too, as old spreadsheets wrote it."""
    if not lines:
        return []
    text = b"\n".join(lines).decode(errors="surrogateescape")
    ended = [line + "\n" for line in text.split("\n")]
    if text.count("\r") - text.count("\r\n") - text.endswith("\r") > 0:
        return [part for line in ended for part in _LINE.findall(line) if part]
    return ended


def _size(lines: list[str]) -> int:
    return sum(map(len, lines))


def _newlines(lines: list[str]) -> int:
    """How many lines an editor sees: a carriage return within a cell ends none."""
    return 1 + sum(line.endswith("\n") for line in lines[:-1])


def _row_too_long() -> str:
    return f"row longer than {reading.LONGEST >> 20} MB"


def _is_text(text: str) -> bool:
    return not re.search("[\ud800-\udfff]", text)


def _named(names: Iterable[str]) -> tuple[str, ...]:
    """Names for the columns. One without a name, such as the index that pandas writes, is called by its number."""
    return _distinct(name or str(number) for number, name in enumerate(names, 1))


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    known: dict[str, None] = {}
    for name in names:
        if name in known:
            raise ValueError(f"two columns called {name}")
        known[name] = None
    return tuple(known)


# In these patterns single characters are never tried again, but groups may be: before Python 3.11.5 a group that
# may not (with a plus behind its star) misses matches.
_QUOTED = '[^"]*+(?:""[^"]*+)*'  # what stands between the quotes of a cell


def _open_after(delimiter: str) -> Any:
    """Matches a line that begins within a quoted cell and ends within one: that one, or a later one of the row."""
    d = re.escape(delimiter)
    plain = rf'(?:[^"{d}\r\n][^{d}\r\n]*+)?{d}'
    return re.compile(rf'{_QUOTED}(?:"{d}(?:{plain})*"{_QUOTED})*').fullmatch


def _whole_row(delimiter: str, columns: int) -> Any:
    """Matches a line that is a row without a quote where none belongs."""
    d = re.escape(delimiter)
    cell = rf'(?:"{_QUOTED}"|[^"{d}\r\n]*+)'
    return re.compile(rf"{cell}(?:{d}{cell}){{{columns - 1}}}[\r\n]+").fullmatch


# -- JSON in --------------------------------------------------------------------------------------

_TOP, _FIRST, _NEXT, _AFTER = range(4)  # outside an array; in one: at its first element, behind a comma, an element
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
_line_break = re.compile(rb"[ \t\r]*\n[ \t\r\n]*")


class JsonArray:
    """The elements of an array, read one after the other; also one object alone, or several."""

    def __init__(self, name: str, encoding: str = "utf-8") -> None:
        self._name = _shown(name)
        self._utf8 = _Utf8(name, encoding)
        self._held = bytearray()  # what is not done with yet
        self._state = _TOP
        self._begun: int | None = None  # where in it a value begins that is not whole yet
        self._at = 0  # up to where it has been looked at
        self._depth = 0
        self._in_string = False
        self._head: bytes | None = None  # the beginning of a value that is too long to be kept
        self._line, self._counted, self._column = 1, 0, 1  # the line at an offset; the column of the first byte held
        self._value_line = 1
        self._stopped = False

    def feed(self, chunk: bytes) -> Found:
        self._held += self._utf8.feed(chunk)
        return self._take(final=False)

    def end(self) -> Found:
        self._held += self._utf8.end()
        found = self._take(final=True)
        if not self._stopped and self._begun is not None:
            found.append(self._broken("the file ends in the middle of a value", len(self._held), self._begun))
        elif not self._stopped and self._state != _TOP:
            found.append(self._broken("the file ends before its array does", len(self._held)))
        return found

    def _take(self, *, final: bool) -> Found:
        found: Found = []
        while not self._stopped and (span := self._quick() or self._next(found, final=final)):
            found.append(self._value(*span))
            self._begun, self._at = None, span[1]
            if self._state != _TOP:
                self._state = _AFTER
        self._forget()
        return found

    def _quick(self) -> tuple[int, int] | None:
        """Where the next value begins and ends, if it is an object like most."""
        if self._begun is not None or (one := _object(self._held, self._at)) is None:
            return None
        if (self._state == _AFTER) != bool(one[1]):
            return None
        start, end = one.span(2)
        self._value_line = self._line_of(start)
        return start, end

    def _next(self, found: Found, *, final: bool) -> tuple[int, int] | None:
        """Where the next value begins and ends, whatever it is."""
        if self._begun is None and not self._go_to_value(found):
            return None
        start = self._begun or 0
        end = self._find_end(start, final=final)
        return None if end is None else (start, end)

    def _go_to_value(self, found: Found) -> bool:
        held, at = self._held, self._at
        while True:
            at = self._at = _end(_space(held, at))
            if at == len(held):
                return False
            step = _STEPS.get((self._state, held[at]))
            if step is None:
                break
            self._state = step
            at += 1
        if self._state == _AFTER or held[at] in b",:]}":
            found.append(self._broken("no comma or ]" if self._state == _AFTER else "no value", at))
            return False
        self._start(at)
        return True

    def _start(self, at: int) -> None:
        self._begun = at
        self._value_line = self._line_of(at)
        self._in_string = self._held[at] == _QUOTE
        self._at = at + self._in_string
        self._depth = 0

    def _find_end(self, start: int, *, final: bool) -> int | None:
        """Where the value ends; None if that has not come yet."""
        if self._in_string or self._depth or self._held[start] in _OPENING:
            return self._find_bracket()
        end = _end(_word(self._held, start))
        return end if end < len(self._held) or final or end - start > reading.LONGEST else None

    def _find_bracket(self) -> int | None:
        held, at, depth = self._held, self._at, self._depth
        while True:
            at = _end((_string if self._in_string else _flat)(held, at))
            if at == len(held) or (self._in_string and held[at] != _QUOTE):  # that is a backslash, the last byte
                self._at, self._depth = at, depth
                return None
            byte = held[at]
            at += 1
            if byte == _QUOTE:
                self._in_string = not self._in_string
            else:
                depth += 1 if byte in _OPENING else -1
            if not depth and not self._in_string:
                return at

    def _value(self, start: int, end: int) -> Record | BadLine:
        where = f"{self._name}:{self._value_line}"
        raw = bytes(self._held[start:end])
        if self._head is not None or len(raw) > reading.LONGEST:
            head, self._head = (self._head or b"") + raw, None
            self._stopped = self._is_word(head)
            return BadLine(head[: reading.KEPT], where, f"value longer than {reading.LONGEST >> 20} MB")
        one = reading.parse(raw, where)
        if isinstance(one, BadLine):
            self._stopped = one.why.startswith("not valid") and self._is_word(raw)
            return _renamed(one._replace(why=self._why(one.why, raw, start)), self._utf8)
        if b"\n" in one.line:  # of JSON that was read, so never within a string
            return one._replace(line=_line_break.sub(b"", one.line))
        return one

    @staticmethod
    def _is_word(raw: bytes) -> bool:
        """Is it no value that shows where it ends? If such a one is wrong, it may be a piece of anything."""
        return raw[:1] not in (b"{", b"[", b'"')

    def _why(self, why: str, raw: bytes, start: int) -> str:
        """What is wrong, with its place in the file."""
        if why.startswith("not valid JSON"):
            try:
                exact.loads(raw)
            except json.JSONDecodeError as error:
                line = self._value_line + error.lineno - 1
                column = error.colno + (self._column_of(start) - 1 if error.lineno == 1 else 0)
                return f"not valid JSON: {error.msg} at line {line} column {column}"
            except ValueError:  # a number out of range has no place
                pass
        return why

    def _broken(self, what: str, at: int, start: int | None = None) -> BadLine:
        """Behind this nothing can be told apart any more."""
        self._stopped = True
        line, column = self._line_of(at), self._column_of(at)
        raw = bytes(self._held[at : at + 1] if start is None else self._held[start:])
        where = f"{self._name}:{line if start is None else self._value_line}"
        return BadLine(
            (self._head or raw)[: reading.KEPT], where, f"not valid JSON: {what} at line {line} column {column}"
        )

    def _forget(self) -> None:
        """Keep only the value that is not whole yet; of one that is too long only the beginning."""
        start = self._begun
        if start is not None and self._head is None and len(self._held) - start > reading.LONGEST:
            self._head = bytes(self._held[start : start + reading.KEPT])
        done = self._at if start is None or self._head is not None else start
        if self._stopped:
            done = len(self._held)
        self._line_of(done)
        self._column = self._column_of(done)
        del self._held[:done]
        self._counted -= done
        self._at -= done
        self._begun = None if start is None else 0

    def _line_of(self, at: int) -> int:
        self._line += self._held.count(b"\n", self._counted, at)
        self._counted = at
        return self._line

    def _column_of(self, at: int) -> int:
        newline = self._held.rfind(b"\n", 0, at)
        return self._column + at if newline < 0 else at - newline


def _end(found: re.Match[bytes] | None) -> int:
    assert found  # these patterns match nothing at all, too
    return found.end()


# -- out ------------------------------------------------------------------------------------------


class NoColumn(ValueError):
    """A record has a field for which the table has no column."""


class _Echo:
    """What csv.writer writes to: the row becomes the value of its call."""

    @staticmethod
    def write(text: str) -> str:
        return text


class CsvWriter:
    """Rows of CSV with a newline alone at their ends, and quotes only where they must be. Nothing tells null from
    an empty string."""

    def __init__(self, columns: Iterable[str], delimiter: str = ",") -> None:
        self._columns = _distinct(columns)
        self._known = frozenset(self._columns)
        # Before Python 3.13 a carriage return is put between quotes only if it is a part of the line's end.
        self._writer: Any = csv.writer(_Echo(), delimiter=delimiter, lineterminator="\r\n")

    def header(self) -> bytes:
        return self._line(self._columns)

    def row(self, data: dict[str, Any]) -> bytes:
        """NoColumn if something of the record would be lost."""
        if not self._known.issuperset(data):
            name = next(name for name in data if name not in self._known)
            raise NoColumn(f"no column for the field {name}")
        return self._line([_cell(data.get(name)) for name in self._columns])

    def _line(self, cells: Iterable[str]) -> bytes:
        text: str = self._writer.writerow(cells)
        return (text.removesuffix("\r\n") + "\n").encode(errors="surrogateescape")


def _cell(value: Any) -> str:
    """A string as it is, whatever it begins with; anything else as JSON, and nothing for null."""
    if isinstance(value, str):
        return value
    return "" if value is None else exact.dumps(value).decode()


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


def add_columns(known: dict[str, None], data: dict[str, Any]) -> None:
    """Add the fields of a record that are new: a dict keeps the order in which they first appeared."""
    if not data.keys() <= known.keys():
        known.update(dict.fromkeys(data))
