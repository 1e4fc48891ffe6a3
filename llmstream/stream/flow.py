"""From stdin to stdout: bounded, drained on a signal, every record accounted for.

The only file that knows pypeln. A tool gives two functions: begin makes of a record either
its outcome (it failed, or it is in the done-file) or a job; finish turns a job into an
outcome, with calls. Only jobs go through pypeln, so a replay costs next to nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
import time
import types
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

from llmstream.books import log, progress, summary
from llmstream.books.events import Events
from llmstream.books.labels import Labels
from llmstream.calls.ask import Ask, Policy
from llmstream.calls.limits import Limits
from llmstream.calls.prices import Prices
from llmstream.done.done_file import DoneFile
from llmstream.records import exact, reading
from llmstream.records.values import NOT_STARTED, BadLine, Failure, Outcome, Reader, Record
from llmstream.shell import files, messages, named_files
from llmstream.shell.messages import CANNOT_WRITE, FIX_FIRST, Stop, say, warn, why
from llmstream.shell.standard_streams import Input, Output

UNDER_WAY = 4  # calls for each slot: who waits for a further try holds none
WINDOW = 32 << 20  # bytes that -k may hold back, and
WINDOW_RECORDS = 16  # records for each slot that it may always hold back
LAST_WORDS = 1.0  # seconds for what is held back to go out when the drain has ended
SAME_SIGNAL = 0.3  # seconds in which a second signal is the first one again
BREATH = 256  # records of a long replay, then the calls get their turn
OVERHEAD = 400  # bytes that a held outcome costs beside its own


class Work(Protocol):
    """What a tool does with a record."""

    at_once: int  # calls that a job makes side by side

    def take(self, record: Record) -> Iterable[Any]: ...  # what is ready with it: Outcomes, and jobs for finish

    def rest(self) -> Iterable[Any]: ...  # the same at the end of the input

    async def finish(self, job: Any) -> Outcome: ...

    def lines(self) -> list[str]: ...  # what the tool has to say at the end

    def told(self) -> dict[str, Any]: ...  # the same for programs


class Settings(NamedTuple):
    """What the flow has to know of a tool and its command line."""

    options: SimpleNamespace
    files: list[str]  # "-" is stdin
    models: Sequence[str]
    check: Callable[[Any], str | None] | None  # of an answer
    labels: Labels | None  # to be counted in the answers
    load: Callable[[], None]  # what calls will want
    connect: Callable[[], Any]  # opens the way to the endpoint, at the first call
    prices: Prices
    source: Callable[[str], Reader] | None = None  # reads a file; without one, records a line each


def run(settings: Settings, work: Callable[[Ask], Work]) -> int:
    """Run a tool over its input; the exit status, unless it dies by a signal."""
    o = settings.options
    taken = files.check(o, settings.files)
    done = DoneFile(o.done) if o.done else None
    if done:
        named_files.claim(f"done-file {o.done}", done.fd, taken)
    errors = files.Errors(o.errors, taken) if o.errors else None
    events = Events(log.Log(o.log, taken) if o.log else None)
    told = summary.File(o.summary) if o.summary else None
    if not (done and done.usable) and not o.offline:  # there will be calls
        settings.prices.start()
        settings.load()  # a stage of a pipe has nothing to read yet
    loop = asyncio.new_event_loop()
    gc.set_threshold(50_000, 20, 100)  # thousands of tasks come and go: at the default a third of the time goes here
    flow = _Flow(settings, done, errors, events, loop)
    status = loop.run_until_complete(flow.main(work))
    settings.prices.close()
    flow.sum_up(status, told)
    if flow.signal:
        messages.die_by(flow.signal)
    return status


# -- the run ------------------------------------------------------------------------------------


class _Flow:
    """One run: its streams, its limits, its books."""

    def __init__(
        self,
        settings: Settings,
        done: DoneFile | None,
        errors: files.Errors | None,
        events: Events,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.options = settings.options
        self.settings = settings
        self.done = done
        self.errors = errors
        self.events = events
        self.counts = events.counts
        self.labels = settings.labels
        self.limits = Limits(self.options.jobs, time.monotonic)
        self.status = progress.Status(messages.tool, events, self._position)
        self.signal: int | None = None
        self._signalled_at = 0.0
        self._order = _Order(self.options.jobs) if self.options.keep_order else None
        self._repeat_told = False
        self._bytes_read = 0
        self._size = files.size(settings.files)
        self._sigpipe_ignored = messages.sigpipe_was_ignored()
        loop.set_exception_handler(self._background_died)

    async def main(self, make: Callable[[Ask], Work]) -> int:
        """Read, work, write until the input ends, or until the drain after a stop has."""
        self.input = Input()
        self.out = Output(1, self._stdout_trouble)
        self.ask = self._make_ask()
        self.work = make(self.ask)
        stopped = asyncio.Event()
        self.limits.on_stop += [stopped.set, self.input.stop, self._say_why]
        self.limits.on_pause.append(self.events.limited)
        self.limits.on_width.append(self.events.width)
        self._catch_signals()
        self._note_start()
        everything = asyncio.ensure_future(self._everything())
        deadline = asyncio.ensure_future(self._deadline(stopped))
        showing = asyncio.ensure_future(self._show()) if progress.wanted(self.options) else None
        await asyncio.wait({everything, deadline}, return_when=asyncio.FIRST_COMPLETED)
        if showing:
            showing.cancel()
            self.status.clear()
        if everything.done() and (error := everything.exception()):
            self._bug(error)
        return self._status()

    def _make_ask(self) -> Ask:
        o = self.options
        policy = Policy(o.retries, o.reask, o.once, o.offline, o.share, o.max_cost)
        settings = self.settings
        return Ask(policy, settings.check, self.done, self.limits, self.events, settings.connect, settings.prices)

    def _note_start(self) -> None:
        done = self.done
        self.events.start(
            done=os.path.realpath(done.path) if done else None,
            usable=done.usable if done else None,
            files=self.settings.files,
            models=list(self.settings.models),
            options=log.options(self.options),
        )

    async def _everything(self) -> None:
        jobs = self.options.jobs
        workers = max(2, UNDER_WAY * jobs // self.work.at_once)
        await _pypeln().each(self._finish, self._jobs(), workers=workers, maxsize=jobs)
        await self.out.flush()
        await self.ask.close()

    async def _show(self) -> None:
        while True:
            await asyncio.sleep(self.status.every)
            self.status.show()

    async def _deadline(self, stopped: asyncio.Event) -> None:
        """What is in flight after a stop may take so long; without a place to keep it, no time at all."""
        await stopped.wait()
        if self.out.trouble is None or self.done:
            limit = self.options.timeout if self.options.drain is None else self.options.drain
            await asyncio.sleep(limit)
            with contextlib.suppress(TimeoutError):  # of a stdout that nobody reads
                async with asyncio.timeout(LAST_WORDS):
                    for outcome in self._order.all_held() if self._order else []:
                        self._emit(outcome)
                    await self.out.flush()

    # -- in

    async def _jobs(self) -> AsyncIterator[tuple[int, Record | BadLine, Any]]:
        """The records that have to be asked. The others go straight to the output."""
        turn = 0
        try:
            async for batch in self._batches():
                for source, ready in batch:
                    if self._order:
                        await self._order.room(turn)
                    if isinstance(ready, Outcome):
                        await self._deliver(turn, ready)
                        if turn % BREATH == 0:
                            await asyncio.sleep(0)
                    else:
                        yield turn, source, ready
                    turn += 1
        except Stop as reason:
            self.limits.stop(reason)
        except Exception as error:  # noqa: BLE001 - pypeln would wrap it; it is told in our own way
            self._bug(error)

    async def _batches(self) -> AsyncIterator[Iterator[tuple[Record | BadLine, Any]]]:
        """What the tool makes of the records: outcomes and jobs, each with the record that brought it."""
        last: Record | BadLine = BadLine(b"", "the end of the input", "")
        async for sources in self._records():
            if sources:
                last = sources[-1]
                yield self._taken(sources)
        if not self.limits.stopped:
            yield ((last, ready) for ready in self.work.rest())

    def _taken(self, sources: Sequence[Record | BadLine]) -> Iterator[tuple[Record | BadLine, Any]]:
        """One record is taken when those before it are on their way."""
        for source in sources:
            if self.limits.stopped:
                return
            self.counts.read += 1
            for ready in self._take(source):
                yield source, ready

    def _take(self, source: Record | BadLine) -> Iterable[Any]:
        if isinstance(source, BadLine):
            return [Outcome(source, failure=Failure("input", source.why))]
        if not self._repeat_told and exact.repeats_a_key(source.line, source.data):
            self._repeat_told = True
            warn(f"{source.where}: a field stands twice in one object; the last one counts")
        return self.work.take(source)

    async def _records(self) -> AsyncIterator[Sequence[Record | BadLine]]:
        """The records of all files, as many at once as a read brought."""
        for name in self.settings.files:
            make = self.settings.source
            source = make(name) if make else reading.Source(name, raw_text=self.options.raw_input)
            async for chunk in self._chunks(name):
                yield source.feed(chunk)
            if not self.limits.stopped:
                yield source.end()

    async def _chunks(self, name: str) -> AsyncIterator[bytes]:
        fd: int | None = 0
        try:
            if name != "-":
                fd = await self.input.open(name)
            while fd is not None and (chunk := await self.input.read(fd)):
                self._bytes_read += len(chunk)
                yield chunk
        except OSError as error:
            shown = "stdin" if name == "-" else name
            self.limits.stop(Stop(FIX_FIRST, f"cannot read {shown}: {why(error)}"))
        finally:
            if fd:
                os.close(fd)

    def _position(self) -> float | None:
        return min(1.0, self._bytes_read / self._size) if self._size else None

    # -- the work

    async def _finish(self, job: tuple[int, Record | BadLine, Any]) -> None:
        """A worker never raises: pypeln would drop its record without a word."""
        turn, source, begun = job
        try:
            outcome = await self.work.finish(begun)
        except Stop as reason:
            self.limits.stop(reason)
            outcome = Outcome(source, failure=NOT_STARTED)
        except Exception as error:  # noqa: BLE001 - see above
            self._bug(error)
            outcome = Outcome(source, failure=Failure("bug", f"a bug: {type(error).__name__}"))
        try:
            await self._deliver(turn, outcome)
        except Exception as error:  # noqa: BLE001 - see above
            self._bug(error)

    # -- out

    async def _deliver(self, turn: int, outcome: Outcome) -> None:
        self.counts.answered += outcome.of * (outcome.failure is None)
        if self._order:
            for ready in self._order.put(turn, outcome):
                self._emit(ready)
        else:
            self._emit(outcome)
        await self.out.room()

    def _emit(self, outcome: Outcome) -> None:
        failure = outcome.failure
        if failure is None:
            if outcome.replayed:
                self.events.replayed(outcome)
            if self.labels and outcome.value:
                self.labels.add(exact.loads(outcome.value))
            self.out.put(outcome.out, outcome.of)
        elif failure.type != "stopped":
            self.events.failed(outcome, failure, talkative=self.options.verbose, kept_in=self.options.errors)
            for source in (outcome.source, *outcome.others):
                self._write_error(source, failure)
            counts = self.counts
            if told := counts.too_many(self.options.max_errors, self.out.taken + counts.failed):
                self.limits.stop(Stop(1, told))

    def _write_error(self, source: Record | BadLine, failure: Failure) -> None:
        if self.errors is None:
            return
        try:
            self.errors.put(source, failure)
        except Stop as reason:
            self.errors = None
            self.limits.stop(reason)

    # -- trouble

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, and a shell's background jobs
                loop.add_signal_handler(number, self._signalled, number)
        loop.add_signal_handler(signal.SIGUSR1, self._say_status)

    def _signalled(self, number: int) -> None:
        """Stop, and on a further signal at once. A terminal that closes and timeout(1) both signal twice: what
        comes right behind the first is the same one."""
        now = time.monotonic()
        if self.signal not in (None, signal.SIGPIPE):
            if now - self._signalled_at < SAME_SIGNAL:
                return
            self.status.clear()
            messages.die_by(number)
        self.signal, self._signalled_at = number, now
        name = signal.Signals(number).name
        self.limits.stop(Stop(128 + number, f"{name}: finishing what is in flight; the same again stops at once"))

    def _stdout_trouble(self, error: OSError) -> None:
        if isinstance(error, BrokenPipeError) and not self._sigpipe_ignored:
            self.signal = self.signal or signal.SIGPIPE
            self.limits.stop(Stop(128 + signal.SIGPIPE, ""))
        else:
            self.limits.stop(Stop(CANNOT_WRITE, f"cannot write stdout: {why(error)}"))

    def _say_why(self) -> None:
        stop = self.limits.stopped
        if stop and stop.reason and (self.signal is None or not messages.quiet):
            say(stop.reason)

    def _background_died(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, Exception):
            self._bug(error)

    def _bug(self, error: BaseException) -> None:
        self.limits.stop(Stop(1, messages.bug(error)))

    # -- the end

    def _status(self) -> int:
        counts = self.counts
        counts.out = self.out.written
        missing = counts.read - counts.out - counts.failed
        if missing and not self.limits.stopped:
            say(f"a bug: {missing} records went in and did not come out")
            return 1
        counts.kept = min(missing, counts.answered - counts.out) if self.done else 0
        counts.unasked = missing - counts.kept
        if self.limits.stopped:
            return self.limits.stopped.status
        return 1 if counts.failed else 0

    def _summary(self) -> list[str]:
        self.counts.out = self.out.written
        return summary.lines(self.events, self.done.usable if self.done else None, self.options.max_cost)

    def _say_status(self) -> None:
        for line in self._summary():
            say(line)

    def sum_up(self, status: int, file: summary.File | None) -> None:
        labels = self.labels
        stopped = self.limits.stopped
        lines = [*self._summary(), *(labels.lines() if labels else []), *self.work.lines()]
        told = {**({"labels": labels.told()} if labels else {}), **self.work.told()}
        told = summary.told(self.events, status, stopped.reason if stopped else None, **told)
        self.events.write("INFO", "run_summary", lines[0], **told)
        self.events.close()
        if file:
            file.write(told)
        if self.signal != signal.SIGPIPE:
            for line in lines:
                warn(line)


class _Order:
    """Input order: outcomes wait here until all before them have gone out."""

    def __init__(self, jobs: int) -> None:
        self._least = WINDOW_RECORDS * jobs
        self._held: dict[int, Outcome] = {}
        self._size = 0
        self._next = 0
        self._moved = asyncio.Event()

    async def room(self, turn: int) -> None:
        """Wait until a record may be read: the window has a place for it."""
        while turn - self._next >= self._least and self._size >= WINDOW:
            self._moved.clear()
            await self._moved.wait()

    def put(self, turn: int, outcome: Outcome) -> list[Outcome]:
        """Hold an outcome; all that may go out now."""
        self._held[turn] = outcome
        self._size += len(outcome.out) + OVERHEAD
        ready = []
        while (first := self._held.pop(self._next, None)) is not None:
            ready.append(first)
            self._size -= len(first.out) + OVERHEAD
            self._next += 1
        if ready:
            self._moved.set()
        return ready

    def all_held(self) -> list[Outcome]:
        return [self._held[turn] for turn in sorted(self._held)]


def _pypeln() -> Any:
    """pypeln.task. The other parts, not used here, take twice its time to import, and stopit with them, which asks
    setuptools for a module that current ones no longer have; empty stand-ins spare all that."""
    for name in ("process", "sync", "thread"):
        sys.modules.setdefault(f"pypeln.{name}", types.ModuleType(name))
    from pypeln import task

    return task
