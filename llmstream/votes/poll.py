"""The votes on one record: whether there are enough, what they come to, and how they fell. Nobody is asked here.

poll = Poll(rules)
while poll.next_round:
    poll = poll.with_votes(what came of that many further requests)
poll.failure or poll.value
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from llmstream.records import exact
from llmstream.records.values import Answer, Failure
from llmstream.votes import stopping
from llmstream.votes.consensus import Rules, Verdict, agree
from llmstream.votes.criteria import Criteria, with_overall
from llmstream.votes.stopping import Contest


class VoteRules(NamedTuple):
    """What the user said about the votes on a record."""

    votes: int  # that it may have
    min_votes: int = 2  # the least that are cast before the asking may stop
    quorum: int | None = None  # valid votes that it needs; None: more than half of those that were cast
    all_votes: bool = False  # ask for all, even those that cannot change the verdict
    confidence: float | None = None  # stop when the leader would win with this probability; None: when it is certain
    models: tuple[str, ...] = ("",)  # they vote in turn
    counting: Rules = Rules()  # how they are counted

    def juror(self, number: int) -> str:
        """The model that casts a vote."""
        return self.models[number % len(self.models)]

    def valid_votes_needed(self, cast: int) -> int:
        return self.quorum or cast // 2 + 1


class Vote(NamedTuple):
    """What came of one request for a vote."""

    found: Answer | Failure
    value: Any = None  # of an answer, parsed


def _vote(found: Answer | Failure) -> Vote:
    return Vote(found, exact.loads(found.value)) if isinstance(found, Answer) else Vote(found)


class Result(NamedTuple):
    """What the votes on a record come to."""

    value: Any
    spelled: bytes  # the same as JSON


@dataclass(frozen=True)
class Poll:
    """The votes on a record so far, by their numbers; the first is number 0."""

    rules: VoteRules
    votes: tuple[Vote, ...] = ()

    def with_votes(self, found: Iterable[Answer | Failure]) -> Poll:
        """After further votes."""
        return replace(self, votes=(*self.votes, *map(_vote, found)))

    def with_second_chances(self, found: Mapping[int, Answer | Failure]) -> Poll:
        """After some were asked for again, by their numbers."""
        again = {number: _vote(one) for number, one in found.items()}
        return replace(self, votes=tuple(again.get(number, vote) for number, vote in enumerate(self.votes)))

    @property
    def failed_earlier(self) -> list[int]:
        """The numbers of votes of which the done-file says that they failed in an earlier run."""
        found = [vote.found for vote in self.votes]
        return [number for number, one in enumerate(found) if isinstance(one, Failure) and not one.attempts]

    @cached_property
    def answers(self) -> list[Answer]:
        return [vote.found for vote in self.votes if isinstance(vote.found, Answer)]

    @cached_property
    def failures(self) -> list[Failure]:
        return [vote.found for vote in self.votes if isinstance(vote.found, Failure)]

    @cached_property
    def values(self) -> list[Any]:
        """Of the valid votes."""
        return [vote.value for vote in self.votes if isinstance(vote.found, Answer)]

    @cached_property
    def verdict(self) -> Verdict | None:
        return agree(self.values, self.rules.counting) if self.values else None

    # -- are there enough

    @property
    def next_round(self) -> int:
        """How many further votes to ask for; 0 if there are enough, or never will be."""
        rules, cast, valid = self.rules, len(self.votes), len(self.values)
        left = rules.votes - cast
        if self.unasked or valid + left < rules.valid_votes_needed(rules.votes):
            return 0
        if rules.all_votes:
            return left
        contests = self._contests()
        further = stopping.further_votes(contests, cast, rules.votes, rules.min_votes, rules.confidence)
        return min(left, max(further, (rules.quorum or 0) - valid))

    def _contests(self) -> list[Contest | None]:
        if self.verdict is None:  # nothing is known but how many answers there are, at places that every answer has
            return [(0,) * known for path, known in self.rules.counting.options.items() if "[" not in path]
        if self.rules.confidence is None and not self.verdict.fixed:
            return [*self.verdict.contests, None]
        return self.verdict.contests

    @property
    def unasked(self) -> Failure | None:
        """Why a vote was not even asked for, if so: the run stopped, or is offline."""
        return next((failure for failure in self.failures if failure.unasked), None)

    @property
    def is_short(self) -> bool:
        """Are too few of the votes valid?"""
        return len(self.values) < self.rules.valid_votes_needed(len(self.votes))

    # -- what they come to

    @property
    def failure(self) -> Failure | None:
        """Why there is no verdict."""
        if self.unasked:
            return self.unasked
        if not self.is_short:
            return None
        first, valid, cast = self.failures[0], len(self.values), len(self.votes)
        attempts = sum(failure.attempts for failure in self.failures)
        if not valid:
            return first._replace(message=f"{first.message} (no vote of {cast} is valid)", attempts=attempts)
        return Failure("quorum", f"{valid} of {cast} votes are valid: {first.message}", first.status, attempts)

    def result(self, scoring: Criteria | None = None) -> Result:
        """The verdict, if there is no failure; with criteria the overall score is in it."""
        assert self.verdict is not None
        if scoring:
            value = with_overall(self.verdict.value, scoring)
            return Result(value, exact.dumps(value))
        spellings = {answer.value for answer in self.answers}
        if len(spellings) == 1:
            return Result(self.verdict.value, spellings.pop())
        return Result(self.verdict.value, exact.dumps(self.verdict.value))

    def as_dict(self, *, with_ballots: bool) -> dict[str, Any]:
        """How the votes fell: of all, and in a jury of each model. with_ballots: with every vote."""
        made = self._counts(with_ballots=with_ballots)
        jury = dict.fromkeys(self.rules.models)
        if len(jury) > 1:
            made["models"] = {}
            for model in jury:
                own = (vote for number, vote in enumerate(self.votes) if self.rules.juror(number) == model)
                made["models"][model] = replace(self, votes=tuple(own))._counts(with_ballots=with_ballots)
        return made

    def _counts(self, *, with_ballots: bool) -> dict[str, Any]:
        return counts_as_dict(self.values, self.verdict, self.failures, with_ballots=with_ballots)


def counts_as_dict(
    values: Sequence[Any], verdict: Verdict | None, failures: Sequence[Failure] = (), *, with_ballots: bool
) -> dict[str, Any]:
    """How many votes there are, how they fell, and why others failed, as it is put into the record."""
    made: dict[str, Any] = {"votes": len(values), "failed": len(failures)}
    if verdict:
        made |= verdict.as_dict()
    if failures:
        made["failures"] = dict(Counter(failure.type for failure in failures))
    if with_ballots:
        made["ballots"] = list(values)
    return made
