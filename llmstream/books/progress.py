"""How far a run is: what the progress line says, and where it is shown."""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace

from llmstream.books import summary
from llmstream.books.events import Events
from llmstream.shell import progress_line
from llmstream.shell.messages import on_screen, say

TOLD_EVERY = 60.0  # seconds, where there is no terminal
LATELY = 10.0  # seconds over which the rate is measured

Position = Callable[[], "float | None"]  # the share of the input that has been read; None: its size is not known


def wanted(o: SimpleNamespace) -> bool:
    """The stages of a pipe keep to themselves, and what is printed on the terminal is seen there."""
    if o.no_progress or o.progress:
        return not o.no_progress
    kind = os.fstat(1).st_mode
    return on_screen(2) and not (o.quiet or os.isatty(1) or stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind))


class Status:
    """Shown from time to time: as a line on a terminal, as a message elsewhere."""

    def __init__(self, name: str, events: Events, position: Position) -> None:
        self._name = name
        self._events = events
        self._position = position
        self._line = progress_line.Line() if on_screen(2) else None
        self._marks = deque([(time.monotonic(), 0)])  # when so many records were finished
        self.every = progress_line.EVERY if self._line else TOLD_EVERY

    def show(self) -> None:
        shown = self._shown()
        if self._line:
            self._line.draw(shown)
        else:
            say(f"{shown.text}, {shown.after}")

    def clear(self) -> None:
        if self._line:
            self._line.clear()

    def _shown(self) -> progress_line.Shown:
        counts = self._events.counts
        rate = self._rate(counts.finished)
        total = self._total()
        text = f"{counts.finished:,} records" if total is None else f"{counts.finished:,} of about {total:,}"
        after = [progress_line.pace(rate)]
        if total is not None and rate:
            after.append(f"{progress_line.clock((total - counts.finished) / rate)} left")
        after += [f"{counts.failed:,} failed"] * bool(counts.failed)
        after += [summary.dollars(self._events.cost)] * bool(self._events.cost)
        return progress_line.Shown(self._name, text, counts.finished / total if total else None, ", ".join(after))

    def _total(self) -> int | None:
        """The records there will be, by the length of those so far."""
        share, read = self._position(), self._events.counts.read
        return max(read, round(read / share)) if share and read else None

    def _rate(self, finished: int) -> float:
        now = time.monotonic()
        self._marks.append((now, finished))
        while len(self._marks) > 2 and now - self._marks[1][0] > LATELY:
            self._marks.popleft()
        began, before = self._marks[0]
        return (finished - before) / (now - began) if now > began else 0.0
