"""Time and slots: who may call now, who waits, and when there is no sense in going on.

A call holds a slot from its start until its answer is written down. One that waits for its
next try holds none. What an endpoint answers decides how many slots there are: all of them
while things go well, as few as a single probe while nothing is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

from llmstream.records.words import brief
from llmstream.shell.messages import FIX_FIRST, LATER, Stop

LONGEST_PAUSE = 120.0  # a 429 that asks for more ends the run: cron can wait better than we
FIRST_PATIENCE = 20.0  # an endpoint that never answered may be a wrong address
PATIENCE = 300.0  # one that did answer is probably on its way back
SAME_REFUSAL = 8  # so many first calls refused in the same way: it is not the records
PROBE_EVERY = (0.25, 8.0)  # seconds between probes, from and up to
LULL = 90.0  # longer than anyone waits for a further try: nobody was trying
LONGEST_GUESS = 60.0  # a 429 that does not say for how long: 1 s, doubled each time, up to this


class Limits:
    """The slots of one run."""

    def __init__(self, jobs: int, now: Callable[[], float]) -> None:
        self.jobs = jobs
        self.stopped: Stop | None = None
        self.on_stop: list[Callable[[], None]] = []
        self.on_pause: list[Callable[[float], None]] = []  # told for how long
        self.on_width: list[Callable[[int, int], None]] = []  # told the new one and the one before
        self.width = jobs  # how many calls may be in flight: fewer while more than a tenth of them fail
        self._now = now
        self._busy = 0
        self._begun: deque[asyncio.Future[bool]] = deque()  # wait for a further try; served first
        self._fresh: deque[asyncio.Future[bool]] = deque()
        self._not_before = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._health = 1.0  # the share of calls answered of late
        self._missed = 0.0  # the share of first tries that failed of late
        self._step = min(0.25, 4 / jobs)
        self._answered = False
        self._silent_since: float | None = None
        self._troubled_at = 0.0
        self._limited_since: float | None = None  # nothing but 429
        self._patient = True
        self._fresh_failures = 0  # requests that failed at their first try since the last answer
        self._refusals: list[str] = []
        self._pauses = 0

    # -- slots

    async def enter(self, *, again: bool = False) -> bool:
        """Wait for a slot. False: the run has stopped, call nobody."""
        if self.stopped:
            return False
        self._forget_old_trouble()
        if not self._waits() and self._open():
            self._busy += 1
            return True
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        (self._begun if again else self._fresh).append(waiter)
        self._admit()
        try:
            admitted = await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.result():
                self.leave()  # it had just been given a slot
            raise
        if admitted and self.stopped:  # since it was admitted
            self.leave()
            return False
        return admitted

    def leave(self) -> None:
        self._busy -= 1
        self._admit()

    def _forget_old_trouble(self) -> None:
        """Input that comes once an hour: what failed an hour ago is no silence of an hour."""
        if self._silent_since is not None and not self._busy and self._now() - self._troubled_at > LULL:
            self._silent_since, self._fresh_failures = None, 0

    @property
    def closed_for(self) -> float:
        """Seconds until somebody may call again."""
        return max(0.0, self._not_before - self._now())

    def _weigh(self, step: float) -> None:
        """The endpoint answered, or did not: its health, and so the number of calls, goes up or down."""
        self._health += step * self._step
        width = self.jobs if self._health > 0.9 else max(1, int(self.jobs * self._health))
        if width != self.width:
            before, self.width = self.width, width
            for tell in self.on_width:
                tell(width, before)

    def _open(self) -> bool:
        return self._busy < self.width and self._now() >= self._not_before

    def _waits(self) -> bool:
        return bool(self._begun or self._fresh)

    def _next(self) -> asyncio.Future[bool]:
        """What was begun is finished first."""
        return (self._begun or self._fresh).popleft()

    def _admit(self) -> None:
        while self._waits() and self._open():
            waiter = self._next()
            if not waiter.done():
                self._busy += 1
                waiter.set_result(True)
        delay = self._not_before - self._now()
        if self._waits() and delay > 0 and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(delay, self._timed)

    def _timed(self) -> None:
        self._timer = None
        self._admit()

    # -- stopping

    def stop(self, reason: Stop) -> None:
        """No further call. The first reason counts."""
        if self.stopped:
            return
        self.stopped = reason
        while self._waits():
            waiter = self._next()
            if not waiter.done():
                waiter.set_result(False)
        for tell in self.on_stop:
            tell()

    # -- what the endpoint says

    def answered(self, *, first: bool = True) -> None:
        self._weigh(1 - self._health)
        if first:
            self._missed -= self._missed / 64
        self._answered, self._silent_since, self._limited_since = True, None, None
        self._fresh_failures = self._pauses = 0
        self._refusals.clear()

    def refused(self, message: str) -> None:
        """A 4xx that is this record's own fault, unless every record has it."""
        self._silent_since = self._limited_since = None
        if self._answered:
            return
        self._refusals = [*self._refusals, message] if message in self._refusals else [message]
        if len(self._refusals) == SAME_REFUSAL:
            self.stop(Stop(FIX_FIRST, f"cannot ask anything: the first {SAME_REFUSAL} calls all failed: {message}"))

    def troubled(self, reason: str, *, first: bool, certain: bool) -> None:
        """A call that nobody answered, or that the endpoint could not serve. Certain: whatever the request."""
        self._weigh(-self._health)
        if first:
            self._missed += (1 - self._missed) / 64
            self._fresh_failures += 1
        now = self._troubled_at = self._now()
        if self._silent_since is None:
            self._silent_since = now
        silent = now - self._silent_since
        limit = PATIENCE if self._answered else FIRST_PATIENCE
        endless = certain or first or bool(self._fresh)  # there is work that this silence keeps from being done
        # A few that failed before, and nothing else left to do: they may be the trouble, and their tries count again.
        self._patient = silent <= (limit if endless or self._fresh_failures >= 4 * self.jobs else FIRST_PATIENCE)
        if silent > limit and endless:
            self.stop(Stop(LATER, f"cannot reach the endpoint for {silent:.0f} s: {brief(reason)}; run again later"))
        elif self.width == 1 and self.out(certain=certain):
            least, most = PROBE_EVERY
            self._wait_until(now + min(most, max(least, silent / 4)))

    def out(self, *, certain: bool) -> bool:
        """Is the endpoint, and not the request, to blame? Certain: no request can be.

        Otherwise more than one has to say so, and those that fail for the first time: at the
        end of a run the requests that always fail are among themselves.
        """
        if self._silent_since is None or not self._patient:
            return False
        return certain or self._fresh_failures >= 3

    @property
    def known(self) -> bool:
        """Has the endpoint answered in this run?"""
        return self._answered

    @property
    def flaky(self) -> bool:
        """Does more than a tenth of the requests fail at the first try? Then bad luck alone may fail one often."""
        return self._missed > 0.1

    def pause(self, seconds: float | None) -> None:
        """A 429: nobody calls until then. None: the endpoint does not say for how long."""
        now = self._now()
        self._weigh(-self._health)  # what comes after the pause begins with few
        self._silent_since = None  # it does answer
        if self._limited_since is None:
            self._limited_since = now
        if seconds is None:
            if now < self._not_before:
                return  # its call began before the pause
            seconds = min(LONGEST_GUESS, 2.0**self._pauses)
            self._pauses = min(self._pauses + 1, 6)
        if seconds > LONGEST_PAUSE:
            self.stop(Stop(LATER, f"the endpoint's limit is reached: it asks to wait {seconds:.0f} s; run again then"))
        elif now - self._limited_since > PATIENCE:
            limited = f"nothing but 429 for {now - self._limited_since:.0f} s"
            self.stop(Stop(LATER, f"the endpoint's limit is reached: {limited}; run again later"))
        else:
            for tell in self.on_pause:
                tell(seconds)
            self._wait_until(now + max(seconds, 0.05))

    def _wait_until(self, moment: float) -> None:
        self._not_before = max(self._not_before, moment)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        with contextlib.suppress(RuntimeError):
            self._admit()
