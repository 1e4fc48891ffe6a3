"""Reading a done-file once, when it is opened, whatever state it was left in."""

from __future__ import annotations

import os
from collections.abc import Sequence

from llmstream.done.index import Index
from llmstream.done.line import accepted_keys, is_rejected, key_of
from llmstream.done.line_reader import LineReader
from llmstream.done.opening import open_safely
from llmstream.shell.messages import CANNOT_WRITE, Stop, warn, why

SHOWN = 10  # damaged lines that get a warning of their own; after that they are counted


def recover(fd: int, path: str, index: Index, reader: LineReader) -> None:
    """Fill the index; leave the file ending with a whole line, and on disk."""
    try:
        _Recovery(fd, path, index, reader).read()
        os.fdatasync(fd)  # a run that was killed may have left lines that are not, and a replay prints them
    except OSError as error:
        raise Stop(CANNOT_WRITE, f"cannot recover done-file {path}: {why(error)}") from None


class _Recovery:
    """One reading of a file, from its beginning to its end."""

    def __init__(self, fd: int, path: str, index: Index, reader: LineReader) -> None:
        self._fd = fd
        self._path = path
        self._index = index
        self._reader = reader
        self._damaged = 0

    def read(self) -> None:
        place, number = 0, 1
        with open(self._fd, "rb", buffering=1 << 20, closefd=False) as file:
            while lines := file.readlines(1 << 20):
                torn = b"" if lines[-1].endswith(b"\n") else lines.pop()
                self._add_all(lines, place, number)
                place, number = place + sum(map(len, lines)), number + len(lines)
                if torn:
                    self._mend_tail(torn, place, number)
        if self._damaged > SHOWN:
            warn(f"ignoring {self._damaged - SHOWN} further damaged lines of {self._path}")

    def _add_all(self, lines: Sequence[bytes], place: int, number: int) -> None:
        """Lines that follow one another, most often as we wrote them, and none of them rejected."""
        bare = [line.rstrip() for line in lines]
        keys = accepted_keys(bare)
        for nth, line in enumerate(lines):
            if keys:
                self._index.put(keys[nth], place)
            else:
                self._add(bare[nth], place, number + nth)
            place += len(line)

    def _add(self, line: bytes, place: int, number: int) -> None:
        key = key_of(line)
        if key is None:
            self._warn_of_damage(line, number)
            return
        if is_rejected(line):  # the last line with a key wins, but a rejected answer never hides an accepted one
            before = self._index.find(key)
            if before is not None and not is_rejected(self._reader.line_at(before)):
                return
        self._index.put(key, place)

    def _warn_of_damage(self, line: bytes, number: int) -> None:
        if not line:
            return
        self._damaged += 1
        if self._damaged <= SHOWN:
            hint = "; if you mended it by hand, delete its crc" if b'"crc"' in line else ""
            warn(f"ignoring {self._path}:{number}: the line is damaged{hint}")

    def _mend_tail(self, line: bytes, place: int, number: int) -> None:
        """A last line without its newline: keep it if it is whole, else set it aside."""
        bare = line.rstrip()
        if key_of(bare) is None:
            kept = _set_aside(line, f"{self._path}.torn")
            os.ftruncate(self._fd, place)
            self._reader.forget()
            warn(f"{self._path}:{number}: the last line was torn; {kept}")
        else:
            os.write(self._fd, b"\n")
            self._add(bare, place, number)


def _set_aside(line: bytes, path: str) -> str:
    """A courtesy, for whoever may want to mend it: the line is cut off in any case. What became of it."""
    line += b"\n"
    try:
        with open(open_safely(path), "ab", buffering=0) as file:
            while line:
                line = line[file.write(line) or 0 :]
    except (OSError, Stop) as error:
        reason = error.reason if isinstance(error, Stop) else why(error)
        return f"it is cut off, and not set aside: {reason}"
    return f"it is set aside in {path}"
