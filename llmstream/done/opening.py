"""Opening a done-file: only one that is safely ours, and only where no other process has it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat

from llmstream.shell import processes
from llmstream.shell.messages import CANNOT_WRITE, FIX_FIRST, LATER, Stop, why


def open_safely(path: str) -> int:
    """Open or create the file, refuse what is not safely ours, and lock it."""
    flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        try:
            fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
            os.fchmod(fd, 0o600)  # whatever the umask
        except FileExistsError:
            fd = os.open(path, flags)
    except OSError as error:
        reason = "it is a link" if os.path.islink(path) else why(error)
        raise Stop(FIX_FIRST, f"cannot open done-file {path}: {reason}") from None
    _refuse_unsafe(fd, path)
    _lock(fd, path)
    _sync_directory(path)
    return fd


def _refuse_unsafe(fd: int, path: str) -> None:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        reason = "it is not a regular file"
    elif status.st_uid != os.geteuid():
        reason = f"it belongs to user {status.st_uid}, not to you"
    elif status.st_mode & 0o022:
        reason = f"others can write it; if you trust what is in it: chmod go-w {path}"
    else:
        return
    raise Stop(FIX_FIRST, f"cannot use done-file {path}: {reason}")


def _lock(fd: int, path: str) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Stop(LATER, f"cannot use done-file {path}: {_holder(fd)} is using it") from None
    except OSError as error:
        raise Stop(CANNOT_WRITE, f"cannot lock done-file {path}: {why(error)}") from None


def _holder(fd: int) -> str:
    """Who has the lock, as far as the system tells."""
    process = processes.holder(os.fstat(fd), processes.locks())
    name = processes.name(process) if process else None
    return f"{name} (process {process})" if name else "another process"


def _sync_directory(path: str) -> None:
    """A new name must survive a power cut as its lines do."""
    with contextlib.suppress(OSError):
        fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
