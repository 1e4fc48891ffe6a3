"""Which records belong together, and when a group is ready."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

from llmstream.records import equality, exact, splicing
from llmstream.records.values import Failure, Record

T = TypeVar("T")  # what a tool holds of a group

REMEMBERED = 1_000  # groups that have ended; a group that is split is split soon


class GroupRules(NamedTuple):
    """Which records are a group, and how it is known that it is complete."""

    fields: tuple[equality.Path, ...] = ()  # whose values its records share; none: the whole input is one group
    contiguous: bool = False  # its records follow one another
    complete: equality.Path | None = None  # the field that says how many there are
    warn: Callable[[str], None] = lambda _: None  # told once if they promise to follow one another and do not


class Ready(NamedTuple, Generic[T]):
    """A group of which no more is to come; or why it is none."""

    group: T
    failure: Failure | None = None


class _Open(Generic[T]):
    __slots__ = ("count", "group", "size")

    def __init__(self, group: T) -> None:
        self.group = group
        self.count = 0
        self.size = 0  # as its records say, where they do


class Groups(Generic[T]):
    """The groups that are open, in the order of their first records.

    If they are contiguous only one is, and if they say their size each goes as soon as it is complete;
    otherwise all of them wait for the end of the input.
    """

    def __init__(self, rules: GroupRules, begin: Callable[[Record], T], add: Callable[[T, Record], None]) -> None:
        self._rules = rules
        self._begin, self._add = begin, add
        self._open: dict[Hashable, _Open[T]] = {}
        self._closed: dict[int, None] = {}  # hashes of contiguous groups, the latest ones

    def take(self, record: Record) -> Failure | list[Ready[T]]:
        """Put a record into its group; the groups that are ready with it."""
        key = self._key(record)
        if isinstance(key, Failure):
            return key
        size = self._size(record)
        if isinstance(size, Failure):
            return size
        ready: list[Ready[T]] = []
        found = self._open.get(key)
        if found is None:
            if self._rules.contiguous and self._open:
                self._note_closed(record, hash(key))
                ready = self.rest()
            found = self._open[key] = _Open(self._begin(record))
        found.size = size
        found.count += 1
        self._add(found.group, record)
        if found.count == size:
            del self._open[key]
            ready.append(Ready(found.group))
        return ready

    def _note_closed(self, record: Record, key: int) -> None:
        """The open group ends, and another begins: a new one, if the records are sorted."""
        if key in self._closed:
            self._rules.warn(
                f"{record.where}: its group has ended already: the input is not sorted, or a filter before used -U"
            )
            self._rules = self._rules._replace(warn=lambda _: None)
        self._closed[hash(next(iter(self._open)))] = None
        if len(self._closed) > REMEMBERED:
            del self._closed[next(iter(self._closed))]

    def _size(self, record: Record) -> int | Failure:
        """Of the record's group, as it says itself; 0 if that is of no interest."""
        if not self._rules.complete:
            return 0
        size = equality.at(record.data, self._rules.complete)
        if isinstance(size, int) and not isinstance(size, bool) and size > 0:
            return size
        return Failure("group", f"{'.'.join(self._rules.complete)}: not the size of a group")

    def rest(self) -> list[Ready[T]]:
        """All that are open."""
        left, self._open = list(self._open.values()), {}
        if not self._rules.complete:
            return [Ready(one.group) for one in left]
        return [
            Ready(one.group, Failure("incomplete", f"the group has {one.count} of {one.size} records")) for one in left
        ]

    def _key(self, record: Record) -> Hashable:
        """What the records of a group have in common; a Failure if this one lacks it."""
        data, fields = record.data, self._rules.fields
        if len(fields) == 1 and len(fields[0]) == 1 and fields[0][0] in data:  # nearly always; it is quicker
            return equality.exact_key(data[fields[0][0]])
        for path in fields:
            if not splicing.holds(data, path):
                return Failure("group", f"no field '{'.'.join(path)}'")
        return tuple(equality.exact_key(equality.at(data, path)) for path in fields)


def in_canonical_order(members: Sequence[Record]) -> list[Record]:
    """The same order whichever came first: by id where all have one of their own, otherwise by content."""
    if all(record.id is not None for record in members) and len({record.id for record in members}) == len(members):
        return sorted(members, key=lambda record: (str(type(record.id)), record.id))
    return sorted(members, key=lambda record: exact.dumps(record.data))


def shared_fields(record: Record, fields: Iterable[equality.Path]) -> Record:
    """A record of the fields alone that a group has in common."""
    only = Record(b"{}", {}, record.where)
    for path in fields:
        only = splicing.with_value(only, path, exact.dumps(equality.at(record.data, path)))
    return only
