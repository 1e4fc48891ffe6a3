"""CSV, JSON and whole texts: the same records however the bytes come, and what is broken costs only itself."""

from __future__ import annotations

import csv
import io
import json
import re
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from json_texts import OBJECTS, VALUES, has_huge

from llmstream.records import exact, reading, tables
from llmstream.records.tables import Dialect
from llmstream.records.values import BadLine, Record

HYPOTHESIS = settings(deadline=None, max_examples=80)
SIZES = st.lists(st.integers(1, 9), max_size=40)
Make = Callable[[], tables.Reader]


def read(reader: tables.Reader, data: bytes, sizes: Iterable[int] = ()) -> list[Record | BadLine]:
    """What a reader makes of data that comes in pieces of these sizes, and the rest in one."""
    found = []
    for size in [*sizes, len(data)]:
        found += reader.feed(data[:size])
        data = data[size:]
    return found + reader.end()


def told(found: list[Record | BadLine]) -> list[Any]:
    """Data of what was read, place and reason of what was not."""
    return [one.data if isinstance(one, Record) else f"{one.where}: {one.why}" for one in found]


def outcome(make: Make, data: bytes, sizes: Iterable[int] = ()) -> Any:
    try:
        return read(make(), data, sizes)
    except tables.Unreadable as error:
        return str(error)


def of_csv(data: bytes | str, dialect: Dialect = Dialect(), sizes: Iterable[int] = ()) -> list[Record | BadLine]:  # noqa: B008
    return read(tables.Csv("f.csv", dialect), data if isinstance(data, bytes) else data.encode(), sizes)


def of_json(data: bytes | str, sizes: Iterable[int] = ()) -> list[Record | BadLine]:
    return read(tables.JsonArray("f.json"), data if isinstance(data, bytes) else data.encode(), sizes)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest record is a short one."""
    monkeypatch.setattr(reading, "LONGEST", 40)
    monkeypatch.setattr(reading, "KEPT", 4)


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
    assert (tables.format_of(name), tables.delimiter_of(name)) == (format_, delimiter)


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
        found = read(tables.reader(format_, name), data, sizes)
        assert told(found) == expected
        assert [json.loads(one.line) for one in found if isinstance(one, Record)] == [
            one for one in expected if isinstance(one, dict)
        ]


def test_lines_of_text() -> None:
    reader = tables.reader("jsonl", "-", Dialect("cp1252"), raw_text=True)
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
    expected = read(tables.reader(format_, "f"), FORMATS[format_].encode())
    assert all(isinstance(one, Record) for one in expected)
    writes_a_mark = encoding in ("utf-16", "utf-32", "utf-8-sig")
    for mark in ("",) if writes_a_mark else ("", "\ufeff"):
        data = (mark + FORMATS[format_]).encode(encoding)
        for size in (1, 2, 3, 7, len(data)):
            assert read(tables.reader(format_, "f", Dialect(encoding)), data, [size] * len(data)) == expected


@pytest.mark.parametrize(
    ("encoding", "bad"), [("utf-8", b"\xe2\x82"), ("cp1252", b"\x81"), ("ascii", b"\xe9"), ("shift_jis", b"\xfd")]
)
def test_what_cannot_be_decoded_costs_its_own_record(encoding: str, bad: bytes) -> None:
    name = "UTF-8" if encoding == "utf-8" else encoding
    for size in (1, 1000):
        csv_found = of_csv(b'a,b\n1,"x\n' + bad + b'"\n2,y\n3,' + bad + b"\n4,z\n", Dialect(encoding), [size] * 40)
        assert told(csv_found) == [f"f.csv:2: not valid {name}", {"a": "2", "b": "y"}, f"f.csv:5: not valid {name}",
                                   {"a": "4", "b": "z"}]  # fmt: skip
        array = b'[{"a":1},\n{"a":"' + bad + b'"},{"a":2}]'
        json_found = read(tables.JsonArray("f", encoding), array, [size] * 40)
        assert told(json_found) == [{"a": 1}, f"f:2: not valid {name}", {"a": 2}]
        lines = b'{"a":1}\n{"a":"' + bad + b'"}\n{"a":2}'
        assert told(read(tables.Jsonl("f", encoding), lines, [size] * 40)) == told(json_found)
        assert told(read(tables.Text("f", encoding), lines, [size] * 40)) == [f"f: not valid {name}"]


def test_half_a_character_at_the_end() -> None:
    assert told(of_csv("a\nx\ny".encode("utf-16")[:-1], Dialect("utf-16"))) == [{"a": "x"}, "f.csv:3: not valid utf-16"]
    assert told(of_csv(b"a\nx\n\xc3")) == [{"a": "x"}, "f.csv:3: not valid UTF-8"]


def test_the_bytes_of_a_bad_row_are_kept() -> None:
    assert of_csv(b"a,b\n\xff,1\r\n")[0] == BadLine(b"\xff,1", "f.csv:2", "not valid UTF-8")
    assert of_csv(b"a,b\n\xff\x00\xe9\n") == [BadLine(b"\xff\x00\xe9", "f.csv:2", "1 cell where there are 2 columns")]


@pytest.mark.parametrize("encoding", ["nonsense", "base64", "rot13", "hex", "undefined", "", "a\0b", "é"])
@pytest.mark.parametrize("format_", tables.READ)
def test_an_encoding_that_is_none(format_: str, encoding: str) -> None:
    with pytest.raises(ValueError, match="unknown encoding"):
        tables.reader(format_, "f", Dialect(encoding))


def test_a_file_of_the_wrong_kind() -> None:
    with pytest.raises(tables.Unreadable, match=r"^f.csv: cannot be read as utf-16: .*BOM"):
        of_csv(b"a,b\n1,2\n", Dialect("utf-16"))


# -- CSV in ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("", []),
        ("\ufeff", []),
        ("a,b\n", []),
        ("a,b", []),
        ("\ufeffa,b\n1,2\n", [{"a": "1", "b": "2"}]),
        ("a,b\r\n007,\r\n\r\n,1.50", [{"a": "007", "b": ""}, {"a": "", "b": "1.50"}]),
        ("a\n\n\n1\n\r\n2\n", [{"a": "1"}, {"a": "2"}]),
        ('a\n""\n" "\n', [{"a": ""}, {"a": " "}]),
        ('a,b\n"x, ""y""\r\nz\rw",=1+1\n', [{"a": 'x, "y"\r\nz\rw', "b": "=1+1"}]),
        ('"a ""b""\n",c\n1,5" pipe\n', [{'a "b"\n': "1", "c": '5" pipe'}]),
        ("a,b\r1,2\r\r3,4\r", [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]),
        ("a,b\r1,2\n3,4\r\n", [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]),
        (" a, b\n 1 ,\x0b2\u2028\x1c\x85\n", [{" a": " 1 ", " b": "\x0b2\u2028\x1c\x85"}]),
        (",name,\n0,x,\n", [{"1": "0", "name": "x", "3": ""}]),
        ("a,b\n\0,\0\n", [{"a": "\0", "b": "\0"}]),
    ],
)
def test_rows(data: str, expected: list[Any]) -> None:
    for size in (1, 2, 1000):
        assert told(of_csv(data, sizes=[size] * len(data.encode()))) == expected


@pytest.mark.parametrize(
    ("dialect", "data", "expected"),
    [
        (
            Dialect(header=False),
            b"1,2\n3,4\n5\n",
            [{"1": "1", "2": "2"}, {"1": "3", "2": "4"}, "f.csv:3: 1 cell where"],
        ),
        (Dialect(header=False, columns=("x", "y")), b"1,2\n3\n", [{"x": "1", "y": "2"}, "f.csv:2: 1 cell where"]),
        (Dialect(header=False), b'"a"b\n1,2\n', ["f.csv:1: text behind", {"1": "1", "2": "2"}]),
        (Dialect(header=False, columns=("x", "")), b"1,2\n", [{"x": "1", "2": "2"}]),
        (Dialect(columns=("x",)), b"a\n1\n", [{"a": "1"}]),
        (Dialect(delimiter=";"), b"a;b\n1,5;2\n", [{"a": "1,5", "b": "2"}]),
        (Dialect(delimiter="|"), b'a|b\n"|\n|"|2\n', [{"a": "|\n|", "b": "2"}]),
        (Dialect(delimiter="^"), b'a^b\n"^\n^"^2\n', [{"a": "^\n^", "b": "2"}]),
        (Dialect(delimiter="]"), b'a]b\n"]\n]"]2\n', [{"a": "]\n]", "b": "2"}]),
        (Dialect(delimiter=" "), b'a b\n"x\ny" 2\n', [{"a": "x\ny", "b": "2"}]),
    ],
)
def test_dialects(dialect: Dialect, data: bytes, expected: list[Any]) -> None:
    for size in (1, 1000):
        found = told(of_csv(data, dialect, [size] * len(data)))
        assert len(found) == len(expected)
        for one, what in zip(found, expected, strict=True):
            assert one.startswith(what) if isinstance(what, str) else one == what


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"a,b,a\n1,2,3\n", "f.csv:1: two columns called a; "),
        (b"\n\na,a\n", "f.csv:3: two columns called a; "),
        (b"2,\n", "f.csv:1: two columns called 2; "),
        (b"\xff,b\n", "f.csv:1: the header is not valid UTF-8; --encoding"),
        (b'"a"b\n1\n', "f.csv:1: the header cannot be read: text behind the closing quote"),
        (b'"a\nb\n', "f.csv:1: the header cannot be read: a quoted cell that is not closed"),
    ],
)
def test_a_header_that_names_nothing(data: bytes, why: str) -> None:
    for size in (1, 1000):
        with pytest.raises(tables.Unreadable, match=f"^{re.escape(why)}.*$"):
            of_csv(data, sizes=[size] * len(data))


def test_columns_that_are_called_the_same() -> None:
    with pytest.raises(ValueError, match=r"^two columns called 2$"):
        tables.Csv("f", Dialect(header=False, columns=("2", "")))
    with pytest.raises(ValueError, match=r"^two columns called a$"):
        tables.CsvWriter(["a", "b", "a"])
    assert tables.CsvWriter(["", "a"]).header() == b",a\n"


GOOD = "1,x\n2,y\n3,z\n"
GOOD_ROWS = [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}, {"a": "3", "b": "z"}]
STRAY, UNCLOSED = tables._STRAY_QUOTE, tables._UNCLOSED


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(f"1\n{GOOD}", ["2: 1 cell where there are 2 columns", *GOOD_ROWS], id="too few cells"),
        pytest.param(f"1,2,3\n{GOOD}", ["2: 3 cells where there are 2 columns", *GOOD_ROWS], id="too many cells"),
        pytest.param(
            f'"\n\n",\r\n"x\ny"\n{GOOD}',
            [{"a": "\n\n", "b": ""}, "5: 1 cell where there are 2 columns", *GOOD_ROWS],
            id="the line where the row begins",
        ),
        pytest.param(f'"x"y,z\n{GOOD}', [f"2: {STRAY}", *GOOD_ROWS], id="a quote that is not doubled"),
        pytest.param(f'"x\n{GOOD}', [f"2: {UNCLOSED}", *GOOD_ROWS], id="never closed, rows follow"),
        pytest.param(f'1,"x\n{GOOD}', [f"2: {UNCLOSED}", *GOOD_ROWS], id="never closed, rows follow, second cell"),
        pytest.param(
            '"x\nyes, but\nwell, no\n', [f"2: {UNCLOSED}, lines 2 to 4"], id="never closed, prose with commas follows"
        ),
        pytest.param(
            f'"x\n{GOOD}no comma\n', [f"2: {UNCLOSED}, lines 2 to 6"], id="never closed, not all of what follows fits"
        ),
        pytest.param(
            '1,"x\n2,"y"\n3,z\n',
            [f"2: {STRAY}", {"a": "2", "b": "y"}, {"a": "3", "b": "z"}],
            id="the next row is quoted",
        ),
        pytest.param(
            f'1,"x\n{GOOD}4,"w"\n', [f"2: {STRAY}", *GOOD_ROWS, {"a": "4", "b": "w"}], id="some row behind is quoted"
        ),
        pytest.param(
            f'1,"one\nand, he said "two", and\nthree"\n{GOOD}',
            [f"2: {STRAY}, lines 2 to 3", "4: 1 cell where there are 2 columns", *GOOD_ROWS],
            id="a text with quotes of its own",
        ),
        pytest.param(f"1,x\n{GOOD[:-1]}", [GOOD_ROWS[0], *GOOD_ROWS], id="no newline at the end"),
    ],
)
def test_a_broken_row_costs_only_itself(data: str, expected: list[Any]) -> None:
    for size in (1, 2, 5, 1000):
        found = told(of_csv("a,b\n" + data, sizes=[size] * len(data)))
        assert [one.removeprefix("f.csv:") if isinstance(one, str) else one for one in found] == expected


def test_in_a_single_column_any_text_would_be_a_row() -> None:
    found = of_csv('a\n1\n"one\ntwo\nthree\nfour\n')
    assert told(found) == [{"a": "1"}, f"f.csv:3: {UNCLOSED}, lines 3 to 6"]
    assert isinstance(found[1], BadLine)
    assert found[1].raw == b'"one\ntwo\nthree\nfour'


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("size", [1, 3, 10, 39, 40, 41, 42, 1000])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("a,b\n1," + "x" * 100 + "\n2,y\n", ["f.csv:2: row longer than 0 MB", {"a": "2", "b": "y"}]),
        ("a,b\n1," + "ế" * 20 + "\n2,y\n", ["f.csv:2: row longer than 0 MB", {"a": "2", "b": "y"}]),
        ('a,b\n1,"x\ny\n' + "x" * 100 + "\n2,y\n", ["f.csv:2: row longer than 0 MB", {"a": "2", "b": "y"}]),
        ('a,b\n1,"' + "2,x\n" * 30, ["f.csv:2: row longer than 0 MB", *[{"a": "2", "b": "x"}] * 29]),
        (
            'a,b\n1,"' + "23456789\n" * 5 + '"\n2,x\n',
            ["f.csv:2: row longer than 0 MB, lines 2 to 6", "f.csv:7: a quoted cell that is not closed, lines 7 to 8"],
        ),
        ('a\n"' + "x\n" * 20, ["f.csv:2: row longer than 0 MB, lines 2 to 21"]),
    ],
)
def test_a_row_that_is_too_long(size: int, data: str, expected: list[Any]) -> None:
    found = of_csv(data, sizes=[size] * (len(data.encode()) // size))
    assert told(found) == expected
    assert all(len(one.raw) <= 40 for one in found if isinstance(one, BadLine))


def test_a_cell_longer_than_the_library_takes_by_default() -> None:
    cell = 'a, ""b""\n' * 50_000
    found = of_csv(f'a,b\n1,"{cell}"\n2,x\n', sizes=[1 << 16] * 8)
    assert told(found) == [{"a": "1", "b": cell.replace('""', '"')}, {"a": "2", "b": "x"}]


def test_a_row_of_many_long_cells_is_read_once() -> None:
    """Not once for each line that could be its last."""
    data = b"\n".join([b"a,b", *[b'"1","x'] * 2, b'","' * 30_000 + b'","\n' * 30_000 + b'"'])
    asked = 0
    reader = tables.Csv("f.csv")
    goes_on = reader._goes_on

    def count(line: str) -> Any:
        nonlocal asked
        asked += 1
        return goes_on(line)

    reader._goes_on = count
    read(reader, data, [1000] * (len(data) // 1000))
    assert asked < 40_000
    assert reader._reader.line_num < 200_000


CELL = st.text('aế7"\n\r,;= \0\x0b\ufeff\u2028', max_size=4) | st.sampled_from(
    ["", "007", "=1", "-", "@x", "+1", "null"]
)


@st.composite
def cell_tables(draw: st.DrawFn) -> tuple[list[str], list[dict[str, str]]]:
    names = draw(st.lists(CELL.filter(lambda name: name and name[0] != "\ufeff"), min_size=1, max_size=4, unique=True))
    return names, draw(st.lists(st.fixed_dictionaries(dict.fromkeys(names, CELL)), max_size=5))


@HYPOTHESIS
@given(cell_tables(), st.sampled_from(",;\t"), SIZES)
def test_rows_survive_the_way_out_and_in(
    table: tuple[list[str], list[dict[str, str]]], delimiter: str, sizes: list[int]
) -> None:
    names, rows = table
    writer = tables.CsvWriter(names, delimiter)
    data = b"".join([writer.header(), *map(writer.row, rows)])
    assert told(of_csv(data, Dialect(delimiter=delimiter), sizes)) == rows
    assert told(of_csv(data.replace(b"\n", b"\r\n"), Dialect(delimiter=delimiter), sizes)) == [
        {name.replace("\n", "\r\n"): cell.replace("\n", "\r\n") for name, cell in row.items()} for row in rows
    ]


BROKEN_CSV = st.lists(
    st.sampled_from(['"', '""', '"x"', ",", "a", "\n", "\r\n", "\r", "1,2\n", '1,"2"\n', '"x\n', 'x","\n'])
)


@HYPOTHESIS
@given(BROKEN_CSV, SIZES, st.booleans())
@example(['"x\n', *["1,2\n"] * 30], [1] * 40, True)
@example(['x","\n'] * 30, [1] * 40, True)
def test_broken_csv_does_not_depend_on_the_pieces(parts: list[str], sizes: list[int], header: bool) -> None:
    data = "".join(["a,b\n" * header, *parts]).encode()

    def make() -> tables.Csv:
        return tables.Csv("f.csv", Dialect(header=header))

    whole = outcome(make, data)
    assert outcome(make, data, sizes) == whole
    assert outcome(make, data, [1] * len(data)) == whole


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("seed", range(30))
def test_long_broken_csv_does_not_depend_on_the_pieces(seed: int) -> None:
    parts = ['"', '""', ",", "\n", "\r", "1,2\n", '1,"2"\n', '"x\n', 'x","\n', "abcdefghijk\n", "z" * 45, '"\n']
    lot = [parts[(seed * 7 + n * n * (seed + 3) + n // 5) % len(parts)] for n in range(60)]
    data = "".join(["a,b\n", *lot]).encode()
    whole = outcome(lambda: tables.Csv("f.csv"), data)
    for size in (1, 2, 7, 50, 99):
        assert outcome(lambda: tables.Csv("f.csv"), data, [size] * (len(data) // size)) == whole


def in_one_go(text: str) -> list[list[str]] | None:
    """What the library's reader makes of the whole text; None if it does not like it."""
    found = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        return [row for row in found if row]
    except csv.Error:
        return None


@HYPOTHESIS
@given(BROKEN_CSV | st.lists(st.text('a"\n\r, ', max_size=6)), SIZES)
def test_as_the_library_reads_the_whole_text(parts: list[str], sizes: list[int]) -> None:
    text = "".join(parts)
    rows = in_one_go(text)
    found = of_csv(text, Dialect(header=False), sizes)
    if rows is None:
        assert any(isinstance(one, BadLine) for one in found)
        return
    width = len(rows[0]) if rows else 0
    assert [list(one.data.values()) if isinstance(one, Record) else None for one in found] == [
        row if len(row) == width else None for row in rows
    ]


@HYPOTHESIS
@given(BROKEN_CSV)
def test_every_line_is_in_a_record_or_in_a_bad_line(parts: list[str]) -> None:
    """In order, and none in two of them."""
    found = of_csv("".join(["a,b\n", *parts]))
    numbers = [int(one.where.rpartition(":")[2]) for one in found]
    assert numbers == sorted(set(numbers))
    kept = sum(sum(map(len, one.data.values())) if isinstance(one, Record) else len(one.raw) for one in found)
    plain = re.sub(r'[",\r\n]', "", "".join(parts))
    assert kept >= len(plain)


def test_memory_does_not_grow_with_the_file() -> None:
    reader, array = tables.Csv("f.csv"), tables.JsonArray("f.json")
    reader.feed(b"a,b\n")
    array.feed(b"[{}")
    tracemalloc.start()
    for _ in range(100):
        reader.feed(b'1,"x\ny"\n' * 100)
        array.feed(b',{"a":"b"}' * 100)
    assert tracemalloc.get_traced_memory()[0] < 20_000
    tracemalloc.stop()


# -- JSON in --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("", []),
        ("\ufeff \n", []),
        ("[]", []),
        (" [ ] \n", []),
        ("\ufeff[{}]", [{}]),
        ('{"a":1}', [{"a": 1}]),
        ('{"a":[{"b":{}},"]}"]}', [{"a": [{"b": {}}, "]}"]}]),
        ('[{"a":"\\"]},{\\\\"},\n{"b":"\\\\"}]', [{"a": '"]},{\\'}, {"b": "\\"}]),
        ('{"a":1}{"b":2}\n{\n  "c": 3\n}\n', [{"a": 1}, {"b": 2}, {"c": 3}]),
        ('[{"a":1}] [] [{"b":2}]', [{"a": 1}, {"b": 2}]),
        ('[1,\n"x]",\n[2],null,{}]', [f"f.json:{where}" for where in (
            "1: not a JSON object: 1", '2: not a JSON object: "x]"', "3: not a JSON object: [2]",
            "3: not a JSON object: null")] + [{}]),
        ('1 "a" true', ["f.json:1: not a JSON object: 1", 'f.json:1: not a JSON object: "a"',
                        "f.json:1: not a JSON object: true"]),
    ],
)  # fmt: skip
def test_values(data: str, expected: list[Any]) -> None:
    for size in (1, 2, 1000):
        assert told(of_json(data, [size] * len(data.encode()))) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # A value that shows where it ends costs only itself.
        ('[{"a":NaN},{"b":1}]', ["1: not valid JSON: ", {"b": 1}]),
        ('[{"a":1e400},{"b":1}]', ["1: not valid JSON: number out of range", {"b": 1}]),
        ('[{"a":"\\ud800"},{"b":1}]', ["1: not valid JSON: ", {"b": 1}]),
        ('[{"a":"x\ny"},{"b":1}]', ["1: not valid JSON: ", {"b": 1}]),
        ('[\n {"a":1,\n  "b" 2},{"b":1}]', ["2: not valid JSON: .* at line 3 column 7", {"b": 1}]),
        ('[{},  {"a" 1},{"b":1}]', [{}, "1: not valid JSON: .* at line 1 column 12", {"b": 1}]),
        ("[" + '{"a":' * 300 + "1" + "}" * 300 + ',{"b":1}]', ["1: not valid JSON: nested too deep", {"b": 1}]),
        # Nothing sensible can follow these.
        ('[{"a":1}\n{"b":1}]', [{"a": 1}, "2: not valid JSON: no comma or ] at line 2 column 1"]),
        ('[{"a":1},]', [{"a": 1}, "1: not valid JSON: no value at line 1 column 10"]),
        ('[{"a":1},\n,{"b":1}]', [{"a": 1}, "2: not valid JSON: no value at line 2 column 1"]),
        ('[{"a":1}}', [{"a": 1}, "1: not valid JSON: no comma or ] at line 1 column 9"]),
        ('{"a":1},\n{"b":1}', [{"a": 1}, "1: not valid JSON: no value at line 1 column 8"]),
        ('{"a":1}\nso much text, and more', [{"a": 1}, "2: not valid JSON: .* at line 2 column 1"]),
        ("<html>\n<body>[]", ["1: not valid JSON: .* at line 1 column 1"]),
        ('[{"a":1},\n{"b":\n2', [{"a": 1}, "2: not valid JSON: the file ends in the middle .* at line 3 column 2"]),
        ('[{"a":1},\n{"b":"x', [{"a": 1}, "2: not valid JSON: the file ends in the middle .* at line 2 column 8"]),
        ('[{"a":1}\n', [{"a": 1}, "2: not valid JSON: the file ends before its array does at line 2 column 1"]),
        ("[", ["1: not valid JSON: the file ends before its array does at line 1 column 2"]),
        ("nul", ["1: not valid JSON: "]),
        ("]", ["1: not valid JSON: no value at line 1 column 1"]),
    ],
)  # fmt: skip
def test_what_is_broken(data: str, expected: list[Any]) -> None:
    for size in (1, 2, 7, 10000):
        found = of_json(data, [size] * len(data))
        assert len(found) == len(expected), found
        for one, what in zip(found, expected, strict=True):
            if isinstance(what, str):
                assert re.match(re.escape("f.json:" + what).replace(r"\.\*", ".*").replace(r"\ ", " "), told([one])[0])
            else:
                assert told([one]) == [what]


def test_a_record_is_on_one_line_and_keeps_its_digits() -> None:
    text = '[\n  {\r\n    "n": 12345678901234567890,\n\t"x" : [ 1.50,\n 1E5 ], "s": "a  \\n b"\n  }\n]\n'
    (found,) = of_json(text)
    assert isinstance(found, Record)
    assert found.line == b'{"n": 12345678901234567890,"x" : [ 1.50,1E5 ], "s": "a  \\n b"}'
    assert found.where == "f.json:2"
    assert exact.dumps(found.data["n"]) == b"12345678901234567890"


def test_what_an_earlier_run_said_of_a_record_is_taken_off() -> None:
    error = '{"by":"llm-map","type":"http","message":"","status":400,"attempts":1}'
    (found,) = of_json(f'[\n{{"a":1,\n"error":{error}}}]')
    assert found == Record(b'{"a":1}', {"a": 1}, "f.json:2")


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("size", [1, 3, 10, 39, 40, 41, 1000])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ('[{"a":1},\n{"b":"%s\n"},\n{"c":3}]' % ("x" * 90), [{"a": 1}, "f.json:2: value longer than 0 MB", {"c": 3}]),
        ('[{"a":1},{"b":[%s]},{"c":3}]' % ("[],{}," * 20), [{"a": 1}, "f.json:1: value longer than 0 MB", {"c": 3}]),
        ('["%s",{"c":3}]' % (r"\\\"" * 30), ["f.json:1: value longer than 0 MB", {"c": 3}]),
        ('[{"a":1},' + "9" * 90 + ',{"c":3}]', [{"a": 1}, "f.json:1: value longer than 0 MB"]),
        ("\n" * 50 + '{"a":1}', [{"a": 1}]),
    ],
)  # fmt: skip
def test_a_value_that_is_too_long(size: int, data: str, expected: list[Any]) -> None:
    found = of_json(data, [size] * (len(data) // size))
    assert told(found) == expected
    assert [one.raw for one in found if isinstance(one, BadLine)] == [
        {"9": b"9999", '"': b'"\\\\\\', "{": b'{"b"'}[chr(one.raw[0])] for one in found if isinstance(one, BadLine)
    ]


@pytest.mark.usefixtures("short")
def test_a_value_that_never_ends_takes_bounded_memory() -> None:
    for begin, piece in ((b'[{"a":"', b"xy"), (b'[{"a":[', b"{},"), (b"[", b"77"), (b"oh", b"no"), (b"", b"  ")):
        reader = tables.JsonArray("f.json")
        reader.feed(begin)
        for _ in range(1000):
            reader.feed(piece)
        assert len(reader._held) <= 50
        assert len(reader.end()) <= 1


JSON_LIKE = st.text('{}[]":,\\ax1 \n-e', max_size=40) | st.lists(
    st.sampled_from(["[", "]", "{", "}", ",", '{"a":1}', '{"a":[{}]}', '"]', '"', '\\"', "1", "\n", '{"a": "}"}']),
    max_size=12,
).map("".join)


@st.composite
def written(draw: st.DrawFn) -> tuple[str, list[Any]]:
    """A JSON text of objects, in one of the shapes in which people have them."""
    found = [json.loads(one) for one in draw(st.lists(OBJECTS, max_size=5)) if not has_huge(one)]
    indent = draw(st.sampled_from([None, 0, 2]))
    ascii_only = draw(st.booleans())
    if draw(st.booleans()):
        return json.dumps(found, indent=indent, ensure_ascii=ascii_only), found
    space = draw(st.sampled_from(["", "\n", " \r\n\t"]))
    return space.join(json.dumps(one, indent=indent, ensure_ascii=ascii_only) for one in found), found


@HYPOTHESIS
@given(written(), SIZES)
def test_as_json_is_read_in_one_go(text: tuple[str, list[Any]], sizes: list[int]) -> None:
    found = of_json(text[0], sizes)
    assert told(found) == text[1]
    lines = [one.line for one in found]  # type: ignore[union-attr]
    assert not any(b"\n" in line for line in lines)
    assert [json.loads(line) for line in lines] == text[1]
    writer = tables.JsonWriter()
    again = b"".join([*map(writer.element, lines), writer.end()])
    assert json.loads(again) == text[1]
    assert told(of_json(again, sizes)) == text[1]


@HYPOTHESIS
@given(st.lists(VALUES.filter(lambda text: text[0] in "[{" or not has_huge(text)), max_size=4), SIZES)
def test_values_of_any_kind_are_told_apart(values: list[str], sizes: list[int]) -> None:
    found = of_json("[" + ",\n".join(values) + "]", sizes)
    expected = [reading.parse(value.encode(), "") for value in values]
    assert [type(one) for one in found] == [type(one) for one in expected]
    assert told([one for one in found if isinstance(one, Record)]) == [
        one.data for one in expected if isinstance(one, Record)
    ]


def in_one_piece(text: str) -> list[Any] | None:
    """The values in a text, and of arrays their elements; None if it is not JSON."""
    values: list[Any] = []
    try:
        while text := text.lstrip(" \t\r\n"):
            value, end = json.JSONDecoder().raw_decode(text)
            if type(value) in (int, float) and re.match(r"[\w.:+\\-]", text[end:]):
                return None  # the library would read 01 as two numbers
            values += value if isinstance(value, list) else [value]
            text = text[end:]
    except ValueError:
        return None
    return values


@HYPOTHESIS
@given(JSON_LIKE, SIZES)
@example('[{"a":"\\', [1])
@example('{"a":[[[[[[1]]]]]]}{', [3])
@example('"\\""', [2])
def test_broken_json_does_not_depend_on_the_pieces(text: str, sizes: list[int]) -> None:
    whole = of_json(text)
    assert of_json(text, sizes) == whole
    assert of_json(text, [1] * len(text)) == whole
    for one in whole:
        if isinstance(one, Record):
            assert json.loads(one.line) == one.data
    expected = in_one_piece(text)
    if expected is None:
        assert any(isinstance(one, BadLine) and one.why.startswith("not valid") for one in whole)
    else:
        assert [isinstance(one, Record) for one in whole] == [isinstance(value, dict) for value in expected]
        assert [one.data for one in whole if isinstance(one, Record)] == [one for one in expected if type(one) is dict]


# -- out ------------------------------------------------------------------------------------------


def one_row(data: str, *columns: str) -> bytes:
    return tables.CsvWriter(columns or ("a",)).row(exact.loads(data.encode()))


@pytest.mark.parametrize(
    ("data", "cell"),
    [
        ('"x"', b"x"),
        ('" x "', b" x "),
        ('"=1+1"', b"=1+1"),
        ('"@a"', b"@a"),
        ('"-"', b"-"),
        ('""', b'""'),
        ("null", b'""'),
        ('"\\r"', b'"\r"'),
        ('"a\\nb"', b'"a\nb"'),
        ('"a,\\"b\\""', b'"a,""b"""'),
        ("true", b"true"),
        ("false", b"false"),
        ("7", b"7"),
        ("1.5", b"1.5"),
        ("12345678901234567890123", b"12345678901234567890123"),
        ("0.10000000000000000001", b"0.10000000000000000001"),
        ('["a",{"b":1}]', b'"[""a"",{""b"":1}]"'),
        ("{}", b"{}"),
        ('"Ti\u1ebfng"', "Ti\u1ebfng".encode()),
    ],
)
def test_a_cell(data: str, cell: bytes) -> None:
    assert one_row(f'{{"a":{data}}}') == cell + b"\n"


def test_a_row() -> None:
    assert one_row('{"c":"x","a":null}', "a", "b", "c") == b",,x\n"
    assert tables.CsvWriter(["a", "b c", 'd"'], "\t").header() == b'a\tb c\t"d"""\n'
    with pytest.raises(tables.NoColumn, match="no column for the field z"):
        one_row('{"a":1,"z":2}')


def test_an_array() -> None:
    writer = tables.JsonWriter()
    assert writer.end() == b"[]\n"
    assert writer.element(b'{"a" : 1.0}') + writer.element(b"{}") + writer.end() == b'[\n{"a" : 1.0},\n{}\n]\n'


def test_columns_in_the_order_in_which_they_appear() -> None:
    known: dict[str, None] = {}
    for data in ({"b": 1, "a": 2}, {"a": 1}, {"c": 0, "b": 1, "A": 1}):
        tables.add_columns(known, data)
    assert list(known) == ["b", "a", "c", "A"]
