"""What a run came to: lines for a person, an object for programs, and how far it has got."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from functools import reduce
from typing import Any, Protocol

from llmstream.books import histogram
from llmstream.books.events import Counts, Events
from llmstream.records import exact, words
from llmstream.records.figures import dollars, duration, rate, tokens
from llmstream.records.values import Spent
from llmstream.shell import files, messages, named_files
from llmstream.shell.messages import FIX_FIRST, Stop, warn, why

MOST_SHOWN = 8  # models that a line names


class Totals(Protocol):
    """What a tool counts besides, for the end of the run."""

    def as_lines(self) -> list[str]: ...  # for people

    def as_dict(self) -> dict[str, Any]: ...  # for programs


# -- for a person -------------------------------------------------------------------------------


def books(counts: Counts) -> str:
    """The line of a run in which nobody was asked."""
    left = counts.read - counts.out - counts.failed
    unfinished = [f"unfinished {left}"] if left else []
    return ", ".join([*_records(counts), *unfinished, _time(counts)])


def lines(events: Events, usable: int | None, most: float | None = None) -> list[str]:
    """The lines at the end: records and calls, then what they took. usable: lines in the done-file at the start.
    most: what the run was allowed to cost."""
    counts = events.counts
    parts = _records(counts)
    for name, count in (("kept", counts.kept), ("unasked", counts.unasked), ("lost", counts.lost)):
        if count:
            parts.append(f"{name} {count}")
    of = f" (of {usable} in the file)" if usable else ""
    tries = f" in {counts.tries} tries" if counts.tries != counts.calls else ""
    parts += [f"replayed {counts.replayed}{of}", *_saved(counts), f"calls {counts.calls}{tries}", _time(counts)]
    return [", ".join(parts), *_taken(events, most)]


def _records(counts: Counts) -> list[str]:
    more = ", ..." if counts.failed > len(counts.names) else ""
    failed = f"failed {counts.failed}" + (f" ({', '.join(counts.names)}{more})" if counts.names else "")
    return [f"read {counts.read}", f"out {counts.out}", failed]


def _saved(counts: Counts) -> list[str]:
    """Calls that need not be made, where the number of records does not say it already."""
    saved = []
    if counts.recalled != counts.replayed:
        saved.append(f"{counts.recalled} calls by the done-file")
    if counts.shared:
        saved.append(f"{counts.shared} by --share")
    return [f"saved {' and '.join(saved)}"] if saved else []


def _time(counts: Counts) -> str:
    seconds = counts.seconds()
    speed = f" ({rate(counts.out / seconds, 'records')})" if seconds >= 1 and counts.out else ""
    return f"{seconds:.1f} s{speed}"


def _taken(events: Events, most: float | None) -> list[str]:
    """Tokens, money and time of the calls."""
    if not events.spent:
        return []
    spent = total(events)
    parts = [f"tokens {tokens(spent.input, spent.output, spent.cached, spent.reasoning)}", _money(events, most)]
    if latency := latencies(events):
        parts.append("latency " + ", ".join(f"{name} {duration(seconds)}" for name, seconds in latency.items()))
    return ["; ".join(parts)]


def total(events: Events) -> Spent:
    """What all models took together."""
    return reduce(Spent.plus, events.spent.values(), Spent())


def _money(events: Events, most: float | None) -> str:
    over = f", {dollars(events.cost - most)} over --max-cost" if most and events.cost and events.cost > most else ""
    each = [f"{words.brief(model, 60)} {dollars(spent.cost)}" for model, spent in events.spent.items()]
    if len(each) > MOST_SHOWN:
        each = [*each[:MOST_SHOWN], "..."]
    return f"cost {dollars(events.cost)}{over}" + (f" ({', '.join(each)})" if len(each) > 1 else "")


def latencies(events: Events) -> dict[str, float]:
    """Percentiles of how long replies took, in seconds."""
    found = {f"p{share}": histogram.percentile(events.latencies, share / 100) for share in (50, 95, 99)}
    return {name: float(f"{seconds:.3g}") for name, seconds in found.items() if seconds is not None}


# -- for programs -------------------------------------------------------------------------------


def as_dict(events: Events, status: int, stopped: str | None) -> dict[str, Any]:
    """Everything, as an object. stopped: why the run ended early."""
    counts = events.counts
    seconds, spent = counts.seconds(), total(events)
    return {
        "tool": messages.tool,
        "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "status": status,
        "stopped": stopped,
        "read": counts.read,
        "out": counts.out,
        "failed": counts.failed,
        "kept": counts.kept,
        "unasked": counts.unasked,
        "lost": counts.lost,
        "replayed": counts.replayed,
        "calls": counts.calls,
        "tries": counts.tries,
        "unanswered": counts.tries - counts.ended,
        "saved": {"done": counts.recalled, "share": counts.shared},
        "tokens": {"input": spent.input, "output": spent.output, "cached": spent.cached, "reasoning": spent.reasoning},
        "cost": spent.cost,
        "models": {model: one._asdict() for model, one in events.spent.items()},
        "seconds": round(seconds, 3),
        "rate": round(counts.out / seconds, 3) if seconds else None,
        "latency": latencies(events),
        "failures": dict(counts.kinds),
        "first_failed": counts.names,
    }


class File:
    """The file that --summary names: whole or not there, and never that of an earlier run."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._stderr = named_files.is_stderr(path)
        try:
            self._whole = not self._stderr and not path.startswith(("/dev/", "/proc/")) and _can_be_replaced(path)
            if self._whole:
                self._path = os.path.realpath(path)
                os.close(os.open(files.beside(self._path), os.O_WRONLY | os.O_CREAT, 0o666))  # can it be written?
                os.unlink(files.beside(self._path))
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path)
        except OSError as error:
            raise Stop(FIX_FIRST, f"cannot write summary {path}: {why(error)}") from None

    def write(self, summary: dict[str, Any]) -> None:
        data = words.for_terminal(exact.pretty(exact.scrub(summary))) + b"\n"
        try:
            if self._whole:
                files.replace(self._path, files.beside(self._path), data)
                return
            fd = os.dup(2) if self._stderr else os.open(self._path, os.O_WRONLY | os.O_APPEND)
            while data:
                data = data[files.write(fd, data) :]
            os.close(fd)
        except OSError as error:
            warn(f"cannot write summary {self._path}: {why(error)}")


def _can_be_replaced(path: str) -> bool:
    """Is it a regular file, or none yet?"""
    if not os.path.exists(path):
        return True
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return stat.S_ISREG(os.stat(path).st_mode)
