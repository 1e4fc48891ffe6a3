"""Votes that stand in the records already."""

from __future__ import annotations

from typing import Any

import pytest

from llmstream.records import exact
from llmstream.records.values import Failure, Record
from llmstream.votes.in_records import list_of_votes, too_few, without_vote


def record(data: dict[str, Any]) -> Record:
    return Record(exact.dumps(data), data, "<stdin>:1")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ({"a": {"b": [1, None]}}, [1, None]),
        ({"a": {"b": []}}, []),
        ({"a": {"b": None}}, Failure("votes", "a.b: not a list")),
        ({"a": {"b": "x"}}, Failure("votes", "a.b: not a list")),
        ({"a": 1}, Failure("votes", "no field 'a.b'")),
        ({}, Failure("votes", "no field 'a.b'")),
    ],
)
def test_a_list_of_votes(data: dict[str, Any], found: Any) -> None:
    assert list_of_votes(record(data), ("a", "b")) == found


def test_any_value_is_a_vote() -> None:
    assert without_vote(record({"v": None}), ("v",)) is None
    assert without_vote(record({"w": 1}), ("v",)) == Failure("votes", "no field 'v'")


def test_too_few() -> None:
    assert too_few([1], ("v",), None) is None
    assert too_few([], ("v",), None) == Failure("quorum", "0 votes in v, 1 needed")
    assert too_few([1, 2], ("a", "v"), 3) == Failure("quorum", "2 votes in a.v, 3 needed")
    assert too_few([1, 2, 3], ("v",), 3) is None
