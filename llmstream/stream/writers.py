"""Records on their way out, as lines, JSON or CSV; and a terminal's need for escapes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from llmstream.records import csv_rows, exact, json_array, words
from llmstream.records.values import Failure, Record
from llmstream.shell.messages import CANNOT_WRITE, FIX_FIRST, Stop, why


class Writing(NamedTuple):
    """The form in which records go out."""

    format: str = "jsonl"  # or json, or csv
    columns: tuple[str, ...] = ()  # of CSV; none: all the fields that the records have
    delimiter: str = ","


class _Form(Protocol):
    def put(self, line: bytes) -> bytes: ...

    def end(self) -> Iterable[bytes]: ...


class RecordWriter:
    """Puts each record into its form. before: something else to be done with a record, which may fail it."""

    def __init__(self, writing: Writing, before: Callable[[Record], Failure | None] | None = None) -> None:
        self._form = _form_of(writing)
        self._before = before
        self._terminal = os.isatty(1)

    def put(self, line: bytes) -> bytes | Failure:
        failure = self._before(Record(line, exact.loads(line), "")) if self._before else None
        if failure:
            return failure
        try:
            return self._shown(self._form.put(line))
        except csv_rows.NoColumn as error:
            return Failure("column", str(error))

    def end(self) -> Iterator[bytes]:
        return map(self._shown, self._form.end())

    def _shown(self, out: bytes) -> bytes:
        return words.for_terminal(out) if self._terminal else out


def _form_of(writing: Writing) -> _Form:
    if writing.format == "json":
        return _Json()
    if writing.format == "csv" and writing.columns:
        return _KnownColumns(writing.columns, writing.delimiter)
    if writing.format == "csv":
        return _AllColumns(writing.delimiter)
    return _Lines()


class _Lines:
    def put(self, line: bytes) -> bytes:
        return line

    def end(self) -> Iterable[bytes]:
        return ()


class _Json:
    def __init__(self) -> None:
        self._writer = json_array.JsonWriter()

    def put(self, line: bytes) -> bytes:
        return self._writer.element(line.rstrip(b"\n"))

    def end(self) -> Iterable[bytes]:
        return [self._writer.end()]


class _KnownColumns:
    """CSV whose columns are known."""

    def __init__(self, columns: Iterable[str], delimiter: str) -> None:
        try:
            self._table = csv_rows.CsvWriter(columns, delimiter)
        except ValueError as error:
            raise Stop(FIX_FIRST, f"cannot use {error}") from None
        self._begun = False

    def put(self, line: bytes) -> bytes:
        row = self._table.row(exact.loads(line))
        head, self._begun = b"" if self._begun else self._table.header(), True
        return head + row

    def end(self) -> Iterable[bytes]:
        return [] if self._begun else [self._table.header()]


class _AllColumns:
    """CSV whose columns are known only when the last record is: until then the records wait in a file."""

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter
        self._columns: dict[str, None] = {}
        try:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it goes with the process
        except OSError as error:
            raise _no_room(error) from None

    def put(self, line: bytes) -> bytes:
        csv_rows.add_columns(self._columns, exact.loads(line))
        try:
            self._file.write(line)
        except OSError as error:
            raise _no_room(error) from None
        return b""

    def end(self) -> Iterator[bytes]:
        if not self._columns:
            return
        table = csv_rows.CsvWriter(self._columns, self._delimiter)
        yield table.header()
        try:
            self._file.seek(0)  # writes what is left in the buffer
        except OSError as error:
            raise _no_room(error) from None
        for line in self._file:
            yield table.row(exact.loads(line))


def _no_room(error: OSError) -> Stop:
    return Stop(CANNOT_WRITE, f"cannot keep records in a temporary file (TMPDIR): {why(error)}; --columns needs none")
