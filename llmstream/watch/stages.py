"""The stages of a pipe, as done-files and event logs tell of them, looked at again as these grow."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from llmstream.books import histogram
from llmstream.done import line
from llmstream.records import exact
from llmstream.records.values import Spent
from llmstream.shell import processes
from llmstream.shell.messages import FIX_FIRST, Stop
from llmstream.watch import tail
from llmstream.watch.counters import Times, seconds_since_1970
from llmstream.watch.done_files import Answers
from llmstream.watch.journal import Event, Journal, LoggedStage, Run, count_in, is_event
from llmstream.watch.standing_out import Call
from llmstream.watch.tail import Tail
from llmstream.watch.totals import Totals

WINDOW = 60  # seconds: the present, where the question is how fast a stage is
PAUSE = 300  # seconds without an answer, after which nobody was at work
LAG = 5  # seconds by which a log may be behind its done-file


class Stage(NamedTuple):
    """What is known of one stage; None is what is not known.

    What it took is all that its done-file holds, of whatever run and whether it was accepted, and what only a log
    tells: tries that brought no answer and were billed. The answers that a log tells of count only where their
    done-file is not given: each of them is in that, too.
    """

    name: str  # as it was given
    done: int  # requests with an accepted answer
    rejected: int  # answers that were paid for and not accepted
    failed: int | None  # records, in the last run
    left: int | None  # records
    running: int | None  # the process that holds the done-file, or wrote the log where there is none
    rate: float | None  # answers a second in the last minute
    overall: float | None  # answers a second while there were any
    eta: float | None  # seconds
    models: Mapping[str, Spent]
    first: float | None  # of the answers, seconds since 1970
    last: float | None
    minutes: Mapping[int, int]  # answers in each minute since 1970
    latencies: Mapping[int, int]  # answers by histogram.bucket
    failures: Mapping[str, int]  # by kind: records of the last run; without a log, answers that were rejected
    labels: Mapping[str, Mapping[str, int]]  # of each field of the answers; "" is the answer itself
    slowest: Sequence[Call]
    dearest: Sequence[Call]


class Seen(NamedTuple):
    """A stage, and what is not to be drawn."""

    stage: Stage
    kind: str  # "done-file", "log", or "nothing" where there is no file yet
    complete: bool  # is it known that nothing is left and nothing failed?
    damaged: int  # lines


# -- the files --------------------------------------------------------------------------------------


class Operand:
    """A file that was named: a done-file or a log, as soon as that can be told."""

    def __init__(self, name: str, *, labels: bool) -> None:
        self.name = os.fsencode(name).decode(errors="backslashreplace")
        self.real = os.path.realpath(name)
        self.file = Tail(name)
        self._labels = labels
        self.content: Answers | Journal | None = None

    def update(self, recent_from: float, done_files: Collection[str]) -> None:
        with self.file.opened() as fd:
            if not self.file.place:
                self.content = None
                if fd is not None:
                    is_log = _is_log(fd, self.file.path)
                    self.content = Journal(self.file) if is_log else Answers(self.file, labels=self._labels)
            if isinstance(self.content, Journal):
                self.content.update(fd, recent_from, done_files)
            elif self.content:
                self.content.update(fd, recent_from)


def _is_log(fd: int, path: str) -> bool:
    """Is a file a log, by the first of its lines that tells? One that has no such line yet counts as a done-file."""
    data = os.pread(fd, tail.CHUNK, 0)
    *lines, rest = data.split(b"\n")
    for raw in [*lines[:100], rest]:
        kind = _kind_of(raw)
        if kind is not None:
            return kind == "log"
    begun = not lines and data.startswith(b"{") and len(data) < tail.CHUNK  # its first line is being written
    if begun or not data.strip():
        return False
    raise Stop(FIX_FIRST, f"cannot read {path}: it is neither a done-file nor a log")


def _kind_of(raw: bytes) -> str | None:
    try:
        fields = exact.loads_quickly(raw)
    except ValueError:  # damaged, or only the beginning of it
        return "done-file" if line.begins_line(raw) else None
    if not isinstance(fields, dict):
        return None
    if is_event(fields):
        return "log"
    return "done-file" if line.is_line(fields) else None


class Stages:
    """The stages that some files tell of."""

    def __init__(self, names: Iterable[str], *, labels: bool = False) -> None:
        operands = {os.path.realpath(name): Operand(name, labels=labels) for name in names}
        self._operands = list(operands.values())
        self._done_files = operands.keys()  # those of the logs that are read themselves are among these

    def look(self, size: int | None, now: float) -> list[Seen]:
        """Read what was added to the files. size: the records that each stage is to have."""
        for logs in (False, True):  # the logs last, and again if they are new: they must not be behind
            for operand in self._operands:
                if isinstance(operand.content, Journal) == logs:
                    operand.update(now - 2 * WINDOW, self._done_files)
        locks = processes.locks()
        evidence = [found for operand in self._operands for found in self._evidence(operand, locks)]
        return [_seen(found, size, now) for found in evidence]

    def _evidence(self, operand: Operand, locks: Sequence[processes.Lock] | None) -> Iterator[_Evidence]:
        content = operand.content
        if isinstance(content, Journal):
            for logged in content.stages.values():
                if logged.done not in self._done_files:
                    name = os.path.basename(logged.done) if logged.done else logged.tool
                    shown = operand.name if len(content.stages) == 1 else f"{operand.name} ({name})"
                    yield _Evidence(shown, "log", logged.totals, [logged], _worker(logged, locks))
            return
        kind, totals = ("done-file", content.totals) if content else ("nothing", Totals())
        status = operand.file.status
        running = processes.holder(status, locks) if status else None
        yield _Evidence(operand.name, kind, totals, self._logged(operand.real), running)

    def _logged(self, done: str) -> list[LoggedStage]:
        """What the logs tell of a done-file."""
        journals = [operand.content for operand in self._operands if isinstance(operand.content, Journal)]
        return [journal.stages[done, ""] for journal in journals if (done, "") in journal.stages]


def _worker(logged: LoggedStage, locks: Sequence[processes.Lock] | None) -> int | None:
    """The process that is at work on a stage of which there is only a log."""
    if logged.done:
        try:
            return processes.holder(os.stat(logged.done), locks)
        except OSError:
            return None
    run = logged.latest
    if run is None or run.summary or type(run.pid) is not int:
        return None
    return run.pid if processes.name(run.pid) == run.tool else None


# -- from the files to a stage ----------------------------------------------------------------------


class _Evidence(NamedTuple):
    """All that the files tell of one stage."""

    name: str
    kind: str
    totals: Totals
    logged: Sequence[LoggedStage]
    running: int | None


def _seen(found: _Evidence, size: int | None, now: float) -> Seen:
    totals, times = found.totals, found.totals.times
    run = _current_run(found)
    answered = _answered(found)
    books = _books(run, found.running, size, answered)
    rate = None if found.running is None else _rate(times, found.running, run, now)
    failures = run.all_failures()[1] if run else totals.rejections
    stage = Stage(
        name=found.name,
        done=answered.answers,
        rejected=totals.rejected,
        failed=books.failed,
        left=books.left,
        running=found.running,
        rate=rate,
        overall=_overall_rate(totals),
        eta=_time_left(books.left, answered, rate),
        models=_spent(found),
        first=times.first(),
        last=times.last(),
        minutes={number: minute.answers for number, minute in times.in_order()},
        latencies=dict(totals.latencies.by_bucket()),
        failures=dict(sorted(failures.items(), key=itemgetter(1), reverse=True)),
        labels=totals.labels.as_dict() if totals.labels else {},
        slowest=totals.standing_out.slowest.calls(),
        dearest=totals.standing_out.dearest(),
    )
    return Seen(stage, found.kind, books.complete, totals.damaged)


def _current_run(found: _Evidence) -> Run | None:
    """The latest run of a stage, if it was the last one to work on it: a later one may have had no log."""
    runs = [logged.latest for logged in found.logged if logged.latest]
    if not runs:
        return None
    run, last = max(runs, key=lambda run: str(run.begun)), found.totals.times.last()
    if last is not None and last > (seconds_since_1970(run.last) or 0) + LAG:
        return None
    return None if found.running is not None and run.summary else run


def _spent(found: _Evidence) -> Mapping[str, Spent]:
    models = dict(found.totals.spent)
    for logged in found.logged:
        for model, spent in logged.spent_in_vain.items():
            models[model] = models.get(model, Spent()).plus(spent)
    return models


# -- what is left -----------------------------------------------------------------------------------


class _Answered(NamedTuple):
    """What the answers say themselves."""

    answers: int
    records: int  # that they are about
    voted: bool  # there may be further answers to a record
    models: int


def _answered(found: _Evidence) -> _Answered:
    first, further = found.totals.records.count(), found.totals.further_votes.count()
    jurors = max((logged.latest.jurors for logged in found.logged if logged.latest), default=1)
    calls = [spent.calls for spent in found.totals.spent.values()]
    if jurors == 1 or not first:
        records = first
    elif len(calls) < jurors:
        records = first // jurors
    else:  # one model of a jury votes on each record, the others on some
        records = first * max(calls) // sum(calls)
    return _Answered(first + further, records, further > 0 or jurors > 1, len(calls))


class _Books(NamedTuple):
    """What became of the records."""

    failed: int | None
    left: int | None
    complete: bool


def _books(run: Run | None, running: int | None, size: int | None, answered: _Answered) -> _Books:
    """As the latest run tells it, else as far as the answers do. Votes do not tell that all is done: what came of
    them only their run knows."""
    failed = run.all_failures()[0] if run else None
    if run and run.summary:
        return _books_of_summary(run.summary, failed, size)
    records = run.records() if run and running is not None else _records_by_answers(answered, size)
    left = _left(size, records, failed)
    complete = left == 0 and running is None and not (failed or answered.voted)
    return _Books(failed, left, complete)


def _records_by_answers(answered: _Answered, size: int | None) -> int | None:
    """If there are more answers than records, and from several models, some answer requests that are no longer made."""
    if size is not None and answered.records > size and (answered.voted or answered.models > 1):
        return None
    return answered.records


def _books_of_summary(summary: Event, failed: int | None, size: int | None) -> _Books:
    if size is None and summary.get("stopped") is None:  # it has read its input to the end
        size = count_in(summary, "read")
    done = count_in(summary, "out") + count_in(summary, "kept")
    left = _left(size, done, failed)
    return _Books(failed, left, summary.get("status") == 0 and not left and not failed)


def _left(size: int | None, done: int | None, failed: int | None) -> int | None:
    return None if size is None or done is None else max(0, size - done - (failed or 0))


# -- how fast ---------------------------------------------------------------------------------------


def _rate(times: Times, running: int, run: Run | None, now: float) -> float:
    """Answers a second in the last minute, or since the run began."""
    began = processes.start_time(running) or (seconds_since_1970(run.begun) if run else None) or 0.0
    window = min(float(WINDOW), max(1.0, now - began))
    return sum(answers for second, answers in times.seconds.items() if second > now - window) / window


def _overall_rate(totals: Totals) -> float | None:
    """Answers a second over the time in which there were any: a night between two runs does not count."""
    minutes = [minute for _, minute in totals.times.in_order()]
    if not minutes:
        return None
    pause = max(PAUSE, 2 * totals.standing_out.slowest.highest())
    typical = histogram.percentile(totals.latencies.by_bucket(), 0.5) or 0.0
    active, before = 0.0, -math.inf
    for minute in minutes:
        gap = minute.first - before
        active += minute.last - minute.first + (gap if gap <= pause else max(1.0, typical))
        before = minute.last
    return sum(minute.answers for minute in minutes) / active


def _time_left(left: int | None, answered: _Answered, rate: float | None) -> float | None:
    """At this rate, and with as many answers to a record as there were so far."""
    if left is None or not rate or not answered.records:
        return None
    return left * (answered.answers / answered.records) / rate
