"""How well the endpoint answers of late, and so how many calls it is given at once."""

from __future__ import annotations


class Health:
    """All of the jobs while things go well, as few as a single probe while nothing is answered."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._answered = 1.0  # the share of calls
        self._missed = 0.0  # the share of first tries that failed
        self._step = min(0.25, 4 / jobs)

    def improve(self, *, first_try: bool) -> None:
        """A call was answered."""
        self._answered += (1 - self._answered) * self._step
        if first_try:
            self._missed -= self._missed / 64

    def decline(self, *, first_try: bool) -> None:
        """A call was not answered, or not served."""
        self._answered -= self._answered * self._step
        if first_try:
            self._missed += (1 - self._missed) / 64

    @property
    def width(self) -> int:
        """How many calls may be in flight: fewer while more than a tenth of them fail."""
        return self._jobs if self._answered > 0.9 else max(1, int(self._jobs * self._answered))

    @property
    def flaky(self) -> bool:
        """Do more than a tenth of the requests fail at the first try? Then bad luck alone may fail one often."""
        return self._missed > 0.1
