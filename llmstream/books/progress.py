"""How far a run is: what the progress line says, and where it is shown."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from llmstream.books.events import Events
from llmstream.records import figures
from llmstream.shell import progress_line
from llmstream.shell.messages import on_screen, say

SAID_EVERY = 60.0  # seconds, where there is no terminal
LATELY = 10.0  # seconds over which the rate is measured

Position = Callable[[], "float | None"]  # the share of the input that has been read; None: its size is not known


class Showing(NamedTuple):
    """Whether progress is shown: options of these names."""

    progress: bool
    no_progress: bool
    quiet: bool

    def is_needed(self) -> bool:
        """The stages of a pipe keep to themselves, and what is printed on the terminal is seen there."""
        if self.no_progress or self.progress:
            return not self.no_progress
        kind = os.fstat(1).st_mode
        return on_screen(2) and not (self.quiet or os.isatty(1) or stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind))


class Progress:
    """Shown from time to time: as a line on a terminal, as a message elsewhere."""

    def __init__(self, name: str, events: Events, position: Position) -> None:
        self._name = name
        self._events = events
        self._position = position
        self._line = progress_line.Line() if on_screen(2) else None
        self._marks = deque([(time.monotonic(), 0)])  # when so many records were finished
        self._every = progress_line.EVERY if self._line else SAID_EVERY

    @contextlib.contextmanager
    def shown(self, showing: Showing) -> Iterator[None]:
        """Show it from time to time, as long as this lasts."""
        task = asyncio.ensure_future(self._keep_showing()) if showing.is_needed() else None
        try:
            yield
        finally:
            if task:
                task.cancel()
                self.clear()

    async def _keep_showing(self) -> None:
        while True:
            await asyncio.sleep(self._every)
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
        after = [figures.rate(rate)]
        if total is not None and rate:
            after.append(f"{figures.clock((total - counts.finished) / rate)} left")
        if counts.failed:
            after.append(f"{counts.failed:,} failed")
        if self._events.cost:
            after.append(figures.dollars(self._events.cost))
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
