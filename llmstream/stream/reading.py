"""What to read, and how its bytes become records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from llmstream.records.reading import Source
from llmstream.records.values import BadLine, Dialect, Reader, Record, Unreadable
from llmstream.shell.messages import FIX_FIRST, Stop


class Reading(NamedTuple):
    """What to read, and how its bytes become records."""

    files: Sequence[str]  # "-" is stdin
    open_reader: Callable[[str], Reader]


def lines_of(names: Sequence[str], *, raw_text: bool) -> Reading:
    """A record a line."""
    return Reading(names, lambda name: Source(name, raw_text=raw_text))


def files_in(names: Sequence[str], form: str | None, dialect: Dialect) -> Reading:
    """Each file in the format given, or in that of its name."""
    from llmstream.records import formats

    def open_reader(name: str) -> Reader:
        delimiter = dialect.delimiter or formats.delimiter_of(name)
        return formats.reader(form or formats.format_of(name), name, dialect._replace(delimiter=delimiter))

    return Reading(names, open_reader)


def records_in(reader: Reader, chunk: bytes | None) -> Sequence[Record | BadLine]:
    """What a chunk completes, or the end of the file (None). Stop: the rest cannot be read."""
    try:
        return reader.end() if chunk is None else reader.feed(chunk)
    except Unreadable as error:
        raise Stop(FIX_FIRST, f"cannot read {error}") from None
