"""Bytes from the standard streams and to them, by threads of their own.

A terminal, a FIFO, /dev/null, a neighbour that made the descriptor non-blocking, a reader
that sleeps for an hour: os.read and os.write in a thread behave with all of them, and the
calls in flight never wait for any.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import queue
import select
import stat
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

from llmstream.records.values import Outcome
from llmstream.shell import files
from llmstream.shell.line_writer import LineWriter

T = TypeVar("T")
_Order = tuple[Callable[[], Any], "asyncio.Future[Any]"]

ROOM = 1 << 20  # bytes that may wait for a slow reader; more, and the flow waits with them


class Input:
    """Opens and reads on demand: never a byte further than somebody asked for."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
        self._pending: asyncio.Future[Any] | None = None
        self._stopped = False
        threading.Thread(target=self._work, daemon=True).start()

    async def open(self, path: str) -> int | None:
        """A descriptor of a file; of a FIFO once it has a writer. None once the input was stopped."""
        return await self._order(lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC))

    async def read(self, fd: int) -> bytes:
        """The next bytes; none at the end, or once the input was stopped."""
        return await self._order(lambda: files.read(fd)) or b""

    def stop(self) -> None:
        """Take no more input, also where somebody is waiting for some."""
        self._stopped = True
        if self._pending and not self._pending.done():
            self._pending.set_result(None)

    async def _order(self, work: Callable[[], T]) -> T | None:
        """Have the thread do something; None once the input was stopped."""
        if self._stopped:
            return None
        self._pending = self._loop.create_future()
        self._orders.put((work, self._pending))
        got = await self._pending
        if isinstance(got, OSError):
            raise got
        return cast("T | None", got)

    def _work(self) -> None:
        while True:
            work, future = self._orders.get()
            got: Any
            try:
                got = work()
            except OSError as error:
                got = error
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(_settle, future, got)


def _settle(future: asyncio.Future[Any], got: Any) -> None:
    if not future.done():
        future.set_result(got)


class _Part(NamedTuple):
    """What is to be written."""

    line: bytes
    of: int  # records of the input that it stands for
    answered: bool  # an answer is in it,
    called: bool  # and was called for in this run


class Output:
    """Writes whole records to a descriptor, in order, as soon as there is nothing more to gather."""

    def __init__(self, fd: int, most_ahead: int, on_trouble: Callable[[OSError], None]) -> None:
        self.written = 0  # records that went into what the system has taken
        self.answers_written = 0  # those of them that hold an answer
        self.trouble: OSError | None = None
        self._most_ahead = most_ahead
        self._on_trouble = on_trouble
        self._loop = asyncio.get_running_loop()
        self._gathered: list[_Part] = []
        self._busy = False  # a batch is being written, or about to be: what comes meanwhile is the next
        self._waiting = _Waiting()
        self._writer = LineWriter(fd)
        self._batches: queue.SimpleQueue[list[_Part]] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()
        _watch_reader(fd, self._loop, self._fail)

    def put(self, outcome: Outcome) -> None:
        if self.trouble or self._writer.stopped:
            return
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._hand_over)
        answered = bool(outcome.value)
        part = _Part(outcome.out, outcome.of, answered, answered and not outcome.replayed)
        self._gathered.append(part)
        self._waiting.add(part)

    async def room(self) -> None:
        """Wait until little enough waits to be written: what is ahead of the reader was paid for."""
        while self._waiting.bytes >= ROOM or self._waiting.called >= self._most_ahead:
            await self._waiting.less()

    async def flush(self) -> None:
        while self._waiting.bytes:
            await self._waiting.less()

    async def close(self, seconds: float) -> None:
        """Write no more than the line at hand, and let nobody wait for it: `written` stays as it is from here on."""
        self._writer.stopped = True
        self._waiting.clear()
        end = self._loop.time() + seconds
        while self._busy and self._loop.time() < end:
            await asyncio.sleep(0.001)

    def _hand_over(self) -> None:
        batch, self._gathered = self._gathered, []
        self._batches.put(batch)

    def _work(self) -> None:
        while True:
            batch = self._batches.get()
            count, error = self._writer.write([part.line for part in batch])
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._wrote, batch, count, error)

    def _wrote(self, batch: list[_Part], count: int, error: OSError | None) -> None:
        for part in batch[:count]:
            self.written += part.of
            if part.answered:
                self.answers_written += part.of
        self._waiting.remove(batch)
        if error:
            self._fail(error)
        self._busy = bool(self._gathered) and not self.trouble and not self._writer.stopped
        if self._busy:
            self._hand_over()

    def _fail(self, error: OSError) -> None:
        if self.trouble is None:
            self.trouble = error
            self._waiting.clear()
            self._on_trouble(error)


class _Waiting:
    """What has been put and is not written yet, and who waits until it is less."""

    def __init__(self) -> None:
        self.bytes = 0
        self.called = 0  # records that were called for
        self._over = False
        self._less = asyncio.Event()

    def add(self, part: _Part) -> None:
        self.bytes += len(part.line)
        self.called += part.of * part.called

    def remove(self, batch: list[_Part]) -> None:
        if self._over:
            return
        for part in batch:
            self.bytes -= len(part.line)
            self.called -= part.of * part.called
        self._less.set()

    def clear(self) -> None:
        """Nobody needs to wait any more."""
        self._over = True
        self.bytes = self.called = 0
        self._less.set()

    async def less(self) -> None:
        self._less.clear()
        await self._less.wait()


def _watch_reader(fd: int, loop: asyncio.AbstractEventLoop, on_trouble: Callable[[OSError], None]) -> None:
    """Notice a reader that leaves at once, not at the next write."""
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return

    def look() -> None:
        poll = select.poll()
        poll.register(fd, select.POLLERR)
        if poll.poll(0):
            loop.remove_reader(fd)
            on_trouble(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))
        elif stat.S_ISSOCK(mode):
            loop.remove_reader(fd)  # it sends us something; we only write

    with contextlib.suppress(OSError, NotImplementedError):
        loop.add_reader(fd, look)
