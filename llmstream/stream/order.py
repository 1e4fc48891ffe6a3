"""The order in which outcomes leave, and how many records may be under way or wait for their turn."""

from __future__ import annotations

import asyncio
from typing import Protocol

from llmstream.records.values import BadLine, Outcome, Record

WINDOW = 32 << 20  # bytes of records under way and of outcomes that wait for an earlier one
OVERHEAD = 400  # bytes that each of them takes beside its own
UNDER_WAY = 3  # a record, its fields and its request


class Order(Protocol):
    """Every outcome has a turn: 0, 1, 2 … as the input has it."""

    def put(self, turn: int, outcome: Outcome) -> list[tuple[int, Outcome]]: ...  # all that may leave now


class InputOrder:
    """An outcome waits here until all before it have left."""

    def __init__(self) -> None:
        self._held: dict[int, Outcome] = {}
        self._next = 0

    def put(self, turn: int, outcome: Outcome) -> list[tuple[int, Outcome]]:
        if turn != self._next:
            self._held[turn] = outcome.without_source()
            return []
        ready = [(turn, outcome)]
        self._next += 1
        while (first := self._held.pop(self._next, None)) is not None:
            ready.append((self._next, first))
            self._next += 1
        return ready


class AsTheyFinish:
    """Nothing waits."""

    def put(self, turn: int, outcome: Outcome) -> list[tuple[int, Outcome]]:
        return [(turn, outcome)]


class Window:
    """Everything between the input and the output counts: so many records always, and beyond them so many bytes."""

    def __init__(self, least: int) -> None:
        self._least = least
        self._sizes: dict[int, int] = {}  # by turn
        self._bytes = 0
        self._smaller = asyncio.Event()

    async def room(self) -> None:
        """Wait until a further record may be read."""
        while len(self._sizes) >= self._least and self._bytes >= WINDOW:
            self._smaller.clear()
            await self._smaller.wait()

    def enter(self, turn: int, source: Record | BadLine) -> None:
        """A record is under way."""
        self._set(turn, UNDER_WAY * len(source.line if isinstance(source, Record) else source.raw))

    def hold(self, turn: int, outcome: Outcome) -> None:
        """Its outcome is there, and waits for its turn."""
        self._set(turn, outcome.without_source().size)

    def leave(self, turn: int) -> None:
        self._bytes -= self._sizes.pop(turn, 0)
        self._smaller.set()

    def _set(self, turn: int, size: int) -> None:
        self._bytes += size + OVERHEAD - self._sizes.get(turn, 0)
        self._sizes[turn] = size + OVERHEAD
        self._smaller.set()
