"""The files that a command line names: none is written for two purposes, and none that is read is written."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

from llmstream.shell.messages import FIX_FIRST, Stop

READ, WRITTEN, OWN = "read", "written", "own"  # own: written, and nothing else may write into it

Identity = tuple[int, int]  # what tells a regular file from any other, whatever its name


class NamedFile(NamedTuple):
    """A file, and what is done with it."""

    flag: str  # the option that names it
    file: str | int  # its path, or a descriptor
    use: str  # READ, WRITTEN or OWN


def refuse_shared(named: Sequence[NamedFile], inputs: Iterable[str] = ()) -> None:
    """Stop if two of these, or the standard streams, are one file, whatever its names, and one of the two writes it."""
    read = [NamedFile("stdin", 0, READ) if name == "-" else NamedFile("the input", name, READ) for name in inputs]
    streams = [NamedFile("stdout", 1, OWN), NamedFile("stderr", 2, WRITTEN)]
    for one, other in combinations([*named, *read, *streams], 2):
        uses = {one.use, other.use}
        if uses == {READ} or one in streams or not _same(one.file, other.file):
            continue
        if uses == {WRITTEN} and is_stderr(one.file):
            continue  # messages, events and failed records may follow one another there
        shown = one.file if isinstance(one.file, str) else one.flag
        raise Stop(FIX_FIRST, f"cannot use {shown} for both {one.flag} and {other.flag}: it is the same file")
    for file in named:
        if file.use != READ and file.flag != "-d":
            _spare_answers(file)


def claim(what: str, fd: int, taken: set[Identity]) -> None:
    """A file that has been opened for writing must be none of those taken; from here on it is one of them.

    refuse_shared() has looked at the names before; this is for two that have become one file since.
    """
    mine = identity(fd)
    if mine is None or mine == identity(2):
        return
    if mine in taken:
        raise Stop(FIX_FIRST, f"cannot use {what}: this run reads or writes the same file already")
    taken.add(mine)


def identity(file: int | str) -> Identity | None:
    """What a regular file is, whatever its name; None for anything else."""
    status = _status(file)
    return (status.st_dev, status.st_ino) if status and stat.S_ISREG(status.st_mode) else None


def is_stderr(file: int | str) -> bool:
    """Is this, whatever its name, what stderr goes to?"""
    found, stderr = _status(file), _status(2)
    return bool(found and stderr and os.path.samestat(found, stderr))


def _same(one: int | str, other: int | str) -> bool:
    """Are these one regular file, or two names of one that is still to be made?"""
    found, also = _status(one), _status(other)
    if found and also:
        return stat.S_ISREG(found.st_mode) and os.path.samestat(found, also)
    if found or also or isinstance(one, int) or isinstance(other, int):
        return False
    return os.path.realpath(one) == os.path.realpath(other)


def _status(file: int | str) -> os.stat_result | None:
    try:
        return os.stat(file)
    except OSError:
        return None


def _spare_answers(file: NamedFile) -> None:
    """A slip of the hand must not cost a done-file."""
    with contextlib.suppress(OSError):
        if identity(file.file) is None:
            return
        with open(file.file, "rb") as found:
            if found.read(len(_ANSWERS)) == _ANSWERS:
                raise Stop(FIX_FIRST, f"cannot use {file.file} for {file.flag}: it is a done-file")


_ANSWERS = b'{"key":"'  # what a done-file begins with
