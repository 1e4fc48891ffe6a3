"""From stdin to stdout where nobody is asked: no calls, so no loop, no threads and nothing to drain."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any, Protocol

from llmstream.books import log, summary
from llmstream.books.events import Events
from llmstream.records import reading
from llmstream.records.values import BadLine, Failure, Outcome, Reader, Record
from llmstream.shell import files, messages
from llmstream.shell.messages import CANNOT_WRITE, FIX_FIRST, Stop, say, warn, why

BATCH = 256 << 10  # bytes that are gathered before they are written, while there is more to read


class Sink(Protocol):
    """What a record goes through on its way out."""

    def put(self, line: bytes) -> bytes | Failure: ...

    def end(self) -> Iterable[bytes]: ...


class Fold(Protocol):
    """What a tool does with the records."""

    def take(self, record: Record) -> Iterable[Outcome]: ...  # what is ready with this one

    def rest(self) -> Iterable[Outcome]: ...  # at the end of the input

    def lines(self) -> list[str]: ...  # what the tool has to say at the end

    def told(self) -> dict[str, Any]: ...  # the same for programs


def run(
    o: SimpleNamespace,
    names: list[str],
    fold: Fold,
    source: Callable[[str], Reader] | None = None,
    sink: Sink | None = None,
) -> int:
    """Run a tool over its input; the exit status. Without more, records are read and written a line each."""
    gc.disable()  # records are trees, which need no collector; it would look through all that are held, again and again
    flow = _Flow(o, names, source or (lambda name: reading.Source(name, raw_text=o.raw_input)), sink)
    flow.note_start()
    try:
        for record in flow.records():
            flow.counts.read += 1
            flow.emit([_bad(record)] if isinstance(record, BadLine) else fold.take(record))
        flow.emit(fold.rest())
        flow.end()
    except Stop as stop:
        say(stop.reason)
        with contextlib.suppress(Stop):  # one of these is enough
            flow.end() if stop.status == 1 else flow.flush()
        return flow.sum_up(stop.status, stop.reason, fold)
    return flow.sum_up(1 if flow.counts.failed else 0, None, fold)


def _bad(line: BadLine) -> Outcome:
    return Outcome(line, failure=Failure("input", line.why))


class _Flow:
    """The streams of a run, and its books."""

    def __init__(
        self, o: SimpleNamespace, names: list[str], source: Callable[[str], Reader], sink: Sink | None
    ) -> None:
        self._o = o
        self._source = source
        self._sink = sink
        self._names = names
        taken = files.check(o, names)
        self._errors = files.Errors(o.errors, taken) if o.errors else None
        self._gathered: list[bytes] = []
        self._size = 0
        self.events = Events(log.Log(o.log, taken) if o.log else None)
        self._summary = summary.File(o.summary) if o.summary else None
        self.counts = self.events.counts

    def note_start(self) -> None:
        self.events.start(done=None, usable=None, files=self._names, models=[], options=log.options(self._o))

    # -- in

    def records(self) -> Iterator[Record | BadLine]:
        for name in self._names:
            source = self._source(name)
            for chunk in self._chunks(name):
                yield from source.feed(chunk)
            yield from source.end()

    def _chunks(self, name: str) -> Iterator[bytes]:
        self.flush()  # a FIFO without a writer can be waited for, with what came before it already out
        try:
            fd = 0 if name == "-" else os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            while chunk := self._read(fd):
                yield chunk
            if fd:
                os.close(fd)
        except OSError as error:
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
            out = self._sink.put(outcome.out) if self._sink else outcome.out
            if isinstance(out, Failure):
                self._failed(outcome, out)
                continue
            self.counts.out += outcome.of
            self._write(out)

    def _write(self, out: bytes) -> None:
        if out:
            self._gathered.append(out)
        self._size += len(out)
        if self._size >= BATCH:
            self.flush()

    def end(self) -> None:
        for out in self._sink.end() if self._sink else ():
            self._write(out)
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

    def _failed(self, outcome: Outcome, failure: Failure) -> None:
        o, counts = self._o, self.counts
        self.events.failed(outcome, failure, talkative=o.verbose, kept_in=o.errors)
        if self._errors:
            for source in (outcome.source, *outcome.others):
                self._errors.put(source, failure)
        if told := counts.too_many(o.max_errors, counts.out + counts.failed):
            raise Stop(1, told)

    # -- the end

    def sum_up(self, status: int, stopped: str | None, fold: Fold) -> int:
        lines = [summary.books(self.counts), *fold.lines()]
        told = summary.told(self.events, status, stopped, **fold.told())
        self.events.write("INFO", "run_summary", lines[0], **told)
        self.events.close()
        if self._summary:
            self._summary.write(told)
        for line in lines if status in (0, 1) else ():
            warn(line)
        return status
