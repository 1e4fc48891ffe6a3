"""llm-progress with operands: what done-files and logs tell, once or again and again."""

from __future__ import annotations

import errno
import os
import select
import signal
import stat
import time
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

from llmstream.books import histogram
from llmstream.books.summary import dollars
from llmstream.records import exact, values, words
from llmstream.records.words import escape
from llmstream.shell import files, messages
from llmstream.shell.messages import CANNOT_WRITE, FIX_FIRST, Stop, warn, why
from llmstream.watch.stages import Seen, Stage, Stages

ON_TERMINAL, ELSEWHERE = 2.0, 60.0  # seconds between one look and the next
UNKNOWN = "-"
HEADS = ("STAGE", "DONE", "FAILED", "LEFT", "RATE", "INPUT", "OUTPUT", "COST", "ETA", "STATE")
SPARED = ("OUTPUT", "INPUT", "RATE", "COST", "FAILED", "DONE")  # one after another, where the terminal is narrow
SHORTEST_NAME = 16  # of a stage, before a column is spared


def run(o: SimpleNamespace, names: list[str]) -> int:
    """Report on files; 0 if it is known that all is done, else 1."""
    _check(o, names)
    size = _expected(o)
    stages = Stages(names, labels=o.html is not None)
    screen = _Screen() if o.watch and not o.json and messages.on_screen(1) else None
    interval = o.interval or (ON_TERMINAL if screen else ELSEWHERE)
    rounds = 0
    while True:
        now = time.time()
        seen = stages.look(size, now)
        if not rounds:
            _tell_damaged(seen)
        _write_files(o, [one.stage for one in seen], now)
        if not o.quiet:
            _show(o, seen, size, screen, again=rounds > 0)
        complete = bool(seen) and all(one.complete for one in seen)
        if complete or not o.watch:
            return 0 if complete else 1
        rounds += 1
        _wait(interval, stdout=not o.quiet)


def _check(o: SimpleNamespace, names: Sequence[str]) -> None:
    """What can be seen to be wrong before a large file is read."""
    if 1 in o.closed and not o.quiet:
        raise Stop(CANNOT_WRITE, "cannot write stdout: it is closed")
    for name in names:
        try:
            os.stat(name)
        except OSError as error:
            if not o.watch or not isinstance(error, (FileNotFoundError, NotADirectoryError)):
                raise Stop(FIX_FIRST, f"cannot read {name}: {why(error)}") from None
    for what, path in (("metrics file", o.prometheus), ("page", o.html)):
        if path is not None:
            _check_target(what, path)
    if o.prometheus is not None and not o.prometheus.endswith(".prom"):
        warn(f"{o.prometheus} does not end in .prom: a textfile collector does not read it")


def _check_target(what: str, path: str) -> None:
    """What is replaced must not be a device."""
    real = os.path.realpath(path)
    folder = os.path.dirname(real)
    if os.path.exists(real) and not stat.S_ISREG(os.stat(real).st_mode):
        raise Stop(FIX_FIRST, f"cannot use {what} {path}: it is not a regular file")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Stop(FIX_FIRST, f"cannot use {what} {path}: nothing can be written in {folder}")


def _expected(o: SimpleNamespace) -> int | None:
    """How many records each stage is to have."""
    size: int | None = o.size
    if o.size_of is not None:
        from llmstream.watch import pipe

        size = pipe.count_records(o.size_of)
    return size


def _tell_damaged(seen: Iterable[Seen]) -> None:
    for one in seen:
        if one.damaged:
            warn(f"{one.stage.name}: damaged lines are not counted: {one.damaged}")


# -- files --------------------------------------------------------------------------------------


def _write_files(o: SimpleNamespace, stages: Sequence[Stage], now: float) -> None:
    if o.prometheus is not None:
        from llmstream.watch import metrics

        _write(o.prometheus, metrics.text(stages))
    if o.html is not None:
        from llmstream.watch import page

        _write(o.html, page.html(stages, now))


def _write(name: str, text: str) -> None:
    """Put a file in its place at once: somebody may be reading it. A signal waits until that is done."""
    real = os.path.realpath(name)
    signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        files.replace(real, files.beside(real), text.encode(errors="backslashreplace"))
    except OSError as error:
        raise Stop(CANNOT_WRITE, f"cannot write {name}: {why(error)}") from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# -- stdout -------------------------------------------------------------------------------------


def _show(o: SimpleNamespace, seen: Sequence[Seen], size: int | None, screen: _Screen | None, *, again: bool) -> None:
    if o.json:
        lines = [exact.dumps(told(one, size)) + b"\n" for one in seen]
        _print(b"".join(map(words.for_terminal, lines) if os.isatty(1) else lines))
    elif screen:
        _print(screen.frame(seen))
    else:
        _print(("\n" * again + "".join(f"{line}\n" for line in table(seen))).encode())


def _print(data: bytes) -> None:
    try:
        while data:
            data = data[files.write(1, data) :]
    except OSError as error:
        _stdout_failed(error)


def _stdout_failed(error: OSError) -> None:
    if isinstance(error, BrokenPipeError) and not messages.sigpipe_was_ignored():
        messages.die_by(signal.SIGPIPE)
    raise Stop(CANNOT_WRITE, f"cannot write stdout: {why(error)}") from None


def _wait(seconds: float, *, stdout: bool) -> None:
    """Until it is time to look again, or nobody is there who would see it."""
    watch = select.poll()
    if stdout:
        watch.register(1, 0)
    if watch.poll(seconds * 1000):
        _stdout_failed(BrokenPipeError(errno.EPIPE, ""))


class _Screen:
    """A table on a terminal, drawn over the one before."""

    def __init__(self) -> None:
        self._drawn: list[str] = []

    def frame(self, seen: Sequence[Seen]) -> bytes:
        """What makes the terminal show it: in one piece, so that it never stands there half drawn."""
        columns, rows = _terminal()
        lines = table(seen, columns - 1)
        if len(lines) >= rows:
            lines = [*lines[: max(1, rows - 2)], f"... and {len(lines) - max(1, rows - 2)} further lines"]
        up = sum(max(1, -(-width(line) // columns)) for line in self._drawn)  # it may be narrower than before
        self._drawn = lines
        begin = f"\x1b[{up}A" if up else ""
        return (begin + "\r\x1b[J" + "".join(f"{line}\n" for line in lines)).encode()


def _terminal() -> tuple[int, int]:
    try:
        size = os.get_terminal_size(1)
    except OSError:
        return 80, 24
    return size.columns or 80, size.lines or 24


# -- the table ----------------------------------------------------------------------------------


def table(seen: Sequence[Seen], most: int | None = None) -> list[str]:
    """The stages as lines, none of them wider than that."""
    rows = [HEADS, *map(_row, seen), *([_total(seen)] if len(seen) > 1 else [])]
    columns = {column[0]: column for column in zip(*rows, strict=True)}
    names = columns.pop("STAGE")
    if most is not None:
        least = min(SHORTEST_NAME, max(map(width, names)))
        for name in SPARED:
            if _widths(columns) + least > most:
                del columns[name]
        room = max(1, most - _widths(columns))
        names = tuple(shortened(name, room) for name in names)
    state = columns.pop("STATE")
    cells = [_padded(names), *map(partial(_padded, left=True), columns.values()), state]
    lines = ["  ".join(row).rstrip() for row in zip(*cells, strict=True)]
    return lines if most is None else [shortened(line, most) for line in lines]


def _widths(columns: Mapping[str, Sequence[str]]) -> int:
    """How wide they are together, with the space before each."""
    return sum(2 + max(map(width, column)) for column in columns.values())


def _padded(column: Sequence[str], *, left: bool = False) -> list[str]:
    """A column made equally wide: numbers end below one another, names begin so."""
    wide = max(map(width, column))
    spaces = [" " * (wide - width(cell)) for cell in column]
    return [space + cell if left else cell + space for space, cell in zip(spaces, column, strict=True)]


def _row(one: Seen) -> tuple[str, ...]:
    stage = one.stage
    spent = list(stage.models.values())
    return (
        escape(stage.name),
        f"{stage.done:,}",
        _whole(stage.failed),
        _whole(stage.left),
        _speed(stage.overall if stage.rate is None else stage.rate),
        short(sum(each.input for each in spent)) if spent else UNKNOWN,
        short(sum(each.output for each in spent)) if spent else UNKNOWN,
        _money(each.cost for each in spent),
        _span(stage.eta),
        state(one),
    )


def _total(seen: Sequence[Seen]) -> tuple[str, ...]:
    """All stages together: what each took adds up, and the slowest says when they are ready."""
    stages = [one.stage for one in seen]
    spent = [each for stage in stages for each in stage.models.values()]
    rates = [stage.rate for stage in stages if stage.rate is not None]
    etas = [0.0 if one.complete else one.stage.eta for one in seen]
    known = [eta for eta in etas if eta is not None]
    return (
        "total",
        f"{sum(stage.done for stage in stages):,}",
        _whole(_sum(stage.failed for stage in stages)),
        _whole(_sum(stage.left for stage in stages)),
        _speed(sum(rates) if rates else None),
        short(sum(each.input for each in spent)) if spent else UNKNOWN,
        short(sum(each.output for each in spent)) if spent else UNKNOWN,
        _money(each.cost for each in spent),
        _span(max(known) if len(known) == len(etas) and any(known) else None),
        "",
    )


def state(one: Seen) -> str:
    """What goes on, in a word."""
    if one.stage.running is not None:
        return "running"
    if one.kind == "nothing":
        return "waiting"
    return "done" if one.complete else "failed" if one.stage.left == 0 and one.stage.failed else "stopped"


def _sum(counts: Iterable[int | None]) -> int | None:
    found = list(counts)
    return None if None in found else sum(count for count in found if count is not None)


def _whole(count: int | None) -> str:
    return UNKNOWN if count is None else f"{count:,}"


def short(count: float) -> str:
    """A number of tokens in a few characters."""
    if count < 10_000:
        return f"{count:,}"
    for unit in ("k", "M", "G"):
        count /= 1000
        if count < 999.5:
            return f"{count:.3g}{unit}"
    return f"{count / 1000:,.3g}T" if count < 999_500 else f"{count / 1000:,.0f}T"


def _speed(rate: float | None) -> str:
    """A rate by the second, the minute or the hour, whichever makes a number that is easy to read."""
    if rate is None:
        return UNKNOWN
    if rate == 0:
        return "0/s"
    for unit, seconds in (("s", 1), ("min", 60)):
        if rate * seconds >= 1:
            return f"{rate * seconds:,.0f}/{unit}" if rate * seconds >= 100 else f"{rate * seconds:.3g}/{unit}"
    return f"{rate * 3600:.3g}/h"


def _money(costs: Iterable[float | None]) -> str:
    """What is known of the cost; a plus where that is not all."""
    found = list(costs)
    known = [cost for cost in found if cost is not None]
    if not known:
        return UNKNOWN
    return dollars(sum(known)) + "+" * (len(known) < len(found))


def _span(seconds: float | None) -> str:
    """A time that is left."""
    if seconds is None:
        return UNKNOWN
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days:,}d {hour:02}h"
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


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


# -- for programs -------------------------------------------------------------------------------


def told(one: Seen, size: int | None) -> dict[str, Any]:
    """A stage as an object; what is not known is null."""
    stage = one.stage
    spent = list(stage.models.values())
    return {
        "stage": stage.name,
        "kind": one.kind,
        "state": state(one),
        "done": stage.done,
        "rejected": stage.rejected,
        "failed": stage.failed,
        "left": stage.left,
        "size": size,
        "running": stage.running,
        "rate": {"now": _rounded(stage.rate), "overall": _rounded(stage.overall)},
        "eta": _rounded(stage.eta),
        "tokens": {
            name: sum(getattr(each, name) for each in spent) for name in ("input", "output", "cached", "reasoning")
        },
        "cost": values.added(each.cost for each in spent),
        "models": {model: each._asdict() for model, each in stage.models.items()},
        "latency": {f"p{share}": _percentile(stage, share / 100) for share in (50, 95, 99)},
        "failures": dict(stage.failures),
        "first": _iso(stage.first),
        "last": _iso(stage.last),
        "damaged": one.damaged,
    }


def _percentile(stage: Stage, share: float) -> float | None:
    found = histogram.percentile(stage.latencies, share)
    return None if found is None else float(f"{found:.3g}")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
