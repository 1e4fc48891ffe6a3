"""Lines of the done-file: the bytes that are written, and what is read where a person wrote them."""

from __future__ import annotations

from typing import Any

import pytest
from done_files import FIVE, KEY, LINES, ONE, WHOLE, fields
from hypothesis import given
from hypothesis import strategies as st

from llmstream.done import line
from llmstream.done.line import Line, key_of, seal, sealed
from llmstream.records.values import Usage

ANSWERED = Line("k", "yes", "sim", Usage(812, 64), 0.25, 0.12, 2, "2026-11-20T10:30:00Z", "DS_1")
REJECTED = ANSWERED._replace(id=None, cost=None, usage=Usage(8, 2, 1, 0), rejected="schema: no", asked=3)
GIVEN_UP = Line("k", "", attempts=4, at="2026-11-20T10:30:00Z", id=7, rejected="timeout: no answer")


# -- what is written --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "body"),
    [
        (
            ANSWERED,
            (
                '{"key":"k","answer":"yes","model":"sim","usage":{"input":812,"output":64},"cost":0.25,"latency":0.12,'
                '"attempts":2,"at":"2026-11-20T10:30:00Z","id":"DS_1","crc":"'
            ),
        ),
        (
            REJECTED,
            (
                '{"key":"k","answer":"yes","model":"sim","usage":{"input":8,"output":2,"cached":1},"cost":null,'
                '"latency":0.12,"attempts":2,"at":"2026-11-20T10:30:00Z","rejected":"schema: no","asked":3,"crc":"'
            ),
        ),
        (
            GIVEN_UP,
            (
                '{"key":"k","answer":"","attempts":4,"at":"2026-11-20T10:30:00Z","id":7,'
                '"rejected":"timeout: no answer","crc":"'
            ),
        ),
        (
            ANSWERED._replace(usage=None, model=""),
            (
                '{"key":"k","answer":"yes","model":"","usage":null,"cost":0.25,"latency":0.12,'
                '"attempts":2,"at":"2026-11-20T10:30:00Z","id":"DS_1","crc":"'
            ),
        ),
    ],
)
def test_the_bytes_of_a_line(one: Line, body: str) -> None:
    raw = seal(one.as_fields())
    assert raw[:-11].decode() == body
    assert line.parse(raw[:-1]) == one


texts = st.text(st.characters(codec="utf-8"))
counts = st.integers(0, 1 << 40)
written_lines = st.builds(
    Line,
    texts,
    texts,
    texts,
    st.none() | st.builds(Usage, counts, counts, counts, counts),
    st.none() | st.floats(0, 1e9),
    st.floats(0, 1e6),
    counts,
    texts,
    st.none() | texts | counts,
    st.none() | texts,
    counts,
    st.just(True),
)


@given(written_lines)
def test_what_is_written_is_read(one: Line) -> None:
    assert line.parse(seal(one.as_fields())[:-1]) == one


# -- what is read -----------------------------------------------------------------------------------


def read(**more: Any) -> Line:
    return line.from_fields({"key": "k", "answer": "a", **more})


BARE = Line("k", "a", has_crc=False)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, BARE),
        ({"crc": None}, BARE),
        ({"crc": "00000000"}, BARE._replace(has_crc=True)),
        ({"model": 7, "cost": "1", "latency": True, "attempts": 1.5, "at": 3, "id": [1], "rejected": 1}, BARE),
        ({"asked": False, "usage": [1, 2], "cost": False, "id": True}, BARE._replace(model="")),
        ({"usage": {"input": 3, "output": "4", "cached": None, "more": 1}}, BARE._replace(model="", usage=Usage(3, 0))),
        ({"model": "m", "usage": {}}, BARE._replace(model="m", usage=Usage(0, 0))),
        ({"cost": 1, "latency": 2, "id": 0.5}, BARE._replace(cost=1, latency=2, id=0.5)),
        ({"answer": None, "key": 1}, BARE._replace(key="", answer="")),
    ],
)
def test_a_field_of_a_wrong_type_is_read_as_missing(more: dict[str, Any], expected: Line) -> None:
    assert read(**more) == expected


def test_a_rejected_answer_that_was_mended_counts_as_accepted() -> None:
    assert read(crc="x").accepted
    assert not read(crc="x", rejected="refusal: no").accepted
    assert read(rejected="refusal: no").accepted


@pytest.mark.parametrize(
    "raw",
    [b"", b"{}", b"[]", b'{"key":"k"}', b'{"key":"k","answer":1}', b'{"key":1,"answer":"a"}', ONE[:-5], b"\xff"],
)
def test_what_is_no_line(raw: bytes) -> None:
    assert (line.parse(raw), key_of(raw)) == (None, None)


@given(st.binary(max_size=200) | st.binary(max_size=30).map(lambda more: ONE[:-1] + more))
def test_any_line_has_a_key_or_none(raw: bytes) -> None:
    assert key_of(raw) in (None, KEY.encode())
    found = line.parse(raw)
    assert (found and found.key.encode()) == key_of(raw)


@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=12))
def test_lines_are_sealed_as_one_by_one(place: int, other: bytes) -> None:
    lines = (WHOLE[:place] + other + WHOLE[place + len(other) :]).splitlines()
    assert not sealed(lines) or all(key_of(line) for line in lines)
    assert sealed(lines) == (other == WHOLE[place : place + len(other)])


# -- many at once -----------------------------------------------------------------------------------


def test_keys_of_lines_as_we_write_them() -> None:
    lines = [raw[:-1] for raw in LINES]
    assert line.accepted_keys(lines) == [one["key"].encode() for one in FIVE]
    for odd in (b"", lines[0][:-1], lines[0].replace(b"say", b"sad"), b" " + lines[0], b'{"key":"k","answer":"a"}'):
        assert line.accepted_keys([*lines, odd]) is None
    assert line.accepted_keys([*lines, seal(fields(9, rejected="schema: no"))[:-1]]) is None


def test_fields_of_many_lines() -> None:
    lines = [raw[:-1] for raw in LINES]
    found, damaged = line.parse_all_fields(lines)
    assert ([one["key"] for one in found], damaged) == ([one["key"] for one in FIVE], 0)
    found, damaged = line.parse_all_fields([*lines, b"", b"{}", b' {"key":"k","answer":"a"}\r', lines[0][:-1]])
    assert ([one["key"] for one in found], damaged) == ([*(one["key"] for one in FIVE), "k"], 2)


def test_a_mended_answer_is_not_rejected_among_others() -> None:
    rejected = seal(fields(1, rejected="schema: no")).rstrip()
    mended = b'{"key":"k","answer":"a","rejected":"schema: no"}'
    found, _ = line.parse_all_fields([rejected, mended])
    assert ["rejected" in one for one in found] == [True, False]


# -- is it one? -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [60, 80, len(ONE) - 1, len(ONE)])
def test_the_beginning_of_a_line(size: int) -> None:
    assert line.begins_line(ONE[:size])
    assert line.begins_line(ONE[:size].replace(b":", b" : ").replace(b",", b" , "))


@pytest.mark.parametrize(
    "raw", [b"", b"{", b'{"key":"k"}', b'{"event_type":"x"}', b'["key"', b'{"answer":"a","key":"k"}']
)
def test_what_does_not_begin_like_a_line(raw: bytes) -> None:
    assert not line.begins_line(raw)
