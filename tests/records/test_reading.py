"""Bytes to records and back: a line is never lost, never an exception, and never changed beside the answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from json_texts import NAMES, OBJECTS, SPACE, VALUES, has_huge

from llmstream.records import exact, reading, splicing, words
from llmstream.records.values import BadLine, Failure, Record

FAILURE = Failure("http", 'no "luck"\n', 400, 2)
HYPOTHESIS = settings(deadline=None, max_examples=60)


def record(line: bytes | str) -> Record:
    found = reading.parse(line if isinstance(line, bytes) else line.encode(), "in:1")
    assert isinstance(found, Record), found
    return found


# -- lines -------------------------------------------------------------------------------------


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """The lines that come out when data comes in pieces of these sizes, and the rest in one."""
    lines, found = reading.Lines(), []
    for size in [*sizes, len(data)]:
        found += lines.feed(data[:size])
        data = data[size:]
    return [*found, lines.rest()]


@HYPOTHESIS
@given(st.lists(st.sampled_from([b"\n", b"\r\n", b"a", b"{}", b"\xff", b""])), st.lists(st.integers(1, 5)))
def test_lines_do_not_depend_on_the_pieces(parts: list[bytes], sizes: list[int]) -> None:
    data = b"".join(parts)
    assert cut(data, sizes) == data.split(b"\n")


@pytest.mark.parametrize("size", [1, 3, 10, 11, 12, 1000])
def test_a_line_that_is_too_long_is_one_bad_line(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(reading, "LONGEST", 10)
    monkeypatch.setattr(reading, "KEPT", 4)
    data = b'{"a":1}\n[' + b"1," * 5000 + b'1]\n{"b":22222}\n{"c":3}\n' + b"x" * 100
    found = [reading.parse(line, "in") for line in cut(data, [size] * (len(data) // size))]
    assert [type(one).__name__ for one in found] == ["Record", "BadLine", "BadLine", "Record", "BadLine"]
    assert [one.raw for one in found if isinstance(one, BadLine)] == [b"[1,1", b'{"b"', b"xxxx"]


def test_a_line_that_never_ends_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LONGEST", 1000)
    lines = reading.Lines()
    for _ in range(5000):
        assert lines.feed(b"xy") == []
    assert len(lines.rest()) == 1001
    assert lines.rest() == b""


def test_blank_lines_and_a_byte_order_mark() -> None:
    source = reading.Source("-", raw_text=False)
    assert source.feed(b"\xef\xbb\xbf{}\n \n\n\t\r\n") == [Record(b"{}", {}, "<stdin>:1")]
    assert [found.where for found in source.feed(b"{}\n\0\n x \n{")] == ["<stdin>:5", "<stdin>:6", "<stdin>:7"]
    assert [found.where for found in source.end()] == ["<stdin>:8"]
    assert source.end() == []


# -- parse -------------------------------------------------------------------------------------

BAD = [
    (b"{", "not a JSON object on one line"),
    (b'{"a":1', "not valid JSON"),
    (b'{"a":1}{"b":2}', "not valid JSON"),
    (b"[1]", "not a JSON object: [1]"),
    (b'"text"', 'not a JSON object: "text"'),
    (b"null", "not a JSON object: null"),
    (b"nonsense", "not valid JSON"),
    (b'{"a":"\xff"}', "not valid UTF-8"),
    (b'{"a":"\xff","n":12345678901234567890}', "not valid UTF-8"),
    (b'\xff\xfe{"\0', "not valid UTF-8"),
    (rb'{"a":"\ud800"}', "not valid JSON"),
    (b'{"a":NaN}', "not valid JSON"),
    (b'{"a":1e400}', "out of range"),
    (b'{"a":"\0"}', "not valid JSON"),
    (b'{"a":' * 5000 + b"1" + b"}" * 5000, "not valid JSON"),
    (b'{"a":' * 300 + b"1" + b"}" * 300, "nested too deep"),
    (b'\xef\xbb\xbf{"a":1}', "not valid JSON"),
]


@pytest.mark.parametrize(("line", "why"), BAD)
def test_a_bad_line(line: bytes, why: str) -> None:
    found = reading.parse(line, "in:7")
    assert isinstance(found, BadLine)
    assert (found.raw, found.where) == (line, "in:7")
    assert why in found.why
    assert len(found.why) < 150


@pytest.mark.parametrize("line", [b'{"a":1}', b' \t{"a":1}\r', b'{ "a" : 1 }', b'\r{"a"\r:1}\r\r'])
def test_white_space_around_a_record_is_no_part_of_it(line: bytes) -> None:
    assert record(line) == Record(line.strip(), {"a": 1}, "in:1")


@HYPOTHESIS
@given(st.binary() | st.text('{}[]":,\\errotxby lm-0').map(str.encode), st.booleans())
def test_any_bytes_are_a_record_or_a_bad_line(line: bytes, raw_text: bool) -> None:
    found = reading.parse(line, "in:1", raw_text=raw_text)
    assert isinstance(found, Record | BadLine)
    if isinstance(found, Record):
        assert json.loads(found.line) == found.data


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"plain", "plain"),
        (b"  kept \t", "  kept \t"),
        (b"CRLF\r", "CRLF"),
        (b'{"text":"x"}', '{"text":"x"}'),
        (b'{"text":"x","error":{"by":"llm-map"}}', '{"text":"x","error":{"by":"llm-map"}}'),
        (b'"error":{"by":"llm-', '"error":{"by":"llm-'),
        (b'["error":{"by":"llm-"}]', '["error":{"by":"llm-"}]'),
        (b'[{"error":{"by":"llm-"}}]', '[{"error":{"by":"llm-"}}]'),
        ("\0\x1b é \u2028".encode(), "\0\x1b é \u2028"),
    ],
)
def test_a_line_of_text(line: bytes, text: str) -> None:
    found = reading.parse(line, "in:1", raw_text=True)
    assert found == Record(exact.dumps({"text": text}), {"text": text}, "in:1")


# -- failed records go out and come in again -----------------------------------------------------

AS_THEY_CAME = [
    "{}",
    "{ }",
    '{"a":1}',
    '{"a":1 }',
    '{ "a" : 1.50 , "b" : [ ] }',
    '{"a":1,"a":2}',
    '{"error":null}',
    '{ "error" : { "message" : 1.50, "was" : 2 } , "b" : 1E5 }',
    '{"error":"one","b":1,"error":"two"}',
    '{"error":{"by":"me","type":1,"message":2,"status":3,"attempts":4}}',
    '{"error":{"by":"llm-map"},"raw":"x"}',
    '{"raw":"x","was":"y"}',
    '{"a":{"error":{"by":"llm-map","type":"t","message":"m","status":1,"attempts":1}}}',
    '{"a":12345678901234567890123.10}',
    '{"error":12345678901234567890123.10}',
    '{"\\u0065rror":{"b":"\\u00e9"}}',
]


def test_the_shape_of_a_failed_record() -> None:
    out = reading.failed_line(record('{"id":7,"error":"old"}'), FAILURE, "llm-map")
    told = {"by": "llm-map", "type": "http", "message": 'no "luck"\n', "status": 400, "attempts": 2}
    assert json.loads(out) == {"id": 7, "error": {**told, "was": "old"}}
    out = reading.failed_line(BadLine(b"{\xe9", "in:1", "bad"), FAILURE, "llm-map")
    assert json.loads(out) == {"error": {**told, "raw": "{\\xe9"}}


@pytest.mark.parametrize("line", AS_THEY_CAME)
def test_a_failed_record_comes_back_as_it_was(line: str) -> None:
    came = record(line)
    assert came.line == line.encode()
    again = record(reading.failed_line(came, FAILURE, "llm-map"))
    assert again == came
    assert record(b" " + reading.failed_line(again, FAILURE, "llm-vote") + b"\r") == came


@HYPOTHESIS
@given(OBJECTS)
def test_any_failed_record_comes_back_as_it_was(text: str) -> None:
    assume(not has_huge(text))
    came = record(text)
    out = reading.failed_line(came, FAILURE, "llm-map")
    assert json.loads(out)["error"]["by"] == "llm-map"
    assert record(out) == came


def test_only_what_a_run_put_in_is_taken_off() -> None:
    ours = json.dumps({"by": "llm-map", "type": "t", "message": "m", "status": None, "attempts": 1})
    assert record('{"error":"mine","error":' + ours + ',"b":1}').line == b'{"error":"mine","b":1}'
    assert record('{ "error" : ' + ours + ' , "b":1}').line == b'{ "b":1}'


@pytest.mark.parametrize(("line", "why"), BAD)
def test_a_failed_bad_line_comes_back_as_bad(line: bytes, why: str) -> None:
    came = reading.parse(line, "in:1")
    out = reading.failed_line(came, Failure("input", why), "llm-map")
    again = reading.parse(out, "in:1")
    assert isinstance(again, BadLine)
    assert again.raw == line or "UTF-8" in why
    assert reading.failed_line(again, Failure("input", why), "llm-map") == out


def test_a_bad_line_that_was_mended_in_the_errors_file_is_read() -> None:
    out = reading.failed_line(
        BadLine(b'{"a":1', "in:1", "not valid JSON"), Failure("input", "not valid JSON"), "llm-map"
    )
    assert record(out.replace(rb"{\"a\":1", rb"{\"a\":1}")) == Record(b'{"a":1}', {"a": 1}, "in:1")


def test_bytes_that_the_errors_file_could_not_hold_never_pass_for_others() -> None:
    """Latin-1 behind a backslash: what stands for the byte would make a valid escape of it."""
    came = reading.parse(b'{"path":"C:\\\xdcbung"}', "in:1")
    assert isinstance(came, BadLine)
    assert isinstance(reading.parse(reading.failed_line(came, Failure("input", came.why), "llm-map"), "in:1"), BadLine)


def test_a_line_that_was_cut_never_passes_for_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LONGEST", 20)
    monkeypatch.setattr(reading, "KEPT", 9)
    for raw_text in (False, True):
        came = reading.parse(b'{"a":1}  {"b":2}, and so on', "in:1", raw_text=raw_text)
        assert isinstance(came, BadLine)
        out = reading.failed_line(came, Failure("input", came.why), "llm-map")
        monkeypatch.setattr(reading, "LONGEST", 1000)
        assert reading.parse(out, "in:1", raw_text=raw_text) == came
        monkeypatch.setattr(reading, "LONGEST", 20)


@HYPOTHESIS
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n")) | OBJECTS)
def test_a_failed_text_comes_back_as_it_was(text: str) -> None:
    came = reading.parse(text.encode(), "in:1", raw_text=True)
    out = reading.failed_line(came, FAILURE, "llm-map")
    assert reading.parse(out, "in:1", raw_text=True) == came
    assert reading.parse(out, "in:1") == came


def test_a_failed_bad_text_comes_back_as_bad() -> None:
    came = reading.parse(b"caf\xe9", "in:1", raw_text=True)
    assert came == BadLine(b"caf\xe9", "in:1", "not valid UTF-8")
    out = reading.failed_line(came, Failure("input", came.why), "llm-map")
    assert reading.parse(out, "in:1", raw_text=True) == BadLine(rb"caf\xe9", "in:1", "not valid UTF-8")


# -- an answer in its place ----------------------------------------------------------------------

NEW = b'{"new":1.50}'

PUT = [
    ("{}", "a", '{"a":1}'),
    ("{ }", "a", '{ "a":1}'),
    ('{"b":2}', "a", '{"b":2,"a":1}'),
    ('{ "b" : 2 }', "a", '{ "b" : 2 ,"a":1}'),
    ('{"a":2}', "a", '{"a":1}'),
    ('{ "a" : [ 2 ] , "b" : 1.50 }', "a", '{ "a" : 1 , "b" : 1.50 }'),
    ('{"a":1,"a":2}', "a", '{"a":1,"a":1}'),
    ('{"\\u0061":2}', "a", '{"\\u0061":1}'),
    ('{"b":"\\"a\\":2"}', "a", '{"b":"\\"a\\":2","a":1}'),
    ('{"b":2}', "a.b.c", '{"b":2,"a":{"b":{"c":1}}}'),
    ('{"a":null}', "a.b", '{"a":{"b":1}}'),
    ('{"a":{}}', "a.b", '{"a":{"b":1}}'),
    ('{"a":{ }}', "a.b.c", '{"a":{ "b":{"c":1}}}'),
    ('{"a":{"x":2},"a":{"y":3}}', "a.b", '{"a":{"x":2},"a":{"y":3,"b":1}}'),
    ('{"a":{"b":2,"b":{"c":3}},"z":1e5}', "a.b.c", '{"a":{"b":2,"b":{"c":1}},"z":1e5}'),
    ('{"a":{"a":{"a":2}}}', "a.a.a", '{"a":{"a":{"a":1}}}'),
    ('{"n":12345678901234567890123.10,"a":2}', "a", '{"n":12345678901234567890123.10,"a":1}'),
    ('{"é":"ü","a":"ö","z":"\U0001f600"}', "a", '{"é":"ü","a":1,"z":"\U0001f600"}'),
    ('{"b":2}', 'q"\\.é', '{"b":2,"q\\"\\\\":{"é":1}}'),
]


@pytest.mark.parametrize(("line", "path", "expected"), PUT)
def test_put(line: str, path: str, expected: str) -> None:
    assert splicing.put(record(line), tuple(path.split(".")), b"1").decode() == expected


@st.composite
def places(draw: st.DrawFn) -> tuple[str, str, str, tuple[str, ...]]:
    """An object's text in three parts, the middle one a value, and the path to it."""
    before, value, after, path = "", draw(VALUES), "", ()
    for _ in range(draw(st.integers(1, 3))):
        name = draw(NAMES)
        earlier = draw(st.lists(st.tuples(NAMES, VALUES), max_size=2))
        later = draw(st.lists(st.tuples(NAMES, VALUES), max_size=2))
        assume(all(json.loads(other) != json.loads(name) for other, _ in later))  # of two the last one counts
        space = draw(SPACE)
        head = [f"{space}{other}{space}:{text}{space}," for other, text in earlier]
        tail = [f",{space}{other}:{space}{text}{space}" for other, text in later]
        before = f"{{{''.join(head)}{space}{name}:{space}{before}"
        after = f"{after}{space}{''.join(tail)}{space}}}"
        path = (json.loads(name), *path)
    assume(not has_huge(before + value + after))
    return before, value, after, path


@HYPOTHESIS
@given(places())
def test_put_changes_nothing_but_the_value(place: tuple[str, str, str, tuple[str, ...]]) -> None:
    before, value, after, path = place
    came = record(before + value + after)
    assert splicing.holds(came.data, path)
    assert splicing.put(came, path, NEW).decode() == before + NEW.decode() + after


def with_value(data: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    inner = with_value(data.get(path[0]) or {}, path[1:], value) if path[1:] else value
    return {**data, path[0]: inner}


@HYPOTHESIS
@given(OBJECTS, st.lists(st.sampled_from(["a", "b", "error", "", "x:y", 'q"\\', "é"]), min_size=1, max_size=4))
def test_put_sets_the_value(text: str, names: list[str]) -> None:
    assume(not has_huge(text))
    came, path = record(text), tuple(names)
    name = splicing.blocked(came.data, path)
    if name is None:
        out = splicing.put(came, path, NEW)
        assert exact.loads(out) == with_value(came.data, path, {"new": 1.5})
        assert out.startswith(came.line[:-1]) or path[0] in came.data
    else:
        assert not splicing.holds(came.data, path)


@pytest.mark.parametrize(
    ("data", "path", "name", "there"),
    [
        ({}, "a.b.c", None, False),
        ({"a": 1}, "a", None, True),
        ({"a": None}, "a", None, True),
        ({"a": None}, "a.b", None, False),
        ({"a": 1}, "a.b", "a", False),
        ({"a": 0}, "a.b", "a", False),
        ({"a": ""}, "a.b", "a", False),
        ({"a": []}, "a.b", "a", False),
        ({"a": {"b": "x"}}, "a.b.c.d", "a.b", False),
        ({"a": {"b": {}}}, "a.b.c", None, False),
        ({"a": {"b": {"c": False}}}, "a.b.c", None, True),
    ],
)
def test_blocked_and_holds(data: dict[str, Any], path: str, name: str | None, there: bool) -> None:
    assert splicing.blocked(data, tuple(path.split("."))) == name
    assert splicing.holds(data, tuple(path.split("."))) is there


def test_nothing_is_in_the_way_to_the_record_itself() -> None:
    assert splicing.blocked({"a": 1}, ()) is None


@pytest.mark.parametrize(
    ("line", "answer", "expected"),
    [
        ("{}", "{}", "{}"),
        ('{"a" : 1}', '{"b":2,"c":[3]}', '{"a" : 1,"b":2,"c":[3]}'),
        ('{"a" : 1,"b":2}', '{"a":{"x":1},"z":null}', '{"a" : {"x":1},"b":2,"z":null}'),
        ('{"a":1}', '{"n":12345678901234567890123,"d":1.00000000000000000001}', None),
    ],
)
def test_merge(line: str, answer: str, expected: str | None) -> None:
    out = splicing.merge(record(line), answer.encode()).line.decode()
    assert out == (expected or line[:-1] + "," + answer[1:])


# -- for people ------------------------------------------------------------------------------------


@HYPOTHESIS
@given(OBJECTS, st.text(st.sampled_from("\x7f\x80\x85\x9b\u009f\u2028a"), max_size=4))
def test_what_a_terminal_sees_is_the_same_json_without_controls(text: str, more: str) -> None:
    line = '{"more":\r"' + more + '","it":' + text + "}"
    seen = words.for_terminal(line.encode()).decode()
    assert not any((letter < " " and letter != "\t") or "\x7f" <= letter <= "\x9f" for letter in seen)
    assert json.loads(seen) == json.loads(line)


@pytest.mark.parametrize(
    ("out", "seen"),
    [
        (b"a\x1b[31mb", b"a\\u001b[31mb"),
        (b"two\nlines\tand a tab", b"two\nlines\tand a tab"),
        (b"one\r\ntwo\rover", b"one \ntwo over"),
        ("\x9b31m é".encode(), "\\u009b31m é".encode()),
        (b"\xff\0", "\ufffd\\u0000".encode()),
    ],
)
def test_text_for_a_terminal(out: bytes, seen: bytes) -> None:
    assert words.for_terminal(out) == seen
