"""From stdin to stdout with calls between: bounded, drained on a signal, every record accounted for.

The only file that knows pypeln. Only what has to be asked goes through it: a replay costs next to nothing.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from llmstream.books import summary
from llmstream.books.books import Books, Keeping
from llmstream.books.labels import Labels
from llmstream.books.progress import Progress, Showing
from llmstream.books.summary import Totals
from llmstream.calls.ask import Ask
from llmstream.calls.asking import Asking
from llmstream.done.done_file import DoneFile
from llmstream.shell import files, messages, named_files, neighbours
from llmstream.shell.files import Streams
from llmstream.shell.messages import say, warn
from llmstream.shell.standard_streams import Input, Output
from llmstream.shell.stop_switch import StopSwitch
from llmstream.stream.delivery import Delivery
from llmstream.stream.jobs import Jobs, Work
from llmstream.stream.order import AsTheyFinish, InputOrder, Window
from llmstream.stream.reader import RecordReader
from llmstream.stream.reading import Reading
from llmstream.stream.signals import Signals
from llmstream.stream.sink import Sink

UNDER_WAY = 4  # records for each slot: one that waits for a further try holds no slot
AHEAD = 4  # answers for each slot that may wait for the reader of stdout; and as many more are under way
LAST_WORDS = 1.0  # seconds for what has been answered to go out when the drain has ended


class Ending(NamedTuple):
    """How long calls in flight may take after a stop: options of these names."""

    drain: float | None
    timeout: float


class Plan(NamedTuple):
    """What a run needs to know of its command line."""

    streams: Streams
    reading: Reading
    done: str | None
    asking: Asking
    keeping: Keeping
    showing: Showing
    ending: Ending
    unordered: bool
    labels: Labels | None = None  # to be counted in the answers


def run(plan: Plan, make_work: Callable[[Ask], Work], totals: Mapping[str, Totals] | None = None) -> int:
    """Run a tool over its input; the exit status, unless it dies by a signal. totals: what the tool itself counts."""
    downstream = neighbours.Pipe(1, "w")
    upstream = neighbours.Pipe(0, "r") if "-" in plan.reading.files else None
    taken = files.check(plan.streams, plan.reading.files)
    done = DoneFile(plan.done) if plan.done else None
    if done:
        named_files.claim(f"done-file {done.path}", done.fd, taken)
    books = Books(plan.keeping, taken)
    if not (done and done.usable) and not plan.asking.policy.offline:  # there will be calls
        plan.asking.load()  # a stage of a pipe has nothing to read yet
    gc.set_threshold(50_000, 20, 100)  # thousands of tasks come and go: at the default a third of the time goes here
    loop = asyncio.new_event_loop()
    this = loop.run_until_complete(_started(plan, make_work, books, done, upstream))
    return this.end(totals or {}, downstream)


async def _started(
    plan: Plan, make_work: Callable[[Ask], Work], books: Books, done: DoneFile | None, upstream: neighbours.Pipe | None
) -> _Run:
    this = _Run(plan, make_work, books, done, upstream)
    await this.main()
    return this


class _Run:
    """One run."""

    def __init__(
        self,
        plan: Plan,
        make_work: Callable[[Ask], Work],
        books: Books,
        done: DoneFile | None,
        upstream: neighbours.Pipe | None,
    ) -> None:
        self._plan = plan
        self._books = books
        self._done = done
        self._switch = StopSwitch()
        reader = RecordReader(plan.reading, Input(), upstream, self._switch)
        self._progress = Progress(messages.tool, books.events, reader.share_read)
        self._signals = Signals(self._switch, self._progress.clear)
        self._ask = Ask(plan.asking, done, self._switch, books.events)
        work = make_work(self._ask)
        jobs = plan.asking.policy.jobs
        self._output = Output(1, AHEAD * jobs, self._signals.stdout_failed)
        order = AsTheyFinish() if plan.unordered else InputOrder()
        sink = Sink(books, self._output.put, plan.labels)
        delivery = Delivery(order, Window(jobs), sink, self._output, books, self._switch)
        no_more, bug = self._ask.no_more_is_coming, self._signals.bug
        self._jobs = Jobs(reader, work, delivery, books.counts, self._switch, no_more, bug)
        self._workers = max(2, UNDER_WAY * jobs // work.calls_at_once)

    async def main(self) -> None:
        """Read, work, write until the input ends, or until the drain after a stop has."""
        plan, done = self._plan, self._done
        self._signals.catch(self._say_status)
        path = os.path.realpath(done.path) if done else None
        self._books.open(plan.reading.files, plan.asking.models, path, done.usable if done else None)
        with self._progress.shown(plan.showing):
            everything = asyncio.ensure_future(self._everything())
            await self._until_it_ends(everything)
        if everything.done() and (error := everything.exception()):
            self._signals.bug(error)

    async def _everything(self) -> None:
        jobs = self._plan.asking.policy.jobs
        await _pypeln().each(self._jobs.finish, self._jobs.begin(), workers=self._workers, maxsize=jobs)
        await self._output.flush()
        await self._ask.close()

    async def _until_it_ends(self, everything: asyncio.Future[None]) -> None:
        """After a stop, calls in flight have some time; without a place to keep an answer, none at all."""
        stopped = asyncio.Event()
        self._switch.on_pull.append(stopped.set)
        stop = asyncio.ensure_future(stopped.wait())
        first: set[asyncio.Future[Any]] = {everything, stop}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        ending = self._plan.ending
        drain = ending.timeout if ending.drain is None else ending.drain
        if self._output.trouble and not self._done:
            drain = 0.0
        await asyncio.wait({everything}, timeout=drain)
        if not everything.done():
            self._ask.abandon()
            await asyncio.wait({everything}, timeout=LAST_WORDS)
        await self._output.close(LAST_WORDS)
        await asyncio.wait({everything}, timeout=LAST_WORDS)

    # -- the end

    def end(self, totals: Mapping[str, Totals], downstream: neighbours.Pipe) -> int:
        """Close the books and say what they hold; the exit status, unless the run dies by a signal."""
        status = self._close_counts()
        if not self._switch.reason:
            downstream.end_well()
        if self._plan.labels:
            totals = {"labels": self._plan.labels, **totals}
        stop = self._switch.reason
        lines = self._books.close(status, stop.reason if stop else None, self._summary(), totals)
        if self._signals.died_of != signal.SIGPIPE:
            for line in lines:
                warn(line)
        if self._signals.died_of:
            messages.die_by(self._signals.died_of)
        return status

    def _close_counts(self) -> int:
        counts, stop = self._books.counts, self._switch.reason
        counts.out = self._output.written
        missing = counts.read - counts.out - counts.failed
        if missing and not stop:
            say(f"a bug: {missing} records went in and did not come out")
            return 1
        unprinted = counts.answered - self._output.answers_written
        counts.kept, counts.lost = (unprinted, 0) if self._done else (0, unprinted)
        counts.unasked = missing - unprinted
        if stop:
            return stop.status
        return 1 if counts.failed else 0

    def _summary(self) -> list[str]:
        usable = self._done.usable if self._done else None
        return summary.lines(self._books.events, usable, self._plan.asking.policy.max_cost)

    def _say_status(self) -> None:
        self._books.counts.out = self._output.written
        for line in self._summary():
            say(line)


def _pypeln() -> Any:
    """pypeln.task. The other parts, not used here, take twice its time to import, and stopit with them, which asks
    setuptools for a module that current ones no longer have; empty stand-ins spare all that."""
    for name in ("process", "sync", "thread"):
        sys.modules.setdefault(f"pypeln.{name}", types.ModuleType(name))
    from pypeln import task

    return task
