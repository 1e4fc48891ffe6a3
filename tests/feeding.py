"""Feed a reader: the same bytes in pieces of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from llmstream.records.values import BadLine, Reader, Record, Unreadable

HYPOTHESIS = settings(deadline=None, max_examples=80)
SIZES = st.lists(st.integers(1, 9), max_size=40)
Make = Callable[[], Reader]


def read(reader: Reader, data: bytes, sizes: Iterable[int] = ()) -> list[Record | BadLine]:
    """What a reader makes of data that comes in pieces of these sizes, and the rest in one."""
    found = []
    for size in [*sizes, len(data)]:
        found += reader.feed(data[:size])
        data = data[size:]
    return found + reader.end()


def told(found: list[Record | BadLine]) -> list[Any]:
    """Data of what was read, place and reason of what was not."""
    return [one.data if isinstance(one, Record) else f"{one.where}: {one.why}" for one in found]


def outcome(make: Make, data: bytes, sizes: Iterable[int] = ()) -> Any:
    try:
        return read(make(), data, sizes)
    except Unreadable as error:
        return str(error)
