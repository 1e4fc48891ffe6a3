"""Counts of different keys, moments and latencies that grow, and can be put together, in little memory."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from llmstream.books import histogram

MOST_DIFFERENT = 20_000  # latencies that are kept before they are put into buckets


class DifferentKeys:
    """How many different keys there are: eight bytes for each time that one comes up."""

    PARTS = 256

    def __init__(self) -> None:
        self._parts: list[array[int]] = []
        self._counted: dict[int, tuple[int, int]] = {}  # the length of a part, and its number of different keys

    def add(self, keys: Iterable[str]) -> None:
        parts = self._parts = self._parts or [array("q") for _ in range(self.PARTS)]
        for tag in map(hash, keys):  # of 64 bits: that two of ten million keys share one is a chance of 3 in a million
            parts[tag & 0xFF].append(tag)

    def merge(self, other: DifferentKeys) -> None:
        self.add(())
        for mine, part in zip(self._parts, other._parts, strict=False):
            mine.extend(part)

    def count(self) -> int:
        for number, part in enumerate(self._parts):
            if self._counted.get(number, (0, 0))[0] != len(part):
                self._counted[number] = len(part), len(set(part))
        return sum(different for _, different in self._counted.values())


class Minute(NamedTuple):
    """The answers of a minute, and the seconds in which the first and the last of them came."""

    answers: int
    first: int
    last: int

    def plus(self, other: Minute) -> Minute:
        return Minute(self.answers + other.answers, min(self.first, other.first), max(self.last, other.last))


class Times:
    """When answers came: by the minute, and for the last few minutes by the second."""

    def __init__(self, recent_from: float = 0) -> None:
        self.minutes: dict[int, Minute] = {}  # since 1970
        self.seconds: Counter[int] = Counter()
        self.recent_from = recent_from

    def add(self, moments: Mapping[str, int]) -> None:
        """Answers by the moment at which they came, in ISO 8601."""
        for text, answers in moments.items():
            moment = seconds_since_1970(text)
            if moment is None:
                continue
            second = int(moment)
            self._add_minute(int(moment // 60), Minute(answers, second, second))
            if moment >= self.recent_from:
                self.seconds[second] += answers

    def merge(self, other: Times) -> None:
        self.seconds += other.seconds
        for number, minute in other.minutes.items():
            self._add_minute(number, minute)

    def forget_seconds_before(self, moment: float) -> None:
        self.recent_from = moment
        self.seconds = Counter({second: answers for second, answers in self.seconds.items() if second >= moment})

    def first(self) -> int | None:
        return min((minute.first for minute in self.minutes.values()), default=None)

    def last(self) -> int | None:
        return max((minute.last for minute in self.minutes.values()), default=None)

    def in_order(self) -> list[tuple[int, Minute]]:
        return sorted(self.minutes.items())

    def _add_minute(self, number: int, minute: Minute) -> None:
        before = self.minutes.get(number)
        self.minutes[number] = before.plus(minute) if before else minute


def seconds_since_1970(text: Any) -> float | None:
    """What a moment in ISO 8601 is; without a zone it is UTC. None: it is no such thing."""
    try:
        when = datetime.fromisoformat(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


class Latencies:
    """How long answers took. Equal latencies are counted first: most are equal to others, to the millisecond."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self._equal: Counter[float | None] = Counter()  # what is not in a bucket yet

    def add(self, latencies: Iterable[float | None]) -> None:
        self._equal.update(latencies)
        if len(self._equal) > MOST_DIFFERENT:
            self.by_bucket()

    def merge(self, other: Latencies) -> None:
        self._buckets += other.by_bucket()

    def by_bucket(self) -> Counter[int]:
        """Answers by histogram.bucket; those whose latency is not known are left out."""
        for seconds, answers in self._equal.items():
            if seconds is not None:
                self._buckets[histogram.bucket(seconds)] += answers
        self._equal.clear()
        return self._buckets
