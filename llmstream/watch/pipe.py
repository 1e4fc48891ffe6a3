"""llm-progress in a pipe: bytes go through as they are, as soon as they come, and their lines are counted."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import queue
import re
import select
import signal
import stat
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType, SimpleNamespace
from typing import NamedTuple

from llmstream.shell import files, messages, progress_line
from llmstream.shell.messages import CANNOT_WRITE, FIX_FIRST, Stop, why
from llmstream.shell.progress_line import clock, pace

CHUNK = 128 << 10  # bytes at a time; pipes stay as small as they are: what waits in one is counted, and nobody has it
COUNTED = 1 << 20  # bytes at a time of a file whose lines are counted
INTERVAL = 60.0  # seconds between plain lines
LOOK = 1.0  # seconds between two looks at the counters where nothing is drawn
NOW, LATELY = 5.0, 30.0  # seconds over which a rate is what it is now, and over which the time left is told
AGES = 100 * 86400  # seconds: so much time left means that nobody knows


@dataclass(slots=True)
class Passed:
    """What has gone through so far."""

    lines: int = 0
    bytes: int = 0
    began: float = field(default_factory=time.monotonic)


def run(o: SimpleNamespace) -> int:
    """From stdin to stdout; the exit status, unless it dies by a signal."""
    files.check(o, ["-"])
    size = o.size if o.size_of is None else count_records(o.size_of)
    passed = Passed()
    teller = Teller(o, size, passed)
    pipe = Pipe(passed, teller)
    try:
        number = pipe.copy()
    finally:
        teller.end()
    if number:
        messages.die_by(number)
    return 0


# -- how many are expected ----------------------------------------------------------------------


def count_records(path: str) -> int:
    """The lines of a file that hold something."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO is not waited for
        with open(fd, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(0, "it is not a regular file")
            return records_in(iter(lambda: file.read(COUNTED), b""))
    except OSError as error:
        raise Stop(FIX_FIRST, f"cannot count the lines of {path}: {why(error)}") from None


def records_in(chunks: Iterator[bytes]) -> int:
    """The same of bytes as they come; a line may be longer than all of memory."""
    count = 0
    begun = False  # does the line that has no end yet hold something?
    for chunk in chunks:
        first, last = chunk.find(b"\n"), chunk.rfind(b"\n")
        if first < 0:
            begun = begun or not chunk.isspace()
            continue
        count += begun or _something(chunk[:first])
        count += chunk.count(b"\n") - 1 - len(_BLANK.findall(chunk, first))
        begun = _something(chunk[last + 1 :])
    return count + begun


def _something(part: bytes) -> bool:
    return bool(part) and not part.isspace()


_NEWLINE = 10
_BLANK = re.compile(rb"\n[ \t\r\v\f]*(?=\n)")


# -- the bytes ----------------------------------------------------------------------------------


class Pipe:
    """The standard streams, and the signals that end them."""

    def __init__(self, passed: Passed, teller: Teller) -> None:
        self._passed = passed
        self._signal = 0
        self._sigpipe_ignored = messages.sigpipe_was_ignored()
        kind = os.fstat(1).st_mode
        watched = stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)  # whoever reads these can be seen to leave
        private = _never_blocking() if stat.S_ISFIFO(kind) else None
        self._out = 1 if private is None else private
        self._at_once = select.PIPE_BUF if watched and private is None else CHUNK  # what can be written without waiting
        self._wipe = teller.line.wipe if teller.line and os.isatty(1) else None
        self._room = select.poll()
        self._room.register(self._out, select.POLLOUT)
        self._woken = self._catch_signals(teller)
        self._idle: select.poll | None = None
        if not stat.S_ISREG(os.fstat(0).st_mode):  # a file always has something to read, or its end
            self._idle = select.poll()
            for fd, events in ((0, select.POLLIN), (self._woken, select.POLLIN), *[(1, 0)] * watched):
                self._idle.register(fd, events)

    def copy(self) -> int:
        """Pass all through; the signal that ended it, or 0 at the end of the input."""
        try:
            self._copy()
        except OSError as error:
            if not isinstance(error, BrokenPipeError) or self._sigpipe_ignored:
                raise Stop(CANNOT_WRITE, f"cannot write stdout: {why(error)}") from None
            self._signal = self._signal or signal.SIGPIPE
        return self._signal

    def _copy(self) -> None:
        buffer = bytearray(CHUNK)
        view = memoryview(buffer)
        last = _NEWLINE
        while size := self._read(buffer):
            self._write(buffer, view, size)
            last = buffer[size - 1]
        self._passed.lines += last != _NEWLINE and not self._signal
        for fd in {1, self._out}:  # whoever reads is not to wait for our last words
            os.close(fd)

    def _read(self, buffer: bytearray) -> int:
        """The next bytes, as many as there are; none at the end, or after a signal."""
        while not self._signal and (self._idle is None or self._ready(self._idle)):
            try:
                return os.readv(0, [buffer])
            except BlockingIOError:  # a neighbour was quicker
                continue
            except OSError as error:
                raise Stop(FIX_FIRST, f"cannot read stdin: {why(error)}") from None
        return 0

    def _ready(self, idle: select.poll) -> bool:
        """Wait until there is something to read; False after a signal."""
        while True:
            ready = dict(idle.poll())
            if 1 in ready:
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            if self._woken in ready:
                os.read(self._woken, CHUNK)
            if self._signal or 0 in ready:
                return not self._signal

    def _write(self, buffer: bytearray, view: memoryview, size: int) -> None:
        """All of it, however little is taken at a time. What was taken is counted."""
        done = 0
        wait = self._at_once < CHUNK
        while done < size:
            if wait:
                self._room.poll()
            if self._wipe:
                self._wipe()
            try:
                end = done + os.write(self._out, view[done : min(size, done + self._at_once)])
            except BlockingIOError:
                wait = True
                continue
            self._passed.lines += buffer.count(b"\n", done, end)
            self._passed.bytes += end - done
            done = end

    def _catch_signals(self, teller: Teller) -> int:
        """Have signals noted: what was read is written before they end us. What poll() sees when there was one."""
        reader, writer = os.pipe()
        for fd in (reader, writer):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, and a shell's background jobs
                signal.signal(number, self._signalled)
        signal.signal(signal.SIGUSR1, lambda *_: teller.tell())
        if teller.line and signal.getsignal(signal.SIGTSTP) is not signal.SIG_IGN:
            signal.signal(signal.SIGTSTP, teller.line.suspend)
        return reader

    def _signalled(self, number: int, _: FrameType | None) -> None:
        if self._signal:
            messages.die_by(number)
        self._signal = number


def _never_blocking() -> int | None:
    """The pipe that is stdout once more: a write to it takes as much as there is room for, and never waits."""
    # Not a flag on stdout itself, which is shared with others. A pipe that has lost its reader cannot be opened.
    with contextlib.suppress(OSError):
        return os.open("/proc/self/fd/1", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return None


# -- figures ------------------------------------------------------------------------------------


class Figures(NamedTuple):
    """How far it is at one moment."""

    lines: int
    size: int | None
    bytes: int
    elapsed: float
    now: float  # lines a second
    overall: float
    left: float | None  # seconds


def figures(seen: Sequence[tuple[float, int]], size: int | None, passed: Passed, at: float) -> Figures:
    """seen: when there were how many lines, the oldest first."""
    lines, elapsed = passed.lines, at - passed.began
    overall = lines / elapsed if elapsed > 0 else 0.0
    lately = rate_over(LATELY, seen, lines, at)
    left = (size - lines) / lately if size is not None and lately > 0 and lines <= size else None
    if left is not None and left > AGES:
        left = None
    return Figures(lines, size, passed.bytes, elapsed, rate_over(NOW, seen, lines, at), overall, left)


def rate_over(seconds: float, seen: Sequence[tuple[float, int]], lines: int, at: float) -> float:
    """Lines a second, of so many seconds before now."""
    then, before = next((one for one in seen if at - one[0] <= seconds), (at, lines))
    return (lines - before) / (at - then) if at > then else 0.0


def as_line(name: str, its: Figures) -> progress_line.Shown:
    """On a terminal: what matters most comes first."""
    after = [pace(its.now), *_left(its), f"{pace(its.overall)} overall", clock(its.elapsed), volume(its.bytes)]
    return progress_line.Shown(name, _count(its), _share(its), ", ".join(after))


def as_words(its: Figures) -> str:
    """Elsewhere, and when somebody asks."""
    parts = [_amount(its), f"{pace(its.now)} now", f"{pace(its.overall)} overall", clock(its.elapsed), *_left(its)]
    return ", ".join(parts)


def as_end(its: Figures) -> str:
    """What it came to; the rate of less than a second would say nothing."""
    overall = [pace(its.overall)] * (its.elapsed >= 1)
    return ", ".join([_amount(its), volume(its.bytes), *overall, clock(its.elapsed)])


def _amount(its: Figures) -> str:
    share = _share(its)
    known = share is not None and its.lines <= (its.size or 0)
    return _count(its) + (f" ({progress_line.percent(share)})" if known and share is not None else "")


def _count(its: Figures) -> str:
    if its.size is not None:
        return f"{its.lines:,} of {its.size:,}"
    return f"{its.lines:,} line{'s' * (its.lines != 1)}"


def _share(its: Figures) -> float | None:
    return min(1.0, its.lines / its.size) if its.size else None


def _left(its: Figures) -> list[str]:
    return [f"{clock(math.ceil(its.left))} left"] if its.left is not None else []


def volume(size: float) -> str:
    if size < 1000:
        return f"{size} B"
    units = ["TB", "GB", "MB", "kB"]
    while (size := size / 1000) >= 999.95 and len(units) > 1:
        units.pop()
    return f"{size:,.1f} {units[-1]}"


# -- telling ------------------------------------------------------------------------------------


class Teller:
    """A thread that tells how far it is: nothing that a terminal or a reader of stderr does holds up the bytes."""

    def __init__(self, o: SimpleNamespace, size: int | None, passed: Passed) -> None:
        self._name = o.name
        self._quiet = o.quiet
        self._every = INTERVAL if o.interval is None else o.interval
        self._size = size
        self._passed = passed
        self._seen: deque[tuple[float, int]] = deque([(passed.began, 0)])
        self._orders: queue.SimpleQueue[bool] = queue.SimpleQueue()  # may be filled from within a signal's handler
        self.line = progress_line.Line() if messages.on_screen(2) and not o.quiet else None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def tell(self) -> None:
        """Say at once how far it is."""
        self._orders.put(True)

    def end(self) -> None:
        """Say what it came to."""
        self._orders.put(False)
        self._thread.join()

    def _work(self) -> None:
        try:
            due = time.monotonic() + self._every
            while (order := self._next()) is not False:
                its = self._figures()
                if order:
                    self._say(as_words(its))
                elif self.line:
                    self.line.draw(as_line(self._name or messages.tool, its))
                elif not self._quiet and (late := time.monotonic() - due) >= 0:
                    self._say(as_words(its))
                    due += self._every * (1 + late // self._every)  # one, however long it slept
            if not self._quiet:
                self._say(as_end(self._figures()))
            if self.line:
                self.line.clear()
        except Exception as error:  # noqa: BLE001 - a thread has nobody to tell it to
            messages.say(messages.bug(error))

    def _next(self) -> bool | None:
        """Tell, or end; None if it is only time to look."""
        try:
            return self._orders.get(timeout=progress_line.EVERY if self.line else min(LOOK, self._every))
        except queue.Empty:
            return None

    def _figures(self) -> Figures:
        at = time.monotonic()
        while self._seen and at - self._seen[0][0] > LATELY:
            self._seen.popleft()
        its = figures(self._seen, self._size, self._passed, at)
        self._seen.append((at, its.lines))
        return its

    def _say(self, words: str) -> None:
        if self.line:
            self.line.say(f"{self._name or messages.tool}: {words}")
        else:
            messages.say(f"{self._name}: {words}" if self._name else words)
