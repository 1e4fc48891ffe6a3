"""The frozen values that flow from stdin to stdout."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol


class Record(NamedTuple):
    """One JSON object of the input."""

    line: bytes  # its own bytes, white space around them taken off
    data: dict[str, Any]
    where: str  # "<stdin>:17"

    @property
    def id(self) -> str | int | None:
        found = self.data.get("id")
        return found if isinstance(found, (str, int)) and not isinstance(found, bool) else None


class BadLine(NamedTuple):
    """A line of the input that is no record."""

    raw: bytes
    where: str
    why: str


class Reader(Protocol):
    """What turns the bytes of one file into records."""

    def feed(self, chunk: bytes) -> list[Record | BadLine]: ...  # what this chunk completes

    def end(self) -> list[Record | BadLine]: ...  # what is left when the file has ended


class Request(NamedTuple):
    """What would go to the API for one record alone."""

    body: bytes
    key: str  # the digest of that body; behind it the occurrence and the sample
    id: str | int | None = None
    model: str = ""  # that is asked


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
    tier: str | None = None  # of service: what it costs depends on that


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
    """What calls of one model took. A cost of None: not all of it is known."""

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
            added((self.cost, other.cost)),
        )


def together(answers: Sequence[Answer], value: bytes) -> Answer:
    """What came of several answers, as one: what they cost together, and the latency of the slowest."""
    usages = [answer.usage for answer in answers if answer.usage]
    return Answer(
        value=value,
        content="",
        model=", ".join(dict.fromkeys(answer.model for answer in answers)),
        usage=Usage(*map(sum, zip(*usages, strict=True))) if usages else None,
        latency=max(answer.latency for answer in answers),
        attempts=sum(answer.attempts for answer in answers),
        cost=added(answer.cost for answer in answers),
        replayed=all(answer.replayed for answer in answers),
    )


def added(costs: Iterable[float | None]) -> float | None:
    """What they come to; None where one of them is not known."""
    total = 0.0
    for cost in costs:
        if cost is None:
            return None
        total += cost
    return round(total, 12)


def told_usage(usage: Usage | None) -> dict[str, int] | None:
    """Usage for people and programs: without what is nought."""
    if usage is None:
        return None
    told = {"input": usage.input, "output": usage.output}
    if usage.cached:
        told["cached"] = usage.cached
    if usage.reasoning:
        told["reasoning"] = usage.reasoning
    return told


def told(answer: Answer) -> dict[str, Any]:
    """What --meta prints, the same at replay."""
    return {
        "model": answer.model,
        "usage": told_usage(answer.usage),
        "cost": answer.cost,
        "latency": answer.latency,
        "attempts": answer.attempts,
    }


class Rejected(NamedTuple):
    """An answer that was paid for and is not good enough."""

    type: str  # length, content_filter, refusal, tool_calls, empty, schema
    why: str
    content: str = ""  # what the model said

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
        """Is it only that nobody was asked?"""
        return self.type in ("stopped", "offline")


class Outcome(NamedTuple):
    """What became of one line of the input: bytes for stdout, or a failure."""

    source: Record | BadLine
    out: bytes = b""
    failure: Failure | None = None
    replayed: bool = False
    of: int = 1  # records that it stands for: a group is one outcome
    others: Sequence[Record] = ()  # those of them that fail with it
    value: bytes = b""  # the answer in it


NOT_STARTED = Failure("stopped", "the run stopped before this record was asked")
