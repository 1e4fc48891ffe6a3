"""The time that a call may take."""

from __future__ import annotations

import asyncio
from typing import Any

ASLEEP = 0.5  # a timer that rings so many seconds late rings in a process that was stopped
GRACE = 0.5  # seconds for replies that came meanwhile


class Deadline:
    """Limits each call inside `with` to the same number of seconds, as asyncio.timeout does, with one timer for all.

    All calls may take equally long, so the one that began first is the next to be late.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._calls: dict[asyncio.Task[Any], tuple[float, int]] = {}  # when it is late; how often it was cancelled
        self._late: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when it rings

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # every call is made by one
        at = self._loop.time() + self._seconds
        self._calls[task] = at, task.cancelling()
        if self._timer is None:
            self._set_timer(at)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        task = asyncio.current_task()
        assert task is not None
        cancelled_before = self._calls.pop(task)[1]
        if task in self._late:
            self._late.remove(task)
            if task.uncancel() <= cancelled_before and kind is asyncio.CancelledError:
                raise TimeoutError

    def _set_timer(self, at: float) -> None:
        self._due = at
        self._timer = self._loop.call_at(at, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._loop.time()
        if now - self._due > ASLEEP:  # we were stopped meanwhile: replies that have come are to be read first
            self._set_timer(now + GRACE)
            return
        for task, (at, _) in self._calls.items():
            if at > now:
                self._set_timer(at)
                break
            if task not in self._late:
                self._late.add(task)
                task.cancel()
