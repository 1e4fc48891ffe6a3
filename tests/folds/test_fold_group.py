"""A group's records as one line, and the order that does not depend on who came first."""

from __future__ import annotations

import itertools

import pytest

from llmstream.folds.fold_group import FoldedLine, GroupFold, fold_group
from llmstream.folds.groups import in_canonical_order, shared_fields
from llmstream.folds.rules import FoldRules, field_and_how, fold_rules
from llmstream.records import exact
from llmstream.records.values import Failure, Record

WATCHED = FoldRules(conflicts=True)


def record(text: str, number: int = 1) -> Record:
    return Record(text.encode(), exact.loads(text.encode()), f"f:{number}")


def records(*texts: str) -> list[Record]:
    return [record(text, number) for number, text in enumerate(texts, 1)]


def test_one_record_keeps_its_bytes() -> None:
    assert fold_group(records('{ "a": 1.50 }'), WATCHED, ("c",)) == FoldedLine(b'{ "a": 1.50 }', disagreed=False)
    rules = fold_rules([field_and_how("a=list")])
    assert fold_group(records('{ "a": 1.50 }'), rules, None) == FoldedLine(b'{"a":[1.5]}', disagreed=False)


@pytest.mark.parametrize(
    ("texts", "line", "disagreed"),
    [
        (['{"a":1}', '{"b":2}', '{"a":1.0}'], b'{"a":1.0,"b":2}', False),
        (['{"a":1}', '{"a":2}'], b'{"a":2,"of":{"c":[{"field":"a","values":[1,2],"from":["f:1","f:2"]}]}}', True),
    ],
)
def test_what_disagreed_is_put_into_the_line(texts: list[str], line: bytes, disagreed: bool) -> None:
    assert fold_group(records(*texts), WATCHED, ("of", "c")) == FoldedLine(line, disagreed)
    without = fold_group(records(*texts), WATCHED, None)
    assert isinstance(without, FoldedLine)
    assert without.disagreed is disagreed
    assert b"from" not in without.line


def test_what_disagreed_needs_an_object_to_go_into() -> None:
    found = fold_group(records('{"a":1,"of":3}', '{"a":2}'), WATCHED, ("of", "c"))
    assert found == Failure("output", "cannot put of.c into the record: of is not an object")


def test_what_cannot_be_folded() -> None:
    found = fold_group(records('{"a":1}', '{"a":"x"}'), fold_rules([field_and_how("a=sum")]), None)
    assert found == Failure("fold", "a: sum takes numbers, not a string (f:2)")


def test_the_records_of_a_whole_group_are_not_changed() -> None:
    members = records('{"a":[1],"n":1}', '{"a":[2],"n":2}')
    fold_group(members, fold_rules([field_and_how("n=sum")]), None)
    assert [exact.dumps(one.data) for one in members] == [one.line for one in members]


def test_records_are_kept_only_if_they_are_asked_for() -> None:
    first, second, third = records('{"a":1}', '{"a":2}', '{"a":3}')
    group = GroupFold(first, FoldRules())
    group.add(first, keep=True)
    group.add(second)
    group.add(third, keep=True)
    assert group.members == 3
    assert [other.line for other in group.others] == [third.line]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (['{"id":3}', '{"id":20}', '{"id":"1"}'], ['{"id":3}', '{"id":20}', '{"id":"1"}']),
        (['{"id":2,"x":1}', '{"id":2,"x":0}', '{"id":1}'], ['{"id":1}', '{"id":2,"x":0}', '{"id":2,"x":1}']),
        (['{"x":1}', '{"id":9}', '{"id":true}'], ['{"id":9}', '{"id":true}', '{"x":1}']),
    ],
)  # fmt: skip
def test_the_same_order_whichever_came_first(texts: list[str], expected: list[str]) -> None:
    for members in itertools.permutations(records(*texts)):
        assert [one.line.decode() for one in in_canonical_order(members)] == expected


def test_the_fields_that_a_group_shares() -> None:
    found = shared_fields(record('{"a":{"b":1.50,"c":2},"d":3,"e":null}'), [("a", "b"), ("e",)])
    assert found.line == b'{"a":{"b":1.5},"e":null}'
