"""llm-vote --count: the votes stand in the records already, and nobody is asked."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, NamedTuple

from llmstream.folds import groups
from llmstream.records import equality, exact, splicing
from llmstream.records.values import Answer, Failure, Outcome, Record
from llmstream.shell.messages import FIX_FIRST, Stop
from llmstream.stream import flow_without_calls
from llmstream.stream.splice import Place
from llmstream.votes.consensus import Rules, agree, report
from llmstream.votes.totals import Tally

NOT_HERE = (
    ("prompt_file", "-f"), ("system", "-s"), ("schema", "-S"), ("criteria", "--criteria"), ("meta", "-M"),
    ("done", "-d"), ("share", "--share"), ("param", "-P"), ("confidence", "--confidence"),
)  # fmt: skip


def run(o: SimpleNamespace, names: list[str]) -> int:
    for name, flag in NOT_HERE:
        if getattr(o, name) not in (None, False, ()):
            raise Stop(FIX_FIRST, f"cannot use {flag} with --count: nobody is asked")
    if not o.output:
        raise Stop(FIX_FIRST, "cannot use -o . with --count: the verdict wants a field")
    if o.sorted and not o.group:
        raise Stop(FIX_FIRST, "cannot use --sorted alone: it wants -g FIELD")
    return flow_without_calls.run(o, names, Groups(o) if o.group else Lists(o))


class Count:
    """Votes in, a record with their verdict out."""

    def __init__(self, o: SimpleNamespace) -> None:
        self._o = o
        self._rules = Rules(o.number, o.match)
        self._place = Place(o, (o.votes_field,))
        self._tally = Tally()

    def outcome(self, record: Record, votes: list[Any], members: list[Record]) -> Outcome:
        """members: of a group, as far as they may be needed again."""
        wanted = self._o.quorum or 1
        failure = self._place.failure(record)
        if len(votes) < wanted:
            failure = Failure("quorum", f"{len(votes)} votes in {'.'.join(self._o.count)}, {wanted} wanted")
        of = len(votes) if self._o.group else 1
        if failure:
            return Outcome(members[0], failure=failure, of=of, others=members[1:])
        verdict = agree(votes, self._rules)
        self._tally.add(votes, verdict, verdict.value, len(votes))
        told = {"votes": len(votes), "failed": 0, **report(verdict)}
        told |= {"ballots": votes} if self._o.ballots else {}
        answer = Answer(exact.dumps(verdict.value), "", "", None, 0.0, 0)
        return self._place.outcome(record, answer, (self._o.votes_field, exact.dumps(told)))._replace(of=of)

    def lines(self) -> list[str]:
        return self._tally.lines()

    def told(self) -> dict[str, Any]:
        return {"votes": self._tally.told()}


class Lists(Count):
    """A record's votes are a list in it."""

    def take(self, record: Record) -> Iterable[Outcome]:
        votes = equality.at(record.data, self._o.count)
        if isinstance(votes, list):
            return [self.outcome(record, votes, [record])]
        return [Outcome(record, failure=_no_votes(record, self._o.count, "not a list"))]

    def rest(self) -> Iterable[Outcome]:
        return []


class _Group(NamedTuple):
    """Records that share their fields."""

    record: Record  # these fields alone
    votes: list[Any]
    members: list[Record]


class Groups(Count):
    """Each record is one vote."""

    def __init__(self, o: SimpleNamespace) -> None:
        super().__init__(o)
        self._groups = groups.Groups(o, self._begin, self._add)

    def take(self, record: Record) -> Iterable[Outcome]:
        if not splicing.holds(record.data, self._o.count):
            return [Outcome(record, failure=_no_votes(record, self._o.count, ""))]
        ready = self._groups.take(record)
        if isinstance(ready, Failure):
            return [Outcome(record, failure=ready)]
        return [self.outcome(*one.group) for one in ready]

    def rest(self) -> Iterable[Outcome]:
        return [self.outcome(*one.group) for one in self._groups.rest()]

    def _begin(self, record: Record) -> _Group:
        return _Group(groups.shared(record, self._o.group), [], [])

    def _add(self, group: _Group, record: Record) -> None:
        group.votes.append(equality.at(record.data, self._o.count))
        if self._o.quorum or not group.members:  # only a quorum can fail a group
            group.members.append(record)


def _no_votes(record: Record, path: equality.Path, why: str) -> Failure:
    name = ".".join(path)
    return Failure("votes", f"{name}: {why}" if why and splicing.holds(record.data, path) else f"no field '{name}'")
