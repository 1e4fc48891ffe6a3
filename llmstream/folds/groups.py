"""Which records belong together, and when a group is ready."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from types import SimpleNamespace
from typing import Generic, NamedTuple, TypeVar

from llmstream.records import equality, exact, splicing
from llmstream.records.values import Failure, Record

T = TypeVar("T")  # what a tool holds of a group


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

    With --sorted only one is, and with --complete each goes as soon as it is full; else all of
    them wait for the end of the input.
    """

    def __init__(self, o: SimpleNamespace, begin: Callable[[Record], T], add: Callable[[T, Record], None]) -> None:
        self._fields: tuple[equality.Path, ...] = o.group
        self._sorted: bool = o.sorted
        self._complete: equality.Path | None = getattr(o, "complete", None)
        self._begin, self._add = begin, add
        self._open: dict[Hashable, _Open[T]] = {}

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
            if self._sorted and self._open:
                ready = self.rest()
            found = self._open[key] = _Open(self._begin(record))
        found.size = size
        found.count += 1
        self._add(found.group, record)
        if found.count == size:
            del self._open[key]
            ready.append(Ready(found.group))
        return ready

    def _size(self, record: Record) -> int | Failure:
        """Of the record's group, as it says itself; 0 if nobody is to look."""
        if not self._complete:
            return 0
        size = equality.at(record.data, self._complete)
        if isinstance(size, int) and not isinstance(size, bool) and size > 0:
            return size
        return Failure("group", f"{'.'.join(self._complete)}: not the size of a group")

    def rest(self) -> list[Ready[T]]:
        """All that are open."""
        left, self._open = self._open, {}
        return [Ready(one.group, self._lacking(one)) for one in left.values()]

    def _lacking(self, one: _Open[T]) -> Failure | None:
        if not self._complete:
            return None
        return Failure("incomplete", f"the group has {one.count} of {one.size} records")

    def _key(self, record: Record) -> Hashable:
        """What the records of a group have in common; a Failure if this one lacks it."""
        data = record.data
        if len(self._fields) == 1 and len(self._fields[0]) == 1:
            name = self._fields[0][0]
            return equality.equal(data[name]) if name in data else _lacks(name)
        for path in self._fields:
            if not splicing.holds(data, path):
                return _lacks(".".join(path))
        return tuple(equality.equal(equality.at(data, path)) for path in self._fields)


def _lacks(name: str) -> Failure:
    return Failure("group", f"no field '{name}'")


def shared(record: Record, fields: Iterable[equality.Path]) -> Record:
    """A record of the fields alone that a group has in common."""
    only = Record(b"{}", {}, record.where)
    for path in fields:
        only = splicing.with_value(only, path, exact.dumps(equality.at(record.data, path)))
    return only
