"""The done-file: one file of finished answers. Look-up and durable append.

Nothing here knows what a request means: a line has a key, and what its writer put in.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from llmstream.done.group_sync import GroupSync
from llmstream.done.index import Index
from llmstream.done.line import Line, parse, seal
from llmstream.done.line_reader import LineReader
from llmstream.done.opening import open_safely
from llmstream.done.recovery import recover
from llmstream.shell.messages import CANNOT_WRITE, Stop, why


class DiskFailed(Exception):
    """The done-file can no longer be written; the run has to end."""


class DoneFile:
    """An open done-file. Only one process has it at a time."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = open_safely(path)
        self.index = Index()
        self._reader = LineReader(self.fd)
        recover(self.fd, path, self.index, self._reader)
        self.usable = self.index.keys  # answers of earlier runs
        self._sync = GroupSync(self.fd, path)
        self._write_failed: str | None = None

    # -- look-up

    def find(self, key: str) -> Line | None:
        """The line that a key has, if it has one."""
        place = self.index.find(key.encode())
        if place is None:
            return None
        try:
            line = parse(self._reader.line_at(place))
        except OSError as error:  # what it says was paid for: rather stop than pay for it again
            raise Stop(CANNOT_WRITE, f"cannot read done-file {self.path}: {why(error)}") from None
        # Checked once more: two keys may share a hash, and somebody may have written into the file.
        return line if line and line.key == key else None

    # -- append

    def append(self, line: Line | Mapping[str, Any]) -> None:
        """Write a line: it survives the end of this process from here on, and a power cut once synced."""
        self._refuse_broken()
        fields = line.as_fields() if isinstance(line, Line) else line
        raw = seal(fields)
        written = 0
        try:
            while written < len(raw):
                written += os.write(self.fd, raw[written:])
            end = os.lseek(self.fd, 0, os.SEEK_CUR)
        except OSError as error:
            with contextlib.suppress(OSError):  # if that fails too, the next run sets the torn line aside
                if written:
                    os.ftruncate(self.fd, os.lseek(self.fd, 0, os.SEEK_CUR) - written)
            self._write_failed = f"cannot write done-file {self.path}: {why(error)}"
            raise DiskFailed(self._write_failed) from None
        self.index.put(fields["key"].encode(), end - written)

    async def synced(self) -> None:
        """Wait until all that has been written is on disk."""
        self._refuse_broken()
        error = await self._sync.synced()
        if error:
            raise self._cannot_sync(error)

    def _refuse_broken(self) -> None:
        if self._write_failed:
            raise DiskFailed(self._write_failed)
        if self._sync.failed:
            raise self._cannot_sync(self._sync.failed)

    def _cannot_sync(self, reason: str) -> DiskFailed:
        return DiskFailed(f"cannot sync done-file {self.path}: {reason}")
