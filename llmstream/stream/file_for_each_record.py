"""--each: one file a record, written whole or not at all, and never outside the template's fixed part.

The fixed part is what stands before the first variable, up to its last slash: the user's own, and
taken as it is. Behind it every name comes from data. Folders are opened one by one from there on,
links are not followed, and what would lead elsewhere fails the record.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Collection

from llmstream.prompts import bodies
from llmstream.records import exact
from llmstream.records.values import Failure, Record
from llmstream.records.words import brief
from llmstream.shell import files, named_files
from llmstream.shell.messages import CANNOT_WRITE, FIX_FIRST, Stop, why

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)  # the next record would fare no better


class Each:
    """Writes records to files of their own."""

    def __init__(self, template: str, others: Collection[str | int] = ()) -> None:
        """others: files that are open already, and must not be replaced."""
        before = re.split(r"\{[{%#]", template, maxsplit=1)
        if len(before) == 1:
            raise Stop(FIX_FIRST, f"cannot use --each {template}: without a {{{{ field }}}} all records are one file")
        self._fixed = before[0][: before[0].rfind("/") + 1]
        try:
            self._path = bodies.template(template)
        except ValueError as error:
            raise Stop(FIX_FIRST, f"cannot use the template of --each: {error}") from None
        self._others = others
        self._not_ours: set[named_files.Identity | None] = set()
        self._written: set[str] = set()
        self._base: int | None = None
        self._temporary = b".llm-merge.%d.tmp" % os.getpid()

    def put(self, record: Record) -> Failure | None:
        """Write a record's file; why it cannot be."""
        try:
            path = self._path(record)
            names = path.removeprefix(self._fixed).encode().split(b"/")
        except Exception as error:  # noqa: BLE001 - a template may fail in any way; it is this record's failure
            return Failure("template", bodies.explain(error))
        shown = brief(path)
        if any(name in (b"", b".", b"..") or b"\0" in name for name in names) or not path.startswith(self._fixed):
            return Failure("each", f"cannot write {shown}: a name in it is empty, . or .., or holds a NUL")
        if path in self._written:
            return Failure("each", f"cannot write {shown}: it is the file of an earlier record")
        try:
            if not self._write(names, exact.pretty(record.data) + b"\n"):
                return Failure("each", f"cannot write {shown}: it is a file of this very run")
        except OSError as error:
            if error.errno in _FULL:
                raise Stop(CANNOT_WRITE, f"cannot write {shown}: {why(error)}") from None
            told = "a link or a file is in the way" if error.errno in (errno.ELOOP, errno.ENOTDIR) else why(error)
            return Failure("each", f"cannot write {shown}: {told}")
        self._written.add(path)
        return None

    def _write(self, names: list[bytes], data: bytes) -> bool:
        """Write a file, but none of those in use."""
        folder = self._folder(names[:-1])
        try:
            if self._in_use(names[-1], folder):
                return False
            if not _holds(data, names[-1], folder):
                files.replace(names[-1], self._temporary, data, folder)
            return True
        finally:
            os.close(folder)

    def _in_use(self, name: bytes, folder: int) -> bool:
        with contextlib.suppress(OSError):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            return (status.st_dev, status.st_ino) in self._not_ours
        return False

    def _folder(self, names: list[bytes]) -> int:
        """The folder of these names within the fixed part; what is missing is made."""
        if self._base is None:
            self._base = self._open_base()
        fd = os.dup(self._base)
        for name in names:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=fd)
            try:
                inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
            finally:
                os.close(fd)
            fd = inner
        return fd

    def _open_base(self) -> int:
        folder = self._fixed or "."
        try:
            self._not_ours = set(map(named_files.identity, self._others))
            os.makedirs(folder, exist_ok=True)
            return os.open(folder, _FOLDER)
        except OSError as error:
            status = CANNOT_WRITE if error.errno in _FULL else FIX_FIRST
            raise Stop(status, f"cannot write into {folder}: {why(error)}") from None


def _holds(data: bytes, name: bytes, folder: int) -> bool:
    """Is this what the file holds already? Then it is left alone, for make's sake."""
    with contextlib.suppress(OSError):
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        with open(fd, "rb") as file:
            return os.fstat(fd).st_size == len(data) and file.read(len(data)) == data
    return False
