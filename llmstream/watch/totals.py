"""What lines of answers come to: sums that can be put together, in little memory."""

from __future__ import annotations

import heapq
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, NamedTuple

import orjson

from llmstream.books import histogram
from llmstream.done import done_file
from llmstream.records import exact
from llmstream.records.values import Spent

OUTSTANDING = 10  # answers that are named
MOST_LABELS = 20  # different ones, in a field; where there are more it is no label
LONGEST_LABEL = 60
MOST_FIELDS = 100  # in which labels are looked for
MOST_DURATIONS = 20_000  # different ones
MOST_KINDS = 50  # of failures

Line = dict[str, Any]


class Call(NamedTuple):
    """An answer that stands out."""

    key: str
    id: str | None
    model: str
    latency: float
    input: int
    output: int
    cost: float | None


# -- how many different keys --------------------------------------------------------------------


class Keys:
    """How many different ones there are: eight bytes for each time that one comes up."""

    PARTS = 256

    def __init__(self) -> None:
        self._parts: list[array[int]] = []
        self._counted: dict[int, tuple[int, int]] = {}  # of a part the length, and how many different ones

    def add(self, keys: Iterable[str]) -> None:
        parts = self._parts = self._parts or [array("q") for _ in range(self.PARTS)]
        for tag in map(hash, keys):  # of 64 bits: that two of ten million keys share one is a chance of 3 in a million
            parts[tag & 0xFF].append(tag)

    def merge(self, other: Keys) -> None:
        self.add(())
        for mine, part in zip(self._parts, other._parts, strict=False):
            mine.extend(part)

    def count(self) -> int:
        for number, part in enumerate(self._parts):
            if self._counted.get(number, (0, 0))[0] != len(part):
                self._counted[number] = len(part), len(set(part))
        return sum(different for _, different in self._counted.values())


# -- labels ---------------------------------------------------------------------------------------


class Labels:
    """Fields of answers that hold one of a few short texts, and how often each. Memory is bounded."""

    def __init__(self) -> None:
        self._fields: dict[str, dict[str, int] | None] = {}  # None: it is no label

    def add(self, answers: Iterable[str]) -> None:
        for answer in answers:
            for path, label in _labels(_value(answer), ""):
                self._count(path, label, 1)

    def merge(self, other: Labels) -> None:
        for path, counts in other._fields.items():
            for label, times in (counts if counts is not None else {None: 0}).items():
                self._count(path, label, times)

    def told(self) -> dict[str, dict[str, int]]:
        """Without what is only few because there are few answers: a label comes up again."""
        found = {path: counts for path, counts in self._fields.items() if counts}
        return {
            path: dict(sorted(counts.items(), key=itemgetter(1), reverse=True))
            for path, counts in found.items()
            if counts.keys() <= {"true", "false"} or sum(counts.values()) >= 2 * len(counts)
        }

    def _count(self, path: str, label: str | None, times: int) -> None:
        if path not in self._fields and len(self._fields) == MOST_FIELDS:
            return
        counts = self._fields.setdefault(path, {})
        if counts is None:
            return
        if label is None or (label not in counts and len(counts) == MOST_LABELS):
            self._fields[path] = None
        else:
            counts[label] = counts.get(label, 0) + times


def _value(answer: str) -> Any:
    """An answer's lists and objects; any other answer is its text."""
    try:
        value = orjson.loads(answer)
    except ValueError:
        return answer.strip()
    return value if isinstance(value, (dict, list, str)) else answer.strip()


def _labels(value: Any, path: str, depth: int = 0) -> Iterator[tuple[str, str | None]]:
    """The labels in an answer and their places, as a.b or a[].b; None for text that is none."""
    if isinstance(value, str):
        yield path, value if len(value) <= LONGEST_LABEL and "\n" not in value else None
    elif isinstance(value, bool):
        yield path, "true" if value else "false"
    elif depth < 8 and isinstance(value, dict):
        for name, inner in value.items():
            yield from _labels(inner, f"{path}.{name}" if path else name, depth + 1)
    elif depth < 8 and isinstance(value, list):
        for inner in value:
            yield from _labels(inner, f"{path}[]", depth + 1)


# -- what lines of answers come to --------------------------------------------------------------

Outstanding = list[tuple[float, Call]]  # by what each of them stands out, most first


class Sums:
    """What answers come to. They are given as the fields of their lines; sums of parts can be put together."""

    def __init__(self, *, labels: bool = False, recent: float = 0) -> None:
        self.plain = Keys()  # of accepted answers
        self.votes = Keys()  # the same, but for the first vote of each record
        self.rejected = 0
        self.damaged = 0
        self.kinds: Counter[str] = Counter()
        self.spent: dict[str, Spent] = {}
        self.minutes: dict[int, tuple[int, int, int]] = {}  # answers, the first of them, and the last
        self.seconds: Counter[int] = Counter()  # the same for the last few
        self.recent = recent  # since when
        self.labels = Labels() if labels else None
        self.slowest: Outstanding = []
        self.dearest: Outstanding = []
        self.largest: Outstanding = []  # by tokens, of those whose cost is not known
        self._latencies: Counter[int] = Counter()
        self._durations: Counter[float | None] = Counter()  # what is not among the latencies yet

    def add(self, lines: Sequence[Line]) -> None:
        """Further lines. Their fields may be anything."""
        try:
            self._add(lines)
        except (KeyError, TypeError, AttributeError):  # somebody wrote one of them by hand
            self._add([clean(line) for line in lines if isinstance(line.get("key"), str)])

    def forget(self, until: float) -> None:
        """Seconds before that are no longer of interest."""
        self.recent = until
        self.seconds = Counter({second: answers for second, answers in self.seconds.items() if second >= until})

    def latencies(self) -> Counter[int]:
        """Answers by histogram.bucket. Those that took equally long are counted first: most do, to the millisecond."""
        del self._durations[None]
        for seconds, answers in self._durations.items():
            self._latencies[histogram.bucket(seconds or 0)] += answers
        self._durations.clear()
        return self._latencies

    def merge(self, other: Sums) -> None:
        """The sums of other lines."""
        self.plain.merge(other.plain)
        self.votes.merge(other.votes)
        self.rejected += other.rejected
        self.damaged += other.damaged
        self.kinds += other.kinds
        self.seconds += other.seconds
        self._latencies += other.latencies()
        for model, spent in other.spent.items():
            self.spent[model] = self.spent.get(model, Spent()).plus(spent)
        for minute, moments in other.minutes.items():
            self._note_minute(minute, *moments)
        self.slowest = _first(self.slowest, other.slowest)
        self.dearest = _first(self.dearest, other.dearest)
        self.largest = _first(self.largest, other.largest)
        if self.labels and other.labels:
            self.labels.merge(other.labels)

    def _add(self, lines: Sequence[Line]) -> None:
        """The same for fields as they should be. Nothing is noted before it is clear that they are."""
        accepted = [line for line in lines if line.get("rejected") is None]
        keys = [line["key"] for line in accepted]
        votes = [key for key in keys if "-v" in key] if "-v" in "".join(keys) else []
        times = Counter([line["at"] for line in accepted])
        durations = [line["latency"] for line in lines]
        rejected = [line for line in lines if line.get("rejected") is not None] if len(accepted) < len(lines) else []
        kinds = [line["rejected"].partition(":")[0][:LONGEST_LABEL] for line in rejected]
        texts = [line["answer"] for line in accepted] if self.labels else []
        if not set(map(type, durations)) <= {float, int, type(None)} or not set(map(type, texts)) <= {str}:
            raise TypeError
        self._spend(lines)
        if self.labels:
            self.labels.add(texts)
        self.plain.add([key for key in keys if "-v" not in key] if votes else keys)
        self.votes.add(votes)
        self.rejected += sum(line["model"] is not None for line in rejected)
        for kind in kinds:
            self.kinds[kind if kind in self.kinds or len(self.kinds) < MOST_KINDS else "other"] += 1
        self._note_times(times)
        self._durations.update(durations)
        if len(self._durations) > MOST_DURATIONS:
            self.latencies()

    def _spend(self, lines: Sequence[Line]) -> None:
        """Tokens, money, and the lines that stand out: in one go, for this is a third of what reading takes."""
        spent: defaultdict[str | None, list[Any]] = defaultdict(lambda: [0, 0, 0, 0, 0, 0.0])
        unpriced = set()
        slow, dear, large = (_least(found) for found in (self.slowest, self.dearest, self.largest))
        slowest, dearest, largest = [], [], []
        for line in lines:
            usage, cost, latency = line["usage"], line["cost"], line["latency"]
            mine = spent[line["model"]]
            mine[0] += 1
            mine[1] += usage["input"]
            mine[2] += usage["output"]
            if len(usage) > 2:
                mine[3] += usage.get("cached", 0)
                mine[4] += usage.get("reasoning", 0)
            if cost is None:
                unpriced.add(line["model"])
                if usage["input"] + usage["output"] > large:
                    largest.append((usage["input"] + usage["output"], _call(line)))
            else:
                mine[5] += cost
                if cost > dear:
                    dearest.append((cost, _call(line)))
            if latency is not None and latency > slow:
                slowest.append((latency, _call(line)))
        if not {type(model) for model in spent} <= {str, type(None)}:
            raise TypeError
        spent.pop(None, None)
        for name, counts in spent.items():
            more = Spent(*map(int, counts[:5]))._replace(cost=None if name in unpriced else round(counts[5], 10))
            self.spent[name or ""] = self.spent.get(name or "", Spent()).plus(more)
        self.slowest = _first(self.slowest, slowest)
        self.dearest = _first(self.dearest, dearest)
        self.largest = _first(self.largest, largest)

    def _note_times(self, times: Mapping[str, int]) -> None:
        for text, answers in times.items():
            if (second := moment(text)) is not None:
                self._note_minute(int(second // 60), answers, int(second), int(second))
                if second >= self.recent:
                    self.seconds[int(second)] += answers

    def _note_minute(self, minute: int, answers: int, first: int, last: int) -> None:
        before = self.minutes.get(minute)
        if before:
            answers, first, last = answers + before[0], min(first, before[1]), max(last, before[2])
        self.minutes[minute] = answers, first, last


def clean(line: Line) -> Line:
    """A line with all the fields, each of its type. Without a model and tokens there was no call."""
    usage, model = line.get("usage"), line.get("model")
    tokens = {name: count_of(usage, name) for name in ("input", "output", "cached", "reasoning")}
    return {
        "key": line["key"],
        "answer": _typed(line, "answer", str) or "",
        "model": model if isinstance(model, str) else "" if usage else None,
        "usage": tokens,
        "cost": _typed(line, "cost", float, int),
        "latency": _typed(line, "latency", float, int),
        "at": _typed(line, "at", str) or "",
        "id": line.get("id"),
        "rejected": _typed(line, "rejected", str),
    }


def _typed(line: Line, name: str, *types: type) -> Any:
    found = line.get(name)
    return found if type(found) in types else None


def count_of(fields: Any, name: str) -> int:
    found = fields.get(name) if isinstance(fields, dict) else None
    return found if type(found) is int else 0


def _call(line: Line) -> Call:
    name, usage = line.get("id"), line["usage"]
    shown = name if name is None or isinstance(name, str) else exact.dumps(name).decode()
    latency, model = line["latency"] or 0.0, line["model"] or ""
    return Call(line["key"], shown, model, latency, usage["input"], usage["output"], line["cost"])


def _least(found: Outstanding) -> float:
    return found[-1][0] if len(found) == OUTSTANDING else 0


def _first(found: Outstanding, more: Outstanding) -> Outstanding:
    return heapq.nlargest(OUTSTANDING, [*found, *more], key=itemgetter(0)) if more else found


def moment(text: Any) -> float | None:
    """Seconds since 1970 of a time in ISO 8601; without a zone it is UTC."""
    try:
        when = datetime.fromisoformat(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


# -- lines of a done-file -----------------------------------------------------------------------


def answers(lines: Sequence[bytes]) -> tuple[list[Line], int]:
    """The fields of lines that are whole, and the number of damaged ones."""
    try:
        if done_file.sealed(lines):
            return orjson.loads(b"[%b]" % b",".join(lines)), 0
    except ValueError:
        pass
    whole = [line.rstrip() for line in lines if line.strip()]
    found = [fields for line in whole if (fields := _by_hand(line))]
    return found, len(whole) - len(found)


def _by_hand(line: bytes) -> Line | None:
    """A line of any layout. A rejected answer that was mended, so that its checksum had to go, counts as accepted."""
    if done_file.key_of(line) is None:
        return None
    try:
        fields: Line = exact.loads_quickly(line)
    except ValueError:
        return None
    if fields.get("crc") is None:
        fields.pop("rejected", None)
    return fields if isinstance(fields.get("key"), str) else None
