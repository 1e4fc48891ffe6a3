"""One file a record, written whole or not at all, and never outside the fixed part of its path.

The path is made by a template. Its fixed part is what stands before the first variable, up to its
last slash: the user's own, and taken as it is. Behind it every name comes from data. Folders are
opened one by one from there on, links are not followed, and what would lead elsewhere fails the record.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable, Collection, Iterator

from llmstream.records import exact
from llmstream.records.values import Failure, Record
from llmstream.records.words import brief
from llmstream.shell import files, named_files
from llmstream.shell.messages import CANNOT_WRITE, FIX_FIRST, Stop, why

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)  # the next record would fare no better


def fixed_part(template: str) -> str | None:
    """Of a template of paths; None if nothing in it is variable."""
    before = re.split(r"\{[{%#]", template, maxsplit=1)
    return before[0][: before[0].rfind("/") + 1] if len(before) > 1 else None


class FileForEachRecord:
    """Writes records to files of their own."""

    def __init__(
        self, fixed: str, path_of: Callable[[Record], bytes | Failure], others: Collection[str | int] = ()
    ) -> None:
        """fixed: what each path begins with. others: files that are open already, and must not be replaced."""
        self._fixed = fixed
        self._path_of = path_of
        self._others = others
        self._not_ours: set[named_files.Identity | None] = set()
        self._written: set[bytes] = set()
        self._base: int | None = None
        self._temporary = b".llm-merge.%d.tmp" % os.getpid()

    def put(self, record: Record) -> Failure | None:
        """Write a record's file; why it cannot be."""
        path = self._path_of(record)
        if isinstance(path, Failure):
            return path
        wrong = self._wrong_with(path) or self._write(path, exact.pretty(record.data) + b"\n")
        if wrong:
            return Failure("each", f"cannot write {brief(path.decode())}: {wrong}")
        self._written.add(path)
        return None

    def _wrong_with(self, path: bytes) -> str | None:
        fixed = self._fixed.encode()
        names = path.removeprefix(fixed).split(b"/")
        if not path.startswith(fixed) or any(name in (b"", b".", b"..") or b"\0" in name for name in names):
            return "a name in it is empty, . or .., or holds a NUL"
        return "it is the file of an earlier record" if path in self._written else None

    def _write(self, path: bytes, data: bytes) -> str | None:
        """Write a file, but none of those in use; why it cannot be."""
        *folders, name = path.removeprefix(self._fixed.encode()).split(b"/")
        try:
            with self._folder(folders) as folder:
                with contextlib.suppress(OSError):
                    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                    if (status.st_dev, status.st_ino) in self._not_ours:
                        return "it is a file of this very run"
                if not _holds(data, name, folder):
                    files.replace(name, self._temporary, data, folder)
        except OSError as error:
            if error.errno in _FULL:
                raise Stop(CANNOT_WRITE, f"cannot write {brief(path.decode())}: {why(error)}") from None
            return "a link or a file is in the way" if error.errno in (errno.ELOOP, errno.ENOTDIR) else why(error)
        return None

    @contextlib.contextmanager
    def _folder(self, names: list[bytes]) -> Iterator[int]:
        """The folder of these names within the fixed part, open; what is missing is made."""
        if self._base is None:
            self._base = self._open_base()
        fd = os.dup(self._base)
        try:
            for name in names:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=fd)
                inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
                os.close(fd)
                fd = inner
            yield fd
        finally:
            os.close(fd)

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
