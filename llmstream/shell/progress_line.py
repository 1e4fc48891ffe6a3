"""The one line at the bottom of a terminal that tells how far a pipe is; its processes share it.

The cursor rests on an empty row above the line, where it would be without the line. So what others
say stands as they wrote it, also where they know nothing of us, and what somebody types is not lost.
The next drawing finds the cursor wherever it is by then, clears all from there on and draws below it:
a message, another width or a row that was wrapped leaves no rest.

Of several processes in one process group on one terminal, one draws: whoever can bind a socket that is
named after these. The others connect to it and send what they have to tell. When it leaves, or is
killed, they find out at their next drawing, and one of them takes its place.
"""

from __future__ import annotations

import contextlib
import json
import locale
import os
import select
import signal
import socket
import struct
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import NamedTuple

from llmstream.records import words
from llmstream.records.words import escape
from llmstream.shell import messages
from llmstream.shell.messages import CLEAR, on_screen

EVERY = 0.2  # seconds from one drawing to the next
LONGEST = 200  # characters of each text of a part
MOST = 16  # processes that one draws for
BAR = 20  # cells that a bar should have; what matters least makes room for it
SHORT_BAR = 8  # a bar of fewer cells is left out

_BELOW = "\x1b[K\x1bD\x1b[A\x1b7\x1b[B\r"  # an empty row, and one below it; \x1bD scrolls where there is none
_BACK = f"{CLEAR}\x1b8"


class Shown(NamedTuple):
    """What a process has to tell."""

    name: str
    text: str  # how far it is: "1,234 of 5,000", "1,234 lines"
    share: float | None = None  # the same as a share of all, if that is known: makes a bar
    after: str = ""  # "123/s, 0:32 left, 3 failed": what matters most comes first, the rest may be dropped


# -- the text ---------------------------------------------------------------------------------


def compose(parts: Sequence[Shown], columns: int, *, ascii_only: bool = False) -> str:
    """All parts in at most so many columns: the more room, the more of each."""
    parts = [_safe(part) for part in parts]
    bar = _with_bar(parts[0], columns, ascii_only) if len(parts) == 1 else None
    return _side_by_side(parts, columns) if bar is None else bar


def clock(seconds: float) -> str:
    """A span as a clock shows it: 0:32, 1:05:09."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def pace(rate: float) -> str:
    """How many a second."""
    return f"{rate:,.0f}/s" if rate >= 100 else f"{rate:.3g}/s"


def percent(share: float) -> str:
    """A share in words: never 100 before the end."""
    return f"{min(100 * share, 99.9 if share < 1 else 100):.1f} %"


def _safe(part: Shown) -> Shown:
    name, text, after = (escape(words[:LONGEST])[:LONGEST] for words in (part.name, part.text, part.after))
    return Shown(name, text, None if part.share is None else min(1.0, max(0.0, part.share)), after)


def _with_bar(part: Shown, columns: int, ascii_only: bool) -> str | None:
    """A part that stands alone; None where a bar has no room, or nobody knows how long it would be."""
    from tqdm import tqdm  # not before something is drawn
    from tqdm.utils import disp_len

    if part.share is None:
        return None
    after = _pieces(part)
    few = min(2, len(after))
    head = f"{part.name}: {part.text}"
    for count, least in (*((n, BAR) for n in range(len(after), few - 1, -1)), (few, SHORT_BAR)):
        tail = ", ".join([percent(part.share), *after[:count]])
        if columns - disp_len(f"{head} || {tail}") >= least:
            form = "{head} |{bar}| {tail}"
            charset = " #" if ascii_only else None
            words = {"head": head, "tail": tail}
            return str(tqdm.format_meter(part.share, 1, 0, columns, ascii=charset, bar_format=form, **words))
    return None


def _side_by_side(parts: Sequence[Shown], columns: int) -> str:
    """Parts without bars: as much of each as all have room for."""
    from tqdm.utils import disp_len, disp_trim

    longest = max(len(_pieces(part)) for part in parts)
    short = [part._replace(text=part.text.partition(" ")[0]) for part in parts]
    for those, count in (*((parts, n) for n in range(longest + 1, 0, -1)), (short, 1), (short, 0)):
        line = " | ".join(_words(part, count) for part in those)
        if disp_len(line) <= columns:
            return line
    parts = short[: max(1, (columns + 3) // (3 + 5))]
    room = max(1, (columns - 3 * (len(parts) - 1)) // len(parts))
    return str(disp_trim(" | ".join(_shortest(part, room) for part in parts), columns))


def _pieces(part: Shown) -> list[str]:
    return part.after.split(", ") if part.after else []


def _words(part: Shown, count: int) -> str:
    """A part with so many of its further pieces."""
    share = f" ({percent(part.share)})" if part.share is not None and count > 1 else ""
    return ", ".join([f"{part.name}: {part.text}{share}", *_pieces(part)[:count]])


def _shortest(part: Shown, room: int) -> str:
    """As much of the name as there is room for beside how far it is."""
    from tqdm.utils import disp_len, disp_trim

    text = f": {part.text}"
    name = str(disp_trim(part.name, max(0, room - disp_len(text))))
    return f"{name}{text}" if name else str(disp_trim(text[2:], room))


# -- the terminal -----------------------------------------------------------------------------


def foreground(fd: int = 2) -> bool:
    """Does the terminal belong to us, and not to a shell that has put us into the background?"""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:  # not the terminal of our session: nobody there waits for a command
        return True


def _in_utf8() -> bool:
    return locale.getencoding().lower().replace("-", "") == "utf8"


def _size(fd: int) -> tuple[int, int]:
    """Columns and rows; of a terminal that does not know, what they used to be."""
    try:
        columns, rows = os.get_terminal_size(fd)
    except OSError:
        columns, rows = 0, 0
    return columns or 80, rows or 24


def _reopened(fd: int) -> int:
    """The terminal once more, for ourselves: it never blocks, and nobody else's descriptor changes."""
    try:
        return os.open(os.ttyname(fd), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return os.dup(fd)


class Line:
    """A process's part in the line. Draw every EVERY seconds; whatever goes wrong, nothing is raised or waited for."""

    def __init__(self, fd: int = 2) -> None:
        self._fd = fd
        self._lock = threading.RLock()  # suspend() interrupts what another thread may be drawing
        self._out: int | None = None
        self._cannot = False
        self._shared = _Shared(fd)

    def draw(self, shown: Shown) -> None:
        """Show this from now on."""
        with self._lock:
            if self._cannot or not on_screen(self._fd) or not foreground(self._fd):
                return
            try:
                self._draw(self._shared.parts(shown))
            except Exception as error:  # noqa: BLE001 - tqdm is missing, or a variable stops it: no run fails for that
                self._cannot = True
                messages.warn(f"cannot draw the progress line: {words.brief(str(error))}")

    def _draw(self, parts: Sequence[Shown]) -> None:
        columns, rows = _size(self._fd)
        if parts and rows > 1:  # the last column stays free: a cursor behind it is not where it seems to be
            text = compose(parts, columns - 1, ascii_only=not _in_utf8())
            self._write(f"{_BELOW}{text}{_BACK}")

    def wipe(self) -> None:
        """Take the line away until the next drawing: something else is about to be printed."""
        with self._lock:
            if self._out is not None and foreground(self._fd):
                self._write(CLEAR)

    def say(self, text: str) -> None:
        """A line that stays, above the one that is drawn."""
        with self._lock, contextlib.suppress(OSError):
            clear = CLEAR if on_screen(self._fd) and foreground(self._fd) else ""
            os.write(self._fd, f"{clear}{escape(text)}\n".encode())

    def clear(self) -> None:
        """Our part goes, and with the last part the line."""
        with self._lock:
            self.wipe()
            self._shared.leave()
            if self._out is not None:
                os.close(self._out)
                self._out = None

    def finish(self, text: str) -> None:
        """The same, and this stays where it was."""
        with self._lock:
            self.say(text)
            self.clear()

    def suspend(self, number: int, _: FrameType | None = None) -> None:
        """What SIGTSTP should do in the main thread: the shell's word is not to stand in the middle of ours."""
        with self._lock:
            self.wipe()
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_kill(threading.get_ident(), number)  # stops here, until somebody has us go on
            signal.signal(number, self.suspend)

    def _write(self, text: str) -> None:
        """All of it at once, or not at all where the terminal has been stopped."""
        with contextlib.suppress(OSError):
            if self._out is None:
                self._out = _reopened(self._fd)
            poll = select.poll()
            poll.register(self._out, select.POLLOUT)
            if poll.poll(0):
                os.write(self._out, text.encode())


# -- the processes ----------------------------------------------------------------------------


class _Part(NamedTuple):
    began: int  # when its process did: a shell starts the processes of a pipe from left to right
    pid: int
    shown: Shown


class _Shared:
    """Who draws, and for whom. Where no sockets without a file exist, each process draws for itself."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._began = _began()
        self._alone = sys.platform != "linux"
        self._drawer: socket.socket | None = None  # somebody else draws
        self._door: socket.socket | None = None  # we do, and others come in here
        self._guests: dict[socket.socket, _Part | None] = {}

    def parts(self, shown: Shown) -> list[Shown]:
        """What is to be drawn; nothing if somebody else draws it."""
        if not (self._alone or self._door or self._tell(shown)):
            self._find_a_place()
            self._tell(shown)
        if not (self._alone or self._door):
            return []
        self._hear()
        parts = [_Part(self._began, os.getpid(), shown), *filter(None, self._guests.values())]
        return [part.shown for part in sorted(parts, key=lambda part: part[:2])]

    def leave(self) -> None:
        for sock in (self._door, self._drawer, *self._guests):
            if sock:
                sock.close()
        self._door = self._drawer = None
        self._guests.clear()

    def _find_a_place(self) -> None:
        """Draw, or find who does; if that one is just leaving, there is another time."""
        try:
            name = f"\0llmstream-line-{os.geteuid()}-{os.fstat(self._fd).st_rdev:x}-{os.getpgrp()}"
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError:
            self._alone = True
            return
        sock.setblocking(False)
        try:
            sock.bind(name)
            sock.listen(MOST)
            self._door = sock
        except OSError:
            self._connect(sock, name)

    def _connect(self, sock: socket.socket, name: str) -> None:
        try:
            sock.connect(name)
        except OSError:
            sock.close()
            return
        if _peer(sock)[1] == os.geteuid():
            self._drawer = sock
        else:  # anybody may take the name, but is told nothing
            sock.close()
            self._alone = True

    def _tell(self, shown: Shown) -> bool:
        """Send our part to whoever draws; False if nobody does."""
        if self._drawer is None:
            return False
        try:
            self._drawer.send(_packed(self._began, shown))
        except BlockingIOError:  # it has enough to read
            pass
        except OSError:
            self._drawer.close()
            self._drawer = None
        return self._drawer is not None

    def _hear(self) -> None:
        """Let in who is at the door, and take everybody's last word."""
        with contextlib.suppress(OSError):
            while self._door:
                guest, _ = self._door.accept()
                guest.setblocking(False)
                if len(self._guests) < MOST and _peer(guest)[1] == os.geteuid():
                    self._guests[guest] = None
                else:
                    guest.close()
        for guest in list(self._guests):
            self._listen(guest)

    def _listen(self, guest: socket.socket) -> None:
        try:
            while data := guest.recv(1 << 13):
                self._guests[guest] = _unpacked(data, _peer(guest)[0]) or self._guests[guest]
        except BlockingIOError:
            return
        except OSError:
            pass
        guest.close()  # it has left
        del self._guests[guest]


def _packed(began: int, shown: Shown) -> bytes:
    name, text, after = (words[:LONGEST] for words in (shown.name, shown.text, shown.after))
    return json.dumps([began, name, text, shown.share, after]).encode()


def _unpacked(data: bytes, pid: int) -> _Part | None:
    """What a process sent; None if it makes no sense."""
    try:
        began, name, text, share, after = json.loads(data)
    except (ValueError, TypeError, RecursionError):
        return None
    if not (isinstance(began, int) and all(isinstance(words, str) for words in (name, text, after))):
        return None
    if share is not None and not (isinstance(share, int | float) and 0 <= share <= 1):
        return None
    return _Part(began, pid, Shown(name, text, share, after))


def _peer(sock: socket.socket) -> tuple[int, int]:
    """The process and the user at the other end, as the kernel knows them."""
    if sys.platform != "linux":
        raise OSError
    pid, user, _ = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, user


def _began() -> int:
    """When our process began, in the kernel's ticks."""
    try:
        with open("/proc/self/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0
