"""The files of a run: looked at before anything is paid, and read and written whatever they are."""

from __future__ import annotations

import contextlib
import os
import select
import stat
from collections.abc import Sequence
from typing import NamedTuple

from llmstream.records import reading, words
from llmstream.records.values import BadLine, Failure, Record
from llmstream.shell import messages
from llmstream.shell.messages import CANNOT_WRITE, FIX_FIRST, Stop, why
from llmstream.shell.named_files import Identity, NamedFile, claim, identity, is_stderr, refuse_shared

CHUNK = 64 << 10


class Streams(NamedTuple):
    """What the command line and the caller gave: attributes of the options that have these names."""

    closed: frozenset[int]  # of the standard streams
    named_files: Sequence[NamedFile]


def check(streams: Streams, names: Sequence[str]) -> set[Identity]:
    """Refuse streams that cannot work; the identities of the regular files that are read."""
    import fcntl

    if 1 in streams.closed or fcntl.fcntl(1, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise Stop(CANNOT_WRITE, "cannot write stdout: it is closed")
    refuse_shared(streams.named_files, names)
    inputs = set()
    for name in names:
        status = _readable(name)
        if stat.S_ISREG(status.st_mode):
            inputs.add((status.st_dev, status.st_ino))
    return inputs


def _readable(name: str) -> os.stat_result:
    """Looked at, not opened: a FIFO's writer would take us for its reader."""
    try:
        status = os.fstat(0) if name == "-" else os.stat(name)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(0, "it is a directory")
        if name != "-" and not os.access(name, os.R_OK):
            raise PermissionError(0, "permission denied")
    except OSError as error:
        raise Stop(FIX_FIRST, f"cannot read {name}: {why(error)}") from None
    return status


def size(names: Sequence[str]) -> int | None:
    """How many bytes there are to read, if that can be told beforehand."""
    total = 0
    for name in names:
        try:
            status = os.fstat(0) if name == "-" else os.stat(name)
            read = os.lseek(0, 0, os.SEEK_CUR) if name == "-" else 0
        except OSError:  # a pipe
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        total += status.st_size - read
    return total


def open_to_append(path: str) -> int:
    """Open a file to write at its end. Stderr, whatever its name, is not opened anew: that would have a place of
    its own, and one would write over the other."""
    if is_stderr(path):
        return os.dup(2)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)


def replace(name: str | bytes, temporary: str | bytes, data: bytes, folder: int | None = None) -> None:
    """Put a file in a name's place at once; of what fails nothing stays."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=folder)  # of one with our number that was killed
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=folder)
    try:
        with open(fd, "wb") as file:
            file.write(data)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


def beside(path: str) -> str:
    """A name for what is to take a file's place, in the same folder."""
    return os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}")


# -- failed records ---------------------------------------------------------------------------


class Errors:
    """The file that -e names: failed records, each whole as soon as it has failed."""

    def __init__(self, path: str, taken: set[Identity]) -> None:
        self._path = path
        try:
            self._fd = open_to_append(path)
            claim(f"errors file {path}", self._fd, taken)
            if identity(self._fd) is not None and not is_stderr(self._fd):
                os.ftruncate(self._fd, 0)
        except OSError as error:
            raise Stop(FIX_FIRST, f"cannot open errors file {path}: {why(error)}") from None
        self._terminal = os.isatty(self._fd)

    def put(self, source: Record | BadLine, failure: Failure) -> None:
        line = reading.failed_line(source, failure, messages.tool)
        line = (words.for_terminal(line) if self._terminal else line) + b"\n"
        try:
            while line:
                line = line[write(self._fd, line) :]
        except OSError as error:
            raise Stop(CANNOT_WRITE, f"cannot write errors file {self._path}: {why(error)}") from None


# -- whatever a neighbour did to the descriptor -------------------------------------------------


def read(fd: int) -> bytes:
    while True:
        try:
            return os.read(fd, CHUNK)
        except BlockingIOError:
            select.select([fd], [], [])


def write(fd: int, data: bytes) -> int:
    while True:
        try:
            return os.write(fd, data)
        except BlockingIOError:
            select.select([], [fd], [])
