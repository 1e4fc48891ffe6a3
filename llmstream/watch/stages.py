"""What done-files and event logs tell about a stage of a pipe, read again as they grow."""

from __future__ import annotations

import contextlib
import math
import os
import re
import stat
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import NamedTuple, TypeVar

import orjson

from llmstream.books import histogram
from llmstream.records.values import Spent
from llmstream.shell.messages import FIX_FIRST, Stop, why
from llmstream.watch import totals
from llmstream.watch.totals import LONGEST_LABEL, Keys, Line, Sums, answers, clean, count_of, moment

CHUNK = 64 << 10  # bytes: few enough that what is made of them stays in the processor's cache
APART = 24 << 20  # bytes that are worth another process
WINDOW = 60  # seconds: the present, where it is asked how fast a stage is
PAUSE = 300  # seconds without an answer, after which nobody was at work
LAG = 5  # seconds by which a log may be behind its done-file


Call = totals.Call  # an answer that stands out
T = TypeVar("T")


class Stage(NamedTuple):
    """What is known of one stage; None is what is not known.

    What it took is all that its done-file holds, of whatever run and whether it was accepted, and
    what a log tells beside that: tries that brought no answer and were billed. The answers that a log tells
    count only where their done-file is not given: each of them stands there, too.
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
    failures: Mapping[str, int]  # by kind: records of the last run; where no log tells, answers that were rejected
    labels: Mapping[str, Mapping[str, int]]  # of each field of the answers; "" is the answer itself
    slowest: Sequence[Call]
    dearest: Sequence[Call]


class Seen(NamedTuple):
    """A stage, and what is not to be drawn."""

    stage: Stage
    kind: str  # "done-file", "log", or "nothing" where there is no file yet
    complete: bool  # is it known that nothing is left and nothing failed?
    damaged: int  # lines


# -- files that grow ----------------------------------------------------------------------------


class Tail:
    """A file that others add to; what has been read is not read again. Nothing is locked, and nothing written."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.status: os.stat_result | None = None  # None: there is no such file
        self.place = 0  # up to here it has been read; 0 also if another file has taken its place
        self._mark = b""  # the last bytes before that: while they are there it is the same file

    @contextlib.contextmanager
    def opened(self) -> Iterator[int | None]:
        """The file, to be read from its place on. None: there is none."""
        before, self.status, fd = self.status, None, None
        try:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                fd = _open(self.path)
                self.status = os.fstat(fd)
            if fd is None or not self._goes_on(fd, before):
                self.place = 0
            yield fd
            if fd is not None:
                self._mark = os.pread(fd, min(self.place, 64), max(0, self.place - 64))
        except OSError as error:
            raise Stop(FIX_FIRST, f"cannot read {self.path}: {why(error)}") from None
        finally:
            if fd is not None:
                os.close(fd)

    def _goes_on(self, fd: int, before: os.stat_result | None) -> bool:
        if before is None or self.status is None or not os.path.samestat(before, self.status):
            return False
        if len(self._mark) < min(self.place, 64):  # it became shorter while it was read
            return False
        return os.pread(fd, len(self._mark), self.place - len(self._mark)) == self._mark


def _open(path: str) -> int:
    """A regular file for reading. Looked at first: to open a FIFO is not without effect."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise OSError(0, "it is a directory")
    if not stat.S_ISREG(mode):
        raise OSError(0, "it is not a regular file")
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)


def chunks(fd: int, place: int, end: int | None = None) -> Iterator[tuple[list[bytes], int]]:
    """Whole lines, and the place behind them."""
    size, rest = CHUNK, b""
    while data := os.pread(fd, size if end is None else min(size, end - place - len(rest)), place + len(rest)):
        lines = (rest + data).split(b"\n")
        rest = lines.pop()
        if lines:
            place += sum(map(len, lines)) + len(lines)
            yield lines, place
        size = max(CHUNK, len(rest))  # of a long line as much again, so that it is not copied too often


def torn(fd: int, place: int) -> bytes:
    """What stands behind the last whole line: somebody is writing it, or an editor has left its newline out."""
    rest = b"".join(iter(partial(_next, fd, [place]), b""))
    return b"" if b"\n" in rest else rest


def _next(fd: int, place: list[int]) -> bytes:
    data = os.pread(fd, CHUNK, place[0])
    place[0] += len(data)
    return data


def kind(fd: int, path: str) -> str | None:
    """What a file is, by the first of its lines that tells. None: it has none yet."""
    data = os.pread(fd, CHUNK, 0)
    *lines, rest = data.split(b"\n")
    found = next(filter(None, map(_kind_of, [*lines[:100], rest])), None)
    begun = not lines and data.startswith(b"{") and len(data) < CHUNK  # its first line is being written
    if found or begun or not data.strip():
        return found
    raise Stop(FIX_FIRST, f"cannot read {path}: it is neither a done-file nor a log")


def _kind_of(line: bytes) -> str | None:
    try:
        fields = orjson.loads(line)
    except ValueError:  # damaged, or only the beginning of it
        return "done-file" if _BEGINS.match(line) else None
    if not isinstance(fields, dict):
        return None
    if isinstance(fields.get("event_type"), str):
        return "log"
    return "done-file" if isinstance(fields.get("key"), str) and isinstance(fields.get("answer"), str) else None


_BEGINS = re.compile(rb'\s*\{\s*"key"\s*:\s*"[^"\\]*"\s*,\s*"answer"\s*:\s*"')


# -- a done-file --------------------------------------------------------------------------------


class Answers:
    """A done-file, and what its lines come to."""

    def __init__(self, tail: Tail, *, labels: bool) -> None:
        self.tail = tail
        self.sums = Sums(labels=labels)
        self._labels = labels

    def update(self, fd: int | None, now: float) -> None:
        """Read what was added."""
        tail = self.tail
        if not tail.place:
            self.sums = Sums(labels=self._labels)
        if fd is None or tail.status is None:
            return
        self.sums.forget(now - 2 * WINDOW)
        *others, last = _shares(fd, tail.place, tail.status.st_size)
        promised = [_apart(partial(self._sum, fd, *share)) for share in others]
        if not promised:
            tail.place = self._add(self.sums, fd, *last)
        else:
            end, tail.place = self._sum(fd, *last)
            for sums, _ in [*(result() for result in promised), (end, 0)]:
                self.sums.merge(sums)
        rest = torn(fd, tail.place)
        if rest and answers([rest])[0]:
            self.sums.add(answers([rest])[0])
            tail.place += len(rest)

    def _sum(self, fd: int, place: int, end: int | None) -> tuple[Sums, int]:
        sums = Sums(labels=self._labels, recent=self.sums.recent)
        return sums, self._add(sums, fd, place, end)

    @staticmethod
    def _add(sums: Sums, fd: int, place: int, end: int | None) -> int:
        for lines, behind in chunks(fd, place, end):
            found, damaged = answers(lines)
            sums.add(found)
            sums.damaged += damaged
            place = behind
        return place


def _shares(fd: int, place: int, end: int) -> list[tuple[int, int | None]]:
    """Parts of a file, as many as there are processors for; the last one goes on to the end, wherever that is then."""
    most = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, (end - place) // APART + 1)
    cuts = [_behind_newline(fd, place + (end - place) * part // most) for part in range(1, most)]
    begins = sorted({place, *(cut for cut in cuts if cut is not None)})
    return list(zip(begins, [*begins[1:], None], strict=True))


def _behind_newline(fd: int, place: int) -> int | None:
    while data := os.pread(fd, CHUNK, place):
        at = data.find(b"\n")
        if at >= 0:
            return place + at + 1
        place += len(data)
    return None


def _apart(work: Callable[[], T]) -> Callable[[], T]:
    """Have work done in a process of its own. What is returned waits for it."""
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


# -- an event log -------------------------------------------------------------------------------


class Run:
    """What the log tells of one process."""

    def __init__(self, start: Line) -> None:
        self.begun = start.get("timestamp")
        self.last = self.begun
        self.pid = start.get("pid")
        self.tool = str(start.get("logger"))
        models = start.get("models")
        self.jurors = len(set(map(str, models))) if isinstance(models, list) and self.tool == "llm-vote" else 1
        self.failed = 0
        self.failures: Counter[str] = Counter()
        self.replayed = 0
        self.asked = Keys()  # answered in this run, by record; in a jury by record and model
        self.first_votes: Counter[str] = Counter()  # by model
        self.summary: Line | None = None

    def note(self, event: Line) -> None:
        """Anything but an answer."""
        if event["event_type"] == "record_replayed":
            self.replayed += 1
        elif event["event_type"] == "record_failed":
            records = event.get("records")
            records = records if type(records) is int else 1
            self.failed += records
            self.failures[_kind_of_failure(event)] += records
        elif event["event_type"] == "run_summary":
            self.summary = event

    def note_answers(self, answers: Sequence[Line]) -> None:
        accepted = [answer for answer in answers if answer.get("rejected") is None]
        self.asked.add(answer["key"].partition("-v")[0] for answer in accepted)
        if self.jurors > 1:
            self.first_votes.update(str(answer.get("model")) for answer in accepted if "-v" not in answer["key"])

    def records(self) -> int | None:
        """That it is done with, failed ones not counted. None: of this tool that cannot be told by its calls."""
        if self.tool == "llm-merge":
            return None
        if self.jurors > 1:  # the first of them votes on each record
            known = len(self.first_votes) >= self.jurors
            return self.replayed + (max(self.first_votes.values()) if known else self.asked.count() // self.jurors)
        return self.replayed + self.asked.count()

    def all_failures(self) -> tuple[int, Mapping[str, int]]:
        """How many records failed, and of what. The summary knows more where the log was cut off at its beginning."""
        told = self.summary or {}
        if count_of(told, "failed") > self.failed and isinstance(told.get("failures"), dict):
            return count_of(told, "failed"), {str(name): count_of(told["failures"], name) for name in told["failures"]}
        return self.failed, self.failures


def _kind_of_failure(event: Line) -> str:
    name, status = str(event.get("type"))[:LONGEST_LABEL], event.get("status")
    return f"{name} {status}" if name == "http" and status else name


class Work:
    """What a log tells of one stage: of all its runs what they took, of the latest one everything."""

    def __init__(self, done: str | None, tool: str) -> None:
        self.done = done
        self.tool = tool
        self.latest: Run | None = None
        self.sums = Sums()  # of its answers
        self.tries: dict[str, Spent] = {}  # that brought none

    def begin(self, run: Run) -> None:
        if self.latest is None or str(run.begun) >= str(self.latest.begun):
            if self.latest:
                self.latest.asked = Keys()  # of a log of many runs only one is to be remembered
            self.latest = run


class Journal:
    """An event log, and what it tells of each stage that wrote to it."""

    def __init__(self, tail: Tail) -> None:
        self.tail = tail
        self.works: dict[tuple[str | None, str], Work] = {}
        self._runs: dict[str, tuple[Run, Work]] = {}

    def update(self, fd: int | None, now: float, given: Collection[str]) -> None:
        """Read what was added. given: the done-files that are read themselves."""
        if not self.tail.place:
            self.works, self._runs = {}, {}
        if fd is None:
            return
        for work in self.works.values():
            work.sums.forget(now - 2 * WINDOW)
        for lines, place in chunks(fd, self.tail.place):
            self._add(lines, now, given)
            self.tail.place = place
        rest = torn(fd, self.tail.place)
        if rest and events([rest]):
            self._add([rest], now, given)
            self.tail.place += len(rest)

    def _add(self, lines: Sequence[bytes], now: float, given: Collection[str]) -> None:
        answers: defaultdict[tuple[Run, Work], list[Line]] = defaultdict(list)
        for event in events(lines):
            run, work = whose = self._whose(event, now)
            run.last = event.get("timestamp")
            if event["event_type"] != "api_call_complete":
                run.note(event)
                if event["event_type"] == "api_call_error" and event.get("usage"):
                    _take(work.tries, event)
            elif isinstance(event.get("key"), str):
                answers[whose].append(event)
        for (run, work), found in answers.items():
            run.note_answers(found)
            if work.done not in given:
                work.sums.add(list(map(_as_answer, found)))

    def _whose(self, event: Line, now: float) -> tuple[Run, Work]:
        name = str(event.get("run"))
        if name not in self._runs or event["event_type"] == "run_start":
            path = event.get("done")
            done_file = os.path.realpath(path) if isinstance(path, str) else None
            tool = str(event.get("logger"))
            work = self.works.setdefault((done_file, "" if done_file else tool), Work(done_file, tool))
            work.sums.forget(now - 2 * WINDOW)
            self._runs[name] = Run(event), work
            work.begin(self._runs[name][0])
        return self._runs.pop(name) if event["event_type"] == "run_summary" else self._runs[name]


def events(lines: Sequence[bytes]) -> list[Line]:
    """The events that lines hold. What is no event is left out: a line that a kill has cut short."""
    try:
        found = orjson.loads(b"[%b]" % b",".join(lines))
    except ValueError:
        found = []
        for line in lines:
            with contextlib.suppress(ValueError):
                found.append(orjson.loads(line))
    return [event for event in found if isinstance(event, dict) and type(event.get("event_type")) is str]


def _as_answer(event: Line) -> Line:
    """An answer as the done-file tells it, to the second."""
    event["latency"], event["at"] = event.get("duration"), str(event.get("timestamp"))[:19]
    return event


def _take(spent: dict[str, Spent], event: Line) -> None:
    """Add what a call took that brought no answer."""
    line = clean({**event, "key": ""})
    model = line["model"] or ""
    spent[model] = spent.get(model, Spent()).plus(Spent(1, **line["usage"], cost=line["cost"]))


# -- the stages ---------------------------------------------------------------------------------


class Operand:
    """A file that was named: a done-file or a log, as soon as that can be told."""

    def __init__(self, name: str, *, labels: bool) -> None:
        self.name = os.fsencode(name).decode(errors="backslashreplace")
        self.real = os.path.realpath(name)
        self._tail = Tail(name)
        self._labels = labels
        self.content: Answers | Journal | None = None

    @property
    def status(self) -> os.stat_result | None:
        return self._tail.status

    def update(self, now: float, given: Collection[str]) -> None:
        with self._tail.opened() as fd:
            if not self._tail.place:
                self.content = self._made(fd)
            if isinstance(self.content, Journal):
                self.content.update(fd, now, given)
            elif self.content:
                self.content.update(fd, now)

    def _made(self, fd: int | None) -> Answers | Journal | None:
        if fd is None:
            return None
        if kind(fd, self._tail.path) == "log":
            return Journal(self._tail)
        return Answers(self._tail, labels=self._labels)


class Stages:
    """The stages that the operands tell of."""

    def __init__(self, names: Iterable[str], *, labels: bool = False) -> None:
        operands = {os.path.realpath(name): Operand(name, labels=labels) for name in names}
        self._operands = list(operands.values())
        self._given = operands.keys()  # the done-files among them are read themselves

    def look(self, size: int | None, now: float) -> list[Seen]:
        """Read what was added to the files. size: the records that each stage is to have."""
        for logs in (False, True):  # the logs last: they are not to be behind
            for operand in self._operands:
                if isinstance(operand.content, Journal) == logs:
                    operand.update(now, self._given)
        locks = _locks()
        return [seen for operand in self._operands for seen in self._of(operand, size, now, locks)]

    def _of(self, operand: Operand, size: int | None, now: float, locks: Locks) -> Iterator[Seen]:
        content = operand.content
        if not isinstance(content, Journal):
            kind, sums = ("done-file", content.sums) if content else ("nothing", Sums())
            running = _holder(operand.status, locks) if operand.status else None
            yield _seen(operand.name, kind, sums, self._works(operand.real), running, size, now)
            return
        for work in content.works.values():
            if work.done not in self._given:
                name = os.path.basename(work.done) if work.done else work.tool
                shown = operand.name if len(content.works) == 1 else f"{operand.name} ({name})"
                yield _seen(shown, "log", work.sums, [work], _worker(work, locks), size, now)

    def _works(self, real: str) -> list[Work]:
        """What the logs tell of a done-file."""
        journals = [operand.content for operand in self._operands if isinstance(operand.content, Journal)]
        return [journal.works[real, ""] for journal in journals if (real, "") in journal.works]


def _seen(
    name: str, kind: str, sums: Sums, works: Sequence[Work], running: int | None, size: int | None, now: float
) -> Seen:
    moments = sums.minutes.values()
    first = min((began for _, began, _ in moments), default=None)
    last = max((ended for _, _, ended in moments), default=None)
    run = _current(works, running, last)
    plain, votes = sums.plain.count(), sums.votes.count()
    jurors = max((work.latest.jurors for work in works if work.latest), default=1)
    records = _records(plain, jurors, sums.spent)
    answered = _Answered(records, voted=votes > 0 or jurors > 1, models=len(sums.spent))
    books = _books(run, running, size, answered)
    rate = _rate(sums, running, run, now) if running is not None else None
    left, each = books.left, (plain + votes) / records if records else None
    models = dict(sums.spent)
    for work in works:
        for model, spent in work.tries.items():
            models[model] = models.get(model, Spent()).plus(spent)
    failures = run.all_failures()[1] if run else sums.kinds
    stage = Stage(
        name=name,
        done=plain + votes,
        rejected=sums.rejected,
        failed=books.failed,
        left=left,
        running=running,
        rate=rate,
        overall=_overall(sums),
        eta=left * each / rate if left is not None and rate and each else None,
        models=models,
        first=first,
        last=last,
        minutes={minute: answers for minute, (answers, _, _) in sorted(sums.minutes.items())},
        latencies=dict(sums.latencies()),
        failures=dict(sorted(failures.items(), key=itemgetter(1), reverse=True)),
        labels=sums.labels.told() if sums.labels else {},
        slowest=[call for _, call in sums.slowest],
        dearest=[call for _, call in sums.dearest or sums.largest],
    )
    return Seen(stage, kind, books.complete, sums.damaged)


# -- what is left -------------------------------------------------------------------------------


def _records(plain: int, jurors: int, spent: Mapping[str, Spent]) -> int:
    """How many records the answers are about. Of a jury one model votes on each of them, the others on some."""
    calls = [each.calls for each in spent.values()]
    if jurors == 1 or not plain:
        return plain
    return plain * max(calls) // sum(calls) if len(calls) >= jurors else plain // jurors


class _Answered(NamedTuple):
    """What the answers say themselves."""

    records: int
    voted: bool  # there may be further answers to a record
    models: int


class _Books(NamedTuple):
    failed: int | None
    left: int | None
    complete: bool


def _current(works: Sequence[Work], running: int | None, last: float | None) -> Run | None:
    """The latest run of a stage, if it was the last one to work on it: a later one may have had no log."""
    runs = [work.latest for work in works if work.latest]
    if not runs:
        return None
    run = max(runs, key=lambda run: str(run.begun))
    outdated = last is not None and last > (moment(run.last) or 0) + LAG
    return None if outdated or (running is not None and run.summary) else run


def _books(run: Run | None, running: int | None, size: int | None, answered: _Answered) -> _Books:
    """What became of the records: as the latest run tells it, else as far as the answers do.

    That all is done they do not tell of votes, for what came of those only their run knows; nor if there are more
    answers than records, and from several models: then some are to requests that are made no more.
    """
    failed = run.all_failures()[0] if run else None
    if run and run.summary:
        return _by_summary(run.summary, failed or 0, size)
    records: int | None = answered.records
    if run and running is not None:
        records = run.records()
    elif size is not None and answered.records > size and (answered.voted or answered.models > 1):
        records = None
    left = None if size is None or records is None else max(0, size - records - (failed or 0))
    return _Books(failed, left, left == 0 and not failed and running is None and not answered.voted)


def _by_summary(summary: Line, failed: int, size: int | None) -> _Books:
    whole = summary.get("stopped") is None  # it has read its input to the end
    records = size if size is not None else count_of(summary, "read") if whole else None
    left = None if records is None else max(0, records - count_of(summary, "out") - count_of(summary, "kept") - failed)
    return _Books(failed, left, summary.get("status") == 0 and not left and not failed)


# -- how fast -----------------------------------------------------------------------------------


def _rate(sums: Sums, running: int, run: Run | None, now: float) -> float:
    """Answers a second in the last minute, or since the run began."""
    began = _began(running) or (moment(run.begun) if run else None) or 0.0
    window = min(float(WINDOW), max(1.0, now - began))
    return sum(answers for second, answers in sums.seconds.items() if second > now - window) / window


def _overall(sums: Sums) -> float | None:
    """Answers a second over the time in which there were any: a night between two runs does not count."""
    if not sums.minutes:
        return None
    longest = max((seconds for seconds, _ in sums.slowest), default=0.0)
    typical = histogram.percentile(sums.latencies(), 0.5) or 0.0
    answers = active = 0.0
    before = -math.inf
    for number, first, last in (sums.minutes[minute] for minute in sorted(sums.minutes)):
        gap = first - before
        active += last - first + (gap if gap <= max(PAUSE, 2 * longest) else max(1.0, typical))
        answers += number
        before = last
    return answers / active


# -- who is at work -----------------------------------------------------------------------------

Locks = Sequence[tuple[str, int]]  # what is locked, as device and inode, and the process that holds it


def _locks() -> Locks:
    """The locks that flock(2) gave, where the system tells them."""
    found = []
    with contextlib.suppress(OSError, LookupError, ValueError), open("/proc/locks") as file:
        for line in file:
            words = line.split()
            if words[1] == "FLOCK" and words[3] == "WRITE":
                found.append((words[5], int(words[4])))
    return found


def _holder(status: os.stat_result, locks: Locks) -> int | None:
    """The process that holds a file. To ask for the lock, if only for a moment, might stop a run that begins."""
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    found = {name.rpartition(":")[0]: process for name, process in locks if name.endswith(f":{status.st_ino}")}
    if device in found or os.major(status.st_dev):
        return found.get(device)
    # Of several devices, or of layers: stat(2) has another number for it than the kernel's list of locks.
    return next(iter(found.values()), None)


def _worker(work: Work, locks: Locks) -> int | None:
    """The process that is at a stage of which there is only a log."""
    if work.done:
        try:
            return _holder(os.stat(work.done), locks)
        except OSError:
            return None
    run = work.latest
    if run is None or run.summary or type(run.pid) is not int or _began(run.pid) is None:
        return None
    try:
        with open(f"/proc/{run.pid}/cmdline", "rb") as file:
            return run.pid if run.tool.encode() in file.read() else None
    except OSError:
        return None


def _began(process: int) -> float | None:
    """When a process began, where the system tells that."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            ticks = int(file.read().rpartition(b")")[2].split()[19])
        with open("/proc/uptime", "rb") as file:
            up = float(file.read().split()[0])
        return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, LookupError, ValueError):
        return None
