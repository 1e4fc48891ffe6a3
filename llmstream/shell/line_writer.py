"""Whole lines to a descriptor. A pipe gets only what fits into it, so that we never end in the middle of a line."""

from __future__ import annotations

import array
import fcntl
import os
import select
import stat
import termios
import time
from collections.abc import Sequence

from llmstream.shell import files

LOOK_AGAIN = 100  # milliseconds after which whoever waits for room in a pipe looks whether to stop
DRAINING = 0.002  # seconds between two looks whether a pipe has become empty


class LineWriter:
    """Used by one thread; any other may tell it to stop."""

    def __init__(self, fd: int) -> None:
        self.stopped = False
        self._fd = fd
        self._is_pipe = stat.S_ISFIFO(os.fstat(fd).st_mode) and hasattr(fcntl, "F_GETPIPE_SZ")

    def write(self, lines: Sequence[bytes]) -> tuple[int, OSError | None]:
        """Write lines until told to stop: how many of them are written whole, and what went wrong."""
        done = 0
        while done < len(lines) and not self.stopped:
            count = _fitting(self._fd, lines, done) if self._is_pipe else len(lines)
            chunk = lines[done : done + count]
            written, error = _write(self._fd, b"".join(chunk))
            done += _whole(chunk, written)
            if error:
                return done, error
        return done, None


def _write(fd: int, data: bytes) -> tuple[int, OSError | None]:
    """How many bytes were written, and what kept the rest from being so."""
    done = 0
    try:
        while done < len(data):
            done += files.write(fd, data[done:] if done else data)
    except OSError as error:
        return done, error
    return done, None


def _whole(lines: Sequence[bytes], written: int) -> int:
    """How many lines are within the bytes written."""
    for count, line in enumerate(lines):
        written -= len(line)
        if written < 0:
            return count
    return len(lines)


# -- pipes ----------------------------------------------------------------------------------------


def _fitting(fd: int, lines: Sequence[bytes], first: int) -> int:
    """How many lines, from the first on, go into a pipe without waiting half way."""
    room, capacity = _room(fd)
    count = size = 0
    while first + count < len(lines) and size + len(lines[first + count]) <= room:
        size += len(lines[first + count])
        count += 1
    if count or not room:
        return count
    if room == capacity:
        return 1  # larger than any room there will ever be
    time.sleep(DRAINING)
    return 0


def _room(fd: int) -> tuple[int, int]:
    """How many bytes a pipe surely takes, and how many it would take if it were empty.

    The kernel keeps whole pages: with something in the pipe only one of them is sure to be free.
    """
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    capacity = fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
    found = poll.poll(LOOK_AGAIN)
    if not found:
        return 0, capacity
    if found[0][1] & select.POLLERR:  # nobody reads any more: writing tells
        return capacity, capacity
    waiting = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, waiting)
    return (select.PIPE_BUF if waiting[0] else capacity), capacity
