"""Folding so many at a time: which nodes of the tree are ready, whatever order they come in.

A node stands on a level and has a number there; `fan_in` neighbours make one node of the level above, the
last of a level maybe fewer. How many there are is known only when the last has come. Nothing is
held longer than until it goes into a node above.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Node(NamedTuple):
    level: int
    number: int
    parts: list[Any]  # what it is made of
    root: bool = False  # is it the last of all? Then it has one part, and that is the result


class Tree:
    def __init__(self, fan_in: int) -> None:
        self._fan_in = fan_in
        self._done: list[dict[int, Any]] = [{}]
        self._sizes: list[int] = []  # of the levels, as soon as they are known
        self._leaf: list[Any] = []  # that is being gathered
        self._leaves = 0

    def add(self, part: Any) -> Node | None:
        """A further part of what is folded; the leaf that it completes."""
        self._leaf.append(part)
        return self._cut() if len(self._leaf) == self._fan_in else None

    def end(self) -> list[Node]:
        """No more parts come: the last leaf, and the nodes above that lacked nothing but this word."""
        last = [self._cut()] if self._leaf else []
        return last + self.close(self._leaves)

    def _cut(self) -> Node:
        parts, self._leaf = self._leaf, []
        self._leaves += 1
        return Node(0, self._leaves - 1, parts)

    def put(self, level: int, number: int, value: Any) -> Node | None:
        """A node is done; the one above, if it was the last that this one lacked."""
        while len(self._done) <= level:
            self._done.append({})
        self._done[level][number] = value
        return self._above(level, number // self._fan_in)

    def close(self, size: int) -> list[Node]:
        """So many nodes are on the lowest level. Those above that lacked nothing but this word."""
        self._sizes = [size]
        while self._sizes[-1] > 1:
            self._sizes.append(-(-self._sizes[-1] // self._fan_in))
        lasts = [self._above(level, (count - 1) // self._fan_in) for level, count in enumerate(self._sizes) if count]
        return [node for node in lasts if node]

    def _above(self, level: int, number: int) -> Node | None:
        """The node of this number above a level, if all of its parts are done."""
        if level >= len(self._done):
            return None
        done, first = self._done[level], number * self._fan_in
        numbers = range(first, first + self._fan_in)
        if self._sizes:
            numbers = range(first, min(first + self._fan_in, self._sizes[level]))
        if not numbers or not all(below in done for below in numbers):
            return None
        parts = [done.pop(below) for below in numbers]
        return Node(level + 1, number, parts, root=bool(self._sizes) and self._sizes[level] == 1)
