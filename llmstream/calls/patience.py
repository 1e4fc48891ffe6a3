"""How long to bear with an endpoint that does not answer, and when it is to blame rather than the request."""

from __future__ import annotations

from llmstream.records.words import brief
from llmstream.shell.messages import FIX_FIRST, LATER, Stop

FIRST_PATIENCE = 20.0  # seconds: an endpoint that never answered may be a wrong address
PATIENCE = 300.0  # one that did answer is probably on its way back
SAME_REFUSAL = 8  # so many first calls refused in the same way: it is not the records
LULL = 90.0  # longer than anyone waits for a further try: nobody was trying


class Patience:
    """What the endpoint has said, and for how long it has said nothing."""

    def __init__(self, jobs: int) -> None:
        self.endpoint_has_answered = False
        self._jobs = jobs
        self._silent_since: float | None = None
        self._troubled_at = 0.0
        self._new_failures = 0  # requests that failed at their first try since the last answer
        self._lasts = True
        self._refusals: list[str] = []

    def answered(self) -> None:
        self.endpoint_has_answered = True
        self._silent_since = None
        self._new_failures = 0
        self._refusals.clear()

    def said_something(self) -> None:
        """No answer, but no silence either."""
        self._silent_since = None

    def refused(self, message: str) -> Stop | None:
        """A 4xx that is this record's own fault, unless every record has it."""
        self._silent_since = None
        if self.endpoint_has_answered:
            return None
        self._refusals = [*self._refusals, message] if message in self._refusals else [message]
        if len(self._refusals) < SAME_REFUSAL:
            return None
        return Stop(FIX_FIRST, f"cannot ask anything: the first {SAME_REFUSAL} calls all failed: {message}")

    def troubled(self, reason: str, now: float, *, first_try: bool, work_waits: bool) -> Stop | None:
        """A call that nobody answered. work_waits: this silence keeps something from being done."""
        self._new_failures += first_try
        self._troubled_at = now
        if self._silent_since is None:
            self._silent_since = now
        silent = self.silence(now)
        limit = PATIENCE if self.endpoint_has_answered else FIRST_PATIENCE
        # A few that failed before, and nothing else left to do: they may be the trouble, and their tries count again.
        enough = 4 * self._jobs
        self._lasts = silent <= (limit if work_waits or self._new_failures >= enough else FIRST_PATIENCE)
        if silent <= limit or not work_waits:
            return None
        return Stop(LATER, f"cannot reach the endpoint for {silent:.0f} s: {brief(reason)}; run again later")

    def silence(self, now: float) -> float:
        """Seconds since the endpoint fell silent."""
        return 0.0 if self._silent_since is None else now - self._silent_since

    def blames_endpoint(self, *, certain: bool) -> bool:
        """Is the endpoint, and not the request, to blame? Certain: no request can be.

        Otherwise more than one has to say so, and those that fail for the first time: at the
        end of a run the requests that always fail are among themselves.
        """
        if self._silent_since is None or not self._lasts:
            return False
        return certain or self._new_failures >= 3

    def forget_old_trouble(self, now: float) -> None:
        """Input that comes once an hour: what failed an hour ago is no silence of an hour."""
        if self._silent_since is not None and now - self._troubled_at > LULL:
            self._silent_since, self._new_failures = None, 0
