"""Slots: who may call now, and who waits.

A call holds a slot from its start until its answer is written down. One that waits for its next try holds none.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable


class Slots:
    """So many calls at once; what was tried before goes before what was not."""

    def __init__(self, count: int, now: Callable[[], float]) -> None:
        self.count = count
        self.busy = 0
        self._now = now
        self.first_tries: deque[asyncio.Future[bool]] = deque()
        self._further_tries: deque[asyncio.Future[bool]] = deque()
        self._not_before = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def enter(self, *, first_try: bool) -> bool:
        """Wait for a slot. False: everybody who waits was turned away."""
        if not self._anyone_waits() and self._is_open():
            self.busy += 1
            return True
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        (self.first_tries if first_try else self._further_tries).append(waiter)
        self._admit()
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.result():
                self.leave()  # it had just been given a slot
            raise

    def leave(self) -> None:
        self.busy -= 1
        self._admit()

    def turn_away(self) -> None:
        """Nobody who waits now will call."""
        while self._anyone_waits():
            waiter = self._next()
            if not waiter.done():
                waiter.set_result(False)

    def close_until(self, moment: float) -> None:
        """Nobody is admitted before then."""
        self._not_before = max(self._not_before, moment)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        with contextlib.suppress(RuntimeError):  # without a loop nobody waits
            self._admit()

    @property
    def closed_for(self) -> float:
        """Seconds until somebody may call again."""
        return max(0.0, self._not_before - self._now())

    def _is_open(self) -> bool:
        return self.busy < self.count and self._now() >= self._not_before

    def _anyone_waits(self) -> bool:
        return bool(self._further_tries or self.first_tries)

    def _next(self) -> asyncio.Future[bool]:
        return (self._further_tries or self.first_tries).popleft()

    def _admit(self) -> None:
        while self._anyone_waits() and self._is_open():
            waiter = self._next()
            if not waiter.done():
                self.busy += 1
                waiter.set_result(True)
        delay = self._not_before - self._now()
        if self._anyone_waits() and delay > 0 and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(delay, self._open_again)

    def _open_again(self) -> None:
        self._timer = None
        self._admit()
