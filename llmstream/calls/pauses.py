"""What a 429 asks for: that nobody calls for a while."""

from __future__ import annotations

from llmstream.calls.patience import PATIENCE
from llmstream.shell.messages import LATER, Stop

LONGEST_PAUSE = 120.0  # seconds: a 429 that asks for more ends the run, since cron can wait better than we can
LONGEST_GUESS = 60.0  # a 429 that does not say for how long: 1 s, doubled each time, up to this


class Pauses:
    """How long the pauses are, and when they have become too long."""

    def __init__(self) -> None:
        self._limited_since: float | None = None  # nothing but 429
        self._guesses = 0

    def over(self) -> None:
        """The endpoint answered something else."""
        self._limited_since = None

    def answered(self) -> None:
        self._limited_since = None
        self._guesses = 0

    def ask(self, seconds: float | None, now: float, *, paused_already: bool) -> float | Stop:
        """How long to pause, or why the run ends. None: the endpoint does not say for how long."""
        if self._limited_since is None:
            self._limited_since = now
        if seconds is None:
            if paused_already:
                return 0.0  # this call began before the pause
            seconds = min(LONGEST_GUESS, 2.0**self._guesses)
            self._guesses = min(self._guesses + 1, 6)
        if seconds > LONGEST_PAUSE:
            return Stop(LATER, f"the endpoint's limit is reached: it asks to wait {seconds:.0f} s; run again then")
        limited = now - self._limited_since
        if limited > PATIENCE:
            return Stop(LATER, f"the endpoint's limit is reached: nothing but 429 for {limited:.0f} s; run again later")
        return max(seconds, 0.05)
