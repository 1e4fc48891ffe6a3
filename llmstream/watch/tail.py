"""A file that another process is writing, read as it grows. Nothing is locked, and nothing is written."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

from llmstream.shell.messages import FIX_FIRST, Stop, why

CHUNK = 64 << 10  # bytes: few enough that what is made of them stays in the processor's cache
SHARE = 24 << 20  # bytes that are worth another process
_MARK = 64  # bytes before the place that has been reached: while they are there, it is the same file


class Tail:
    """A file, and how far it has been read: what has been read is not read again."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.status: os.stat_result | None = None  # None: there is no such file
        self.place = 0  # it has been read up to here; zero also if another file has taken its place
        self._mark = b""

    @contextlib.contextmanager
    def opened(self) -> Iterator[int | None]:
        """The file, to be read from its place on. None: there is none."""
        before, self.status, fd = self.status, None, None
        try:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                fd = _open(self.path)
                self.status = os.fstat(fd)
            if fd is None or not self._is_continued(fd, before):
                self.place = 0
            yield fd
            if fd is not None:
                self._mark = os.pread(fd, min(self.place, _MARK), max(0, self.place - _MARK))
        except OSError as error:
            raise Stop(FIX_FIRST, f"cannot read {self.path}: {why(error)}") from None
        finally:
            if fd is not None:
                os.close(fd)

    def _is_continued(self, fd: int, before: os.stat_result | None) -> bool:
        """Is it the file of the last time, with nothing changed in what has been read?"""
        if before is None or self.status is None or not os.path.samestat(before, self.status):
            return False
        if len(self._mark) < min(self.place, _MARK):  # it became shorter while it was read
            return False
        return os.pread(fd, len(self._mark), self.place - len(self._mark)) == self._mark


def _open(path: str) -> int:
    """Open a regular file for reading. It is looked at first: opening a FIFO has an effect."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise OSError(0, "it is a directory")
    if not stat.S_ISREG(mode):
        raise OSError(0, "it is not a regular file")
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def whole_lines(fd: int, place: int, end: int | None = None) -> Iterator[tuple[list[bytes], int]]:
    """Whole lines, some at a time, and the place behind them."""
    size, rest = CHUNK, b""
    while True:
        most = size if end is None else min(size, end - place - len(rest))
        data = os.pread(fd, most, place + len(rest))
        if not data:
            return
        lines = (rest + data).split(b"\n")
        rest = lines.pop()
        if lines:
            place += sum(map(len, lines)) + len(lines)
            yield lines, place
        size = max(CHUNK, len(rest))  # as much again of a long line, so that it is not copied too often


def line_without_newline(fd: int, place: int) -> bytes:
    """What stands behind the last whole line: somebody is writing it, or an editor has left out its newline."""
    parts = []
    while data := os.pread(fd, CHUNK, place):
        parts.append(data)
        place += len(data)
    rest = b"".join(parts)
    return b"" if b"\n" in rest else rest


def shares(fd: int, place: int, end: int) -> list[tuple[int, int | None]]:
    """Parts of a file that begin with a line, as many as there are processors for. The last part has no end: it
    reaches as far as the file does by then."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    most = min(processors, (end - place) // SHARE + 1)
    cuts = [_behind_next_newline(fd, place + (end - place) * part // most) for part in range(1, most)]
    begins = sorted({place, *(cut for cut in cuts if cut is not None)})
    return list(zip(begins, [*begins[1:], None], strict=True))


def _behind_next_newline(fd: int, place: int) -> int | None:
    while data := os.pread(fd, CHUNK, place):
        at = data.find(b"\n")
        if at >= 0:
            return place + at + 1
        place += len(data)
    return None
