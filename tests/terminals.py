"""A pseudo-terminal, and what it shows of the bytes that it is sent."""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
import termios
import time
import unicodedata
from collections.abc import Callable, Iterator

import pytest

AT_LAST = 30.0  # what takes so long never happens


linux = pytest.mark.skipif(sys.platform != "linux", reason="sockets without a file")


class Screen:
    """What a terminal shows of the bytes it is sent: as much of one as anything here makes use of."""

    def __init__(self, columns: int = 80, rows: int = 10) -> None:
        self.columns, self.rows = columns, rows
        self.cells: list[list[str]] = [[]]  # of the rows from the first one on; those above `top` have scrolled away
        self.wrapped: set[int] = set()  # rows that go on in the next one
        self.row, self.column = 0, 0
        self.saved = (0, 0)
        self.top = 0
        self.raw = b""
        self._rest = b""

    def feed(self, data: bytes) -> None:
        self.raw += data
        text = (self._rest + data).decode(errors="ignore")
        self._rest = b""
        if cut := re.search(r"\x1b(\[[\d;]*)?$", text):  # a sequence that has not come in full
            text, self._rest = text[: cut.start()], cut[0].encode()
        for found in re.finditer(r"\x1b\[([\d;]*)([A-Za-z])|\x1b([78D])|(.)", text, re.DOTALL):
            self._obey(found[2] or found[3] or "", found[4] or "")

    def _obey(self, command: str, char: str) -> None:
        if char:
            self._put(char)
        elif command == "K":
            self._erase(self.row, self.column)
        elif command == "J":
            self._erase(self.row, self.column)
            del self.cells[self.row + 1 :]
        elif command == "A":
            self.row = max(self.top, self.row - 1)
        elif command == "B":
            self.row = min(self.top + self.rows - 1, self.row + 1)
        elif command == "D":
            self._down()
        elif command == "7":
            self.saved = (self.row - self.top, self.column)
        elif command == "8":
            self.row, self.column = self.top + self.saved[0], self.saved[1]
        else:
            raise AssertionError(f"an unknown sequence: {command}")

    def _erase(self, row: int, column: int) -> None:
        if row < len(self.cells):
            del self.cells[row][column:]
            self.wrapped.discard(row)

    def _down(self) -> None:
        self.row += 1
        self.top = max(self.top, self.row - self.rows + 1)

    def _put(self, char: str) -> None:
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self._down()
        elif char == "\b":
            self.column = max(0, self.column - 1)
        elif char >= " ":
            width = 2 if unicodedata.east_asian_width(char) in "FW" else 1
            if self.column + width > self.columns:
                self.wrapped.add(self.row)
                self._down()
                self.column = 0
            self.cells += [[] for _ in range(self.row + 1 - len(self.cells))]
            cells = self.cells[self.row]
            cells += [" "] * (self.column + width - len(cells))
            cells[self.column : self.column + width] = [char, *[""] * (width - 1)]
            self.column += width

    def resize(self, columns: int) -> None:
        """Another width: rows are wrapped anew, and the cursor stays with its text."""
        lines: list[tuple[list[str], int | None]] = []
        joined: list[str] = []
        cursor = None
        for number in range(max(len(self.cells), self.row + 1)):
            cells = self.cells[number] if number < len(self.cells) else []
            if number == self.row:
                cursor = len(joined) + self.column
            joined = joined + cells
            if number not in self.wrapped:
                lines.append((joined, cursor))
                joined, cursor = [], None
        self.columns, self.cells, self.wrapped = columns, [], set()
        for cells, at in lines:
            begin = len(self.cells)
            self.cells += [cells[i : i + columns] for i in range(0, len(cells), columns)] or [[]]
            self.wrapped |= set(range(begin, len(self.cells) - 1))
            if at is not None:
                self.row, self.column = begin + min(at // columns, len(self.cells) - begin - 1), at % columns
        self.top = max(0, max(self.row + 1, len(self.cells)) - self.rows)

    @property
    def lines(self) -> list[str]:
        """All that was ever to be seen, without the empty end."""
        lines = ["".join(cells).rstrip() for cells in self.cells]
        while lines and not lines[-1]:
            lines.pop()
        return lines


class Terminal:
    """A pseudo-terminal and its screen."""

    def __init__(self, columns: int = 80, rows: int = 10) -> None:
        self.master, self.fd = os.openpty()
        self.screen = Screen(columns, rows)
        self._measure(columns)

    def _measure(self, columns: int) -> None:
        termios.tcsetwinsize(self.fd, (self.screen.rows, columns))

    def resize(self, columns: int) -> None:
        self.look()
        self.screen.resize(columns)
        self._measure(columns)

    def look(self, seconds: float = 0) -> list[str]:
        """What stands on the screen when all that was written is on it."""
        while select.select([self.master], [], [], seconds)[0]:
            seconds = 0
            try:
                self.screen.feed(os.read(self.master, 65536))
            except OSError:  # nobody has it open any more
                break
        return self.screen.lines

    def until(self, seen: Callable[[list[str]], object], why: str = "") -> list[str]:
        """Wait for something to be seen."""
        ends = time.monotonic() + AT_LAST
        while not seen(self.look(0.02)):
            assert time.monotonic() < ends, (why, self.screen.lines, self.screen.raw[-500:])
        return self.screen.lines

    def write(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def close(self) -> None:
        for fd in (self.master, self.fd):
            with contextlib.suppress(OSError):
                os.close(fd)


@contextlib.contextmanager
def terminal(columns: int = 80, rows: int = 10) -> Iterator[Terminal]:
    it = Terminal(columns, rows)
    try:
        yield it
    finally:
        it.close()


def width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "FW" else 1 for char in text)
