"""What answers come to: totals that grow, and can be put together, in little memory."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from llmstream.done import keys, line
from llmstream.records.values import Spent, Usage
from llmstream.watch.counters import DifferentKeys, Latencies, Times
from llmstream.watch.labels import LONGEST_LABEL, Labels
from llmstream.watch.standing_out import StandingOut

MOST_KINDS = 50  # of rejections

Fields = Mapping[str, Any]  # of an answer, as a line of a done-file has them


class Totals:
    """What answers come to. They are given as the fields of their lines; totals of parts can be merged."""

    def __init__(self, *, labels: bool = False, recent_from: float = 0) -> None:
        self.records = DifferentKeys()  # of accepted answers, with the first vote of each record alone
        self.further_votes = DifferentKeys()
        self.rejected = 0  # and paid for
        self.rejections: Counter[str] = Counter()  # by kind, paid for or not
        self.damaged = 0  # lines
        self.spent: dict[str, Spent] = {}  # by model
        self.times = Times(recent_from)  # of accepted answers
        self.latencies = Latencies()
        self.labels = Labels() if labels else None
        self.standing_out = StandingOut()

    def add(self, answers: Sequence[Fields]) -> None:
        """Further answers. Their fields may be anything."""
        try:
            batch = _read(answers, texts=self.labels is not None)
        except (KeyError, TypeError, AttributeError):  # somebody wrote one of them by hand
            answers = [_mended(fields) for fields in answers if isinstance(fields.get("key"), str)]
            batch = _read(answers, texts=self.labels is not None)
        self.records.add(batch.records)
        self.further_votes.add(batch.further_votes)
        self.rejected += batch.rejected
        for kind in batch.rejections:
            self.rejections[kind if kind in self.rejections or len(self.rejections) < MOST_KINDS else "other"] += 1
        self._spend(batch.spent)
        self.times.add(batch.moments)
        self.latencies.add(batch.latencies)
        if self.labels:
            self.labels.add(batch.texts)
        self.standing_out.add(answers, batch.latencies)

    def merge(self, other: Totals) -> None:
        """The totals of other answers."""
        self.records.merge(other.records)
        self.further_votes.merge(other.further_votes)
        self.rejected += other.rejected
        self.rejections += other.rejections
        self.damaged += other.damaged
        self._spend(other.spent)
        self.times.merge(other.times)
        self.latencies.merge(other.latencies)
        if self.labels and other.labels:
            self.labels.merge(other.labels)
        self.standing_out.merge(other.standing_out)

    def _spend(self, spent: Mapping[str, Spent]) -> None:
        for model, more in spent.items():
            self.spent[model] = self.spent.get(model, Spent()).plus(more)


class _Batch(NamedTuple):
    """What some answers come to by themselves. Nothing of them is added up before all of it is known."""

    records: Sequence[str]  # keys
    further_votes: Sequence[str]
    rejected: int
    rejections: Sequence[str]
    spent: Mapping[str, Spent]
    moments: Mapping[str, int]
    latencies: Sequence[float | None]
    texts: Sequence[str]


_key, _answer, _model, _usage, _cost, _latency, _at = map(
    itemgetter, ("key", "answer", "model", "usage", "cost", "latency", "at")
)


def _read(answers: Sequence[Fields], *, texts: bool) -> _Batch:
    """Each field is read for all answers in one go: there may be a million of them. KeyError, TypeError or
    AttributeError: a field is missing, or is not what it should be."""
    accepted, rejected = _split_rejected(answers)
    records, further_votes = keys.split_votes(list(map(_key, accepted)))
    latencies = list(map(_latency, answers))
    _check_types(latencies, {float, int, type(None)})
    found = list(map(_answer, accepted)) if texts else []
    _check_types(found, {str})
    return _Batch(
        records,
        further_votes,
        sum(fields["model"] is not None for fields in rejected),
        [fields["rejected"].partition(":")[0][:LONGEST_LABEL] for fields in rejected],
        _spent(answers),
        Counter(map(_at, accepted)),
        latencies,
        found,
    )


def _split_rejected(answers: Sequence[Fields]) -> tuple[Sequence[Fields], Sequence[Fields]]:
    if not any(["rejected" in fields for fields in answers]):  # noqa: C419 - a generator takes three times as long
        return answers, ()
    accepted = [fields for fields in answers if fields.get("rejected") is None]
    return accepted, [fields for fields in answers if fields.get("rejected") is not None]


def _check_types(values: Iterable[Any], allowed: set[type]) -> None:
    if not set(map(type, values)) <= allowed:
        raise TypeError


def _spent(answers: Sequence[Fields]) -> dict[str, Spent]:
    """What calls took, by model. Without a model there was no call."""
    models = set(map(_model, answers))
    _check_types(models, {str, type(None)})
    if len(models) == 1 and None not in models:
        return {models.pop(): _spent_by_one(answers)}
    by_model: defaultdict[str, list[Fields]] = defaultdict(list)
    for fields in answers:
        by_model[fields["model"]].append(fields)
    return {model: _spent_by_one(calls) for model, calls in by_model.items() if model is not None}


def _spent_by_one(calls: Sequence[Fields]) -> Spent:
    usages, costs = list(map(_usage, calls)), list(map(_cost, calls))
    read, written = sum([usage["input"] for usage in usages]), sum([usage["output"] for usage in usages])
    cached = reasoning = 0
    if max(map(len, usages)) > 2:
        cached = sum([usage.get("cached", 0) for usage in usages])
        reasoning = sum([usage.get("reasoning", 0) for usage in usages])
    if not {type(read), type(written), type(cached), type(reasoning)} <= {int}:
        raise TypeError
    return Spent(len(calls), read, written, cached, reasoning, None if None in costs else round(sum(costs), 10))


def _mended(fields: Fields) -> dict[str, Any]:
    """The same with all the fields, each of its type."""
    it = line.from_fields(fields)
    usage = it.usage or Usage(0, 0)
    return {**it._asdict(), "usage": usage._asdict()}
