"""Records become jobs, and jobs become outcomes; what needs no call goes straight to the output."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from llmstream.books.events import Counts
from llmstream.records.values import NOT_STARTED, BadLine, Failure, Outcome, Record
from llmstream.shell.messages import Stop
from llmstream.shell.stop_switch import StopSwitch
from llmstream.stream.delivery import Delivery
from llmstream.stream.reader import RecordReader, RepeatedKeys

BREATH = 256  # records of a long replay, then the calls get their turn


class Work(Protocol):
    """What a tool does with a record. What is ready is an Outcome, or a job for finish."""

    calls_at_once: int  # that a job makes side by side

    def take(self, record: Record) -> Iterable[Any]: ...  # what is ready with it

    def rest(self) -> Iterable[Any]: ...  # the same at the end of the input

    async def finish(self, job: Any) -> Outcome: ...


class Job(NamedTuple):
    """Something that has to be asked."""

    turn: int
    source: Record | BadLine
    work: Any  # what the tool made of it


class Jobs:
    """The way of the records through a tool."""

    def __init__(
        self,
        reader: RecordReader,
        work: Work,
        delivery: Delivery,
        counts: Counts,
        switch: StopSwitch,
        input_ended: Callable[[], None],
        report_bug: Callable[[BaseException], None],
    ) -> None:
        self._reader = reader
        self._work = work
        self._delivery = delivery
        self._counts = counts
        self._switch = switch
        self._input_ended = input_ended
        self._report_bug = report_bug
        self._repeated = RepeatedKeys()

    async def begin(self) -> AsyncIterator[Job]:
        """What has to be asked, as it is read."""
        turn = 0
        try:
            async for batch in self._batches():
                for source, ready in batch:
                    if isinstance(ready, Outcome):
                        await self._delivery.put(turn, ready)
                        if turn % BREATH == 0:
                            await asyncio.sleep(0)
                    else:
                        await self._delivery.expect(turn, source)
                        yield Job(turn, source, ready)
                    turn += 1
        except Stop as reason:
            self._switch.pull(reason)
        except Exception as error:  # noqa: BLE001 - pypeln would wrap it; it is reported in our own way
            self._report_bug(error)
        self._input_ended()

    async def finish(self, job: Job) -> None:
        """A worker never raises: pypeln would drop its record without a word."""
        try:
            outcome = await self._work.finish(job.work)
        except Stop as reason:
            self._switch.pull(reason)
            outcome = Outcome(job.source, failure=NOT_STARTED)
        except Exception as error:  # noqa: BLE001 - see above
            self._report_bug(error)
            outcome = Outcome(job.source, failure=Failure("bug", f"a bug: {type(error).__name__}"))
        try:
            await self._delivery.put(job.turn, outcome)
        except Exception as error:  # noqa: BLE001 - see above
            self._report_bug(error)

    async def _batches(self) -> AsyncIterator[Iterator[tuple[Record | BadLine, Any]]]:
        """What the tool makes of the records: outcomes and jobs, each with the record that brought it."""
        last: Record | BadLine = BadLine(b"", "the end of the input", "")
        async for sources in self._reader.batches():
            if sources:
                last = sources[-1]
                yield self._taken(sources)
        if not self._switch.reason:
            yield ((last, ready) for ready in self._work.rest())

    def _taken(self, sources: Sequence[Record | BadLine]) -> Iterator[tuple[Record | BadLine, Any]]:
        """One record is taken when those before it are on their way."""
        for source in sources:
            if self._switch.reason:
                return
            self._counts.read += 1
            if isinstance(source, BadLine):
                yield source, Outcome(source, failure=Failure("input", source.why))
                continue
            self._repeated.look_at(source)
            for ready in self._work.take(source):
                yield source, ready
