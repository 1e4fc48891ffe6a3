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
from typing import Any, TypeVar, cast

from llmstream.shell import files

T = TypeVar("T")
_Order = tuple[Callable[[], Any], "asyncio.Future[Any]"]

_Part = tuple[bytes, int]  # what goes out, and how many records of the input it stands for

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


class Output:
    """Writes whole records to a descriptor, in order, as soon as there is nothing more to gather."""

    def __init__(self, fd: int, on_trouble: Callable[[OSError], None]) -> None:
        self.written = 0  # records that went into what the system has taken
        self.taken = 0  # records that went into what was handed to us
        self.trouble: OSError | None = None
        self._fd = fd
        self._on_trouble = on_trouble
        self._loop = asyncio.get_running_loop()
        self._gathered: list[_Part] = []
        self._busy = False  # a batch is being written, or about to be: what comes meanwhile is the next
        self._size = 0  # bytes gathered or on their way
        self._waiting: list[asyncio.Future[None]] = []
        self._batches: queue.SimpleQueue[list[_Part]] = queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()
        self._watch()

    def put(self, record: bytes, of: int = 1) -> None:
        """Write a record that so many of the input went into."""
        self.taken += of
        if self.trouble:
            return
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._hand_over)
        self._gathered.append((record, of))
        self._size += len(record)

    async def room(self, least: int = ROOM) -> None:
        """Wait until less than so many bytes wait to be written."""
        while self._size >= least and not self.trouble:
            waiter = self._loop.create_future()
            self._waiting.append(waiter)
            await waiter

    async def flush(self) -> None:
        await self.room(1)

    def _hand_over(self) -> None:
        batch, self._gathered = self._gathered, []
        self._batches.put(batch)

    def _work(self) -> None:
        while True:
            batch = self._batches.get()
            done = 0
            error = None
            data = b"".join(record for record, _ in batch)
            try:
                while done < len(data):
                    done += files.write(self._fd, data[done:] if done else data)
            except OSError as failure:
                error = failure
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._wrote, len(data), _whole(batch, done), error)

    def _wrote(self, size: int, records: int, error: OSError | None) -> None:
        self._size -= size
        self.written += records
        if error:
            self._fail(error)
        self._busy = bool(self._gathered) and not self.trouble
        if self._busy:
            self._hand_over()
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _fail(self, error: OSError) -> None:
        if self.trouble is None:
            self.trouble = error
            self._on_trouble(error)

    # -- a reader that leaves is noticed at once, not at the next write

    def _watch(self) -> None:
        if stat.S_ISFIFO(os.fstat(self._fd).st_mode) or stat.S_ISSOCK(os.fstat(self._fd).st_mode):
            with contextlib.suppress(OSError, NotImplementedError):
                self._loop.add_reader(self._fd, self._look)

    def _look(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLERR)
        if poll.poll(0):
            self._loop.remove_reader(self._fd)
            self._fail(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))
            self._wake()
        elif stat.S_ISSOCK(os.fstat(self._fd).st_mode):
            self._loop.remove_reader(self._fd)  # it sends us something; we only write


def _whole(batch: list[_Part], written: int) -> int:
    """How many records of a batch are within the bytes written."""
    count = 0
    for record, of in batch:
        written -= len(record)
        if written < 0:
            break
        count += of
    return count
