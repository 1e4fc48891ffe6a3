"""Which process of a pipe draws the progress line, and what the others have to show in it.

Of several processes in one process group on one terminal, one draws: the one that can bind a socket that is
named after these. The others connect to it and send what they have to show. When it leaves, or is killed,
they find out when they next draw, and one of them takes its place.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import sys
from typing import NamedTuple

from llmstream.shell import processes

LONGEST = 200  # characters of each text of a part
MOST = 16  # other processes that one draws for


class Shown(NamedTuple):
    """What a process has to show."""

    name: str
    text: str  # how far it is: "1,234 of 5,000", "1,234 lines"
    share: float | None = None  # the same as a share of all, if that is known: makes a bar
    after: str = ""  # "123/s, 0:32 left, 3 failed": what matters most comes first, the rest may be dropped


class _Part(NamedTuple):
    began: int  # when its process did: a shell starts the processes of a pipe from left to right
    pid: int
    shown: Shown


class LineSharing:
    """Who draws, and for whom. Where sockets need a file, each process draws for itself."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._began = processes.start_ticks(os.getpid()) or 0
        self._alone = sys.platform != "linux"
        self._drawer: socket.socket | None = None  # another process draws
        self._door: socket.socket | None = None  # we do, and others come in here
        self._guests: dict[socket.socket, _Part | None] = {}

    def parts(self, shown: Shown) -> list[Shown]:
        """What is to be drawn; nothing if another process draws it."""
        if not (self._alone or self._door or self._send(shown)):
            self._find_a_place()
            self._send(shown)
        if not (self._alone or self._door):
            return []
        self._let_in()
        for guest in list(self._guests):
            self._receive(guest)
        parts = [_Part(self._began, os.getpid(), shown), *filter(None, self._guests.values())]
        return [part.shown for part in sorted(parts, key=lambda part: part[:2])]

    def leave(self) -> None:
        for sock in (self._door, self._drawer, *self._guests):
            if sock:
                sock.close()
        self._door = self._drawer = None
        self._guests.clear()

    def _find_a_place(self) -> None:
        """Draw, or find the process that does; if that one is just leaving, there is another time."""
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
        else:  # any user may take the name, but is sent nothing
            sock.close()
            self._alone = True

    def _send(self, shown: Shown) -> bool:
        """Send our part to the process that draws; False if none does."""
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

    def _let_in(self) -> None:
        with contextlib.suppress(OSError):
            while self._door:
                guest, _ = self._door.accept()
                guest.setblocking(False)
                if len(self._guests) < MOST and _peer(guest)[1] == os.geteuid():
                    self._guests[guest] = None
                else:
                    guest.close()

    def _receive(self, guest: socket.socket) -> None:
        """Of all that a process has sent since, keep the last."""
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
    name, text, after = (field[:LONGEST] for field in (shown.name, shown.text, shown.after))
    return json.dumps([began, name, text, shown.share, after]).encode()


def _unpacked(data: bytes, pid: int) -> _Part | None:
    """What a process sent; None if it makes no sense."""
    try:
        began, name, text, share, after = json.loads(data)
    except (ValueError, TypeError, RecursionError):
        return None
    if not (isinstance(began, int) and all(isinstance(field, str) for field in (name, text, after))):
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
