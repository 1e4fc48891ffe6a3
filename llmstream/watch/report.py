"""llm-progress with operands: what done-files and logs tell, once or again and again."""

from __future__ import annotations

import errno
import os
import select
import signal
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

from llmstream.books import histogram
from llmstream.records import exact, words
from llmstream.records.values import Spent
from llmstream.shell import files, messages
from llmstream.shell.messages import CANNOT_WRITE, FIX_FIRST, Stop, warn, why
from llmstream.watch.expected import Expected
from llmstream.watch.stages import Seen, Stage, Stages
from llmstream.watch.table import state, table, width

ON_TERMINAL, ELSEWHERE = 2.0, 60.0  # seconds between one look and the next


class Sources(NamedTuple):
    """What to look at."""

    names: Sequence[str]  # of done-files and logs
    expected: Expected  # of each stage
    watch: bool  # look again and again until all is done
    interval: float | None  # seconds between one look and the next


class Targets(NamedTuple):
    """The files to write."""

    metrics: str | None
    page: str | None


class Display(NamedTuple):
    """How to show it on stdout."""

    quiet: bool  # not at all
    json: bool


def run(sources: Sources, targets: Targets, display: Display) -> int:
    """Report on files; 0 if it is known that all is done, else 1."""
    _check(sources, targets)
    size = sources.expected.records()
    stages = Stages(sources.names, labels=targets.page is not None)
    screen = sources.watch and not display.json and messages.on_screen(1)
    interval = sources.interval or (ON_TERMINAL if screen else ELSEWHERE)
    render = _renderer(display, size, screen=screen)
    now = time.time()
    seen = stages.look(size, now)
    _warn_of_damage(seen)
    while True:
        _write_files(targets, [one.stage for one in seen], now)
        _print(render(seen))
        if _are_complete(seen):
            return 0
        if not sources.watch:
            return 1
        _wait(interval, stdout=not display.quiet)
        now = time.time()
        seen = stages.look(size, now)


def _are_complete(seen: Sequence[Seen]) -> bool:
    """A log without a run has no stage, and says nothing of what is done."""
    return bool(seen) and all(one.complete for one in seen)


# -- before a large file is read --------------------------------------------------------------------


def _check(sources: Sources, targets: Targets) -> None:
    for name in sources.names:
        try:
            os.stat(name)
        except OSError as error:
            may_come = sources.watch and isinstance(error, (FileNotFoundError, NotADirectoryError))
            if not may_come:
                raise Stop(FIX_FIRST, f"cannot read {name}: {why(error)}") from None
    if targets.metrics is not None:
        _check_target("metrics file", targets.metrics)
    if targets.page is not None:
        _check_target("page", targets.page)
    if targets.metrics is not None and not targets.metrics.endswith(".prom"):
        warn(f"{targets.metrics} does not end in .prom: a textfile collector does not read it")


def _check_target(what: str, path: str) -> None:
    """What is replaced must not be a device."""
    real = os.path.realpath(path)
    folder = os.path.dirname(real)
    if os.path.exists(real) and not stat.S_ISREG(os.stat(real).st_mode):
        raise Stop(FIX_FIRST, f"cannot use {what} {path}: it is not a regular file")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise Stop(FIX_FIRST, f"cannot use {what} {path}: nothing can be written in {folder}")


def _warn_of_damage(seen: Iterable[Seen]) -> None:
    for one in seen:
        if one.damaged:
            warn(f"{one.stage.name}: damaged lines are not counted: {one.damaged}")


# -- files ------------------------------------------------------------------------------------------


def _write_files(targets: Targets, stages: Sequence[Stage], now: float) -> None:
    if targets.metrics is not None:
        from llmstream.watch import metrics

        _write(targets.metrics, metrics.text(stages))
    if targets.page is not None:
        from llmstream.watch import page

        _write(targets.page, page.html(stages, now))


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


# -- stdout -----------------------------------------------------------------------------------------


def _renderer(display: Display, size: int | None, *, screen: bool) -> Callable[[Sequence[Seen]], bytes]:
    """What makes bytes for stdout of the stages, each time that they have been looked at."""
    if display.quiet:
        return lambda seen: b""
    if display.json:
        return partial(_as_json, size)
    return _Screen().frame if screen else _Tables().next


def _as_json(size: int | None, seen: Sequence[Seen]) -> bytes:
    lines = [exact.dumps(as_dict(one, size)) + b"\n" for one in seen]
    return b"".join(map(words.for_terminal, lines) if os.isatty(1) else lines)


class _Tables:
    """Tables that follow one another, a blank line between them."""

    def __init__(self) -> None:
        self._between = ""

    def next(self, seen: Sequence[Seen]) -> bytes:
        between, self._between = self._between, "\n"
        return "".join([between, *(f"{line}\n" for line in table(seen))]).encode()


class _Screen:
    """A table on a terminal, drawn over the one before."""

    def __init__(self) -> None:
        self._drawn: list[str] = []

    def frame(self, seen: Sequence[Seen]) -> bytes:
        """What makes the terminal show it: in one piece, so that it never stands there half drawn."""
        columns, rows = _terminal_size()
        lines = table(seen, columns - 1)
        if len(lines) >= rows:
            shown = max(1, rows - 2)
            lines = [*lines[:shown], f"... and {len(lines) - shown} further lines"]
        up = sum(max(1, -(-width(line) // columns)) for line in self._drawn)  # it may be narrower than before
        self._drawn = lines
        begin = f"\x1b[{up}A" if up else ""
        return (begin + "\r\x1b[J" + "".join(f"{line}\n" for line in lines)).encode()


def _terminal_size() -> tuple[int, int]:
    try:
        size = os.get_terminal_size(1)
    except OSError:
        return 80, 24
    return size.columns or 80, size.lines or 24


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


# -- for programs -----------------------------------------------------------------------------------


def as_dict(one: Seen, size: int | None) -> dict[str, Any]:
    """A stage as an object; what is not known is null."""
    stage = one.stage
    total = reduce(Spent.plus, stage.models.values(), Spent())
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
            "input": total.input,
            "output": total.output,
            "cached": total.cached,
            "reasoning": total.reasoning,
        },
        "cost": total.cost,
        "models": {model: spent._asdict() for model, spent in stage.models.items()},
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
