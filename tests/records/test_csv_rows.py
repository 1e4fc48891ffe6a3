"""CSV: the same records however the bytes come, and a broken row costs as little as can be told."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from typing import Any

import pytest
from feeding import HYPOTHESIS, SIZES, outcome, read, told
from hypothesis import example, given
from hypothesis import strategies as st

from llmstream.records import csv_rows, exact
from llmstream.records.csv_rows import CsvReader
from llmstream.records.values import BadLine, Dialect, Record, Unreadable


def of_csv(data: bytes | str, dialect: Dialect = Dialect(), sizes: Iterable[int] = ()) -> list[Record | BadLine]:  # noqa: B008
    return read(CsvReader("f.csv", dialect), data if isinstance(data, bytes) else data.encode(), sizes)


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
        (b'"a\nb\n', "f.csv:1: the header cannot be read: a quote is never closed"),
    ],
)
def test_a_header_that_names_nothing(data: bytes, why: str) -> None:
    for size in (1, 1000):
        with pytest.raises(Unreadable, match=f"^{re.escape(why)}.*$"):
            of_csv(data, sizes=[size] * len(data))


def test_columns_that_are_called_the_same() -> None:
    with pytest.raises(ValueError, match=r"^two columns called 2$"):
        CsvReader("f", Dialect(header=False, columns=("2", "")))
    with pytest.raises(ValueError, match=r"^two columns called a$"):
        csv_rows.CsvWriter(["a", "b", "a"])
    assert csv_rows.CsvWriter(["", "a"]).header() == b",a\n"


GOOD = "1,x\n2,y\n3,z\n"
GOOD_ROWS = [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}, {"a": "3", "b": "z"}]
STRAY = "text behind the closing quote of a cell"
LOST = "the rest of the file is not read"
UNCLOSED = f"a quote is never closed; {LOST}"
TOO_LONG = f"row longer than 0 MB; {LOST}"


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
        pytest.param(f'{GOOD}"x\n{GOOD}', [*GOOD_ROWS, f"5: {UNCLOSED}"], id="never closed, rows follow"),
        pytest.param(f'1,"x\n{GOOD}', [f"2: {UNCLOSED}"], id="never closed, rows follow, second cell"),
        pytest.param('1,"x\n2,"y"\n3,z\n', [f"2: {STRAY}, lines 2 to 3", GOOD_ROWS[2]], id="the next row is quoted"),
        pytest.param(
            f'1,"x\n{GOOD}4,"w"\n5,"\n', [f"2: {STRAY}, lines 2 to 6", f"7: {UNCLOSED}"], id="two broken rows"
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


def test_what_stands_behind_a_quote_that_is_never_closed_is_kept() -> None:
    found = of_csv('a\n1\n"one\ntwo\nthree\nfour\n')
    assert told(found) == [{"a": "1"}, f"f.csv:3: {UNCLOSED}"]
    assert isinstance(found[1], BadLine)
    assert found[1].raw == b'"one\ntwo\nthree\nfour'


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("size", [1, 3, 10, 39, 40, 41, 42, 1000])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("a,b\n0,z\n1," + "x" * 100 + "\n2,y\n", [{"a": "0", "b": "z"}, f"f.csv:3: {TOO_LONG}"]),
        ("a,b\n1," + "ế" * 20 + "\n2,y\n", [f"f.csv:2: {TOO_LONG}"]),
        ('a,b\n1,"x\ny\n' + "x" * 100 + "\n2,y\n", [f"f.csv:2: {TOO_LONG}"]),
        ('a,b\n1,"' + "2,x\n" * 30, [f"f.csv:2: {TOO_LONG}"]),
        ('a,b\n1,"' + "23456789\n" * 5 + '"\n2,x\n', [f"f.csv:2: {TOO_LONG}"]),
        ('a\n"' + "x\n" * 20, [f"f.csv:2: {TOO_LONG}"]),
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
    reader = CsvReader("f.csv")
    goes_on = reader._rows._goes_on

    def count(line: str) -> Any:
        nonlocal asked
        asked += 1
        return goes_on(line)

    reader._rows._goes_on = count  # type: ignore[method-assign]
    read(reader, data, [1000] * (len(data) // 1000))
    assert asked <= data.count(b"\n")


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
    writer = csv_rows.CsvWriter(names, delimiter)
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

    def make() -> CsvReader:
        return CsvReader("f.csv", Dialect(header=header))

    whole = outcome(make, data)
    assert outcome(make, data, sizes) == whole
    assert outcome(make, data, [1] * len(data)) == whole


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("seed", range(30))
def test_long_broken_csv_does_not_depend_on_the_pieces(seed: int) -> None:
    parts = ['"', '""', ",", "\n", "\r", "1,2\n", '1,"2"\n', '"x\n', 'x","\n', "abcdefghijk\n", "z" * 45, '"\n']
    lot = [parts[(seed * 7 + n * n * (seed + 3) + n // 5) % len(parts)] for n in range(60)]
    data = "".join(["a,b\n", *lot]).encode()
    whole = outcome(lambda: CsvReader("f.csv"), data)
    for size in (1, 2, 7, 50, 99):
        assert outcome(lambda: CsvReader("f.csv"), data, [size] * (len(data) // size)) == whole


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


def test_half_a_character_at_the_end() -> None:
    assert told(of_csv("a\nx\ny".encode("utf-16")[:-1], Dialect("utf-16"))) == [{"a": "x"}, "f.csv:3: not valid utf-16"]
    assert told(of_csv(b"a\nx\n\xc3")) == [{"a": "x"}, "f.csv:3: not valid UTF-8"]


def test_the_bytes_of_a_bad_row_are_kept() -> None:
    assert of_csv(b"a,b\n\xff,1\r\n")[0] == BadLine(b"\xff,1", "f.csv:2", "not valid UTF-8")
    assert of_csv(b"a,b\n\xff\x00\xe9\n") == [BadLine(b"\xff\x00\xe9", "f.csv:2", "1 cell where there are 2 columns")]


def test_a_file_of_the_wrong_kind() -> None:
    with pytest.raises(Unreadable, match=r"^f.csv: cannot be read as utf-16: .*BOM"):
        of_csv(b"a,b\n1,2\n", Dialect("utf-16"))


# -- out ------------------------------------------------------------------------------------------


def one_row(data: str, *columns: str) -> bytes:
    return csv_rows.CsvWriter(columns or ("a",)).row(exact.loads(data.encode()))


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
    assert csv_rows.CsvWriter(["a", "b c", 'd"'], "\t").header() == b'a\tb c\t"d"""\n'
    with pytest.raises(csv_rows.NoColumn, match="no column for the field z"):
        one_row('{"a":1,"z":2}')


def test_columns_in_the_order_in_which_they_appear() -> None:
    known: dict[str, None] = {}
    for data in ({"b": 1, "a": 2}, {"a": 1}, {"c": 0, "b": 1, "A": 1}):
        csv_rows.add_columns(known, data)
    assert list(known) == ["b", "a", "c", "A"]
