"""From one asking to a result: the further tries that are worth it. The only retry layer."""

from __future__ import annotations

import asyncio
import contextlib

import tenacity

from llmstream.books.events import Events
from llmstream.calls.causes import Cause
from llmstream.calls.ladder import Ladder
from llmstream.calls.limits import Limits
from llmstream.calls.one_call import OneCall
from llmstream.calls.question import Attempt, Course, Question, Result
from llmstream.records.values import NOT_STARTED, Failure
from llmstream.shell.stop_switch import StopSwitch

SHORTEST_WAIT, LONGEST_WAIT = 0.5, 20.0  # seconds before a further try, doubled each time


class Tries:
    """Asks until there is a result that stands."""

    def __init__(
        self, retries: int, call: OneCall, limits: Limits, ladder: Ladder, switch: StopSwitch, events: Events
    ) -> None:
        self._retries = retries
        self._call = call
        self._limits = limits
        self._ladder = ladder
        self._switch = switch
        self._events = events
        self._stopped = asyncio.Event()
        switch.on_pull.append(self._stopped.set)

    async def ask(self, question: Question) -> Result:
        course = Course(question)
        first = await self._attempt(course)
        if not first.again:
            return first.result  # tenacity's bookkeeping costs 20 us; most calls need none
        last = await self._repeat(course, first)
        if not last.again:
            return last.result
        assert isinstance(last.result, Failure)  # an answer is never tried again
        return NOT_STARTED if self._switch.reason else last.result._replace(attempts=course.tries)

    async def _attempt(self, course: Course) -> Attempt:
        """One try; as long as nobody knows which form of response_format the endpoint takes, one at a time."""
        while not self._ladder.settled:
            async with self._ladder.probe:
                if self._ladder.settled:
                    break
                attempt = await self._call(course)
                if not (attempt.again and attempt.again.cause is Cause.FORM_REFUSED):
                    return attempt
        return await self._call(course)

    async def _repeat(self, course: Course, first: Attempt) -> Attempt:
        pending = [first]

        async def attempt() -> Attempt:
            return pending.pop() if pending else await self._attempt(course)

        def give_up(state: tenacity.RetryCallState) -> Attempt:
            self._note_failure(course, _attempt_of(state), None)
            return _attempt_of(state)

        def note_and_wait(state: tenacity.RetryCallState) -> None:
            pause = state.next_action.sleep if state.next_action else 0.0
            self._note_failure(course, _attempt_of(state), pause)

        repeat = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_result(lambda attempt: attempt.again is not None),
            stop=lambda state: self._is_enough(course, _attempt_of(state)),
            wait=_backoff,
            sleep=self._sleep,
            before_sleep=note_and_wait,
            retry_error_callback=give_up,
        )
        last: Attempt = await repeat(attempt)
        return last

    def _is_enough(self, course: Course, attempt: Attempt) -> bool:
        assert attempt.again
        retries = self._retries * (2 if self._limits.flaky else 1)
        to_blame = self._limits.blames_endpoint(certain=attempt.again.certain)
        return not course.may_go_on(attempt.again.cause, retries, endpoint_to_blame=to_blame)

    def _note_failure(self, course: Course, attempt: Attempt, wait: float | None) -> None:
        """A try failed, and a further one comes after so long, or none."""
        again, failure = attempt.again, attempt.result
        assert again
        assert isinstance(failure, Failure)
        if wait is not None:
            wait = None if self._switch.reason else max(wait, self._limits.closed_for)
        self._events.error(course.request, failure, again.took, course.tries, wait, paid=again.paid, cost=again.cost)

    async def _sleep(self, seconds: float) -> None:
        """Wait for the next try, unless the run ends first."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)


def _attempt_of(state: tenacity.RetryCallState) -> Attempt:
    assert state.outcome is not None  # only asked after an attempt
    attempt: Attempt = state.outcome.result()
    return attempt


_exponential = tenacity.wait_exponential_jitter(multiplier=SHORTEST_WAIT, max=LONGEST_WAIT, jitter=SHORTEST_WAIT)


def _backoff(state: tenacity.RetryCallState) -> float:
    again = _attempt_of(state).again
    assert again
    return 0.0 if again.cause is Cause.LIMITED else max(again.wait, _exponential(state))
