"""How far a pipe is, from what has passed through it, and how that is put into words."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from llmstream.records.figures import clock, number_of, percent, rate, volume
from llmstream.shell import progress_line

NOW, LATELY = 5.0, 30.0  # seconds over which the present rate is measured, and the one that gives the time left
AGES = 100 * 86400  # seconds: so much time left means that nobody knows

Mark = tuple[float, int]  # at this moment, so many lines had passed


@dataclass(slots=True)
class Passed:
    """What has gone through so far."""

    lines: int = 0
    bytes: int = 0
    began: float = field(default_factory=time.monotonic)


class HowFar(NamedTuple):
    """How far a pipe is at one moment."""

    lines: int
    size: int | None  # lines that are expected
    bytes: int
    elapsed: float
    now: float  # lines a second
    overall: float
    left: float | None  # seconds


def measure(marks: Sequence[Mark], size: int | None, passed: Passed, at: float) -> HowFar:
    """marks: the oldest first."""
    lines, elapsed = passed.lines, at - passed.began
    lately = _rate_over(LATELY, marks, lines, at)
    left = (size - lines) / lately if size is not None and lately > 0 and lines <= size else math.inf
    return HowFar(
        lines,
        size,
        passed.bytes,
        elapsed,
        _rate_over(NOW, marks, lines, at),
        lines / elapsed if elapsed > 0 else 0.0,
        left if left <= AGES else None,
    )


def _rate_over(seconds: float, marks: Sequence[Mark], lines: int, at: float) -> float:
    """Lines a second, over so many seconds before now."""
    then, before = next((mark for mark in marks if at - mark[0] <= seconds), (at, lines))
    return (lines - before) / (at - then) if at > then else 0.0


# -- in words -----------------------------------------------------------------------------------


def as_drawn(name: str, its: HowFar) -> progress_line.Shown:
    """On a terminal: what matters most comes first."""
    after = [rate(its.now), *_left(its), f"{rate(its.overall)} overall", clock(its.elapsed), volume(its.bytes)]
    return progress_line.Shown(name, _count(its), _share(its), ", ".join(after))


def as_message(its: HowFar) -> str:
    """Elsewhere, and when a signal asks for it."""
    rates = f"{rate(its.now)} now, {rate(its.overall)} overall"
    return ", ".join([_amount(its), rates, clock(its.elapsed), *_left(its)])


def as_last_message(its: HowFar) -> str:
    """What it came to; over less than a second, a rate would say nothing."""
    parts = [_amount(its), volume(its.bytes)]
    if its.elapsed >= 1:
        parts.append(rate(its.overall))
    return ", ".join([*parts, clock(its.elapsed)])


def _amount(its: HowFar) -> str:
    share = _share(its)
    if share is None or its.lines > (its.size or 0):
        return _count(its)
    return f"{_count(its)} ({percent(share)})"


def _count(its: HowFar) -> str:
    return number_of(its.lines, "line") if its.size is None else f"{its.lines:,} of {its.size:,}"


def _share(its: HowFar) -> float | None:
    return min(1.0, its.lines / its.size) if its.size else None


def _left(its: HowFar) -> list[str]:
    return [] if its.left is None else [f"{clock(math.ceil(its.left))} left"]
