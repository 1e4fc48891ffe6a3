"""What the system tells about processes. Where there is no /proc, every answer is None: not known."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import NamedTuple


class Lock(NamedTuple):
    """An exclusive lock that flock(2) gave."""

    device: str  # "fe:00", as the kernel writes it: major and minor number in hex
    inode: int
    process: int


def locks() -> list[Lock] | None:
    """All that are held now. Those that a process only waits for have an arrow as their second word."""
    found = []
    try:
        with open("/proc/locks") as file:
            for line in file:  # 1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF
                words = line.split()
                if words[1] == "FLOCK" and words[3] == "WRITE":
                    device, _, inode = words[5].rpartition(":")
                    found.append(Lock(device, int(inode), int(words[4])))
    except (OSError, LookupError, ValueError):
        return None
    return found


def holder(file: os.stat_result, held: Sequence[Lock] | None) -> int | None:
    """The process that holds a file, by the locks that are held. To ask for the lock instead, if only for a moment,
    might stop a run that begins."""
    processes = {lock.device: lock.process for lock in held or () if lock.inode == file.st_ino}
    device = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}"
    if device in processes or os.major(file.st_dev):
        return processes.get(device)
    # Of several devices, or of layers: stat(2) has another number for it than the kernel's list of locks.
    return next(iter(processes.values()), None)


def name(process: int) -> str | None:
    """What a process is called: the llm-... word at the start of its command line, else the first word."""
    try:
        with open(f"/proc/{process}/cmdline", "rb") as file:
            words = file.read().split(b"\0")[:3]
    except OSError:
        return None
    names = [os.path.basename(word.decode(errors="replace")) for word in words]
    return next((word for word in names if word.startswith("llm-")), names[0]) or None


def start_ticks(process: int) -> int | None:
    """When a process began, in ticks of the kernel since it booted: with its number, this tells it from any other."""
    fields = _stat(process)
    return int(fields[19]) if fields else None


def start_time(process: int) -> float | None:
    """When a process began, in seconds since 1970."""
    ticks = start_ticks(process)
    try:
        with open("/proc/uptime", "rb") as file:
            up = float(file.read().split()[0])
    except (OSError, LookupError, ValueError):
        return None
    return None if ticks is None else time.time() - up + ticks / os.sysconf("SC_CLK_TCK")


def still_runs(process: int, ticks: int) -> bool | None:
    """Is the process that began then still there? Its number alone may be another's by now."""
    if start_ticks(os.getpid()) is None:
        return None
    fields = _stat(process)
    return fields is not None and int(fields[19]) == ticks and fields[0] not in (b"Z", b"X")  # it is dead, and unburied


def _stat(process: int) -> list[bytes] | None:
    """Fields 3 and following of /proc/PID/stat: state, and so on. The name before them may hold anything."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return None
