"""Which reader a file gets, and files in any encoding."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from feeding import read, told

from llmstream.records import formats
from llmstream.records.csv_rows import CsvReader
from llmstream.records.json_array import JsonArray
from llmstream.records.reading import Source
from llmstream.records.text_file import TextFile
from llmstream.records.values import Dialect, Record

# -- which reader ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "format_", "delimiter"),
    [
        ("a.csv", "csv", ","),
        ("dir.json/A.CSV", "csv", ","),
        ("a.tsv", "csv", "\t"),
        ("a.json", "json", ","),
        ("a.jsonl", "jsonl", ","),
        ("a.ndjson", "jsonl", ","),
        ("a.txt", "text", ","),
        ("-", "jsonl", ","),
        ("dir.csv/a", "jsonl", ","),
        ("csv", "jsonl", ","),
        ("a.csv.gz", "jsonl", ","),
        ("", "jsonl", ","),
    ],
)
def test_the_format_of_a_name(name: str, format_: str, delimiter: str) -> None:
    assert (formats.format_of(name), formats.delimiter_of(name)) == (format_, delimiter)


@pytest.mark.parametrize(
    ("format_", "name", "data", "expected"),
    [
        ("csv", "a.tsv", b"a\tb,c\n1\t2\n", [{"a": "1", "b,c": "2"}]),
        ("csv", "-", b"a\tb\n1\t2\n", [{"a\tb": "1\t2"}]),
        ("json", "-", b"[{}]", [{}]),
        ("jsonl", "-", b'{"a":1}\n[2]\n\n{}', [{"a": 1}, "<stdin>:2: not a JSON object: [2]", {}]),
        ("text", "x/a.txt", b"\xef\xbb\xbfa\r\nb\n", [{"file_name": "a.txt", "path": "x/a.txt", "text": "a\r\nb\n"}]),
        ("text", "-", b"", [{"file_name": "-", "path": "-", "text": ""}]),
        ("text", "b\udcff", b"", [{"file_name": "b\ufffd", "path": "b\ufffd", "text": ""}]),
        ("text", "-", b"a\xff", ["<stdin>: not valid UTF-8"]),
    ],
)
def test_a_reader_for_each_format(format_: str, name: str, data: bytes, expected: list[Any]) -> None:
    for sizes in ([], [1] * len(data)):
        found = read(formats.reader(format_, name), data, sizes)
        assert told(found) == expected
        assert [json.loads(one.line) for one in found if isinstance(one, Record)] == [
            one for one in expected if isinstance(one, dict)
        ]


def test_lines_of_text() -> None:
    reader = formats.reader("jsonl", "-", Dialect("cp1252", raw_text=True))
    assert told(read(reader, b"caf\xe9\r\nx\x81\n")) == [{"text": "café"}, "<stdin>:2: not valid cp1252"]


# -- encodings ------------------------------------------------------------------------------------

FORMATS = {
    "csv": 'a,b\r\nTiếng Việt,"x\ny"\r\nđ,2\r\n',
    "json": '[{"a": "Tiếng Việt"},\n {"a": "đ"}]\n',
    "jsonl": '{"a":"Tiếng Việt"}\n{"a":"đ"}\n',
    "text": "Tiếng Việt\nđ",
}


ENCODINGS = [
    "utf-8",
    "UTF8",
    "utf-8-sig",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "utf-32",
    "utf-32-be",
    "utf-7",
    "gb18030",
]


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_any_encoding_with_and_without_a_mark(format_: str, encoding: str) -> None:
    expected = read(formats.reader(format_, "f"), FORMATS[format_].encode())
    assert all(isinstance(one, Record) for one in expected)
    writes_a_mark = encoding in ("utf-16", "utf-32", "utf-8-sig")
    for mark in ("",) if writes_a_mark else ("", "\ufeff"):
        data = (mark + FORMATS[format_]).encode(encoding)
        for size in (1, 2, 3, 7, len(data)):
            assert read(formats.reader(format_, "f", Dialect(encoding)), data, [size] * len(data)) == expected


@pytest.mark.parametrize(
    ("encoding", "bad"), [("utf-8", b"\xe2\x82"), ("cp1252", b"\x81"), ("ascii", b"\xe9"), ("shift_jis", b"\xfd")]
)
def test_what_cannot_be_decoded_costs_its_own_record(encoding: str, bad: bytes) -> None:
    name = "UTF-8" if encoding == "utf-8" else encoding
    for size in (1, 1000):
        csv_found = read(
            CsvReader("f.csv", Dialect(encoding)), b'a,b\n1,"x\n' + bad + b'"\n2,y\n3,' + bad + b"\n4,z\n", [size] * 40
        )
        assert told(csv_found) == [f"f.csv:2: not valid {name}", {"a": "2", "b": "y"}, f"f.csv:5: not valid {name}",
                                   {"a": "4", "b": "z"}]  # fmt: skip
        array = b'[{"a":1},\n{"a":"' + bad + b'"},{"a":2}]'
        json_found = read(JsonArray("f", encoding), array, [size] * 40)
        assert told(json_found) == [{"a": 1}, f"f:2: not valid {name}", {"a": 2}]
        lines = b'{"a":1}\n{"a":"' + bad + b'"}\n{"a":2}'
        assert told(read(Source("f", encoding), lines, [size] * 40)) == told(json_found)
        assert told(read(TextFile("f", encoding), lines, [size] * 40)) == [f"f: not valid {name}"]


@pytest.mark.parametrize("encoding", ["nonsense", "base64", "rot13", "hex", "undefined", "", "a\0b", "é"])
@pytest.mark.parametrize("format_", formats.READ)
def test_an_encoding_that_is_none(format_: str, encoding: str) -> None:
    with pytest.raises(ValueError, match="unknown encoding"):
        formats.reader(format_, "f", Dialect(encoding))


def test_memory_does_not_grow_with_the_file() -> None:
    reader, array = CsvReader("f.csv"), JsonArray("f.json")
    reader.feed(b"a,b\n")
    array.feed(b"[{}")
    tracemalloc.start()
    for _ in range(100):
        reader.feed(b'1,"x\ny"\n' * 100)
        array.feed(b',{"a":"b"}' * 100)
    assert tracemalloc.get_traced_memory()[0] < 20_000
    tracemalloc.stop()
