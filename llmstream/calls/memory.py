"""What the done-file knows about a request, and how it gets to know it."""

from __future__ import annotations

import functools
import time

from llmstream.books.events import Counts
from llmstream.calls import answer
from llmstream.calls.answer import Check
from llmstream.calls.asking import Policy
from llmstream.calls.question import Course, Question
from llmstream.done import keys
from llmstream.done.done_file import DiskFailed, DoneFile
from llmstream.done.line import Line
from llmstream.prompts import bodies
from llmstream.records.values import Answer, Failure, Rejected, Reply, Request
from llmstream.shell.messages import CANNOT_WRITE, Stop
from llmstream.shell.stop_switch import StopSwitch


class Memory:
    """Answers that were paid for. Without a done-file there are none, and nothing is kept."""

    def __init__(
        self, done: DoneFile | None, policy: Policy, check: Check | None, counts: Counts, switch: StopSwitch
    ) -> None:
        self._done = done
        self._policy = policy
        self._check = check
        self._counts = counts
        self._switch = switch
        self._serial = 0

    @property
    def lasts(self) -> bool:
        """Is there a done-file?"""
        return self._done is not None

    # -- what is known

    def number(self, request: Request) -> Request:
        """The request with its occurrence in the key, for equal requests are work of their own."""
        if self._done is None:
            self._serial += 1  # nothing to remember it by; but no two calls may look like one
            return request._replace(key=keys.with_serial(request.key, self._serial))
        before = 0 if self._policy.share else self._done.index.count(request.key.encode())
        return request._replace(key=keys.with_occurrence(request.key, before)) if before else request

    def recall(self, request: Request, *, again: bool = True) -> Answer | Failure | None:
        """What is known about a request. None: it has to be asked. Not again: not if it ever failed for good."""
        line = self._find(request.key)
        found = self._value(line) if line else None
        if line and isinstance(found, bytes):
            self._counts.recalled += 1
            return _answer(line, found)
        if (
            line
            and isinstance(found, Rejected)
            and (self._policy.once or not again)
            and not self._unfinished(line, found)
        ):
            return Failure(found.type, f"{found.why} (in an earlier run)")
        if self._policy.offline:
            return Failure("offline", "its answer is not in the done-file")
        return None

    def next_question(self, request: Request) -> Question:
        """The first asking; or, after a kill, the one that was to come next."""
        line = self._find(request.key)
        earlier = self._value(line) if line else None
        if line and isinstance(earlier, Rejected) and self._unfinished(line, earlier):
            body = bodies.corrected(request.body, earlier.content, earlier.why)
            return Question(request, body, line.asked + 1)
        return Question(request, request.body)

    def _find(self, key: str) -> Line | None:
        return self._done.find(key) if self._done else None

    def _value(self, line: Line) -> bytes | Rejected:
        """The value of an answer, judged as of today, unless it was rejected for what no schema changes."""
        if line.rejected is not None and line.has_crc:
            kind, _, why = line.rejected.partition(": ")
            rejected = Rejected(kind, why, line.answer)
            if not rejected.worth_asking_again:
                return rejected
        value = answer.value(line.answer, self._check)
        return value._replace(content=line.answer) if isinstance(value, Rejected) else value

    def _unfinished(self, line: Line, rejected: Rejected) -> bool:
        """Was the run killed before it had asked as often as it may?"""
        return rejected.worth_asking_again and 0 < line.asked <= self._policy.reask

    # -- what is kept

    def keep(self, course: Course, reply: Reply, latency: float, cost: float | None) -> None:
        self._append(_line(course, reply, latency, cost, reply.content or ""))

    def keep_rejected(
        self, course: Course, reply: Reply, latency: float, cost: float | None, rejected: Rejected
    ) -> None:
        """An answer that was paid for and is not good enough: after a kill, asking goes on from here."""
        line = _line(course, reply, latency, cost, rejected.content)
        self._append(line._replace(rejected=f"{rejected.type}: {rejected.why}", asked=course.question.asking))

    async def give_up(self, request: Request, failure: Failure) -> None:
        """Remember that a vote failed which was not needed: a replay does without it, too."""
        if self._done is None or self.recall(request, again=False):
            return
        rejected = f"{failure.type}: {failure.message}"
        self._append(Line(request.key, "", attempts=failure.attempts, at=_now(), id=request.id, rejected=rejected))
        await self.synced()

    def _append(self, line: Line) -> None:
        if self._done is None:
            return
        try:
            self._done.append(line)
        except DiskFailed as error:
            self._switch.pull(Stop(CANNOT_WRITE, str(error)))

    async def synced(self) -> None:
        """Wait until all that was kept is on disk."""
        if self._done is None:
            return
        try:
            await self._done.synced()
        except DiskFailed as error:
            self._switch.pull(Stop(CANNOT_WRITE, str(error)))


def _line(course: Course, reply: Reply, latency: float, cost: float | None, content: str) -> Line:
    request = course.request
    return Line(request.key, content, reply.model, reply.usage, cost, latency, course.tries, at=_now(), id=request.id)


def _answer(line: Line, value: bytes) -> Answer:
    return Answer(
        value, line.answer, line.model or "", line.usage, line.latency or 0.0, line.attempts, line.cost, replayed=True
    )


def _now() -> str:
    return _written(int(time.time()))


@functools.lru_cache(maxsize=1)
def _written(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))
