"""Where an answer goes: the record's own bytes around it, or the answer alone."""

from __future__ import annotations

import json
import os

import pytest

from llmstream.records import reading
from llmstream.records.values import Answer, Failure, Outcome, Record, Usage
from llmstream.stream import splice
from llmstream.stream.splice import Placing, Splicer

META = {"model": "sim", "usage": {"input": 8, "output": 2}, "cost": None, "latency": 0.25, "attempts": 1}


@pytest.fixture(autouse=True)
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    monkeypatch.setattr(splice, "warn", told.append)
    monkeypatch.setattr(os, "isatty", lambda _: False)
    return told


def placed(output: str, meta: str | None = None, *, raw: bool = False) -> Splicer:
    path = () if output == "." else tuple(output.split("."))
    return Splicer(Placing(path, tuple(meta.split(".")) if meta else None, raw), with_schema=True)


def record(line: str) -> Record:
    found = reading.parse(line.encode(), "in:3")
    assert isinstance(found, Record)
    return found


def answer(value: str, *, replayed: bool = False) -> Answer:
    return Answer(value.encode(), "", "sim", Usage(8, 2), 0.25, 1, None, replayed)


def out(where: Splicer, line: str, value: str) -> str:
    outcome = where.outcome(record(line), answer(value))
    assert outcome.failure is None
    assert outcome.out.endswith(b"\n")
    return outcome.out.decode()[:-1]


@pytest.mark.parametrize(
    ("output", "line", "value", "expected"),
    [
        ("output", '{ "a" : 1.50 }', '"x"', '{ "a" : 1.50 ,"output":"x"}'),
        ("output", "{}", "null", '{"output":null}'),
        ("a.b", '{"a":{"c":1}}', "[1]", '{"a":{"c":1,"b":[1]}}'),
        ("a.b", '{"a":null}', "1", '{"a":{"b":1}}'),
        (".", '{"a":1}', '{"b":2,"a":3}', '{"a":3,"b":2}'),
        ("a", '{"n":12345678901234567890123,"a":0}', "1", '{"n":12345678901234567890123,"a":1}'),
    ],
)
def test_the_answer_in_its_place(output: str, line: str, value: str, expected: str) -> None:
    assert out(placed(output), line, value) == expected


@pytest.mark.parametrize(
    ("output", "meta", "line", "value", "expected"),
    [
        ("output", "m", '{"a":1}', '"x"', {"a": 1, "output": "x", "m": META}),
        ("output", "m", '{"m":1}', '"x"', {"m": META, "output": "x"}),
        ("a.b", "a.m", '{"a":{"c":1}}', '"x"', {"a": {"c": 1, "b": "x", "m": META}}),
        ("a.b", "a.m", "{}", '"x"', {"a": {"b": "x", "m": META}}),
        (".", "m.n", '{"a":1}', '{"b":2,"m":{}}', {"a": 1, "b": 2, "m": {"n": META}}),
        (".", "m", "{}", "{}", {"m": META}),
    ],
)
def test_meta(output: str, meta: str, line: str, value: str, expected: object) -> None:
    assert json.loads(out(placed(output, meta), line, value)) == expected


def test_meta_beside_an_answer_as_deep_as_may_be() -> None:
    deep = '{"a":' * 200 + "1" + "}" * 200
    assert json.loads(out(placed("output", "m"), deep, deep))["m"] == META


@pytest.mark.parametrize(
    ("value", "expected"),
    [('"a\\n\\u00e9\\"b"', 'a\né"b'), ('{"a":"x"}', '{"a":"x"}'), ("[1,2]", "[1,2]"), ("true", "true"), ('""', "")],
)
def test_the_answer_alone(value: str, expected: str) -> None:
    assert out(placed("output", "m", raw=True), '{"output":1}', value) == expected


def test_no_place_in_the_record() -> None:
    found = placed("a.b", "m.n").obstacle(record('{"a":"text"}'))
    assert found == Failure("output", "cannot put a.b into the record: a is not an object")
    found = placed("o", "m.n").obstacle(record('{"m":[1]}'))
    assert found == Failure("output", "cannot put m.n into the record: m is not an object")
    assert placed("a.b", "m.n").obstacle(record('{"a":null,"m":{"n":1}}')) is None
    assert placed("a.b", raw=True).obstacle(record('{"a":"text"}')) is None
    assert placed(".").obstacle(record('{"a":"text"}')) is None


def test_only_an_object_can_be_merged() -> None:
    outcome = placed(".").outcome(record("{}"), answer("[1]"))
    assert outcome.failure
    assert (outcome.failure.type, outcome.out) == ("output", b"")


def test_a_replayed_answer_is_told_to_be_one() -> None:
    came = record("{}")
    expected = Outcome(came, b'{"o":1}\n', replayed=True, value=b"1")
    assert placed("o").outcome(came, answer("1", replayed=True)) == expected
    assert not placed("o").outcome(came, answer("1")).replayed


def test_a_field_that_is_replaced_is_told_once(warnings: list[str]) -> None:
    where = placed("a.b")
    out(where, '{"a":{}}', "1")
    assert warnings == []
    for _ in range(3):
        out(where, '{"a":{"b":null}}', "1")
    assert warnings == ["in:3: the record has a field a.b already; it is replaced"]


def test_a_terminal_sees_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda fd: fd == 1)
    assert out(placed("o", raw=True), "{}", '"\\u001b[2J\\tx"') == "\\u001b[2J\tx"
    assert json.loads(out(placed("o"), '{"a":\r"\x9b"}', '"\x7f"')) == {"a": "\x9b", "o": "\x7f"}
