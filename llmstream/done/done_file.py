"""The done-file: one file of finished answers. Lock, recovery, look-up, durable append.

Nothing here knows what a request means: a line has a key, and what its writer put in.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import stat
import sys
import threading
import zlib
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmstream.records import exact
from llmstream.shell.messages import CANNOT_WRITE, FIX_FIRST, LATER, Stop, warn, why

if TYPE_CHECKING:  # who only reads a done-file needs no loop
    import asyncio

_HEAD = b'{"key":"'
_CRC = b',"crc":"'
_TAIL = len(_CRC + b'00000000"}')
SHOWN = 10  # damaged lines that get a warning of their own; after that they are counted
SYNC_EVERY = 0.01  # seconds from one fdatasync to the next: what is written meanwhile shares it
LINE, BLOCK = 4 << 10, 128 << 10  # bytes read at once: for a line anywhere, for one near that before it


class DiskFailed(Exception):
    """The done-file can no longer be written; the run has to end."""


# -- lines --------------------------------------------------------------------------------------


def seal(fields: dict[str, Any]) -> bytes:
    """A line of the file: the fields, and a checksum of them behind."""
    body = exact.dumps(fields)[:-1]
    return b'%b%b%08x"}\n' % (body, _CRC, zlib.crc32(body))


def key_of(line: bytes) -> bytes | None:
    """The key of a line that is whole; None for a damaged one."""
    if line[-_TAIL:-10] == _CRC:
        if line[-10:] != b'%08x"}' % zlib.crc32(line[:-_TAIL]):
            return None
        if line.startswith(_HEAD):
            return line[len(_HEAD) : line.index(b'"', len(_HEAD))]
    return _key_by_hand(line)


def sealed(lines: Sequence[bytes]) -> bool:
    """Are all these lines as seal() makes them, without their newlines? A third of the time that key_of() takes."""
    crc32, tail = zlib.crc32, -_TAIL
    sums = array("I", [crc32(line[:tail]) for line in lines])
    if sys.byteorder == "little":
        sums.byteswap()
    wanted = sums.tobytes().hex("|", 4).replace("|", '"},"crc":"')
    return b"".join([line[tail:] for line in lines]) == b',"crc":"%b"}' % wanted.encode()


def _key_by_hand(line: bytes) -> bytes | None:
    """The same for a line that somebody wrote or mended: any layout, but a checksum only where it can be checked."""
    data = _fields(line)
    if data is None or not isinstance(data.get("answer"), str) or not isinstance(data.get("key"), str):
        return None
    key: str = data["key"]
    return key.encode() if data.get("crc") is None or line[-_TAIL:-10] == _CRC else None


def _fields(line: bytes) -> dict[str, Any] | None:
    try:
        data = exact.loads_quickly(line)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def _rejected(line: bytes) -> bool:
    """Does a line hold an answer that was not accepted?"""
    return b'"rejected"' in line and isinstance((_fields(line) or {}).get("rejected"), str)


# -- the index ----------------------------------------------------------------------------------


class Index:
    """Where each key's line begins, and how often the key came up in this run: 16 bytes a slot.

    Tables of a fixed size, at most half full, none ever moved: 32 bytes a request, the first
    half a million of them there from the start, and no moment at which old and new exist
    side by side. A slot holds 64 bits of hash and, in the other 64, place and count; whoever
    reads a line checks its key, so equal hashes cost a call and never give a wrong answer.
    """

    SLOTS = 1 << 20
    COUNT_BITS = 24
    MOST = (1 << COUNT_BITS) - 1  # that can be counted

    def __init__(self) -> None:
        self._tables = [self._table()]
        self._room = self.SLOTS // 2
        self.keys = 0  # that have a line

    def find(self, key: bytes) -> int | None:
        table, at, _ = self._slot(key)
        place = table[at + 1] >> self.COUNT_BITS
        return place - 1 if place else None

    def put(self, key: bytes, place: int) -> None:
        table, at = self._claim(key)
        before = table[at + 1]
        self.keys += not before >> self.COUNT_BITS
        table[at + 1] = (place + 1) << self.COUNT_BITS | before & self.MOST

    def count(self, key: bytes) -> int:
        """How often this key was counted before."""
        table, at = self._claim(key)
        seen: int = table[at + 1] & self.MOST
        if seen == self.MOST:
            raise OverflowError("one request came up 16 million times in one run")
        table[at + 1] += 1
        return seen

    @classmethod
    def _table(cls) -> array[int]:
        return array("Q", [0]) * (2 * cls.SLOTS)

    def _slot(self, key: bytes) -> tuple[array[int], int, int]:
        """The slot that holds a key's tag, or the free one of the last table where it would go; and the tag."""
        tag = hash(key) & 0xFFFF_FFFF_FFFF_FFFF or 1
        mask = 2 * self.SLOTS - 1
        table, at = self._tables[0], 0
        for table in self._tables:
            at = (tag << 1) & mask
            while (found := table[at]) and found != tag:
                at = (at + 2) & mask
            if found:
                break
        return table, at, tag

    def _claim(self, key: bytes) -> tuple[array[int], int]:
        table, at, tag = self._slot(key)
        if not table[at]:
            if not self._room:
                self._tables.append(self._table())
                self._room = self.SLOTS // 2
                table, at, _ = self._slot(key)
            self._room -= 1
            table[at] = tag
        return table, at


# -- opening ------------------------------------------------------------------------------------


def _open(path: str) -> int:
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


def _sync_directory(path: str) -> None:
    """A new name must survive a power cut as its lines do."""
    with contextlib.suppress(OSError):
        fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


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
    """Who has the lock, as far as the kernel tells."""
    inode = str(os.fstat(fd).st_ino)
    with contextlib.suppress(OSError, LookupError, ValueError):
        with open("/proc/locks") as locks:
            fields = [line.split() for line in locks]
        pid, *_ = [f[4] for f in fields if f[1] == "FLOCK" and f[5].rpartition(":")[2] == inode]
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = [os.path.basename(word.decode(errors="replace")) for word in file.read().split(b"\0")[:3]]
        name = next((word for word in words if word.startswith("llm-")), words[0])
        return f"{name} (process {pid})"
    return "another process"


# -- the file -----------------------------------------------------------------------------------


class DoneFile:
    """An open done-file. Only one process has it at a time."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.index = Index()
        self.fd = _open(path)
        self._block, self._block_at = b"", 0  # what was read last, and from where: a line never changes
        self._damaged = 0
        try:
            self._recover()
        except OSError as error:
            raise Stop(CANNOT_WRITE, f"cannot recover done-file {path}: {why(error)}") from None
        self.usable = self.index.keys
        self._broken: str | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._syncing: list[asyncio.Future[None]] = []
        self._synced_at = 0.0  # by the loop's clock
        self._orders: queue.SimpleQueue[asyncio.AbstractEventLoop] | None = None

    def _recover(self) -> None:
        """Read the file once; leave it ending with a whole line, and on disk."""
        place, number = 0, 1
        with open(self.fd, "rb", buffering=1 << 20, closefd=False) as file:
            while lines := file.readlines(1 << 20):
                torn = b"" if lines[-1].endswith(b"\n") else lines.pop()
                self._note_all(lines, place, number)
                place, number = place + sum(map(len, lines)), number + len(lines)
                if torn:
                    self._mend_tail(torn, place, number)
        if self._damaged > SHOWN:
            warn(f"ignoring {self._damaged - SHOWN} further damaged lines of {self.path}")
        os.fdatasync(self.fd)  # a run that was killed may have left lines that are not, and a replay prints them

    def _note_all(self, lines: Sequence[bytes], place: int, number: int) -> None:
        """Lines that follow one another, most often as we wrote them, and none of them rejected."""
        bare = [line.rstrip() for line in lines]
        ours = not any(b'"rejected"' in line or not line.startswith(_HEAD) for line in bare) and sealed(bare)
        for nth, (line, whole) in enumerate(zip(bare, lines, strict=True), number):
            if ours:
                self.index.put(line[len(_HEAD) : line.index(b'"', len(_HEAD))], place)
            else:
                self._note(line, place, nth)
            place += len(whole)

    def _note(self, line: bytes, place: int, number: int) -> None:
        key = key_of(line)
        if key is None:
            self._tell_damaged(line, number)
        elif not _rejected(line) or self._rejected(key):
            # Of two lines with a key the last one counts, but a rejected answer never hides an accepted one.
            self.index.put(key, place)

    def _rejected(self, key: bytes) -> bool:
        """Is there no accepted answer to this key?"""
        place = self.index.find(key)
        return place is None or _rejected(self._line(place))

    def _tell_damaged(self, line: bytes, number: int) -> None:
        if not line:
            return
        self._damaged += 1
        if self._damaged <= SHOWN:
            hint = "; if you mended it by hand, delete its crc" if b'"crc"' in line else ""
            warn(f"ignoring {self.path}:{number}: the line is damaged{hint}")

    def _mend_tail(self, line: bytes, place: int, number: int) -> None:
        """A last line without its newline: keep it if it is whole, else set it aside."""
        if key_of(line.rstrip()) is None:
            kept = self._set_aside(line)
            os.ftruncate(self.fd, place)
            self._block = b""
            warn(f"{self.path}:{number}: the last line was torn; {kept}")
        else:
            os.write(self.fd, b"\n")
            self._note(line.rstrip(), place, number)

    def _set_aside(self, line: bytes) -> str:
        """A courtesy, for whoever may want to mend it: the line is cut off in any case."""
        torn, line = f"{self.path}.torn", line + b"\n"
        try:
            with open(_open(torn), "ab", buffering=0) as file:
                while line:
                    line = line[file.write(line) or 0 :]
        except (OSError, Stop) as error:
            reason = error.reason if isinstance(error, Stop) else why(error)
            return f"it is cut off, and not set aside: {reason}"
        return f"it is set aside in {torn}"

    # -- look-up

    def find(self, key: str) -> dict[str, Any] | None:
        """The line that a key has, if it has one."""
        place = self.index.find(key.encode())
        if place is None:
            return None
        try:
            line = self._line(place)
        except OSError as error:  # what it says was paid for: rather stop than pay for it again
            raise Stop(CANNOT_WRITE, f"cannot read done-file {self.path}: {why(error)}") from None
        # Checked once more: two keys may share a hash, and somebody may have written into the file.
        return _fields(line) if key_of(line) == key.encode() else None

    def _line(self, place: int) -> bytes:
        at = place - self._block_at
        end = self._block.find(b"\n", at) if at >= 0 else -1
        if end < 0:
            self._read_block(place, near=-BLOCK < at < 2 * BLOCK)
            at = place - self._block_at
            end = self._block.find(b"\n", at)
        return self._block[at : end if end >= 0 else None].rstrip()

    def _read_block(self, place: int, *, near: bool) -> None:
        """Read the line at a place, and where the one before was near also what is around it: a replay asks for
        the lines about as they stand in the file."""
        start, size = (max(0, place - BLOCK // 4), BLOCK) if near else (place, LINE)
        while True:
            self._block, self._block_at = os.pread(self.fd, size, start), start
            if self._block.find(b"\n", place - start) >= 0 or len(self._block) < size:
                return
            size *= 4

    # -- append

    def append(self, fields: dict[str, Any]) -> None:
        """Write a line: it survives the end of this process from here on, and a power cut once synced."""
        if self._broken:
            raise DiskFailed(self._broken)
        line = seal(fields)
        written = 0
        try:
            while written < len(line):
                written += os.write(self.fd, line[written:])
            end = os.lseek(self.fd, 0, os.SEEK_CUR)
        except OSError as error:
            self._cut_back(written)
            raise self._breaks(f"cannot write done-file {self.path}: {why(error)}") from None
        self.index.put(fields["key"].encode(), end - written)

    def _cut_back(self, written: int) -> None:
        """Take a line that was written in part off again."""
        with contextlib.suppress(OSError):  # if that fails too, the next run sets the torn line aside
            if written:
                os.ftruncate(self.fd, os.lseek(self.fd, 0, os.SEEK_CUR) - written)

    def _breaks(self, reason: str) -> DiskFailed:
        self._broken = self._broken or reason
        return DiskFailed(reason)

    async def synced(self) -> None:
        """Wait until all that has been written is on disk. Whoever comes before a fdatasync begins shares it."""
        if self._broken:
            raise DiskFailed(self._broken)
        import asyncio

        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiting.append(waiter)
        if len(self._waiting) == 1 and not self._syncing:
            loop.call_at(self._synced_at + SYNC_EVERY, self._sync, loop)
        await waiter

    def _sync(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._orders is None:
            self._orders = queue.SimpleQueue()
            threading.Thread(target=self._syncer, args=(self._orders,), daemon=True).start()
        self._syncing, self._waiting = self._waiting, []
        self._orders.put(loop)

    def _syncer(self, orders: queue.SimpleQueue[asyncio.AbstractEventLoop]) -> None:
        while True:
            loop = orders.get()
            error = self._put_on_disk()
            with contextlib.suppress(RuntimeError):  # the loop is gone: so is whoever waited
                loop.call_soon_threadsafe(self._after_sync, loop, error)

    def _put_on_disk(self) -> str | None:
        """Sync the file; what is wrong, if something is."""
        try:
            os.fdatasync(self.fd)
            if os.path.samestat(os.fstat(self.fd), os.stat(self.path)):
                return None
        except OSError as failure:
            return why(failure)
        return "another file has taken its place"  # an editor's way to save; what we write would be lost

    def _after_sync(self, loop: asyncio.AbstractEventLoop, error: str | None) -> None:
        if error:  # never tried again: the kernel may have dropped the pages it could not write
            failed = self._breaks(f"cannot sync done-file {self.path}: {error}")
            self._syncing += self._waiting
            self._waiting = []
        for waiter in self._syncing:
            if waiter.done():
                continue
            if error:
                waiter.set_exception(failed)
            else:
                waiter.set_result(None)
        self._syncing = []
        self._synced_at = loop.time()
        if self._waiting:
            loop.call_at(self._synced_at + SYNC_EVERY, self._sync, loop)
