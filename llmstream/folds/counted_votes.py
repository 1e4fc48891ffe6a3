"""Votes that stand in the records already, counted: a list of them in each record, or one in each record of a group."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from llmstream.folds.groups import GroupRules, Groups, shared_fields
from llmstream.records import equality, exact
from llmstream.records.equality import Path
from llmstream.records.values import Answer, Failure, Outcome, Record
from llmstream.votes.consensus import Rules, agree
from llmstream.votes.in_records import list_of_votes, too_few, without_vote
from llmstream.votes.poll import counts_as_dict
from llmstream.votes.totals import VoteTotals


class CountRules(NamedTuple):
    """Where the votes stand, and how they are counted."""

    field: Path
    votes_field: Path  # where it says how they fell
    quorum: int | None
    with_ballots: bool
    counting: Rules


class Placer(Protocol):
    """Knows where a verdict goes in its record."""

    def obstacle(self, record: Record) -> Failure | None: ...

    def outcome(self, record: Record, answer: Answer, *beside: tuple[Path, bytes]) -> Outcome: ...


def counted(
    rules: CountRules, grouping: GroupRules | None, placer: Placer, totals: VoteTotals
) -> VotesInLists | VotesInGroups:
    """What counts the votes of a stream of records."""
    count = Count(rules, placer, totals)
    return VotesInGroups(count, grouping) if grouping else VotesInLists(count)


class Count:
    """Votes in, a record with their verdict out."""

    def __init__(self, rules: CountRules, placer: Placer, totals: VoteTotals) -> None:
        self.rules = rules
        self._placer = placer
        self._totals = totals

    def outcome(self, record: Record, votes: list[Any]) -> Outcome:
        """The verdict in its record, or why there is none."""
        rules = self.rules
        obstacle = too_few(votes, rules.field, rules.quorum) or self._placer.obstacle(record)
        if obstacle:
            return Outcome(record, failure=obstacle)
        verdict = agree(votes, rules.counting)
        self._totals.add(votes, verdict, verdict.value, len(votes))
        how = exact.dumps(counts_as_dict(votes, verdict, with_ballots=rules.with_ballots))
        answer = Answer(exact.dumps(verdict.value), "", "", None, 0.0, 0)
        return self._placer.outcome(record, answer, (rules.votes_field, how))


class VotesInLists:
    """A record's votes are a list in it."""

    def __init__(self, count: Count) -> None:
        self._count = count

    def take(self, record: Record) -> Iterable[Outcome]:
        votes = list_of_votes(record, self._count.rules.field)
        if isinstance(votes, Failure):
            return [Outcome(record, failure=votes)]
        return [self._count.outcome(record, votes)]

    def rest(self) -> Iterable[Outcome]:
        return []


class _Group(NamedTuple):
    """Records that share their fields."""

    record: Record  # these fields alone
    votes: list[Any]
    members: list[Record]  # as far as they may be needed again


class VotesInGroups:
    """Each record is one vote."""

    def __init__(self, count: Count, grouping: GroupRules) -> None:
        self._count = count
        self._grouping = grouping
        self._groups = Groups(grouping, self._begin, self._add)

    def take(self, record: Record) -> Iterable[Outcome]:
        ready = without_vote(record, self._count.rules.field) or self._groups.take(record)
        if isinstance(ready, Failure):
            return [Outcome(record, failure=ready)]
        return [self._outcome(one.group) for one in ready]

    def rest(self) -> Iterable[Outcome]:
        return [self._outcome(one.group) for one in self._groups.rest()]

    def _begin(self, record: Record) -> _Group:
        return _Group(shared_fields(record, self._grouping.fields), [], [])

    def _add(self, group: _Group, record: Record) -> None:
        group.votes.append(equality.at(record.data, self._count.rules.field))
        if self._count.rules.quorum or not group.members:  # only a quorum can fail a group
            group.members.append(record)

    def _outcome(self, group: _Group) -> Outcome:
        outcome = self._count.outcome(group.record, group.votes)._replace(of=len(group.votes))
        if outcome.failure:
            return outcome._replace(source=group.members[0], others=group.members[1:])
        return outcome
