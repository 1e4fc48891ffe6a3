"""A done-file read as it grows, and what its answers come to. A large one is read by several processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from llmstream.done import line
from llmstream.watch import tail
from llmstream.watch.tail import Tail
from llmstream.watch.totals import Totals

T = TypeVar("T")


class Answers:
    """A done-file, and what its answers come to."""

    def __init__(self, file: Tail, *, labels: bool) -> None:
        self.file = file
        self.totals = Totals(labels=labels)
        self._labels = labels

    def update(self, fd: int | None, recent_from: float) -> None:
        """Read what was added. recent_from: since when each second is of interest."""
        if not self.file.place:
            self.totals = Totals(labels=self._labels)
        self.totals.times.forget_seconds_before(recent_from)
        if fd is None or self.file.status is None:
            return
        *others, last = tail.shares(fd, self.file.place, self.file.status.st_size)
        elsewhere = [_in_child(partial(self._total, fd, *share)) for share in others]
        if elsewhere:
            of_last, self.file.place = self._total(fd, *last)
            for totals, _ in [*(result() for result in elsewhere), (of_last, 0)]:
                self.totals.merge(totals)
        else:
            self.file.place = _add(self.totals, fd, *last)
        rest = tail.line_without_newline(fd, self.file.place)
        answers, _ = line.parse_all_fields([rest])
        if answers:  # whole, though its newline is missing
            self.totals.add(answers)
            self.file.place += len(rest)

    def _total(self, fd: int, place: int, end: int | None) -> tuple[Totals, int]:
        """What a part of the file comes to, and where its last whole line ends."""
        totals = Totals(labels=self._labels, recent_from=self.totals.times.recent_from)
        return totals, _add(totals, fd, place, end)


def _add(totals: Totals, fd: int, place: int, end: int | None) -> int:
    for lines, behind in tail.whole_lines(fd, place, end):
        answers, damaged = line.parse_all_fields(lines)
        totals.add(answers)
        totals.damaged += damaged
        place = behind
    return place


def _in_child(work: Callable[[], T]) -> Callable[[], T]:
    """Have work done in a process of its own. What is returned waits for the result."""
    import pickle  # few files are as large as that

    reader, writer = os.pipe()
    try:
        child = os.fork()
    except OSError:  # there may be no more processes
        return work
    if not child:
        try:
            os.close(reader)
            with open(writer, "wb") as pipe:
                pickle.dump(work(), pipe)
        finally:
            os._exit(0)
    os.close(writer)

    def result() -> T:
        with open(reader, "rb") as pipe:
            data = pipe.read()
        os.waitpid(child, 0)
        try:
            found: T = pickle.loads(data)  # noqa: S301 - of our own child
        except (EOFError, pickle.UnpicklingError):  # it was killed, or could not read: then so it is here
            return work()
        return found

    return result
