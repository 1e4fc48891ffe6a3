"""The books of a run: its counts, its log, its failed records and its summary, opened at the start and closed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from llmstream.books import log, summary
from llmstream.books.events import Events
from llmstream.books.summary import Totals
from llmstream.records.values import Failure, Outcome
from llmstream.shell import files
from llmstream.shell.messages import Stop
from llmstream.shell.named_files import Identity

MaxErrors = tuple[float, str]  # how many; or how many of a hundred, with "%"


class Keeping(NamedTuple):
    """What is kept of a run, and where: options of these names."""

    errors: str | None
    log: str | None
    summary: str | None
    max_errors: MaxErrors | None
    verbose: bool
    options: Mapping[str, Any]  # all of them, for the log


class Books:
    """Told of every record; says at the end what the run came to."""

    def __init__(self, keeping: Keeping, taken: set[Identity]) -> None:
        self._keeping = keeping
        self._errors = files.Errors(keeping.errors, taken) if keeping.errors else None
        self.events = Events(log.Log(keeping.log, taken) if keeping.log else None)
        self.counts = self.events.counts
        self._summary = summary.File(keeping.summary) if keeping.summary else None

    def open(
        self, names: Sequence[str], models: Sequence[str] = (), done: str | None = None, usable: int | None = None
    ) -> None:
        """The run starts."""
        options = log.discreet_options(self._keeping.options)
        self.events.start(done=done, usable=usable, files=list(names), models=list(models), options=options)

    def arrived(self, outcome: Outcome) -> None:
        """What became of a record is known, though it may leave later. Stop: too many have failed."""
        counts, failure = self.counts, outcome.failure
        if failure and failure.unasked:
            return
        counts.finished += outcome.of
        if outcome.value:
            counts.answered += outcome.of
        if failure:
            counts.failing += outcome.of
            if reason := counts.too_many(self._keeping.max_errors):
                raise Stop(1, reason)

    def passed(self, outcome: Outcome) -> None:
        """A record, or a group of them, goes to stdout."""
        self.counts.passed += outcome.of
        if outcome.replayed:
            self.events.replayed(outcome)

    def failed(self, outcome: Outcome, failure: Failure) -> None:
        """A record, or a group of them, goes to the errors file. Stop: that cannot be written."""
        keeping = self._keeping
        self.events.failed(outcome, failure, talkative=keeping.verbose, kept_in=keeping.errors)
        if self._errors:
            errors, self._errors = self._errors, None  # after a failed write there is no other
            for source in (outcome.source, *outcome.others):
                errors.put(source, failure)
            self._errors = errors

    def close(self, status: int, stopped: str | None, lines: Sequence[str], totals: Mapping[str, Totals]) -> list[str]:
        """What is to be said at the end. lines: what the run itself came to; totals: what was counted besides."""
        said = [*lines, *(line for one in totals.values() for line in one.as_lines())]
        for_programs = summary.as_dict(self.events, status, stopped)
        for_programs |= {name: one.as_dict() for name, one in totals.items()}
        self.events.write("INFO", "run_summary", said[0], **for_programs)
        self.events.close()
        if self._summary:
            self._summary.write(for_programs)
        return said
