"""What a record goes through on its way out: a file of its own, another format."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any, Protocol

from llmstream.records import exact, tables, words
from llmstream.records.values import Failure, Record
from llmstream.shell.messages import CANNOT_WRITE, FIX_FIRST, Stop, why


class _Writer(Protocol):
    def put(self, line: bytes) -> bytes: ...

    def end(self) -> Iterable[bytes]: ...


class Outlet:
    """--each and --to, and a terminal's need for escapes."""

    def __init__(self, o: SimpleNamespace, names: list[str]) -> None:
        self._each: Any = None
        if o.each:
            from llmstream.stream.file_for_each_record import Each  # templates take a while to load

            inputs = [0 if name == "-" else name for name in names]
            self._each = Each(o.each, [1, 2, *inputs, *(named.file for named in o.named_files)])
        self._writer = _writer(o)
        self._terminal = os.isatty(1)

    def put(self, line: bytes) -> bytes | Failure:
        if self._each and (failure := self._each.put(Record(line, exact.loads(line), ""))):
            return failure  # type: ignore[no-any-return]
        try:
            return self._shown(self._writer.put(line))
        except tables.NoColumn as error:
            return Failure("column", str(error))

    def end(self) -> Iterator[bytes]:
        return map(self._shown, self._writer.end())

    def _shown(self, out: bytes) -> bytes:
        return words.for_terminal(out) if self._terminal else out


def _writer(o: SimpleNamespace) -> _Writer:
    if o.to == "json":
        return _Json()
    if o.to == "csv":
        return _Rows(o) if o.columns and not o.no_header else _Spool(o)
    return _Lines()


class _Lines:
    def put(self, line: bytes) -> bytes:
        return line

    def end(self) -> Iterable[bytes]:
        return ()


class _Json:
    def __init__(self) -> None:
        self._writer = tables.JsonWriter()

    def put(self, line: bytes) -> bytes:
        return self._writer.element(line.rstrip(b"\n"))

    def end(self) -> Iterable[bytes]:
        return [self._writer.end()]


class _Rows:
    """CSV whose columns are known."""

    def __init__(self, o: SimpleNamespace) -> None:
        try:
            self._table = tables.CsvWriter(o.columns, o.delimiter or ",")
        except ValueError as error:
            raise Stop(FIX_FIRST, f"cannot use {error}") from None
        self._begun = False

    def put(self, line: bytes) -> bytes:
        row = self._table.row(exact.loads(line))
        head, self._begun = b"" if self._begun else self._table.header(), True
        return head + row

    def end(self) -> Iterable[bytes]:
        return [] if self._begun else [self._table.header()]


class _Spool:
    """CSV whose columns are known only when the last record is: until then the records wait in a file."""

    def __init__(self, o: SimpleNamespace) -> None:
        self._delimiter = o.delimiter or ","
        self._columns: dict[str, None] = {}
        try:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it goes with the process
        except OSError as error:
            raise _no_room(error) from None

    def put(self, line: bytes) -> bytes:
        tables.add_columns(self._columns, exact.loads(line))
        try:
            self._file.write(line)
        except OSError as error:
            raise _no_room(error) from None
        return b""

    def end(self) -> Iterator[bytes]:
        if not self._columns:
            return
        table = tables.CsvWriter(self._columns, self._delimiter)
        yield table.header()
        try:
            self._file.seek(0)  # writes what is left in the buffer
        except OSError as error:
            raise _no_room(error) from None
        for line in self._file:
            yield table.row(exact.loads(line))


def _no_room(error: OSError) -> Stop:
    return Stop(CANNOT_WRITE, f"cannot keep records in a temporary file (TMPDIR): {why(error)}; --columns needs none")
