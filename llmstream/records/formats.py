"""The formats of files: what each is called, which files are in it, and what reads it.

For a further format, write a module with a reader and add a line to FORMATS. JSON Lines is in reading.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from llmstream.records.csv_rows import CsvReader
from llmstream.records.json_array import JsonArray
from llmstream.records.reading import Source
from llmstream.records.text_file import TextFile
from llmstream.records.values import Dialect, Reader


class Format(NamedTuple):
    suffixes: tuple[str, ...]  # of the names of its files
    reader: Callable[[str, Dialect], Reader]
    written: bool = True  # or is it only read?


FORMATS = {
    "csv": Format(("csv", "tsv"), CsvReader),
    "json": Format(("json",), lambda name, dialect: JsonArray(name, dialect.encoding)),
    "jsonl": Format(
        ("jsonl", "ndjson"), lambda name, dialect: Source(name, dialect.encoding, raw_text=dialect.raw_text)
    ),
    "text": Format(("txt",), lambda name, dialect: TextFile(name, dialect.encoding), written=False),
}
DEFAULT = "jsonl"  # the format of the standard input, and of a name with any other suffix

READ = tuple(FORMATS)
WRITTEN = tuple(name for name, form in FORMATS.items() if form.written)


def format_of(name: str) -> str:
    """The format of a file, by its name."""
    suffix = _suffix(name)
    return next((form for form, known in FORMATS.items() if suffix in known.suffixes), DEFAULT)


def delimiter_of(name: str) -> str:
    """What stands between the cells of a CSV file, by its name."""
    return "\t" if _suffix(name) == "tsv" else ","


def _suffix(name: str) -> str:
    _, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return suffix.lower() if dot else ""


def reader(form: str, name: str, dialect: Dialect | None = None) -> Reader:
    """What reads a file in one of the formats. ValueError if the dialect makes no sense."""
    return FORMATS[form].reader(name, dialect or Dialect(delimiter=delimiter_of(name)))
