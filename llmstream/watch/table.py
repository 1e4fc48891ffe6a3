"""Stages as the lines of a table, also where a terminal is narrow."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from llmstream.records.figures import UNKNOWN, clock, rate, short, sum_in_dollars
from llmstream.records.values import Spent
from llmstream.records.words import escape
from llmstream.watch.stages import Seen

HEADS = ("STAGE", "DONE", "FAILED", "LEFT", "RATE", "INPUT", "OUTPUT", "COST", "ETA", "STATE")
SPARED = ("OUTPUT", "INPUT", "RATE", "COST", "FAILED", "DONE")  # one after another, where the terminal is narrow
SHORTEST_NAME = 16  # of a stage, before a column is spared


def table(seen: Sequence[Seen], most: int | None = None) -> list[str]:
    """The stages as lines, none of them wider than that."""
    rows = [HEADS, *(_cells(_row(one)) for one in seen)]
    if len(seen) > 1:
        rows.append(_cells(_total(seen)))
    columns: dict[str, Sequence[str]] = {column[0]: column for column in zip(*rows, strict=True)}
    if most is not None:
        columns = _narrowed(columns, most)
    names, *figures, states = columns.values()
    cells = [_padded(names), *map(partial(_padded, left=True), figures), states]
    lines = ["  ".join(row).rstrip() for row in zip(*cells, strict=True)]
    return lines if most is None else [shortened(line, most) for line in lines]


def state(one: Seen) -> str:
    """What goes on, in a word."""
    if one.stage.running is not None:
        return "running"
    if one.kind == "nothing":
        return "waiting"
    if one.complete:
        return "done"
    return "failed" if one.stage.left == 0 and one.stage.failed else "stopped"


# -- rows -------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    """The figures of a stage, or of all of them; None is what is not known."""

    name: str
    done: int
    failed: int | None
    left: int | None
    rate: float | None
    spent: Sequence[Spent]
    eta: float | None
    state: str


def _row(one: Seen) -> _Row:
    it = one.stage
    rate = it.overall if it.rate is None else it.rate
    return _Row(escape(it.name), it.done, it.failed, it.left, rate, list(it.models.values()), it.eta, state(one))


def _total(seen: Sequence[Seen]) -> _Row:
    """All stages together: what each took adds up, and the slowest says when they are ready."""
    stages = [one.stage for one in seen]
    return _Row(
        "total",
        sum(stage.done for stage in stages),
        _sum_if_known(stage.failed for stage in stages),
        _sum_if_known(stage.left for stage in stages),
        _sum_of_known(stage.rate for stage in stages),
        [spent for stage in stages for spent in stage.models.values()],
        _longest([0.0 if one.complete else one.stage.eta for one in seen]),
        "",
    )


def _sum_if_known(counts: Iterable[int | None]) -> int | None:
    """None if one of them is not known."""
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total


def _sum_of_known(rates: Iterable[float | None]) -> float | None:
    """None if none of them is known."""
    known = [rate for rate in rates if rate is not None]
    return math.fsum(known) if known else None


def _longest(etas: Sequence[float | None]) -> float | None:
    """None if one of them is not known, or nothing is left."""
    known = [eta for eta in etas if eta is not None]
    return max(known) or None if len(known) == len(etas) else None


def _cells(row: _Row) -> tuple[str, ...]:
    return (
        row.name,
        f"{row.done:,}",
        UNKNOWN if row.failed is None else f"{row.failed:,}",
        UNKNOWN if row.left is None else f"{row.left:,}",
        UNKNOWN if row.rate is None else rate(row.rate),
        short(sum(spent.input for spent in row.spent)) if row.spent else UNKNOWN,
        short(sum(spent.output for spent in row.spent)) if row.spent else UNKNOWN,
        sum_in_dollars(spent.cost for spent in row.spent),
        UNKNOWN if row.eta is None else clock(math.ceil(row.eta)),
        row.state,
    )


# -- columns ----------------------------------------------------------------------------------------


def _narrowed(columns: Mapping[str, Sequence[str]], most: int) -> dict[str, Sequence[str]]:
    """The columns for which there is room, and the names shortened."""
    figures = dict(columns)
    names = figures.pop("STAGE")
    least = min(SHORTEST_NAME, max(map(width, names)))
    for head in SPARED:
        if _width_together(figures) + least > most:
            del figures[head]
    room = max(1, most - _width_together(figures))
    return {"STAGE": [shortened(name, room) for name in names], **figures}


def _width_together(columns: Mapping[str, Sequence[str]]) -> int:
    """With the space before each."""
    return sum(2 + max(map(width, column)) for column in columns.values())


def _padded(column: Sequence[str], *, left: bool = False) -> list[str]:
    """A column made equally wide: numbers end below one another, names begin so."""
    wide = max(map(width, column))
    spaces = [" " * (wide - width(cell)) for cell in column]
    return [space + cell if left else cell + space for space, cell in zip(spaces, column, strict=True)]


def width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)


def shortened(text: str, most: int) -> str:
    """Beginning and end of a text that is too wide: the end of a path tells most."""
    if width(text) <= most:
        return text
    head, tail = "", ""
    while width(head) < most // 3:
        head += text[len(head)]
    while width(tail) < most - 1 - width(head):
        tail = text[-len(tail) - 1] + tail
    tail = tail[1:] if width(head) + 1 + width(tail) > most else tail
    return f"{head}…{tail}"
