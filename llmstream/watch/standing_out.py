"""The few answers that stand out: the slowest, the dearest, the largest."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from llmstream.records import exact

MOST = 10  # answers by each measure


class Call(NamedTuple):
    """An answer that stands out."""

    key: str
    id: str | None
    model: str
    latency: float
    input: int
    output: int
    cost: float | None


class Ranking:
    """The answers with the highest figures, the highest first; zero never stands out."""

    def __init__(self) -> None:
        self._ranked: list[tuple[float, Call]] = []

    def add(self, figures: Sequence[float], answers: Sequence[Mapping[str, Any]]) -> None:
        """Further answers, each with its figure."""
        least = self._ranked[-1][0] if len(self._ranked) == MOST else 0
        if figures and max(figures) > least:
            pairs = zip(figures, answers, strict=True)
            self._keep((figure, _as_call(answer)) for figure, answer in pairs if figure > least)

    def merge(self, other: Ranking) -> None:
        self._keep(other._ranked)

    def highest(self) -> float:
        return self._ranked[0][0] if self._ranked else 0.0

    def calls(self) -> list[Call]:
        return [call for _, call in self._ranked]

    def _keep(self, more: Iterable[tuple[float, Call]]) -> None:
        self._ranked = heapq.nlargest(MOST, [*self._ranked, *more], key=itemgetter(0))


def _as_call(answer: Mapping[str, Any]) -> Call:
    name, usage = answer.get("id"), answer["usage"]
    shown = name if name is None or isinstance(name, str) else exact.dumps(name).decode()
    latency, model = answer["latency"] or 0.0, answer["model"] or ""
    return Call(answer["key"], shown, model, latency, usage["input"], usage["output"], answer["cost"])


class StandingOut:
    """The answers that stand out by latency, by cost, and by tokens where the cost is not known."""

    def __init__(self) -> None:
        self.slowest = Ranking()
        self._dearest = Ranking()
        self._largest = Ranking()

    def add(self, answers: Sequence[Mapping[str, Any]], latencies: Sequence[float | None]) -> None:
        costs = list(map(itemgetter("cost"), answers))
        self.slowest.add([latency or 0 for latency in latencies], answers)
        self._dearest.add([cost or 0 for cost in costs], answers)
        if None in costs:
            unpriced = [answer for answer in answers if answer["cost"] is None]
            tokens = [answer["usage"]["input"] + answer["usage"]["output"] for answer in unpriced]
            self._largest.add(tokens, unpriced)

    def merge(self, other: StandingOut) -> None:
        self.slowest.merge(other.slowest)
        self._dearest.merge(other._dearest)
        self._largest.merge(other._largest)

    def dearest(self) -> list[Call]:
        """By cost; where no cost is known, by tokens."""
        return self._dearest.calls() or self._largest.calls()
