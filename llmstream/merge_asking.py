"""llm-merge with a prompt: a model makes one record of those that belong together.

A group that is too large for one call, or the whole input, is folded as a tree: so many records
at a time, then the answers, until one is left. Each node is a request of its own, so each is in
the done-file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from llmstream.calls import start
from llmstream.calls.ask import Ask
from llmstream.folds import groups
from llmstream.folds.fan_in import Node, Tree
from llmstream.prompts.bodies import Build
from llmstream.records import exact
from llmstream.records.values import Answer, Failure, Outcome, Record, together
from llmstream.shell import options
from llmstream.shell.messages import FIX_FIRST, Stop
from llmstream.stream import flow
from llmstream.stream.splice import Place

Ready = tuple[bytes, bool]  # a group as it is folded without a model, and whether something in it disagreed


def run(o: SimpleNamespace, names: list[str], source: Callable[[str], Any], fold: Callable[[list[Record]], Any]) -> int:
    """fold: what a group's records are folded into without a model."""
    text = _prompt(o)
    o.output = o.output if o.output is not None else () if o.schema else ("output",)
    o.share = False
    start.check(o)
    shape = start.shape(o)
    account = start.account(o)
    as_records = SimpleNamespace(**{**vars(o), "raw_input": False})  # a prompt without variables is followed by JSON
    model = start.model(o.model, o, account)
    build = start.builder(as_records, text, model, shape)
    o.share = True  # the same records make the same fold
    settings = flow.Settings(o, names, [model], *start.asking(o, [model], shape, account), source)
    if o.all:
        return flow.run(settings, lambda ask: Whole(Fuse(ask, build), o))
    return flow.run(settings, lambda ask: Grouped(Fuse(ask, build), o, fold))


def _prompt(o: SimpleNamespace) -> str:
    if o.prompt is None:
        return options.text_of("prompt file", o.prompt_file)
    if o.prompt_file is not None:
        raise Stop(FIX_FIRST, "cannot use -p and -f together: each is the prompt")
    return options.not_a_file(o.prompt)


class Fuse:
    """Asks for one node: some records, or answers, and what comes of them."""

    def __init__(self, ask: Ask, build: Build) -> None:
        self._ask = ask
        self._build = build

    async def __call__(self, shared: dict[str, Any], parts: Sequence[Any]) -> Answer | Failure:
        request = self._build(Record(b"", {**shared, "records": parts}, ""))
        return request if isinstance(request, Failure) else await self._ask(self._ask.number(request))

    def part(self, shared: dict[str, Any], answer: Answer) -> dict[str, Any]:
        """An answer as a record of the level above."""
        value = exact.loads(answer.value)
        return {**shared, **(value if isinstance(value, dict) else {"output": value})}


# -- groups -----------------------------------------------------------------------------------


class _Job(NamedTuple):
    records: list[Record]
    folded: bytes


class Grouped:
    """Records in, each group of them one record out; a model is asked where they disagree."""

    at_once = 1

    def __init__(self, fuse: Fuse, o: SimpleNamespace, fold: Callable[[list[Record]], Ready | Failure]) -> None:
        self._fuse = fuse
        self._o = o
        self._fold = fold
        self._place = Place(o)
        self._groups: groups.Groups[list[Record]] = groups.Groups(o, lambda _: [], list.append)

    def take(self, record: Record) -> list[Outcome | _Job]:
        ready = self._groups.take(record)
        return [Outcome(record, failure=ready)] if isinstance(ready, Failure) else list(map(self._begin, ready))

    def rest(self) -> list[Outcome | _Job]:
        return list(map(self._begin, self._groups.rest()))

    def lines(self) -> list[str]:
        return []

    def told(self) -> dict[str, Any]:
        return {}

    def _begin(self, ready: groups.Ready[list[Record]]) -> Outcome | _Job:
        members = ready.group
        folded = ready.failure or self._fold(members)
        if isinstance(folded, Failure):
            return _failed(members, folded)
        line, disagree = folded
        if len(members) == 1 or not (disagree or self._o.always):
            return self._place.as_it_is(members[0]._replace(line=line))._replace(of=len(members))
        if failure := self._place.failure(members[0]._replace(line=line, data=exact.loads(line))):
            return _failed(members, failure)
        return _Job(members, line)

    async def finish(self, job: _Job) -> Outcome:
        members = _canonical(job.records)
        shared = groups.shared(members[0], self._o.group).line
        found = await self._tree(exact.loads(shared), [record.data for record in members])
        if isinstance(found, Failure):
            return _failed(job.records, found)
        folded = job.records[0]._replace(line=job.folded, data=exact.loads(job.folded))
        return self._place.outcome(folded, found)._replace(of=len(members))

    async def _tree(self, shared: dict[str, Any], parts: list[Any]) -> Answer | Failure:
        fan_in = self._o.fan_in
        answers: list[Answer] = []
        while True:
            chunks = [parts[at : at + fan_in] for at in range(0, len(parts), fan_in)]
            nodes = await asyncio.gather(*(self._fuse(shared, chunk) for chunk in chunks if len(chunk) > 1))
            for node in nodes:
                if isinstance(node, Failure):
                    return node
                answers.append(node)
            if len(chunks) == 1:
                return together(answers, answers[-1].value)
            parts = [self._fuse.part(shared, node) for node in nodes if isinstance(node, Answer)]
            parts += chunks[-1] if len(chunks[-1]) == 1 else []  # one that is left over goes up as it is


def _canonical(members: list[Record]) -> list[Record]:
    """The same order whichever came first: by id where all have one, else by content."""
    if all(record.id is not None for record in members) and len({record.id for record in members}) == len(members):
        return sorted(members, key=lambda record: (str(type(record.id)), record.id))
    return sorted(members, key=lambda record: exact.dumps(record.data))


def _failed(members: list[Record], failure: Failure) -> Outcome:
    return Outcome(members[0], failure=failure, of=len(members), others=members[1:])


# -- the whole input --------------------------------------------------------------------------


class Whole:
    """The whole input, in its order, is one record; no more of it is held than the open nodes of the tree."""

    at_once = 1

    def __init__(self, fuse: Fuse, o: SimpleNamespace) -> None:
        self._fuse = fuse
        self._o = o
        self._place = Place(o)
        self._tree = Tree(o.fan_in)
        self._first: Record | None = None
        self._parts: list[Any] = []  # of the leaf that is being gathered
        self._leaves = self._size = self._under_way = 0
        self._ended = False
        self._spent: Answer | None = None
        self._failure: Failure | None = None

    def take(self, record: Record) -> list[Outcome | Node]:
        self._first = self._first or record
        self._size += 1
        self._parts.append(record.data)
        return [self._leaf()] if len(self._parts) == self._o.fan_in else []

    def rest(self) -> list[Outcome | Node]:
        last = [self._leaf()] if self._parts else []
        self._ended = True
        above = self._tree.close(self._leaves)
        self._under_way += len(above)
        failed = self._outcome_of_failure() if not self._under_way else None
        return [*last, *above, *([failed] if failed else [])]

    def lines(self) -> list[str]:
        return []

    def told(self) -> dict[str, Any]:
        return {}

    def _leaf(self) -> Node:
        parts, self._parts = self._parts, []
        self._leaves += 1
        self._under_way += 1
        return Node(0, self._leaves - 1, parts)

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
        found = await self._fuse({}, node.parts)
        if isinstance(found, Failure):
            self._failure = self._failure or found
            return None
        self._spent = together([self._spent, found] if self._spent else [found], found.value)
        return self._fuse.part({}, found)

    def _outcome(self, first: Record, value: dict[str, Any]) -> Outcome:
        if self._spent is None:  # one record, and nothing to fold
            return self._place.as_it_is(first)
        answer = self._spent._replace(value=exact.dumps(value if self._o.schema else value["output"]))
        return self._place.outcome(Record(b"{}", {}, first.where), answer)._replace(of=self._size)
