"""One HTTP call in one slot, and what came of it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from llmstream.books.events import Events
from llmstream.calls import answer
from llmstream.calls.asking import Asking
from llmstream.calls.budget import Budget
from llmstream.calls.causes import Cause
from llmstream.calls.ladder import Ladder
from llmstream.calls.limits import Limits
from llmstream.calls.memory import Memory
from llmstream.calls.question import Again, Attempt, Course
from llmstream.calls.retry_after import retry_after
from llmstream.calls.wire import Endpoint, Sent, Trouble
from llmstream.done.keys import idempotency_key
from llmstream.records.values import NOT_STARTED, Answer, Failure, Rejected, Reply
from llmstream.records.words import brief
from llmstream.shell.messages import FIX_FIRST, Stop, warn

UNKEPT = 100  # calls without a done-file, then a word about it


class OneCall:
    """Makes a call as soon as the limits and the budget let it."""

    def __init__(
        self, asking: Asking, limits: Limits, budget: Budget, ladder: Ladder, memory: Memory, events: Events
    ) -> None:
        self._asking = asking
        self._limits = limits
        self._budget = budget
        self._ladder = ladder
        self._memory = memory
        self._events = events
        self._endpoint: Endpoint | None = None
        self._in_flight: set[asyncio.Task[Any]] = set()
        self._abandoned = False

    async def __call__(self, course: Course) -> Attempt:
        if not await self._limits.enter(first_try=course.first_try):
            return Attempt(NOT_STARTED)
        try:
            body = self._ladder.body(course.question.body)
            if not await self._budget.reserve(body):
                return Attempt(NOT_STARTED)
            return await self._call(course, body)
        finally:
            self._limits.leave()

    async def close(self) -> None:
        if self._endpoint:
            await self._endpoint.close()

    async def _call(self, course: Course, body: bytes) -> Attempt:
        self._endpoint = self._endpoint or self._asking.connect()
        self._note_try(course)
        began = time.monotonic()
        key = idempotency_key(course.request.key, course.question.asking)
        try:
            got = await self._post(body, key)
        except Stop as reason:  # a certificate that is not trusted: it was a call nevertheless
            failure = Failure("connection", reason.reason, attempts=course.tries)
            self._events.error(course.request, failure, _since(began), course.tries)
            raise
        if got is None:
            return Attempt(NOT_STARTED)
        took = _since(began)
        if isinstance(got, Trouble):
            certain = got.cause.blames_endpoint
            self._limits.troubled(got.reason, first_try=course.tries == 1, certain=certain)
            failure = Failure(got.cause.failure_type, got.reason, attempts=course.tries)
            return Attempt(failure, Again(got.cause, certain=certain, took=took))
        return self._answered(course, got, took) if got.status == 200 else self._http_error(course, got, took)

    async def _post(self, body: bytes, key: str) -> Sent | Trouble | None:
        """None: given up on the way."""
        assert self._endpoint
        task = asyncio.current_task()
        assert task
        self._in_flight.add(task)
        try:
            return await self._endpoint.post(body, key)
        except asyncio.CancelledError:
            if not self._abandoned:
                raise
            task.uncancel()
            return None
        finally:
            self._in_flight.remove(task)

    def abandon(self) -> None:
        """Give up what is in flight, and call nobody any more."""
        self._abandoned = True
        for task in self._in_flight:
            task.cancel()

    def _note_try(self, course: Course) -> None:
        counts = self._events.counts
        counts.tries += 1
        if course.first_try:
            counts.calls += 1
            if counts.calls == UNKEPT and not self._memory.lasts:
                warn(f"{UNKEPT} calls and no done-file: with -d FILE a run that ends half way can go on")
        course.tries += 1

    # -- what came back

    def _answered(self, course: Course, got: Sent, took: float) -> Attempt:
        reply = answer.read(got.body)
        if isinstance(reply, Failure):
            return self._unusable(course, reply, answer.paid(got.body), took)
        self._limits.answered(first_try=course.tries == 1)
        self._ladder.settle()
        cost = self._cost(course, reply)
        value = answer.judge(reply, self._asking.check)
        if isinstance(value, Rejected):
            rejected = value._replace(content=reply.content or reply.refusal or "", attempts=course.tries)
            self._memory.keep_rejected(course, reply, took, cost, rejected)
            self._events.complete(course.request, reply, took, course.tries, cost, f"{value.type}: {value.why}")
            return Attempt(rejected)
        self._memory.keep(course, reply, took, cost)
        self._events.complete(course.request, reply, took, course.tries, cost, None)
        return Attempt(Answer(value, reply.content or "", reply.model, reply.usage, took, course.tries, cost))

    def _unusable(self, course: Course, failure: Failure, paid: Reply | None, took: float) -> Attempt:
        """A 200 that holds no answer. If it says what it used, that was paid for."""
        if failure.type != "cut":
            self._limits.refused(failure.message)
        cost = None
        if paid:
            paid = paid._replace(model=paid.model or course.request.model)
            cost = self._cost(course, paid)
            self._memory.keep_rejected(course, paid, took, cost, Rejected(failure.type, failure.message))
        failure = failure._replace(attempts=course.tries)
        return Attempt(failure, Again(Cause.UNUSABLE, took=took, paid=paid, cost=cost))

    def _cost(self, course: Course, reply: Reply) -> float | None:
        cost = self._asking.prices.cost(reply.model, course.request.model, reply.tier, reply.usage)
        self._budget.settle(cost)
        return cost

    def _http_error(self, course: Course, got: Sent, took: float) -> Attempt:
        message, code = answer.error_of(got.body)
        failure = Failure("http", message or "the endpoint gave no reason", got.status, course.tries)
        if self._ladder.step_down(got.status, message):
            self._events.error(course.request, failure, took, course.tries, 0)
            return Attempt(failure, Again(Cause.FORM_REFUSED))
        cause = Cause.of_status(got.status)
        if cause is Cause.LIMITED and code != "insufficient_quota":
            self._limits.limited(retry_after(got.headers, time.time()))
            return Attempt(failure, Again(cause, took=took))
        if cause and cause is not Cause.LIMITED:
            return self._not_served(course, cause, got, failure, took)
        if 300 <= got.status < 400:
            to = brief(got.headers.get("location", "elsewhere"), 80)
            failure = failure._replace(message=f"the endpoint redirects to {to}, which is not followed")
        self._events.error(course.request, failure, took, course.tries)
        if got.status in _FIX:
            raise Stop(FIX_FIRST, f"{_FIX[got.status]} (HTTP {got.status}): {failure.message}")
        self._limits.refused(f"{failure.message} (HTTP {got.status})")
        return Attempt(failure)

    def _not_served(self, course: Course, cause: Cause, got: Sent, failure: Failure, took: float) -> Attempt:
        # Of an endpoint that has answered, it may be one request that its server dies of.
        certain = cause.blames_endpoint and not self._limits.endpoint_has_answered
        self._limits.troubled(f"HTTP {got.status}: {failure.message}", first_try=course.tries == 1, certain=certain)
        wait = min(60.0, retry_after(got.headers, time.time()) or 0)
        return Attempt(failure, Again(cause, certain=certain, wait=wait, took=took))


_FIX = {
    401: "the endpoint refuses the key",
    402: "the account's money is spent",
    403: "the endpoint forbids it",
    404: "the endpoint knows no such model or path",
    429: "the account's quota is spent",
}


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)
