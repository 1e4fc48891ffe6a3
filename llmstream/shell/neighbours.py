"""Which of our filters are at the other ends of our pipes, and whether the one before us ended well.

The end of a pipe looks the same whether its writer finished or was killed. So our filters leave word in a small file
in the runtime directory, named after the pipe's inode: a writer says that it is there, and at its end that it ended
well; a reader looks at the end of its input who did not. Writers may follow one another on one pipe. With another
program in between nobody leaves word, and nothing is known.

A line of the file: role, process, when it started, and whether it ended well. Every change is made under flock and
is one write, so that a kill leaves the old words or the new ones. Lines that an earlier use of the same inode left
are dropped: by a reader if they are those of an earlier reader, by a writer if no reader is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from llmstream.shell import processes
from llmstream.shell.messages import LATER, Stop

PATIENCE = 0.5  # seconds for the lock; whoever holds it longer was stopped, and then nothing is known
FORGOTTEN = 86_400.0  # seconds after which a file that nobody has touched is removed


class Neighbour(NamedTuple):
    """A process that reads or writes a pipe."""

    role: str  # r or w
    process: int
    started: int  # in ticks since the system booted
    ended_well: bool = False

    def runs(self) -> bool:
        return bool(processes.still_runs(self.process, self.started))


class Pipe:
    """One end of a pipe that we have. Where nothing can be known, every answer is that there is nobody."""

    def __init__(self, fd: int, role: str) -> None:
        self._path = _file_of(fd)
        self._ours = Neighbour(role, os.getpid(), processes.start_ticks(os.getpid()) or 0)
        self._change(self._enter)

    def writers_that_ended_early(self) -> list[int]:
        """For a reader at the end of its input: the processes of ours that wrote and did not end well."""
        known = self._change(lambda _: [])
        return [one.process for one in known if one.role == "w" and not one.ended_well]

    def end_well(self) -> None:
        """For a writer: all that will ever be written has been."""
        self._change(self._enter_end)

    def _enter(self, known: list[Neighbour]) -> list[Neighbour]:
        read_before = any(one.role == "r" for one in known)
        being_read = any(one.role == "r" and one.runs() for one in known)
        if (self._ours.role == "w" and not being_read) or (self._ours.role == "r" and read_before):
            known = [one for one in known if one.runs()]
        return [*known, self._ours]

    def _enter_end(self, known: list[Neighbour]) -> list[Neighbour]:
        others = [one for one in known if one[:3] != self._ours[:3]]
        if not any(one.role == "r" for one in others):  # no filter of ours reads it, or not yet: there is no bad news
            return others
        return [*others, self._ours._replace(ended_well=True)]

    def _change(self, change: Callable[[list[Neighbour]], list[Neighbour]]) -> list[Neighbour]:
        """Replace what is known; what was known before."""
        if self._path is None:
            return []
        try:
            with _locked(self._path) as fd:
                known = _parse(os.pread(fd, 1 << 16, 0))
                new = change(known)
                if new:
                    data = "".join(f"{one.role} {one.process} {one.started} {int(one.ended_well)}\n" for one in new)
                    os.pwrite(fd, data.encode().ljust(os.fstat(fd).st_size), 0)  # spaces cover what was longer
                else:
                    os.unlink(self._path)
                return known
        except OSError:
            return []


def early_end(upstream: Pipe | None) -> Stop | None:
    """At the end of stdin: did a filter of ours that wrote into it die, or stop before its own end?"""
    early = upstream.writers_that_ended_early() if upstream else []
    if not early:
        return None
    filters = "the filter before it" if len(early) == 1 else f"{len(early)} filters before it"
    return Stop(LATER, f"the input is not complete: {filters} in the pipe ended early; run the same command again")


def _parse(data: bytes) -> list[Neighbour]:
    found = []
    for line in data.decode(errors="replace").splitlines():
        words = line.split()
        with contextlib.suppress(ValueError):
            if len(words) == 4 and words[0] in ("r", "w"):
                found.append(Neighbour(words[0], int(words[1]), int(words[2]), words[3] == "1"))
    return found


@contextlib.contextmanager
def _locked(path: str) -> Iterator[int]:
    """The file, open and ours alone, whoever removes it meanwhile."""
    end = time.monotonic() + PATIENCE
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(fd), os.stat(path)):
                        yield fd
                        return
            if time.monotonic() > end:
                raise TimeoutError
        finally:
            os.close(fd)
        time.sleep(0.001)


def _file_of(fd: int) -> str | None:
    """Where word of a pipe is left; None for anything else, and where there is no place for it."""
    try:
        status = os.fstat(fd)
        if not stat.S_ISFIFO(status.st_mode) or processes.start_ticks(os.getpid()) is None:
            return None
        return f"{_folder()}/{status.st_dev:x}-{status.st_ino:x}"
    except OSError:
        return None


def _folder() -> str:
    """A folder of this user's and this boot's own."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot = file.read(8)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    own = f"llmstream-{boot}" if runtime else f"llmstream-{os.geteuid()}-{boot}"
    folder = os.path.join(runtime or "/tmp", own)  # noqa: S108 - looked at below
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise PermissionError
    _tidy(folder)
    return folder


def _tidy(folder: str) -> None:
    """Remove what processes that were killed have left."""
    forgotten = time.time() - FORGOTTEN
    for entry in os.scandir(folder):
        with contextlib.suppress(OSError):
            if entry.stat().st_mtime < forgotten:
                with open(entry.path, "rb") as file:
                    if not any(one.runs() for one in _parse(file.read())):
                        os.unlink(entry.path)
