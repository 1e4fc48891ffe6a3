"""Waiting until a file is on disk, many at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading

from llmstream.shell.messages import why

SYNC_EVERY = 0.01  # seconds from one fdatasync to the next: what is written meanwhile shares it


class GroupSync:
    """One fdatasync for all who wait. It runs in a thread: a disk may take its time."""

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._path = path
        self.failed: str | None = (
            None  # why; never tried again, for the kernel may have dropped what it could not write
        )
        self._waiting: list[asyncio.Future[str | None]] = []
        self._syncing: list[asyncio.Future[str | None]] = []
        self._synced_at = 0.0  # by the loop's clock
        self._orders: queue.SimpleQueue[asyncio.AbstractEventLoop] | None = None  # for the thread

    async def synced(self) -> str | None:
        """Wait until all that has been written is on disk; what is wrong, if something is. Whoever comes before
        a fdatasync begins shares it."""
        if self.failed:
            return self.failed
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[str | None] = loop.create_future()
        self._waiting.append(waiter)
        if len(self._waiting) == 1 and not self._syncing:
            self._schedule(loop)
        return await waiter

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_at(self._synced_at + SYNC_EVERY, self._begin, loop)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._orders is None:
            self._orders = queue.SimpleQueue()
            threading.Thread(target=self._work, args=(self._orders,), daemon=True).start()
        self._syncing, self._waiting = self._waiting, []
        self._orders.put(loop)

    def _work(self, orders: queue.SimpleQueue[asyncio.AbstractEventLoop]) -> None:
        """The thread."""
        while True:
            loop = orders.get()
            error = _put_on_disk(self._fd, self._path)
            with contextlib.suppress(RuntimeError):  # the loop is gone: so is whoever waited
                loop.call_soon_threadsafe(self._end, loop, error)

    def _end(self, loop: asyncio.AbstractEventLoop, error: str | None) -> None:
        released, self._syncing = self._syncing, []
        if error:
            self.failed = error
            released += self._waiting
            self._waiting = []
        for waiter in released:
            if not waiter.done():
                waiter.set_result(error)
        self._synced_at = loop.time()
        if self._waiting:
            self._schedule(loop)


def _put_on_disk(fd: int, path: str) -> str | None:
    """Sync the file; what is wrong, if something is."""
    try:
        os.fdatasync(fd)
        if os.path.samestat(os.fstat(fd), os.stat(path)):
            return None
    except OSError as failure:
        return why(failure)
    return "another file has taken its place"  # an editor's way to save; what we write would be lost
