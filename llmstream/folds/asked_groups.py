"""Records that a model folds: groups of them where they disagree, or the whole input.

What is too large for one call is folded as a tree: so many records at a time, then the answers, until one is left.
Each node is a request of its own, so each is in the done-file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol

from llmstream.folds.fan_in import Node, Tree
from llmstream.folds.fold_group import fold_group
from llmstream.folds.groups import GroupRules, Groups, Ready, in_canonical_order, shared_fields
from llmstream.folds.rules import FoldRules
from llmstream.records import exact
from llmstream.records.equality import Path
from llmstream.records.values import Answer, Failure, Outcome, Record, combined

# Asks for one node: what its records share, and the records, or the answers, that become one.
AskNode = Callable[[dict[str, Any], Sequence[Any]], Awaitable[Answer | Failure]]


class Placer(Protocol):
    """Knows where an answer goes in its record."""

    def obstacle(self, record: Record) -> Failure | None: ...

    def outcome(self, record: Record, answer: Answer) -> Outcome: ...

    def as_it_is(self, record: Record) -> Outcome: ...


def as_part(shared: dict[str, Any], answer: Answer) -> dict[str, Any]:
    """An answer as a record of the level above."""
    value = exact.loads(answer.value)
    return {**shared, **(value if isinstance(value, dict) else {"output": value})}


class FoldWithoutModel(NamedTuple):
    """How a group is folded without a model, and whether a model is asked even if its records agree."""

    rules: FoldRules
    conflicts: Path | None
    always: bool


class GroupJob(NamedTuple):
    records: list[Record]
    folded: Record  # without a model


class AskedGroups:
    """Records in, each group of them one record out; a model is asked where they disagree."""

    calls_at_once = 1

    def __init__(
        self, ask_node: AskNode, splicer: Placer, fan_in: int, grouping: GroupRules, without_model: FoldWithoutModel
    ) -> None:
        self._ask_node = ask_node
        self._splicer = splicer
        self._fan_in = fan_in
        self._grouping = grouping
        self._without_model = without_model
        self._groups: Groups[list[Record]] = Groups(grouping, lambda _: [], list.append)

    def take(self, record: Record) -> list[Outcome | GroupJob]:
        ready = self._groups.take(record)
        return [Outcome(record, failure=ready)] if isinstance(ready, Failure) else [self._begin(one) for one in ready]

    def rest(self) -> list[Outcome | GroupJob]:
        return [self._begin(one) for one in self._groups.rest()]

    def _begin(self, ready: Ready[list[Record]]) -> Outcome | GroupJob:
        members, without_model = ready.group, self._without_model
        folded = ready.failure or fold_group(members, without_model.rules, without_model.conflicts)
        if isinstance(folded, Failure):
            return _failed(members, folded)
        record = members[0]._replace(line=folded.line, data=exact.loads(folded.line))
        if len(members) == 1 or not (folded.disagreed or without_model.always):
            return self._splicer.as_it_is(record)._replace(of=len(members))
        obstacle = self._splicer.obstacle(record)
        return _failed(members, obstacle) if obstacle else GroupJob(members, record)

    async def finish(self, job: GroupJob) -> Outcome:
        members = in_canonical_order(job.records)
        shared = exact.loads(shared_fields(members[0], self._grouping.fields).line)
        found = await self._tree(shared, [record.data for record in members])
        if isinstance(found, Failure):
            return _failed(job.records, found)
        return self._splicer.outcome(job.folded, found)._replace(of=len(members))

    async def _tree(self, shared: dict[str, Any], parts: list[Any]) -> Answer | Failure:
        answers: list[Answer] = []
        while True:
            chunks = [parts[at : at + self._fan_in] for at in range(0, len(parts), self._fan_in)]
            nodes = await asyncio.gather(*(self._ask_node(shared, chunk) for chunk in chunks if len(chunk) > 1))
            failures = [node for node in nodes if isinstance(node, Failure)]
            if failures:
                return failures[0]
            level = [node for node in nodes if isinstance(node, Answer)]
            answers += level
            if len(chunks) == 1:
                return combined(answers, answers[-1].value)
            parts = [as_part(shared, answer) for answer in level]
            if len(chunks[-1]) == 1:
                parts += chunks[-1]  # one that is left over goes up as it is


def _failed(members: list[Record], failure: Failure) -> Outcome:
    return Outcome(members[0], failure=failure, of=len(members), others=members[1:])


class AskedWhole:
    """The whole input, in its order, is one record; no more of it is held than the open nodes of the tree."""

    calls_at_once = 1

    def __init__(self, ask_node: AskNode, splicer: Placer, fan_in: int, *, with_schema: bool) -> None:
        self._ask_node = ask_node
        self._splicer = splicer
        self._with_schema = with_schema
        self._tree = Tree(fan_in)
        self._first: Record | None = None
        self._size = self._under_way = 0
        self._ended = False
        self._spent: Answer | None = None
        self._failure: Failure | None = None

    def take(self, record: Record) -> list[Outcome | Node]:
        self._first = self._first or record
        self._size += 1
        leaf = self._tree.add(record.data)
        self._under_way += leaf is not None
        return [leaf] if leaf else []

    def rest(self) -> list[Outcome | Node]:
        self._ended = True
        nodes = self._tree.end()
        self._under_way += len(nodes)
        failed = self._outcome_of_failure() if not self._under_way else None
        return [*nodes, *([failed] if failed else [])]

    async def finish(self, node: Node) -> Outcome:
        """A node, and those above that it makes ready."""
        above: Node | None = node
        while above and not above.root and not self._failure:
            value = await self._value(above)
            above = None if self._failure else self._tree.put(above.level, above.number, value)
        self._under_way -= 1
        assert self._first is not None  # a node is made of records
        if above and above.root:
            return self._outcome(self._first, above.parts[0])
        last = self._ended and not self._under_way
        return (self._outcome_of_failure() if last else None) or Outcome(self._first, of=0)

    def _outcome_of_failure(self) -> Outcome | None:
        """For the last of the nodes, if one of them failed: the whole is not there."""
        if self._first is None or self._failure is None:
            return None
        return Outcome(self._first, failure=self._failure, of=self._size)

    async def _value(self, node: Node) -> Any:
        if len(node.parts) == 1:  # one that is left over goes up as it is
            return node.parts[0]
        found = await self._ask_node({}, node.parts)
        if isinstance(found, Failure):
            self._failure = self._failure or found
            return None
        self._spent = combined([self._spent, found] if self._spent else [found], found.value)
        return as_part({}, found)

    def _outcome(self, first: Record, value: dict[str, Any]) -> Outcome:
        if self._spent is None:  # one record, and nothing to fold
            return self._splicer.as_it_is(first)
        answer = self._spent._replace(value=exact.dumps(value if self._with_schema else value["output"]))
        return self._splicer.outcome(Record(b"{}", {}, first.where), answer)._replace(of=self._size)
