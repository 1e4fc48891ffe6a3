"""From a request to an accepted answer: the order of the steps.

Everything that needs the network is behind this one call. Between asking and calling there is a place where several
questions can become one call; today each is a call of its own.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from llmstream.books.events import Events
from llmstream.calls.asking import Asking
from llmstream.calls.budget import CostLimit, Unlimited
from llmstream.calls.ladder import Ladder
from llmstream.calls.limits import Limits
from llmstream.calls.memory import Memory
from llmstream.calls.one_call import OneCall
from llmstream.calls.question import Question, Result
from llmstream.calls.tries import Tries
from llmstream.done.done_file import DoneFile
from llmstream.prompts import bodies
from llmstream.records.values import NOT_STARTED, Answer, Failure, Rejected, Request
from llmstream.shell.messages import Stop
from llmstream.shell.stop_switch import StopSwitch


class Packing(Protocol):
    """Turns questions into calls."""

    async def ask(self, question: Question) -> Result: ...

    def no_more_is_coming(self) -> None: ...  # what waits for company need not wait any longer


class OneByOne:
    """Each question is a call of its own."""

    def __init__(self, tries: Tries) -> None:
        self.ask = tries.ask

    def no_more_is_coming(self) -> None: ...


class Ask:
    """Asks until an answer is accepted, on disk, or given up."""

    def __init__(self, asking: Asking, done: DoneFile | None, switch: StopSwitch, events: Events) -> None:
        policy = asking.policy
        limits = Limits(policy.jobs, switch, events)
        budget = Unlimited() if policy.max_cost is None else CostLimit(policy.max_cost, switch)
        ladder = Ladder(with_schema=asking.check is not None)
        self.memory = Memory(done, policy, asking.check, events.counts, switch)
        self._call = OneCall(asking, limits, budget, ladder, self.memory, events)
        self._packing: Packing = OneByOne(Tries(policy.retries, self._call, limits, ladder, switch, events))
        self._policy = policy
        self._switch = switch
        self._counts = events.counts
        self._shared: dict[str, asyncio.Future[Answer | Failure]] = {}

    async def __call__(self, request: Request) -> Answer | Failure:
        if not self._policy.share:
            return await self._ask(request)
        if request.key in self._shared:
            self._counts.shared += 1
            return await asyncio.shield(self._shared[request.key])
        future = self._shared[request.key] = asyncio.get_running_loop().create_future()
        result: Answer | Failure = NOT_STARTED
        try:
            result = self.memory.recall(request) or await self._ask(request)
        finally:
            del self._shared[request.key]
            future.set_result(result)
        return result

    async def _ask(self, request: Request) -> Answer | Failure:
        question = self.memory.next_question(request)
        try:
            while isinstance(result := await self._packing.ask(question), Rejected):
                if not result.worth_asking_again or question.asking > self._policy.reask:
                    return Failure(result.type, result.why, attempts=result.attempts)
                body = bodies.corrected(request.body, result.content, result.why)
                question = Question(request, body, question.asking + 1, result.attempts)
        except Stop as reason:
            self._switch.pull(reason)
            return NOT_STARTED
        if isinstance(result, Answer):
            await self.memory.synced()
        return result

    def no_more_is_coming(self) -> None:
        """The input has ended."""
        self._packing.no_more_is_coming()

    def abandon(self) -> None:
        """Give up what is in flight."""
        self._call.abandon()

    async def close(self) -> None:
        await self._call.close()
