"""Whether a call may be made now: a slot, and what the endpoint's answers say about the next one."""

from __future__ import annotations

import time
from collections.abc import Callable

from llmstream.books.events import Events
from llmstream.calls.health import Health
from llmstream.calls.patience import Patience
from llmstream.calls.pauses import Pauses
from llmstream.calls.slots import Slots
from llmstream.shell.messages import Stop
from llmstream.shell.stop_switch import StopSwitch

PROBE_EVERY = (0.25, 8.0)  # seconds between probes, from and up to


class Limits:
    """Told of everything that an endpoint does; decides how many calls it gets."""

    def __init__(
        self, jobs: int, switch: StopSwitch, events: Events, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._slots = Slots(jobs, now)
        self._health = Health(jobs)
        self._patience = Patience(jobs)
        self._pauses = Pauses()
        self._switch = switch
        self._events = events
        self._now = now
        switch.on_pull.append(self._slots.turn_away)

    async def enter(self, *, first_try: bool = True) -> bool:
        """Wait for a slot. False: the run has stopped, call nobody."""
        if self._switch.reason:
            return False
        if not self._slots.busy:
            self._patience.forget_old_trouble(self._now())
        admitted = await self._slots.enter(first_try=first_try)
        if admitted and self._switch.reason:  # since it was admitted
            self._slots.leave()
            return False
        return admitted

    def leave(self) -> None:
        self._slots.leave()

    @property
    def width(self) -> int:
        """How many calls may be in flight."""
        return self._slots.count

    @property
    def closed_for(self) -> float:
        """Seconds until somebody may call again."""
        return self._slots.closed_for

    @property
    def flaky(self) -> bool:
        return self._health.flaky

    @property
    def endpoint_has_answered(self) -> bool:
        return self._patience.endpoint_has_answered

    def blames_endpoint(self, *, certain: bool) -> bool:
        """Is the endpoint, and not the request, to blame? Then a further try costs the request nothing."""
        return self._patience.blames_endpoint(certain=certain)

    # -- what the endpoint does

    def answered(self, *, first_try: bool = True) -> None:
        self._health.improve(first_try=first_try)
        self._patience.answered()
        self._pauses.answered()
        self._resize()

    def refused(self, message: str) -> None:
        """A 4xx that is this record's own fault, unless every record has it."""
        self._pauses.over()
        self._stop_if(self._patience.refused(message))

    def troubled(self, reason: str, *, first_try: bool, certain: bool) -> None:
        """A call that nobody answered, or that the endpoint could not serve. Certain: whatever the request."""
        now = self._now()
        self._health.decline(first_try=first_try)
        self._resize()
        work_waits = certain or first_try or bool(self._slots.first_tries)
        stop = self._patience.troubled(reason, now, first_try=first_try, work_waits=work_waits)
        self._stop_if(stop)
        if not stop and self.width == 1 and self.blames_endpoint(certain=certain):
            least, most = PROBE_EVERY
            self._slots.close_until(now + min(most, max(least, self._patience.silence(now) / 4)))

    def limited(self, seconds: float | None) -> None:
        """A 429: nobody calls until then. None: the endpoint does not say for how long."""
        now = self._now()
        self._health.decline(first_try=False)  # what comes after the pause begins with few
        self._resize()
        self._patience.said_something()
        pause = self._pauses.ask(seconds, now, paused_already=self.closed_for > 0)
        if isinstance(pause, Stop):
            self._switch.pull(pause)
        elif pause:
            self._events.limited(pause)
            self._slots.close_until(now + pause)

    def _resize(self) -> None:
        width, before = self._health.width, self._slots.count
        if width != before:
            self._slots.count = width
            self._events.width(width, before)

    def _stop_if(self, reason: Stop | None) -> None:
        if reason:
            self._switch.pull(reason)
