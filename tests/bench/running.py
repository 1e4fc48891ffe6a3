"""Run a command, or a pipe of them, and tell what that took."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from math import nan
from pathlib import Path
from typing import IO, NamedTuple

LIMIT = 1800.0  # seconds that a run may take; then it is killed, and has failed

Command = Sequence[str]
Process = subprocess.Popen[bytes]


class Spent(NamedTuple):
    """What a run took. Of a pipe: the CPU of all stages, the memory of the largest."""

    wall: float = nan  # seconds; to the first byte of output, where that was asked for
    cpu: float = nan  # seconds, user and system
    memory: float = nan  # MB of resident memory at the peak
    endpoint: float = nan  # seconds of CPU that the endpoint took meanwhile
    failed: str = ""  # why there is nothing of the above


def run(pipe: Sequence[Command], env: Mapping[str, str], folder: Path, *, to_first: bool, terminal: bool) -> Spent:
    """Run in FOLDER to the end; the output goes to out in it, what is said on stderr to err.

    terminal: stderr is one, of a pipe with a single stage. The endpoint's share is for the caller to fill in.
    """
    stages: list[Process] = []
    out, err = (folder / "out").open("wb"), (folder / "err").open("wb")
    with out, err, _screen(err) if terminal else _no_screen(err) as stderr, _ended_in_any_case(stages):
        launch = partial(subprocess.Popen, cwd=folder, env=env, stderr=stderr, **(_OWN_TERMINAL if terminal else {}))
        began = time.perf_counter()
        _start(stages, pipe, launch, subprocess.PIPE if to_first else out.fileno())
        first = _first_byte(stages[-1], out) if to_first else None
        usages = [_wait(stage) for stage in stages]
        wall = (first or time.perf_counter()) - began
    status = next((stage.returncode for stage in stages if stage.returncode), 0)
    if status:
        reason = f"more than {LIMIT:g} s" if wall > LIMIT else f"status {status}: {_last_line(folder / 'err')}"
        return Spent(failed=reason)
    # A child begins as a copy of this process, which counts as its memory: so this process has to stay small.
    memory = max(usage.ru_maxrss for usage in usages) / 1024
    return Spent(wall, sum(usage.ru_utime + usage.ru_stime for usage in usages), memory)


def lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


def _start(stages: list[Process], pipe: Sequence[Command], launch: Callable[..., Process], out: int) -> None:
    """Add what is started to stages one by one: whoever owns the list ends them, whatever comes after."""
    source: int | IO[bytes] = subprocess.DEVNULL
    for number, command in enumerate(pipe, 1):
        stage = launch(command, stdin=source, stdout=out if number == len(pipe) else subprocess.PIPE)
        stages.append(stage)
        if not isinstance(source, int):
            source.close()  # the stage before has to see it when this one ends
        source = stage.stdout or subprocess.DEVNULL


def _own_terminal() -> None:
    """A program may ask whether it is in the foreground of its terminal before it draws."""
    fcntl.ioctl(2, termios.TIOCSCTTY, 0)


_OWN_TERMINAL = {"start_new_session": True, "preexec_fn": _own_terminal}


def _wait(stage: Process) -> resource.struct_rusage:
    _, status, usage = os.wait4(stage.pid, 0)
    stage.returncode = os.waitstatus_to_exitcode(status)
    return usage


def _first_byte(stage: Process, out: IO[bytes]) -> float:
    """When it came. The rest is read, too."""
    assert stage.stdout
    with stage.stdout as source:
        chunk = os.read(source.fileno(), 65536)
        came = time.perf_counter()
        while chunk:
            out.write(chunk)
            chunk = os.read(source.fileno(), 65536)
    return came


@contextmanager
def _ended_in_any_case(stages: Sequence[Process]) -> Iterator[None]:
    """None outlives this: not when it takes too long, not when the benchmark is interrupted."""
    clock = threading.Timer(LIMIT, _kill, [stages])
    clock.daemon = True
    clock.start()
    try:
        yield
    finally:
        clock.cancel()
        _kill(stages)
        for stage in stages:
            stage.wait()


def _kill(stages: Sequence[Process]) -> None:
    """Those that were not waited for: their numbers are still theirs."""
    for stage in stages:
        if stage.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(stage.pid, signal.SIGKILL)


@contextmanager
def _no_screen(err: IO[bytes]) -> Iterator[int]:
    yield err.fileno()


@contextmanager
def _screen(err: IO[bytes]) -> Iterator[int]:
    """A terminal; what is drawn on it goes to a file."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    watcher = threading.Thread(target=_watch, args=(ours, err), daemon=True)
    watcher.start()
    try:
        yield theirs
    finally:
        os.close(theirs)
        watcher.join()
        os.close(ours)


def _watch(ours: int, err: IO[bytes]) -> None:
    with suppress(OSError):  # nobody has the other side open any more
        while chunk := os.read(ours, 65536):
            err.write(chunk)


def _last_line(path: Path) -> str:
    said = path.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(said) if line.strip()), "nothing was said")[:200]
