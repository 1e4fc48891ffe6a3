"""The one line at the bottom of a terminal that shows how far a pipe is; its processes share it.

The cursor rests on an empty row above the line, where it would be without the line. So what others
say stands as they wrote it, even if they know nothing of us, and what a user types is not lost.
The next drawing finds the cursor wherever it is by then, clears everything from there on and draws below it:
a message, another width or a row that was wrapped leaves no debris.
"""

from __future__ import annotations

import contextlib
import locale
import os
import select
import signal
import threading
from collections.abc import Sequence
from itertools import accumulate
from types import FrameType
from unicodedata import east_asian_width

from llmstream.records.figures import percent
from llmstream.records.words import escape
from llmstream.shell.line_sharing import LONGEST, LineSharing, Shown
from llmstream.shell.messages import CLEAR, on_screen

__all__ = ["EVERY", "Line", "Shown", "compose", "foreground"]

EVERY = 0.2  # seconds from one drawing to the next
BAR = 20  # cells that a bar should have; what matters least makes room for it
SHORT_BAR = 8  # a bar of fewer cells is left out

_BELOW = "\x1b[K\x1bD\x1b[A\x1b7\x1b[B\r"  # an empty row, and one below it; \x1bD scrolls where there is none
_BACK = f"{CLEAR}\x1b8"
_EIGHTHS = " ▏▎▍▌▋▊▉"


# -- the text ---------------------------------------------------------------------------------


def compose(parts: Sequence[Shown], columns: int, *, ascii_only: bool = False) -> str:
    """All parts in at most so many columns: the more room, the more of each."""
    parts = [_safe(part) for part in parts]
    with_bar = _with_bar(parts[0], columns, ascii_only) if len(parts) == 1 else None
    return _side_by_side(parts, columns) if with_bar is None else with_bar


def _safe(part: Shown) -> Shown:
    name, text, after = (escape(field[:LONGEST])[:LONGEST] for field in (part.name, part.text, part.after))
    return Shown(name, text, None if part.share is None else min(1.0, max(0.0, part.share)), after)


def _with_bar(part: Shown, columns: int, ascii_only: bool) -> str | None:
    """A part that stands alone; None if a bar has no room, or its length is not known."""
    if part.share is None:
        return None
    after = _pieces(part)
    few = min(2, len(after))
    head = f"{part.name}: {part.text}"
    choices = [(count, BAR) for count in range(len(after), few - 1, -1)]
    for count, least in [*choices, (few, SHORT_BAR)]:
        tail = ", ".join([percent(part.share), *after[:count]])
        cells = columns - _width(f"{head} || {tail}")
        if cells >= least:
            return f"{head} |{_bar(part.share, cells, ascii_only)}| {tail}"
    return None


def _bar(share: float, cells: int, ascii_only: bool) -> str:
    if ascii_only:
        return ("#" * int(share * cells)).ljust(cells)
    full, eighths = divmod(int(share * cells * 8), 8)
    return ("█" * full + _EIGHTHS[eighths]).ljust(cells)[:cells]


def _side_by_side(parts: Sequence[Shown], columns: int) -> str:
    """Parts without bars: as much of each as all have room for."""
    longest = max(len(_pieces(part)) for part in parts)
    short = [part._replace(text=part.text.partition(" ")[0]) for part in parts]
    choices = [(parts, count) for count in range(longest + 1, 0, -1)]
    for those, count in [*choices, (short, 1), (short, 0)]:
        line = " | ".join(_words(part, count) for part in those)
        if _width(line) <= columns:
            return line
    parts = short[: max(1, (columns + 3) // (3 + 5))]
    room = max(1, (columns - 3 * (len(parts) - 1)) // len(parts))
    return _trimmed(" | ".join(_shortest(part, room) for part in parts), columns)


def _pieces(part: Shown) -> list[str]:
    return part.after.split(", ") if part.after else []


def _words(part: Shown, count: int) -> str:
    """A part with so many of its further pieces."""
    share = f" ({percent(part.share)})" if part.share is not None and count > 1 else ""
    return ", ".join([f"{part.name}: {part.text}{share}", *_pieces(part)[:count]])


def _shortest(part: Shown, room: int) -> str:
    """As much of the name as there is room for beside how far it is."""
    text = f": {part.text}"
    name = _trimmed(part.name, room - _width(text))
    return f"{name}{text}" if name else _trimmed(part.text, room)


def _width(text: str) -> int:
    """Columns of a terminal; a letter that is full-width there takes two."""
    return sum(_widths(text))


def _trimmed(text: str, columns: int) -> str:
    """As much of the beginning as fits."""
    fitting = sum(reached <= columns for reached in accumulate(_widths(text)))
    return text[:fitting]


def _widths(text: str) -> list[int]:
    return [2 if east_asian_width(char) in "FW" else 1 for char in text]


# -- the terminal -----------------------------------------------------------------------------


def foreground(fd: int = 2) -> bool:
    """Does the terminal belong to us, and not to a shell that has put us into the background?"""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:  # not the terminal of our session: no shell there waits for a command
        return True


def _in_utf8() -> bool:
    return locale.getencoding().lower().replace("-", "") == "utf8"


def _size(fd: int) -> tuple[int, int]:
    """Columns and rows; the traditional ones if the terminal does not know."""
    try:
        columns, rows = os.get_terminal_size(fd)
    except OSError:
        columns, rows = 0, 0
    return columns or 80, rows or 24


def _reopened(fd: int) -> int:
    """The terminal once more, for ourselves: it never blocks, and no other process's descriptor changes."""
    try:
        return os.open(os.ttyname(fd), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return os.dup(fd)


class Line:
    """A process's part in the line. Draw every EVERY seconds; whatever goes wrong, nothing is raised or waited for."""

    def __init__(self, fd: int = 2) -> None:
        self._fd = fd
        self._lock = threading.RLock()  # suspend() interrupts what another thread may be drawing
        self._out: int | None = None
        self._sharing = LineSharing(fd)

    def draw(self, shown: Shown) -> None:
        """Show this from now on."""
        with self._lock:
            if not on_screen(self._fd) or not foreground(self._fd):
                return
            parts = self._sharing.parts(shown)
            columns, rows = _size(self._fd)
            if parts and rows > 1:  # the last column stays free: a cursor behind it is not where it seems to be
                text = compose(parts, columns - 1, ascii_only=not _in_utf8())
                self._write(f"{_BELOW}{text}{_BACK}")

    def wipe(self) -> None:
        """Take the line away until the next drawing: something else is about to be printed."""
        with self._lock:
            if self._out is not None and foreground(self._fd):
                self._write(CLEAR)

    def say(self, text: str) -> None:
        """A line that stays, above the one that is drawn."""
        with self._lock, contextlib.suppress(OSError):
            clear = CLEAR if on_screen(self._fd) and foreground(self._fd) else ""
            os.write(self._fd, f"{clear}{escape(text)}\n".encode())

    def clear(self) -> None:
        """Our part goes, and with the last part the line."""
        with self._lock:
            self.wipe()
            self._sharing.leave()
            if self._out is not None:
                os.close(self._out)
                self._out = None

    def finish(self, text: str) -> None:
        """The same, and this stays where it was."""
        with self._lock:
            self.say(text)
            self.clear()

    def suspend(self, number: int, _: FrameType | None = None) -> None:
        """What SIGTSTP should do in the main thread: the shell must not write into the middle of our line."""
        with self._lock:
            self.wipe()
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_kill(threading.get_ident(), number)  # stops here, until SIGCONT
            signal.signal(number, self.suspend)

    def _write(self, text: str) -> None:
        """All of it at once, or nothing if the terminal has been stopped."""
        with contextlib.suppress(OSError):
            if self._out is None:
                self._out = _reopened(self._fd)
            poll = select.poll()
            poll.register(self._out, select.POLLOUT)
            if poll.poll(0):
                os.write(self._out, text.encode())
