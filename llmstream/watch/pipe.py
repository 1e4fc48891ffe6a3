"""llm-progress in a pipe: bytes go through as they are, as soon as they come, and their lines are counted."""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import select
import signal
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

from llmstream.shell import messages, neighbours, progress_line
from llmstream.shell.messages import CANNOT_WRITE, FIX_FIRST, Stop, why
from llmstream.watch import how_far
from llmstream.watch.expected import Expected
from llmstream.watch.how_far import HowFar, Mark, Passed

CHUNK = 128 << 10  # bytes at a time; pipes stay as small as they are: what waits in one is counted, and nobody has it
INTERVAL = 60.0  # seconds between plain lines
LOOK = 1.0  # seconds between two looks at the counters where nothing is drawn

_NEWLINE = 10


class Announcements(NamedTuple):
    """What is said on the way, and how."""

    name: str | None  # what stands before the figures; the tool's name if none was given
    interval: float | None  # seconds between plain lines
    quiet: bool


def run(expected: Expected, said: Announcements) -> int:
    """From stdin to stdout; the exit status, unless it dies by a signal."""
    neighbourhood = Neighbourhood()
    passed = Passed()
    announcer = Announcer(said, expected.records(), passed)
    pipe = Pipe(passed, announcer, neighbourhood.end)
    try:
        number = pipe.copy()
    finally:
        announcer.end()
    if number:
        messages.die_by(number)
    if neighbourhood.early:
        raise neighbourhood.early
    return 0


class Neighbourhood:
    """Our filters before and behind us: those behind learn of an early end before us."""

    def __init__(self) -> None:
        self.early: Stop | None = None
        self._downstream, self._upstream = neighbours.Pipe(1, "w"), neighbours.Pipe(0, "r")

    def end(self) -> None:
        """The input has ended, and whoever reads us is still there."""
        self.early = neighbours.early_end(self._upstream)
        if not self.early:
            self._downstream.end_well()


# -- the bytes ----------------------------------------------------------------------------------


class Pipe:
    """The standard streams, and the signals that end them."""

    def __init__(self, passed: Passed, announcer: Announcer, before_closing: Callable[[], None]) -> None:
        self._before_closing = before_closing
        self._passed = passed
        self._signal = 0
        self._sigpipe_ignored = messages.sigpipe_was_ignored()
        kind = os.fstat(1).st_mode
        watched = stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)  # whoever reads these can be seen to leave
        private = _never_blocking() if stat.S_ISFIFO(kind) else None
        self._out = 1 if private is None else private
        self._at_once = select.PIPE_BUF if watched and private is None else CHUNK  # what can be written without waiting
        self._wipe = announcer.line.wipe if announcer.line and os.isatty(1) else None
        self._room = select.poll()
        self._room.register(self._out, select.POLLOUT)
        self._woken = self._catch_signals(announcer)
        self._idle: select.poll | None = None
        if not stat.S_ISREG(os.fstat(0).st_mode):  # a file always has something to read, or its end
            self._idle = select.poll()
            self._idle.register(0, select.POLLIN)
            self._idle.register(self._woken, select.POLLIN)
            if watched:
                self._idle.register(1, 0)

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
        if not self._signal:
            self._before_closing()
        for fd in {1, self._out}:  # whoever reads must not wait for our last words
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

    def _catch_signals(self, announcer: Announcer) -> int:
        """Have signals noted: what was read is written before they end us. What poll() sees when there was one."""
        reader, writer = os.pipe()
        for fd in (reader, writer):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, and a shell's background jobs
                signal.signal(number, self._signalled)
        signal.signal(signal.SIGUSR1, lambda *_: announcer.announce())
        if announcer.line and signal.getsignal(signal.SIGTSTP) is not signal.SIG_IGN:
            signal.signal(signal.SIGTSTP, announcer.line.suspend)
        return reader

    def _signalled(self, number: int, _: FrameType | None) -> None:
        if self._signal:
            messages.die_by(number)
        self._signal = number


def _never_blocking() -> int | None:
    """The pipe that is stdout, opened once more: a write to it takes as much as there is room for, and never waits."""
    # Not a flag on stdout itself, which is shared with others. A pipe that has lost its reader cannot be opened.
    with contextlib.suppress(OSError):
        return os.open("/proc/self/fd/1", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return None


# -- what is said -------------------------------------------------------------------------------


class Announcer:
    """A thread that says how far it is: whatever a terminal or a reader of stderr does, the bytes go on."""

    def __init__(self, said: Announcements, size: int | None, passed: Passed) -> None:
        self._said = said
        self._size = size
        self._passed = passed
        self._marks: deque[Mark] = deque([(passed.began, 0)])
        self._orders: queue.SimpleQueue[bool] = queue.SimpleQueue()  # may be filled from within a signal's handler
        self.line = progress_line.Line() if messages.on_screen(2) and not said.quiet else None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def announce(self) -> None:
        """Say at once how far it is."""
        self._orders.put(True)

    def end(self) -> None:
        """Say what it came to."""
        self._orders.put(False)
        self._thread.join()

    def _work(self) -> None:
        try:
            self._announce_until_the_end()
            if not self._said.quiet:
                self._say(how_far.as_last_message(self._measure()))
            if self.line:
                self.line.clear()
        except Exception as error:  # noqa: BLE001 - nobody would hear of it from a thread
            messages.say(messages.bug(error))

    def _announce_until_the_end(self) -> None:
        every = INTERVAL if self._said.interval is None else self._said.interval
        look = progress_line.EVERY if self.line else min(LOOK, every)
        due = time.monotonic() + every
        while True:
            order = self._next_order(look)
            if order is False:
                return
            late = time.monotonic() - due
            its = self._measure()
            if order:
                self._say(how_far.as_message(its))
            elif self.line:
                self.line.draw(how_far.as_drawn(self._said.name or messages.tool, its))
            elif late >= 0 and not self._said.quiet:
                self._say(how_far.as_message(its))
                due += every * (1 + late // every)  # one message, however long it slept

    def _next_order(self, seconds: float) -> bool | None:
        """To say how far it is, or to end; None if it is only time to look."""
        try:
            return self._orders.get(timeout=seconds)
        except queue.Empty:
            return None

    def _measure(self) -> HowFar:
        at = time.monotonic()
        while self._marks and at - self._marks[0][0] > how_far.LATELY:
            self._marks.popleft()
        its = how_far.measure(self._marks, self._size, self._passed, at)
        self._marks.append((at, its.lines))
        return its

    def _say(self, words: str) -> None:
        name = self._said.name
        if self.line:
            self.line.say(f"{name or messages.tool}: {words}")
        else:
            messages.say(f"{name}: {words}" if name else words)
