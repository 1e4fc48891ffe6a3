"""The one way to say something to a person, and the one way to leave.

stderr is written with os.write: nothing is buffered, nothing can fail at exit, and what
came from data or from an endpoint is escaped before a terminal sees it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from typing import NoReturn

from llmstream.records.words import escape

FIX_FIRST = 2  # an option, a key, a file: somebody must change something
CANNOT_WRITE = 74  # stdout or the done-file
LATER = 75  # waiting helps: run the same command again

CLEAR = "\x1b[J"  # from the cursor on: below it some process of the pipe may have drawn a progress line

tool = "llmstream"  # set once, by leave()
quiet = False


class Stop(Exception):
    """Ends the run with a status and one line that says why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def on_screen(fd: int) -> bool:
    """Is this a terminal that can be drawn on?"""
    return os.isatty(fd) and os.environ.get("TERM", "dumb") not in ("", "dumb")


def say(reason: str) -> None:
    """One line on stderr, whatever happens to it."""
    with contextlib.suppress(OSError):
        clear = CLEAR if on_screen(2) else ""
        os.write(2, f"{clear}{tool}: {escape(reason)}\n".encode())


def warn(reason: str) -> None:
    """What the user should know and -q may silence."""
    if not quiet:
        say(reason)


def why(error: OSError) -> str:
    """The system's own words for an error, without errno and path."""
    if error.errno and error.errno > 0:  # strerror may be anything that a library put there
        return os.strerror(error.errno)
    return error.strerror or str(error)


def bug(error: BaseException) -> str:
    """A fault of ours in one line: what and where, not its text, which may hold a secret."""
    at = error.__traceback__
    while at and at.tb_next:
        at = at.tb_next
    place = f"{os.path.basename(at.tb_frame.f_code.co_filename)}:{at.tb_lineno}" if at else "?"
    return f"a bug in {tool}: {type(error).__name__} at {place}; what was answered is kept"


def hold_standard_streams() -> frozenset[int]:
    """Fill closed descriptors 0-2, so that no file of ours becomes stdout; say which were closed."""
    closed = set()
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this very one
            os.set_inheritable(fd, True)
            closed.add(fd)
    return frozenset(closed)


def sigpipe_was_ignored() -> bool:
    """Were we started with SIGPIPE ignored?

    Python ignores it before any code of ours runs, so this can only be told from our parent,
    and only of one that hands on what it has itself: a shell after trap '' PIPE, systemd.
    """
    try:
        parent = f"/proc/{os.getppid()}"
        name = os.path.basename(os.readlink(f"{parent}/exe"))
        with open(f"{parent}/status") as status:
            ignored = next(int(line.split()[1], 16) for line in status if line.startswith("SigIgn:"))
    except (OSError, StopIteration):
        return False
    return name in _HANDS_ON and bool(ignored >> (signal.SIGPIPE - 1) & 1)


_HANDS_ON = ("sh", "bash", "dash", "ash", "busybox", "ksh", "ksh93", "mksh", "zsh", "fish", "systemd")


def print_out(text: str, closed: frozenset[int]) -> int:
    """What --help and --version print: on stdout, checked."""
    data = text.encode()
    try:
        if 1 in closed:
            raise OSError(0, "it is closed")
        while data:
            data = data[os.write(1, data) :]
    except OSError as error:
        if isinstance(error, BrokenPipeError) and not sigpipe_was_ignored():
            die_by(signal.SIGPIPE)
        raise Stop(CANNOT_WRITE, f"cannot write stdout: {why(error)}") from None
    return 0


def die_by(number: int) -> NoReturn:
    """End the way the signal would have ended us, so that the caller sees the truth."""
    signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # where the signal could not be delivered


def leave(name: str) -> NoReturn:
    """Run the tool of this name and exit with its status: no traceback, no second flush, no status 120."""
    global tool
    tool = name
    try:
        status: int = importlib.import_module(f"llmstream.{name.partition('-')[2]}").main(sys.argv[1:])
    except Stop as stop:
        say(stop.reason)
        status = stop.status
    except SystemExit as end:
        status = int(end.code or 0)
    except ImportError as error:
        say(f"cannot load {error.name or 'a package'}: {error}; install llmstream with pip or make install")
        status = FIX_FIRST
    except KeyboardInterrupt:
        die_by(signal.SIGINT)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a bug is one line too
        say(bug(error))
        status = 1
    os._exit(status)
