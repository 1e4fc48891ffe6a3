"""Lines of a file by their places."""

from __future__ import annotations

import os

LINE, BLOCK = 4 << 10, 128 << 10  # bytes read at once: for a line anywhere, for one near that before it


class LineReader:
    """Reads lines of a file of which no line ever changes. A replay asks for them about in the order of the file,
    so what is around a line is read with it where the one before was near."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._block = b""  # what was read last
        self._block_at = 0  # from where

    def line_at(self, place: int) -> bytes:
        """The line that begins there, without white space at its end."""
        at = place - self._block_at
        end = self._block.find(b"\n", at) if at >= 0 else -1
        if end < 0:
            self._read_block(place, near=-BLOCK < at < 2 * BLOCK)
            at = place - self._block_at
            end = self._block.find(b"\n", at)
        return self._block[at : end if end >= 0 else None].rstrip()

    def forget(self) -> None:
        """The file was cut: a line that was known may be no more."""
        self._block = b""

    def _read_block(self, place: int, *, near: bool) -> None:
        start, size = (max(0, place - BLOCK // 4), BLOCK) if near else (place, LINE)
        while True:
            self._block, self._block_at = os.pread(self._fd, size, start), start
            if self._block.find(b"\n", place - start) >= 0 or len(self._block) < size:
                return
            size *= 4
