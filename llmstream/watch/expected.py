"""How many records are expected: a number that was given, or the lines of a file that hold something."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from typing import NamedTuple

from llmstream.shell.messages import FIX_FIRST, Stop, why

CHUNK = 1 << 20  # bytes at a time

_BLANK = re.compile(rb"\n[ \t\r\v\f]*(?=\n)")


class Expected(NamedTuple):
    """What the command line says of it; both are None where it says nothing."""

    size: int | None
    size_of: str | None  # a file

    def records(self) -> int | None:
        return self.size if self.size_of is None else _records_of(self.size_of)


def _records_of(path: str) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # does not wait for a FIFO
        with open(fd, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(0, "it is not a regular file")
            return count_records(iter(lambda: file.read(CHUNK), b""))
    except OSError as error:
        raise Stop(FIX_FIRST, f"cannot count the lines of {path}: {why(error)}") from None


def count_records(chunks: Iterable[bytes]) -> int:
    """The lines that hold something, of bytes as they come; a line may be longer than all of memory."""
    count = 0
    begun = False  # does the line that has no end yet hold something?
    for chunk in chunks:
        first, last = chunk.find(b"\n"), chunk.rfind(b"\n")
        if first < 0:
            begun = begun or not chunk.isspace()
            continue
        count += begun or _holds_something(chunk[:first])
        count += chunk.count(b"\n") - 1 - len(_BLANK.findall(chunk, first))
        begun = _holds_something(chunk[last + 1 :])
    return count + begun


def _holds_something(part: bytes) -> bool:
    return bool(part) and not part.isspace()
