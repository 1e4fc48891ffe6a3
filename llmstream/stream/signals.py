"""Signals, and a stdout that fails: the run stops, and ends the way the signal would have ended it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from typing import Any

from llmstream.shell import messages
from llmstream.shell.messages import CANNOT_WRITE, Stop, say, why
from llmstream.shell.stop_switch import StopSwitch

SAME_SIGNAL = 0.3  # seconds in which a second signal is the first one again


class Signals:
    """The first signal stops the run and lets it drain; a further one ends it at once."""

    def __init__(self, switch: StopSwitch, clear_screen: Callable[[], None]) -> None:
        self.died_of: int | None = None
        self._switch = switch
        self._clear_screen = clear_screen
        self._first_at = 0.0
        self._sigpipe_ignored = messages.sigpipe_was_ignored()
        switch.on_pull.append(self._say_why)

    def catch(self, say_status: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, and a shell's background jobs
                loop.add_signal_handler(number, self._signalled, number)
        loop.add_signal_handler(signal.SIGUSR1, say_status)
        loop.set_exception_handler(self._background_died)

    def stdout_failed(self, error: OSError) -> None:
        if isinstance(error, BrokenPipeError) and not self._sigpipe_ignored:
            self.died_of = self.died_of or signal.SIGPIPE
            self._switch.pull(Stop(128 + signal.SIGPIPE, ""))
        else:
            self._switch.pull(Stop(CANNOT_WRITE, f"cannot write stdout: {why(error)}"))

    def bug(self, error: BaseException) -> None:
        self._switch.pull(Stop(1, messages.bug(error)))

    def _signalled(self, number: int) -> None:
        """A terminal that closes and timeout(1) both signal twice: what comes right behind the first is the same."""
        now = time.monotonic()
        if self.died_of not in (None, signal.SIGPIPE):
            if now - self._first_at < SAME_SIGNAL:
                return
            self._clear_screen()
            messages.die_by(number)
        self.died_of, self._first_at = number, now
        name = signal.Signals(number).name
        self._switch.pull(Stop(128 + number, f"{name}: finishing what is in flight; the same again stops at once"))

    def _say_why(self) -> None:
        stop = self._switch.reason
        if stop and stop.reason and (self.died_of is None or not messages.quiet):
            say(stop.reason)

    def _background_died(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, Exception):
            self.bug(error)
