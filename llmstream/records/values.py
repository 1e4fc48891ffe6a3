"""The frozen values that flow from stdin to stdout."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol


class Record(NamedTuple):
    """One JSON object of the input."""

    line: bytes  # its own bytes, without white space around them
    data: dict[str, Any]
    where: str  # "<stdin>:17"

    @property
    def id(self) -> str | int | None:
        found = self.data.get("id")
        return found if isinstance(found, (str, int)) and not isinstance(found, bool) else None


class BadLine(NamedTuple):
    """A line of the input that is not a record."""

    raw: bytes
    where: str
    why: str


Found = list[Record | BadLine]  # what was read


class Reader(Protocol):
    """What turns the bytes of one file into records. They come in chunks, cut anywhere."""

    def feed(self, chunk: bytes) -> Found: ...  # what this chunk completes

    def end(self) -> Found: ...  # what is left when the file has ended


class Unreadable(ValueError):
    """Why a reader can make nothing of a file until something is changed, in one line."""


class Dialect(NamedTuple):
    """How a file is written, as far as the file itself does not say."""

    encoding: str = "utf-8"
    delimiter: str = ","  # between the cells of CSV
    header: bool = True  # does the first row of CSV name the fields?
    columns: tuple[str, ...] = ()  # their names where it does not; without any, they are 1, 2, 3 ...
    raw_text: bool = False  # is a line a text, and not JSON?


class Request(NamedTuple):
    """What would go to the API for one record alone."""

    body: bytes
    key: str  # the digest of that body, followed by the occurrence and the sample
    id: str | int | None = None
    model: str = ""  # the one that is asked


class Usage(NamedTuple):
    input: int
    output: int
    cached: int = 0
    reasoning: int = 0


class Reply(NamedTuple):
    """What an endpoint said to one call, before anyone judges it."""

    content: str | None
    finish: str
    refusal: str | None
    tools: bool
    model: str
    usage: Usage | None
    tier: str | None = None  # of service; the price depends on it


class Answer(NamedTuple):
    """An answer that was accepted."""

    value: bytes  # JSON on one line: what goes into the record
    content: str  # as the model gave it
    model: str
    usage: Usage | None
    latency: float
    attempts: int
    cost: float | None = None  # USD; None: not known
    replayed: bool = False


class Spent(NamedTuple):
    """What the calls of one model took. The cost is None if a part of it is not known."""

    calls: int = 0
    input: int = 0
    output: int = 0
    cached: int = 0
    reasoning: int = 0
    cost: float | None = 0.0

    def plus(self, other: Spent) -> Spent:
        return Spent(
            self.calls + other.calls,
            self.input + other.input,
            self.output + other.output,
            self.cached + other.cached,
            self.reasoning + other.reasoning,
            sum_of_costs((self.cost, other.cost)),
        )


def combined(answers: Sequence[Answer], value: bytes) -> Answer:
    """Several answers as one: what they cost together, and the latency of the slowest."""
    usages = [answer.usage for answer in answers if answer.usage]
    return Answer(
        value=value,
        content="",
        model=", ".join(dict.fromkeys(answer.model for answer in answers)),
        usage=Usage(*map(sum, zip(*usages, strict=True))) if usages else None,
        latency=max(answer.latency for answer in answers),
        attempts=sum(answer.attempts for answer in answers),
        cost=sum_of_costs(answer.cost for answer in answers),
        replayed=all(answer.replayed for answer in answers),
    )


def sum_of_costs(costs: Iterable[float | None]) -> float | None:
    """The sum; None if one of them is not known."""
    total = 0.0
    for cost in costs:
        if cost is None:
            return None
        total += cost
    return round(total, 12)


def usage_as_dict(usage: Usage | None) -> dict[str, int] | None:
    """Usage for people and programs, without what is zero."""
    if usage is None:
        return None
    found = {"input": usage.input, "output": usage.output}
    if usage.cached:
        found["cached"] = usage.cached
    if usage.reasoning:
        found["reasoning"] = usage.reasoning
    return found


def meta_of(answer: Answer) -> dict[str, Any]:
    """What --meta prints; a replay prints the same."""
    return {
        "model": answer.model,
        "usage": usage_as_dict(answer.usage),
        "cost": answer.cost,
        "latency": answer.latency,
        "attempts": answer.attempts,
    }


class Rejected(NamedTuple):
    """An answer that was paid for and is not good enough."""

    type: str  # length, content_filter, refusal, tool_calls, empty, schema
    why: str
    content: str = ""  # what the model said
    attempts: int = 0  # in this run

    @property
    def worth_asking_again(self) -> bool:
        return self.type == "schema"


class Failure(NamedTuple):
    """Why a record did not come out."""

    type: str
    message: str
    status: int | None = None
    attempts: int = 0  # in this run

    @property
    def unasked(self) -> bool:
        """Was nobody asked, so that nothing is wrong with the record itself?"""
        return self.type in ("stopped", "offline")


class Outcome(NamedTuple):
    """What became of one line of the input: bytes for stdout, or a failure."""

    source: Record | BadLine
    out: bytes = b""
    failure: Failure | None = None
    replayed: bool = False
    of: int = 1  # how many records it stands for: a group is one outcome
    others: Sequence[Record] = ()  # the further records that fail with it
    value: bytes = b""  # the answer that went into it

    @property
    def size(self) -> int:
        """The bytes that it holds on to."""
        sources = (self.source, *self.others)
        return len(self.out) + sum(len(one.line if isinstance(one, Record) else one.raw) for one in sources)

    def without_source(self) -> Outcome:
        """All that is needed to print it: of its record only what it is called."""
        source = self.source
        if self.failure or not isinstance(source, Record):
            return self
        data = {"id": source.id} if source.id is not None else {}
        return self._replace(source=Record(b"", data, source.where), others=())


NOT_STARTED = Failure("stopped", "the run stopped before this record was asked")
