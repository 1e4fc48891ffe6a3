"""What happened in a run: the counters, and the line that sums them up."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from llmstream import complain
from llmstream.values import Failure, Outcome

SHOWN = 10  # failures that get a line of their own; after that they are counted


@dataclass(slots=True)
class Counts:
    """One run's books: read = out + failed + kept + unasked."""

    read: int = 0
    out: int = 0
    failed: int = 0
    told: int = 0  # failures; that of a group is one
    kept: int = 0  # answered and in the done-file, but stdout had gone
    answered: int = 0  # records whose answer is known, printed or not
    unasked: int = 0  # read, and not asked because the run stopped
    replayed: int = 0
    calls: int = 0  # requests that were put to the endpoint
    tries: int = 0  # HTTP calls, further tries and askings counted
    names: list[str] = field(default_factory=list)  # of the first three failures
    began: float = field(default_factory=time.monotonic)

    def failure(self, outcome: Outcome, failure: Failure, *, talkative: bool, kept_in: str | None) -> None:
        """Count a failed record, or group of them, and name it while the names are few."""
        where = outcome.source.where
        self.told += 1
        self.failed += outcome.of
        if len(self.names) < 3:
            self.names.append(where)
        if self.told <= SHOWN or talkative:
            status = f" (HTTP {failure.status})" if failure.status and failure.status != 200 else ""
            complain.say(f"{where}: {failure.message}{status}")
        elif self.told == SHOWN + 1:
            where = f"they are in {kept_in}" if kept_in else "-e FILE keeps them"
            complain.say(f"further failures are counted, not shown; {where}")

    def too_many(self, most: tuple[float, str] | None, seen: int) -> str | None:
        """--max-errors: so many, or from the hundredth record on such a share. What is to be said then."""
        if most is None:
            return None
        limit, unit = most
        over = self.failed >= limit if not unit else seen >= 100 and self.failed * 100 > limit * seen
        return f"stopped: {self.failed} of {seen} records failed (--max-errors {limit:g}{unit})" if over else None

    def summary(self, usable: int | None) -> str:
        """The line at the end."""
        parts = self._parts()
        parts += [f"kept {self.kept}"] * bool(self.kept) + [f"unasked {self.unasked}"] * bool(self.unasked)
        of = f" (of {usable} in the file)" if usable else ""
        tries = f" in {self.tries} tries" if self.tries != self.calls else ""
        parts += [f"replayed {self.replayed}{of}", f"calls {self.calls}{tries}"]
        return ", ".join([*parts, self._time()])

    def books(self) -> str:
        """The same where nobody was asked."""
        left = self.read - self.out - self.failed
        return ", ".join([*self._parts(), *[f"unfinished {left}"] * bool(left), self._time()])

    def _parts(self) -> list[str]:
        more = ", ..." if self.failed > len(self.names) else ""
        failed = f"failed {self.failed}" + (f" ({', '.join(self.names)}{more})" if self.names else "")
        return [f"read {self.read}", f"out {self.out}", failed]

    def _time(self) -> str:
        return f"{time.monotonic() - self.began:.1f} s"
