"""The event log: JSON Lines, each of them whole, whoever else writes to the same file.

A regular file is written as it happens, in one write a line, so that after a kill it knows what
the done-file knows. Anything else (a FIFO, a terminal) may keep its writer waiting: a thread does.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import re
import stat
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from llmstream.records import exact, words
from llmstream.shell import files, messages, named_files
from llmstream.shell.messages import FIX_FIRST, Stop, warn, why

MOST_WAITING = 32 << 20  # bytes that may wait for a slow reader; what comes then is counted, not kept
MENDING = 2.0  # seconds that another process may take to mend the file
LAST_WORDS = 1.0  # seconds that a slow reader has at the end
_BEGINS = b'{"timestamp":"'  # every event
_UNSEEN = re.compile(rb"[\x7f\xc2\xe2]")  # where one of these is, there may be a control character that JSON lets be


class Log:
    """An open log. Nothing that happens to it stops the run."""

    def __init__(self, path: str, taken: set[named_files.Identity]) -> None:
        self._path = path
        self._fd = _open(path, taken)
        self._run = os.urandom(4).hex()
        self._lost = 0
        self._second, self._stamp = 0, b""
        self._head = b'","level":"%b","logger":' + exact.dumps(messages.tool) + b',"message":%b,"event_type":"%b",'
        self._write: Callable[[bytes], None] = self._at_once
        self._writer: threading.Thread | None = None
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            self._waiting = 0
            self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
            self._writer = threading.Thread(target=self._write_on, daemon=True)
            self._writer.start()
            self._write = self._hand_over

    def put(self, level: str, event: str, message: str, fields: dict[str, Any]) -> None:
        """Another event."""
        head = self._head % (level.encode(), exact.dumps_leniently(message), event.encode())
        line = b'{"timestamp":"%b%b%b\n' % (self._now(), head, exact.dumps_leniently({"run": self._run, **fields})[1:])
        self._write(words.for_terminal(line) if _UNSEEN.search(line) else line)

    def close(self) -> None:
        """Let what waits go out, as far as somebody takes it."""
        if self._writer:
            self._lines.put(None)
            self._writer.join(LAST_WORDS)
            if self._writer.is_alive():
                self._lost += self._lines.qsize()  # with the None for the line that it is at
        if self._lost:
            warn(f"{self._lost} events are not in the log {self._path}: its reader is too slow")

    def _now(self) -> bytes:
        moment = time.time()
        second = int(moment)
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return b"%b.%03dZ" % (self._stamp, int(moment % 1 * 1000))

    # -- a regular file

    def _at_once(self, line: bytes) -> None:
        written = 0
        try:
            while written < len(line):
                written += os.write(self._fd, line[written:])
        except OSError as error:
            self._give_up(error, written)

    def _give_up(self, error: OSError, written: int) -> None:
        self._write = lambda line: None
        with contextlib.suppress(OSError):
            end = os.lseek(self._fd, 0, os.SEEK_CUR)
            if written and os.fstat(self._fd).st_size == end:  # a line in part, and nobody's behind it
                os.ftruncate(self._fd, end - written)
        warn(f"cannot write log {self._path}: {why(error)}; going on without it")

    # -- anything else

    def _hand_over(self, line: bytes) -> None:
        if self._waiting + len(line) > MOST_WAITING:
            self._lost += 1
            return
        self._waiting += len(line)
        self._lines.put(line)

    def _write_on(self) -> None:
        while (line := self._lines.get()) is not None:
            rest = line
            try:
                while rest:
                    rest = rest[files.write(self._fd, rest) :]
            except OSError as error:
                self._write = lambda line: None
                if not isinstance(error, BrokenPipeError):  # a reader that has gone needs no more
                    warn(f"cannot write log {self._path}: {why(error)}; going on without it")
                return
            self._waiting -= len(line)


def discreet_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """What a log holds of the options: those that were given, and no secret among them."""
    given = {name: value for name, value in options.items() if value is not None and value is not False and value != ()}
    if "base_url" in given:
        given["base_url"] = _bare(given["base_url"])
    if "param" in given:
        given["param"] = _discreet(dict(given["param"]))
    if "take" in given:
        given["take"] = [f"{'.'.join(path)}={how.name}" for path, how in given["take"]]
    return given


def _bare(url: str) -> str:
    """A URL without the password or the key that may stand in it; nobody may have looked yet whether it is one."""
    if re.search(r"[?#].*@", url, re.DOTALL):
        return "..."
    return re.sub(r"^(\w+:/*)?.*@|[?#].*", r"\1", url, flags=re.DOTALL)


def _discreet(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: "..." if _SECRET.search(name) else _discreet(inner) for name, inner in value.items()}
    return [_discreet(item) for item in value] if isinstance(value, list) else value


_SECRET = re.compile("key|token(?!s)|secret|password|auth|cookie", re.IGNORECASE)


def _open(path: str, taken: set[named_files.Identity]) -> int:
    try:
        fd = files.open_to_append(path)
        named_files.claim(f"log {path}", fd, taken)  # before it is mended
        if stat.S_ISREG(os.fstat(fd).st_mode) and not named_files.is_stderr(fd):
            _mend(fd, path)
    except OSError as error:
        raise Stop(FIX_FIRST, f"cannot open log {path}: {why(error)}") from None
    return fd


def _mend(fd: int, path: str) -> None:
    """Take off a last line that a kill cut short; not while others write, whose line it may be.

    Writers hold a shared lock. Whoever gets the exclusive one is alone, and keeps it only to mend: who holds it
    longer is no writer of a log.
    """
    end = time.monotonic() + MENDING
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _cut_to_whole_lines(fd, path)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return
        if time.monotonic() > end:
            raise Stop(FIX_FIRST, f"cannot use log {path}: another process has locked it, as if it were its done-file")
        time.sleep(0.01)


def _cut_to_whole_lines(fd: int, path: str) -> None:
    size = end = os.fstat(fd).st_size
    with open(path, "rb") as file:
        while end > 0:
            begin = max(0, end - files.CHUNK)
            file.seek(begin)
            at = file.read(end - begin).rfind(b"\n")
            if at >= 0:
                end = begin + at + 1
                break
            end = begin
        file.seek(end)
        begun = file.read(len(_BEGINS))
    if end == size:
        return
    if begun == _BEGINS[: len(begun)]:
        os.ftruncate(fd, end)
    else:  # no event of ours: it is left as it is, on a line of its own
        os.write(fd, b"\n")
