"""From stdin to stdout where nobody is asked: no calls, so no loop, no threads and nothing to drain."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from llmstream.books import summary
from llmstream.books.books import Books, Keeping
from llmstream.books.summary import Totals
from llmstream.records.values import BadLine, Failure, Outcome, Record
from llmstream.shell import files, messages, neighbours
from llmstream.shell.files import Streams
from llmstream.shell.messages import CANNOT_WRITE, FIX_FIRST, Stop, say, warn, why
from llmstream.stream.reading import Reading, records_in
from llmstream.stream.sink import Sink

BATCH = 256 << 10  # bytes that are gathered before they are written, while there is more to read


class Work(Protocol):
    """What a tool does with the records."""

    def take(self, record: Record) -> Iterable[Outcome]: ...  # what is ready with this one

    def rest(self) -> Iterable[Outcome]: ...  # at the end of the input


class Writer(Protocol):
    """What a line goes through on its way out."""

    def put(self, line: bytes) -> bytes | Failure: ...

    def end(self) -> Iterable[bytes]: ...


class Plan(NamedTuple):
    """What a run needs to know of its command line."""

    streams: Streams
    reading: Reading
    keeping: Keeping


def run(plan: Plan, work: Work, writer: Writer | None = None, totals: Mapping[str, Totals] | None = None) -> int:
    """Run a tool over its input; the exit status. totals: what the tool itself counts."""
    gc.disable()  # records are trees, which need no collector; it would look through all that are held, again and again
    downstream = neighbours.Pipe(1, "w")
    upstream = neighbours.Pipe(0, "r") if "-" in plan.reading.files else None
    taken = files.check(plan.streams, plan.reading.files)
    books = Books(plan.keeping, taken)
    books.open(plan.reading.files)
    output = _Output(writer)
    try:
        _pass_all(plan.reading, work, books, output, upstream)
    except Stop as stop:
        say(stop.reason)
        with contextlib.suppress(Stop):  # one of these is enough
            output.end() if stop.status == 1 else output.flush()
        return _close(books, stop.status, stop.reason, totals or {})
    downstream.end_well()
    return _close(books, 1 if books.counts.failed else 0, None, totals or {})


def _pass_all(reading: Reading, work: Work, books: Books, output: _Output, upstream: neighbours.Pipe | None) -> None:
    sink = Sink(books, output.put)
    counts = books.counts

    def deliver(outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            formatted = output.formatted(outcome)
            sink.put(formatted)
            books.arrived(formatted)
        counts.out = counts.passed

    for record in _records(reading, output, upstream):
        counts.read += 1
        if isinstance(record, BadLine):
            deliver([Outcome(record, failure=Failure("input", record.why))])
        else:
            deliver(work.take(record))
    deliver(work.rest())
    output.end()


def _close(books: Books, status: int, stopped: str | None, totals: Mapping[str, Totals]) -> int:
    lines = books.close(status, stopped, [summary.books(books.counts)], totals)
    for line in lines if status in (0, 1) else ():
        warn(line)
    return status


# -- in -------------------------------------------------------------------------------------------


def _records(reading: Reading, output: _Output, upstream: neighbours.Pipe | None) -> Iterator[Record | BadLine]:
    for name in reading.files:
        reader = reading.open_reader(name)
        for chunk in _chunks(name, output):
            yield from records_in(reader, chunk)
        early = neighbours.early_end(upstream) if name == "-" else None
        if early:
            raise early
        yield from records_in(reader, None)


def _chunks(name: str, output: _Output) -> Iterator[bytes]:
    output.flush()  # a FIFO without a writer can be waited for, with what came before it already out
    try:
        fd = 0 if name == "-" else os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        while chunk := _read(fd, output):
            yield chunk
        if fd:
            os.close(fd)
    except OSError as error:
        raise Stop(FIX_FIRST, f"cannot read {'stdin' if name == '-' else name}: {why(error)}") from None


def _read(fd: int, output: _Output) -> bytes:
    if output.holds_something and not select.select([fd], [], [], 0)[0]:
        output.flush()  # whoever reads us is not to wait for what we wait for
    return files.read(fd)


# -- out ------------------------------------------------------------------------------------------


class _Output:
    """Gathers what goes to stdout, in the format that it has there."""

    def __init__(self, writer: Writer | None) -> None:
        self._writer = writer
        self._gathered: list[bytes] = []
        self._size = 0

    @property
    def holds_something(self) -> bool:
        return bool(self._gathered)

    def formatted(self, outcome: Outcome) -> Outcome:
        """The outcome as it goes out, or why it cannot."""
        if outcome.failure or not self._writer:
            return outcome
        line = self._writer.put(outcome.out)
        return outcome._replace(failure=line) if isinstance(line, Failure) else outcome._replace(out=line)

    def put(self, outcome: Outcome) -> None:
        self._gather(outcome.out)

    def end(self) -> None:
        for line in self._writer.end() if self._writer else ():
            self._gather(line)
        self.flush()

    def flush(self) -> None:
        data = b"".join(self._gathered)
        self._gathered, self._size = [], 0
        try:
            while data:
                data = data[files.write(1, data) :]
        except OSError as error:
            if isinstance(error, BrokenPipeError) and not messages.sigpipe_was_ignored():
                messages.die_by(signal.SIGPIPE)
            raise Stop(CANNOT_WRITE, f"cannot write stdout: {why(error)}") from None

    def _gather(self, line: bytes) -> None:
        if line:
            self._gathered.append(line)
        self._size += len(line)
        if self._size >= BATCH:
            self.flush()
