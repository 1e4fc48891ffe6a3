"""From stdin to stdout where nobody is asked: no calls, so no loop, no threads and nothing to drain."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Protocol

from llmstream import complain, files, records
from llmstream.complain import CANNOT_WRITE, FIX_FIRST, Stop, say, warn, why
from llmstream.events import Counts
from llmstream.values import BadLine, Failure, Outcome, Record

BATCH = 256 << 10  # bytes that are gathered before they are written, while there is more to read


class Fold(Protocol):
    """What a tool does with the records."""

    def take(self, record: Record) -> Iterable[Outcome]: ...  # what is ready with this one

    def rest(self) -> Iterable[Outcome]: ...  # at the end of the input

    def lines(self) -> list[str]: ...  # what the tool has to say at the end


def run(o: SimpleNamespace, names: list[str], fold: Fold) -> int:
    """Run a tool over its input; the exit status."""
    flow = _Flow(o, names)
    for source in flow.records():
        flow.counts.read += 1
        flow.emit([_bad(source)] if isinstance(source, BadLine) else fold.take(source))
    flow.emit(fold.rest())
    flow.flush()
    for line in (flow.counts.books(), *fold.lines()):
        warn(line)
    return 1 if flow.counts.failed else 0


def _bad(line: BadLine) -> Outcome:
    return Outcome(line, failure=Failure("input", line.why))


class _Flow:
    """The streams of a run, and its books."""

    def __init__(self, o: SimpleNamespace, names: list[str]) -> None:
        self._o = o
        self._names = names
        inputs = files.check(o, names)
        self._errors = files.Errors(o.errors, inputs) if o.errors else None
        self._gathered: list[bytes] = []
        self._size = 0
        self.counts = Counts()

    # -- in

    def records(self) -> Iterator[Record | BadLine]:
        for name in self._names:
            source = records.Source(name, raw_text=self._o.raw_input)
            for chunk in self._chunks(name):
                yield from source.feed(chunk)
            yield from source.end()

    def _chunks(self, name: str) -> Iterator[bytes]:
        try:
            fd = 0 if name == "-" else os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            while chunk := self._read(fd):
                yield chunk
            if fd:
                os.close(fd)
        except OSError as error:
            self.flush()
            raise Stop(FIX_FIRST, f"cannot read {'stdin' if name == '-' else name}: {why(error)}") from None

    def _read(self, fd: int) -> bytes:
        if self._gathered and not select.select([fd], [], [], 0)[0]:
            self.flush()  # whoever reads us is not to wait for what we wait for
        return files.read(fd)

    # -- out

    def emit(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            if outcome.failure:
                self._failed(outcome, outcome.failure)
                continue
            self.counts.out += outcome.of
            self._gathered.append(outcome.out)
            self._size += len(outcome.out)
            if self._size >= BATCH:
                self.flush()

    def flush(self) -> None:
        data = b"".join(self._gathered)
        self._gathered, self._size = [], 0
        try:
            while data:
                data = data[files.write(1, data) :]
        except OSError as error:
            if isinstance(error, BrokenPipeError) and not complain.sigpipe_was_ignored():
                complain.die_by(signal.SIGPIPE)
            raise Stop(CANNOT_WRITE, f"cannot write stdout: {why(error)}") from None

    def _failed(self, outcome: Outcome, failure: Failure) -> None:
        o, counts = self._o, self.counts
        counts.failure(outcome, failure, talkative=o.verbose, kept_in=o.errors)
        if self._errors:
            for source in (outcome.source, *outcome.others):
                self._errors.put(source, failure)
        if told := counts.too_many(o.max_errors, counts.out + counts.failed):
            self.flush()
            say(told)
            warn(counts.books())
            raise SystemExit(1)
