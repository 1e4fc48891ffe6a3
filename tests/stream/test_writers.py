"""The form in which records go out, without a process."""

from __future__ import annotations

import pytest

from llmstream.records.values import Failure, Record
from llmstream.shell.messages import FIX_FIRST, Stop
from llmstream.stream.writers import RecordWriter, Writing

LINES = [b'{"a":1.50,"b":"x,y"}\n', b'{"c":null,"a":2}\n']


def written(writer: RecordWriter, lines: list[bytes]) -> bytes:
    put = [writer.put(line) for line in lines]
    assert not any(isinstance(out, Failure) for out in put)
    return b"".join([*(out for out in put if isinstance(out, bytes)), *writer.end()])


@pytest.mark.parametrize(
    ("writing", "expected"),
    [
        (Writing(), b"".join(LINES)),
        (Writing("json"), b'[\n{"a":1.50,"b":"x,y"},\n{"c":null,"a":2}\n]\n'),
        (Writing("csv"), b'a,b,c\n1.5,"x,y",\n2,,\n'),
        (Writing("csv", delimiter="\t"), b"a\tb\tc\n1.5\tx,y\t\n2\t\t\n"),
        (Writing("csv", ("c", "b", "a")), b'c,b,a\n,"x,y",1.5\n,,2\n'),
    ],
)
def test_each_form(writing: Writing, expected: bytes) -> None:
    assert written(RecordWriter(writing), LINES) == expected


@pytest.mark.parametrize(
    ("writing", "expected"),
    [(Writing(), b""), (Writing("json"), b"[]\n"), (Writing("csv"), b""), (Writing("csv", ("a",)), b"a\n")],
)
def test_without_records(writing: Writing, expected: bytes) -> None:
    assert written(RecordWriter(writing), []) == expected


def test_rows_go_out_at_once_where_the_columns_are_known() -> None:
    writer = RecordWriter(Writing("csv", ("a",)))
    assert [writer.put(b'{"a":%d}\n' % n) for n in range(2)] == [b"a\n0\n", b"1\n"]
    assert RecordWriter(Writing("csv")).put(b'{"a":0}\n') == b""


def test_a_field_without_a_column_fails_its_record_alone() -> None:
    writer = RecordWriter(Writing("csv", ("a", "b")))
    assert writer.put(LINES[1]) == Failure("column", "no column for the field c")
    assert written(writer, LINES[:1]) == b'a,b\n1.5,"x,y"\n'


def test_columns_that_cannot_be() -> None:
    with pytest.raises(Stop) as caught:
        RecordWriter(Writing("csv", ("a", "a")))
    assert caught.value.status == FIX_FIRST


def test_what_is_done_before_a_record_goes_out_may_fail_it() -> None:
    seen: list[Record] = []

    def before(record: Record) -> Failure | None:
        seen.append(record)
        return Failure("each", "no") if "c" in record.data else None

    writer = RecordWriter(Writing("csv"), before)
    assert [writer.put(line) for line in LINES] == [b"", Failure("each", "no")]
    assert [record.line for record in seen] == LINES
    assert b"".join(writer.end()) == b'a,b\n1.5,"x,y"\n'
