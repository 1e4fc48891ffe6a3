"""Where the lines of a done-file begin, in little memory."""

from __future__ import annotations

from array import array


class Index:
    """Where each key's line begins, and how often the key came up in this run: 16 bytes a slot.

    The tables have a fixed size, are at most half full, and are never moved: 32 bytes a request, the first
    half a million of them there from the start, and no moment at which old and new exist
    side by side. A slot holds 64 bits of hash and, in the other 64, place and count; whoever
    reads a line checks its key, so equal hashes cost a call and never give a wrong answer.
    """

    SLOTS = 1 << 20
    COUNT_BITS = 24
    MOST = (1 << COUNT_BITS) - 1  # that can be counted

    def __init__(self) -> None:
        self._tables = [self._table()]
        self._room = self.SLOTS // 2
        self.keys = 0  # that have a line

    def find(self, key: bytes) -> int | None:
        """Where the line of a key begins."""
        table, at, _ = self._slot(key)
        place = table[at + 1] >> self.COUNT_BITS
        return place - 1 if place else None

    def put(self, key: bytes, place: int) -> None:
        """The line of a key begins here."""
        table, at = self._claim(key)
        before = table[at + 1]
        self.keys += not before >> self.COUNT_BITS
        table[at + 1] = (place + 1) << self.COUNT_BITS | before & self.MOST

    def count(self, key: bytes) -> int:
        """How often this key was counted before."""
        table, at = self._claim(key)
        seen: int = table[at + 1] & self.MOST
        if seen == self.MOST:
            raise OverflowError("one request came up 16 million times in one run")
        table[at + 1] += 1
        return seen

    @classmethod
    def _table(cls) -> array[int]:
        return array("Q", [0]) * (2 * cls.SLOTS)

    def _slot(self, key: bytes) -> tuple[array[int], int, int]:
        """The slot that holds a key's tag, or the free one of the last table where it would go; and the tag."""
        tag = hash(key) & 0xFFFF_FFFF_FFFF_FFFF or 1
        mask = 2 * self.SLOTS - 1
        table, at = self._tables[0], 0
        for table in self._tables:
            at = (tag << 1) & mask
            while (found := table[at]) and found != tag:
                at = (at + 2) & mask
            if found:
                break
        return table, at, tag

    def _claim(self, key: bytes) -> tuple[array[int], int]:
        table, at, tag = self._slot(key)
        if not table[at]:
            if not self._room:
                self._tables.append(self._table())
                self._room = self.SLOTS // 2
                table, at, _ = self._slot(key)
            self._room -= 1
            table[at] = tag
        return table, at
