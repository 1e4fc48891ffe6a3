"""The votes on one record: how many to ask for, whether they are enough, and what is said of them."""

from __future__ import annotations

from typing import Any

import pytest

from llmstream.records import exact
from llmstream.records.values import Answer, Failure
from llmstream.votes import criteria
from llmstream.votes.consensus import Rules, agree
from llmstream.votes.poll import Poll, VoteRules, counts_as_dict


def answer(text: str) -> Answer:
    return Answer(text.encode(), text, "m", None, 0.0, 1)


def failure(type_: str = "schema", attempts: int = 1, status: int | None = None) -> Failure:
    return Failure(type_, f"it is {type_}", status, attempts)


def cast(rules: VoteRules, *found: str | Failure) -> Poll:
    return Poll(rules).with_votes(answer(one) if isinstance(one, str) else one for one in found)


YES, NO = '"yes"', '"no"'
KNOWN = Rules(options={"": 2})  # yes or no


# -- how many to ask for --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "found", "further"),
    [
        (VoteRules(3), [], 2),
        (VoteRules(3), [YES, YES], 0),  # a third changes nothing
        (VoteRules(3), [YES, NO], 1),
        (VoteRules(3), [YES, failure()], 1),
        (VoteRules(3), [YES, failure(), failure()], 0),
        (VoteRules(3), [failure(), failure()], 0),  # two of three will never be valid
        (VoteRules(3, quorum=1), [failure(), failure()], 1),
        (VoteRules(3, quorum=3), [YES, YES], 1),
        (VoteRules(3, quorum=3), [YES, failure()], 0),
        (VoteRules(5, counting=KNOWN), [], 3),
        (VoteRules(5, min_votes=4), [], 4),
        (VoteRules(5, min_votes=4), [YES, YES, YES], 1),
        (VoteRules(5, all_votes=True), [], 5),
        (VoteRules(5, all_votes=True), [YES, YES, YES], 2),
        (VoteRules(5), ["1", "1"], 3),  # a mean moves with every vote
        (VoteRules(9, confidence=0.9), [YES, YES, YES], 0),
        (VoteRules(9), [YES, YES, YES], 2),
        (VoteRules(5), [YES, YES, '"Yes"'], 2),  # its spelling is not settled
        (VoteRules(5, confidence=0.9), [YES, YES, YES, '"Yes"'], 0),
        (VoteRules(3), [YES, failure("stopped", 0)], 0),
        (VoteRules(3), [failure("offline", 0)], 0),
    ],
)
def test_the_next_round(rules: VoteRules, found: list[str | Failure], further: int) -> None:
    assert cast(rules, *found).next_round == further


def test_a_poll_goes_on_from_what_it_was() -> None:
    poll = cast(VoteRules(3), YES, failure("schema", 0))
    assert poll.failed_earlier == [1]
    again = poll.with_second_chances({1: answer(NO)})
    assert (again.values, again.failures, again.failed_earlier) == (["yes", "no"], [], [])
    assert (poll.values, len(poll.failures)) == (["yes"], 1)
    more = again.with_votes([answer(NO)])
    assert (more.values, more.next_round, more.result().value) == (["yes", "no", "no"], 0, "no")


def test_null_is_a_vote_like_any_other() -> None:
    poll = cast(VoteRules(3), "null", "null", failure())
    assert poll.values == [None, None]
    assert poll.failure is None
    assert poll.result() == (None, b"null")


# -- are they enough ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "found", "short", "why"),
    [
        (VoteRules(3), [YES, YES], False, None),
        (VoteRules(3), [YES, YES, failure()], False, None),
        (VoteRules(3, quorum=1), [YES, failure(), failure()], False, None),
        (VoteRules(3), [failure(status=400), failure("length", 2), YES], True,
         Failure("quorum", "1 of 3 votes are valid: it is schema", 400, 3)),
        (VoteRules(3, quorum=3), [YES, YES, failure("length")], True,
         Failure("quorum", "2 of 3 votes are valid: it is length", None, 1)),
        (VoteRules(3), [failure(status=400), failure("length", 2)], True,
         Failure("schema", "it is schema (no vote of 2 is valid)", 400, 3)),
        (VoteRules(3), [failure(), failure("stopped", 0)], True, failure("stopped", 0)),
        (VoteRules(3), [YES, YES, failure("offline", 0)], False, failure("offline", 0)),
    ],
)  # fmt: skip
def test_why_there_is_no_verdict(
    rules: VoteRules, found: list[str | Failure], short: bool, why: Failure | None
) -> None:
    poll = cast(rules, *found)
    assert poll.is_short is short
    assert poll.failure == why


# -- what they come to ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "value", "spelled"),
    [
        ([YES, NO, NO], "no", b'"no"'),
        (['{"a": 1.50}', '{"a": 1.50}'], {"a": 1.5}, b'{"a": 1.50}'),  # spelled as all of them are
        (['{"a": 1.50}', '{"a":1.5}'], {"a": 1.5}, b'{"a":1.5}'),
        (["1", "2", failure()], 1.5, b"1.5"),
    ],
)
def test_the_result(found: list[str | Failure], value: Any, spelled: bytes) -> None:
    assert cast(VoteRules(3), *found).result() == (value, spelled)


def test_with_criteria_the_overall_score_is_in_the_result() -> None:
    scoring = criteria.read('{"style":{"weight":3},"wit":{}}')
    poll = cast(VoteRules(2), '{"style":8,"wit":4}', '{"style":8,"wit":4}')
    expected = {"style": 8, "wit": 4, "overall_score": 7}
    assert poll.result(scoring) == (expected, exact.dumps(expected))


def test_how_the_votes_fell() -> None:
    poll = cast(VoteRules(5), YES, failure(), NO, failure("length"), YES, failure())
    counts = {"agreement": 0.6667, "counts": {"yes": 2, "no": 1}}
    told = {"votes": 3, "failed": 3, **counts, "failures": {"schema": 2, "length": 1}}
    assert poll.as_dict(with_ballots=False) == told
    assert poll.as_dict(with_ballots=True) == {**told, "ballots": ["yes", "no", "yes"]}
    assert list(poll.as_dict(with_ballots=True)) == ["votes", "failed", "agreement", "counts", "failures", "ballots"]


def test_the_models_of_a_jury_are_told_apart() -> None:
    rules = VoteRules(6, models=("a", "b", "a", "c"))
    poll = cast(rules, YES, NO, failure())
    assert [rules.juror(number) for number in range(6)] == ["a", "b", "a", "c", "a", "b"]
    told = poll.as_dict(with_ballots=True)
    assert (told["votes"], told["failed"], told["tie"]) == (2, 1, True)
    one = {"agreement": 1.0, "failed": 0}
    assert told["models"] == {
        "a": {"votes": 1, **one, "failed": 1, "counts": {"yes": 1}, "failures": {"schema": 1}, "ballots": ["yes"]},
        "b": {"votes": 1, **one, "counts": {"no": 1}, "ballots": ["no"]},
        "c": {"votes": 0, "failed": 0, "ballots": []},
    }
    assert list(told["models"]) == ["a", "b", "c"]
    assert "models" not in cast(VoteRules(2, models=("a", "a")), YES, NO).as_dict(with_ballots=False)


def test_counts_of_votes_that_nobody_was_asked_for() -> None:
    verdict = agree(["x", "y", "x"], Rules())
    told = {"votes": 3, "failed": 0, "agreement": 0.6667, "counts": {"x": 2, "y": 1}}
    assert counts_as_dict(["x", "y", "x"], verdict, with_ballots=False) == told
    assert counts_as_dict(["x", "y", "x"], verdict, with_ballots=True) == {**told, "ballots": ["x", "y", "x"]}
