"""An event log read back as it grows: its runs, and what it tells of each stage that wrote to it."""

from __future__ import annotations

import contextlib
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from llmstream.done import keys, line
from llmstream.records import exact
from llmstream.records.values import Spent, Usage
from llmstream.watch import tail
from llmstream.watch.counters import DifferentKeys
from llmstream.watch.labels import LONGEST_LABEL
from llmstream.watch.tail import Tail
from llmstream.watch.totals import Totals

Event = dict[str, Any]


class Run:
    """What the log tells of one process."""

    def __init__(self, start: Event) -> None:
        self.begun = start.get("timestamp")
        self.last = self.begun
        self.pid = start.get("pid")
        self.tool = str(start.get("logger"))
        models = start.get("models")
        self.jurors = len(set(map(str, models))) if isinstance(models, list) and self.tool == "llm-vote" else 1
        self.failed = 0
        self.failures: Counter[str] = Counter()  # by kind
        self.replayed = 0
        self.asked = DifferentKeys()  # answered in this run, by record; in a jury by record and model
        self.first_votes: Counter[str] = Counter()  # by model
        self.summary: Event | None = None

    def add_event(self, event: Event) -> None:
        """Anything but an answer."""
        kind = event["event_type"]
        if kind == "record_replayed":
            self.replayed += 1
        elif kind == "record_failed":
            records = event.get("records")
            records = records if type(records) is int else 1
            self.failed += records
            failure, status = str(event.get("type"))[:LONGEST_LABEL], event.get("status")
            self.failures[f"{failure} {status}" if failure == "http" and status else failure] += records
        elif kind == "run_summary":
            self.summary = event

    def add_answers(self, answers: Sequence[Event]) -> None:
        accepted = [answer for answer in answers if answer.get("rejected") is None]
        self.asked.add(keys.record_of(answer["key"]) for answer in accepted)
        if self.jurors > 1:
            first_votes = [answer for answer in accepted if not keys.is_further_vote(answer["key"])]
            self.first_votes.update(str(answer.get("model")) for answer in first_votes)

    def records(self) -> int | None:
        """The records that it is done with, failed ones not counted. None: the calls of this tool do not tell."""
        if self.tool == "llm-merge":
            return None
        if self.jurors == 1:
            return self.replayed + self.asked.count()
        if len(self.first_votes) < self.jurors:
            return self.replayed + self.asked.count() // self.jurors
        return self.replayed + max(self.first_votes.values())  # the first juror votes on each record

    def all_failures(self) -> tuple[int, Mapping[str, int]]:
        """How many records failed, and of what. The summary knows more where the log lost its beginning."""
        summary = self.summary or {}
        failed, failures = count_in(summary, "failed"), summary.get("failures")
        if failed > self.failed and isinstance(failures, dict):
            return failed, {str(name): count_in(failures, name) for name in failures}
        return self.failed, self.failures


def count_in(fields: Mapping[str, Any], name: str) -> int:
    found = fields.get(name)
    return found if type(found) is int else 0


class LoggedStage:
    """What a log tells of one stage: what all its runs took, and everything of the latest run."""

    def __init__(self, done: str | None, tool: str) -> None:
        self.done = done  # its done-file
        self.tool = tool
        self.latest: Run | None = None
        self.totals = Totals()
        self.spent_in_vain: dict[str, Spent] = {}  # by model, on tries that brought no answer and were billed

    def begin(self, run: Run) -> None:
        if self.latest is None or str(run.begun) >= str(self.latest.begun):
            if self.latest:
                self.latest.asked = DifferentKeys()  # one run of many has to be remembered
            self.latest = run

    def add_failed_try(self, event: Event) -> None:
        call = line.from_fields(event)
        spent = Spent(1, *(call.usage or Usage(0, 0)), call.cost)
        model = call.model or ""
        self.spent_in_vain[model] = self.spent_in_vain.get(model, Spent()).plus(spent)


class Journal:
    """An event log, and what it tells of each stage that wrote to it."""

    def __init__(self, file: Tail) -> None:
        self.file = file
        self.stages: dict[tuple[str | None, str], LoggedStage] = {}  # by done-file; where there is none, by tool
        self._runs: dict[str, tuple[Run, LoggedStage]] = {}  # that have not ended

    def update(self, fd: int | None, recent_from: float, done_files: Collection[str]) -> None:
        """Read what was added. The answers that stand in one of these done-files are not added up here."""
        if not self.file.place:
            self.stages, self._runs = {}, {}
        if fd is None:
            return
        for stage in self.stages.values():
            stage.totals.times.forget_seconds_before(recent_from)
        for lines, place in tail.whole_lines(fd, self.file.place):
            self._add(events(lines), recent_from, done_files)
            self.file.place = place
        rest = tail.line_without_newline(fd, self.file.place)
        last = events([rest])
        if last:
            self._add(last, recent_from, done_files)
            self.file.place += len(rest)

    def _add(self, found: Sequence[Event], recent_from: float, done_files: Collection[str]) -> None:
        answers: defaultdict[tuple[Run, LoggedStage], list[Event]] = defaultdict(list)
        for event in found:
            run, stage = writer = self._writer_of(event, recent_from)
            run.last = event.get("timestamp")
            if event["event_type"] != "api_call_complete":
                run.add_event(event)
            elif isinstance(event.get("key"), str):
                answers[writer].append(event)
            if event["event_type"] == "api_call_error" and event.get("usage"):
                stage.add_failed_try(event)
        for (run, stage), completed in answers.items():
            run.add_answers(completed)
            if stage.done not in done_files:
                as_in_done_file = [
                    {**event, "latency": event.get("duration"), "at": str(event.get("timestamp"))[:19]}
                    for event in completed
                ]
                stage.totals.add(as_in_done_file)

    def _writer_of(self, event: Event, recent_from: float) -> tuple[Run, LoggedStage]:
        """The run that an event is of, and its stage."""
        name = str(event.get("run"))
        if name not in self._runs or event["event_type"] == "run_start":
            path, tool = event.get("done"), str(event.get("logger"))
            done = os.path.realpath(path) if isinstance(path, str) else None
            stage = self.stages.setdefault((done, "" if done else tool), LoggedStage(done, tool))
            stage.totals.times.forget_seconds_before(recent_from)
            self._runs[name] = Run(event), stage
            stage.begin(self._runs[name][0])
        return self._runs.pop(name) if event["event_type"] == "run_summary" else self._runs[name]


def is_event(fields: Mapping[str, Any]) -> bool:
    return isinstance(fields.get("event_type"), str)


def events(lines: Sequence[bytes]) -> list[Event]:
    """The events that lines hold. What is no event is left out: a line that a kill has cut short."""
    try:
        found = exact.loads_quickly(b"[%b]" % b",".join(lines))
    except ValueError:
        found = []
        for one in lines:
            with contextlib.suppress(ValueError):
                found.append(exact.loads_quickly(one))
    return [event for event in found if isinstance(event, dict) and is_event(event)]
