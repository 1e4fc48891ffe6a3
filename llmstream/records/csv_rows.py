"""CSV: rows to records, and records to rows."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterable
from itertools import takewhile
from typing import Any

from llmstream.records import exact, reading
from llmstream.records.decoding import Utf8
from llmstream.records.values import BadLine, Dialect, Found, Record, Unreadable
from llmstream.records.words import name_of_input

# -- in -----------------------------------------------------------------------------------------------

csv.field_size_limit(sys.maxsize)  # reading.LONGEST is the limit here; the library's own is 128 KB


class CsvReader:
    """Rows of CSV, a record each.

    A bad row costs only itself as long as it shows where it ends. Behind a quote that is never closed, or a row
    that is too long, nobody can tell what a row is: the rest of the file is lost with it.
    """

    def __init__(self, name: str, dialect: Dialect = Dialect()) -> None:  # noqa: B008 - it is frozen
        self._name = name_of_input(name)
        self._dialect = dialect
        self._utf8 = Utf8(self._name, dialect.encoding)
        self._lines = reading.Lines()
        self._rows = _Rows(dialect.delimiter)
        self._names = None if dialect.header or not dialect.columns else _named(dialect.columns)
        self._number = 1  # of the line with which the next row begins
        self._stopped = False

    def feed(self, chunk: bytes) -> Found:
        return [] if self._stopped else self._take(self._lines.feed(self._utf8.feed(chunk)))

    def end(self) -> Found:
        if self._stopped:
            return []
        lines, last = self._lines.feed(self._utf8.end()), self._lines.rest()
        found = self._take([*lines, last] if last else lines)
        if self._rows.begun and not self._stopped:
            found.append(self._stop(self._rows.begun, "a quote is never closed"))
        return found

    def _take(self, lines: list[bytes]) -> Found:
        short = list(takewhile(lambda line: len(line) <= reading.LONGEST, lines))
        found = self._read(self._rows.completed_by(_text_lines(short)))
        if self._rows.too_long or len(short) < len(lines):
            long = _text_lines(lines[len(short) :][:1])  # of which only the beginning was kept
            found.append(self._stop([*self._rows.begun, *long], f"row longer than {reading.LONGEST >> 20} MB"))
        return found

    def _read(self, rows: list[str]) -> Found:
        found: Found = []
        parsed = csv.reader(rows, delimiter=self._dialect.delimiter, strict=True)
        for row in rows:
            height = _height(row)
            try:
                cells = next(parsed)
            except csv.Error:
                extent = f", lines {self._number} to {self._number + height - 1}" if height > 1 else ""
                found.append(self._bad(row, f"text behind the closing quote of a cell{extent}"))
            else:
                if cells and not self._is_header(cells):  # there is nothing in an empty line
                    found.append(self._record(cells, row))
            self._number += height
        return found

    def _is_header(self, cells: list[str]) -> bool:
        """Of the first row: take the names of the fields from it. Is that all it is there for?"""
        if self._names is not None:
            return False
        if not self._dialect.header:
            self._names = _named([""] * len(cells))
            return False
        if re.search("[\ud800-\udfff]", "".join(cells)):
            raise Unreadable(f"{self._where}: the header is {self._utf8.why}; --encoding says what it is in")
        try:
            self._names = _named(cells)
        except ValueError as error:
            hint = "take that line out and name them with --no-header --columns"
            raise Unreadable(f"{self._where}: {error}; {hint}") from None
        return True

    def _record(self, cells: list[str], row: str) -> Record | BadLine:
        names = self._names or ()
        if len(cells) != len(names):
            count = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
            return self._bad(row, f"{count} where there are {len(names)} columns")
        data = dict(zip(names, cells, strict=True))
        try:
            return Record(exact.dumps(data), data, self._where)
        except TypeError:  # half a surrogate pair, which stands for what could not be decoded
            return self._bad(row, self._utf8.why)

    def _stop(self, lines: list[str], why: str) -> BadLine:
        """The row with which the rest of the file is lost."""
        self._stopped = True
        return self._bad("".join(lines), why)._replace(why=f"{why}; the rest of the file is not read")

    def _bad(self, row: str, why: str) -> BadLine:
        if self._names is None and self._dialect.header:
            raise Unreadable(f"{self._where}: the header cannot be read: {why}")
        raw = row.rstrip("\r\n").encode(errors="surrogateescape")
        return BadLine(raw[: reading.KEPT] if len(raw) > reading.LONGEST else raw, self._where, why)

    @property
    def _where(self) -> str:
        return f"{self._name}:{self._number}"


# In these patterns single characters are never tried again, but groups may be: before Python 3.11.5 a group that
# may not (with a plus behind its star) misses matches.
_QUOTED = '[^"]*+(?:""[^"]*+)*'  # what stands between the quotes of a cell


class _Rows:
    """Puts lines together to rows: a line break between quotes ends none. Each line is looked at once."""

    def __init__(self, delimiter: str) -> None:
        d = re.escape(delimiter)
        cells = rf'(?:(?:[^"{d}\r\n][^{d}\r\n]*+)?{d})*'  # without quotes, each with its delimiter
        goes_on = rf'{_QUOTED}(?:"{d}{cells}"{_QUOTED})*'
        self._goes_on = re.compile(goes_on).fullmatch  # matches a line that begins and ends between quotes
        self._opens = re.compile(f'{cells}"{goes_on}').fullmatch  # matches one that only ends there
        self.begun: list[str] = []  # the lines of a row that is not whole yet
        self._size = 0  # of these together
        self.too_long = False

    def completed_by(self, lines: list[str]) -> list[str]:
        """The rows that these lines complete; none behind a row that is too long."""
        rows: list[str] = []
        for line in lines:
            if not self.begun and '"' not in line:
                rows.append(line)
                continue
            ends_between_quotes = (self._goes_on if self.begun else self._opens)(line)
            self.begun.append(line)
            self._size += len(line)
            self.too_long = self._size > reading.LONGEST
            if self.too_long:
                break
            if not ends_between_quotes:
                rows.append("".join(self.begun))
                self.begun, self._size = [], 0
        return rows


_LINE = re.compile(r"[^\r]*+(?:\r\n?|\Z)")


def _text_lines(lines: list[bytes]) -> list[str]:
    """The lines with their ends. A lone carriage return ends a line too, as old spreadsheets wrote it."""
    if not lines:
        return []
    text = b"\n".join(lines).decode(errors="surrogateescape")
    ended = [line + "\n" for line in text.split("\n")]
    if text.count("\r") - text.count("\r\n") - text.endswith("\r") > 0:
        return [part for line in ended for part in _LINE.findall(line) if part]
    return ended


def _height(row: str) -> int:
    """How many lines an editor shows for a row: a lone carriage return ends none."""
    return 1 + row.count("\n", 0, -1)


# -- names of columns ---------------------------------------------------------------------------------


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


def add_columns(known: dict[str, None], data: dict[str, Any]) -> None:
    """Add the fields of a record that are new: a dict keeps the order in which they first appeared."""
    if not data.keys() <= known.keys():
        known.update(dict.fromkeys(data))


# -- out ----------------------------------------------------------------------------------------------


class NoColumn(ValueError):
    """A record has a field for which the table has no column."""


class CsvWriter:
    """Rows of CSV. Each ends with a newline alone, and has quotes only where it needs them. Nothing tells null from
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


class _Echo:
    """What csv.writer writes to: the row becomes the value of its call."""

    @staticmethod
    def write(text: str) -> str:
        return text


def _cell(value: Any) -> str:
    """A string as it is, whatever it begins with; anything else as JSON, and nothing for null."""
    if isinstance(value, str):
        return value
    return "" if value is None else exact.dumps(value).decode()
