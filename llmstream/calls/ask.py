"""From a request to an accepted answer: the order of the steps, and which are repeated."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, cast

import tenacity

from llmstream.books.events import Events
from llmstream.calls import answer
from llmstream.calls.limits import Limits
from llmstream.calls.prices import Prices
from llmstream.calls.wire import Endpoint, Sent, Trouble
from llmstream.done.done_file import DiskFailed, DoneFile
from llmstream.prompts import bodies
from llmstream.records.values import NOT_STARTED, Answer, Failure, Rejected, Reply, Request, Usage, told_usage
from llmstream.records.words import brief
from llmstream.shell.messages import CANNOT_WRITE, FIX_FIRST, Stop, warn

SHORTEST_WAIT, LONGEST_WAIT = 0.5, 20.0  # seconds before a further try, doubled each time
UNKEPT = 100  # calls without a done-file, then a word about it


class Policy(NamedTuple):
    """What the user said about asking."""

    retries: int
    reask: int
    once: bool
    offline: bool
    share: bool
    most: float | None  # --max-cost


class _Again(NamedTuple):
    """A try that failed in a way that a further one may heal."""

    failure: Failure
    counted: bool = True  # against --retries; a 429 is not
    billed: bool = False  # it may have been paid for: one further try
    certain: bool = False  # the endpoint is to blame, not the request
    wait: float = 0.0
    took: float = 0.0  # seconds
    paid: Reply | None = None  # where even this reply told what it took
    cost: float | None = None


class _Course:
    """How far one request has got."""

    def __init__(self, request: Request, body: bytes, asking: int) -> None:
        self.request = request
        self.body = body
        self.asking = asking  # from 1
        self.tries = 0
        self.counted = 0
        self.billed = 0


class Ask:
    """Everything that needs the network stands behind this one call."""

    def __init__(
        self,
        policy: Policy,
        check: answer.Check | None,
        done: DoneFile | None,
        limits: Limits,
        events: Events,
        connect: Callable[[], Endpoint],
        prices: Prices,
    ) -> None:
        self.policy = policy
        self.limits = limits
        self._check = check
        self._done = done
        self._events = events
        self._connect = connect
        self._prices = prices
        self._endpoint: Endpoint | None = None
        self._rung = 0
        self._refusal = ""
        self._rung_settled = check is None
        self._probe = asyncio.Lock()
        self._stopped = asyncio.Event()
        self._shared: dict[str, asyncio.Future[Answer | Failure]] = {}
        self._serial = 0
        limits.on_stop.append(self._stopped.set)

    # -- without a call

    def number(self, request: Request) -> Request:
        """The request with its occurrence in the key, for equal requests are work of their own."""
        if self._done is None:
            self._serial += 1  # nothing to remember it by; but no two calls may look like one
            return request._replace(key=f"{request.key}-r{self._serial}")
        before = 0 if self.policy.share else self._done.index.count(request.key.encode())
        return request._replace(key=f"{request.key}-{before}") if before else request

    def recall(self, request: Request, *, again: bool = True) -> Answer | Failure | None:
        """What the done-file says to a request. None: it has to be asked. Not again: not if it ever failed for good."""
        found = self._replay(request.key)
        if isinstance(found, Answer):
            self._events.counts.recalled += 1
            return found
        if isinstance(found, _Earlier) and (self.policy.once or not again) and not self._unfinished(found):
            rejected = found.rejected
            return Failure(rejected.type, f"{rejected.why} (in an earlier run)")
        if self.policy.offline:
            return Failure("offline", "its answer is not in the done-file")
        return None

    def _replay(self, key: str) -> Answer | _Earlier | None:
        line = self._done.find(key) if self._done else None
        if line is None or not isinstance(line.get("answer"), str):
            return None
        content, told = line["answer"], line.get("rejected")
        if isinstance(told, str) and not told.startswith("schema:") and "crc" in line:
            kind, _, why = told.partition(": ")
            return _Earlier(Rejected(kind, why, content), _count(line.get("asked")))
        value = answer.value(content, self._check)
        if isinstance(value, Rejected):
            return _Earlier(value._replace(content=content), _count(line.get("asked")))
        return _answer_of(line, value)

    def _unfinished(self, earlier: _Earlier) -> bool:
        """Was the run killed before it had asked as often as it may?"""
        return earlier.rejected.worth_asking_again and 0 < earlier.asked <= self.policy.reask

    # -- with calls

    async def __call__(self, request: Request) -> Answer | Failure:
        """Ask until the answer is accepted, on disk, or given up."""
        if not self.policy.share:
            return await self._ask(request)
        if request.key in self._shared:
            self._events.counts.shared += 1
            return await asyncio.shield(self._shared[request.key])
        future = self._shared[request.key] = asyncio.get_running_loop().create_future()
        result: Answer | Failure = NOT_STARTED
        try:
            result = self.recall(request) or await self._ask(request)
        finally:
            del self._shared[request.key]
            future.set_result(result)
        return result

    async def _ask(self, request: Request) -> Answer | Failure:
        course = self._course(request)
        try:
            while True:
                result = await self._until_answered(course)
                if not isinstance(result, Rejected):
                    break
                if not result.worth_asking_again or course.asking > self.policy.reask:
                    return Failure(result.type, result.why, attempts=course.tries)
                course.body = bodies.corrected(request.body, result.content, result.why)
                course.asking += 1
                course.counted = course.billed = 0
        except Stop as reason:
            self.limits.stop(reason)
            return NOT_STARTED
        if isinstance(result, Answer):
            await self._synced()
        return result

    def _note_try(self, course: _Course) -> None:
        course.tries += 1
        counts = self._events.counts
        counts.tries += 1
        if course.tries == 1:
            counts.calls += 1
            if counts.calls == UNKEPT and self._done is None:
                warn(f"{UNKEPT} calls and no done-file: with -d FILE a run that ends half way can go on")

    def _course(self, request: Request) -> _Course:
        """The first asking; or, after a kill, the one that was to come next."""
        earlier = self._replay(request.key)
        if not isinstance(earlier, _Earlier) or not self._unfinished(earlier):
            return _Course(request, request.body, 1)
        rejected = earlier.rejected
        return _Course(request, bodies.corrected(request.body, rejected.content, rejected.why), earlier.asked + 1)

    async def _until_answered(self, course: _Course) -> Answer | Rejected | Failure:
        """One asking, with the further tries that are worth it."""
        first = await self._probing(course)
        if not isinstance(first, _Again):
            return first  # tenacity's bookkeeping costs 20 us; most calls need none
        pending = [first]

        async def attempt() -> Answer | Rejected | Failure | _Again:
            return pending.pop() if pending else await self._probing(course)

        def given_up(state: tenacity.RetryCallState) -> _Again:
            self._note_failed(course, _result(state), None)
            return cast("_Again", _result(state))

        repeat = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_result(lambda result: isinstance(result, _Again)),
            stop=lambda state: self._given_up(course, _result(state)),
            wait=_backoff,
            sleep=self._sleep,
            before_sleep=lambda state: self._note_failed(course, _result(state), _pause(state)),
            retry_error_callback=given_up,
        )
        last: Answer | Rejected | Failure | _Again = await repeat(attempt)
        if isinstance(last, _Again):
            return NOT_STARTED if self.limits.stopped else last.failure._replace(attempts=course.tries)
        return last

    def _given_up(self, course: _Course, again: _Again) -> bool:
        course.billed += again.billed
        course.counted += again.counted
        if course.billed > 1:
            return True
        retries = self.policy.retries * (2 if self.limits.flaky else 1)
        return course.counted > retries and not self.limits.out(certain=again.certain)

    def _note_failed(self, course: _Course, again: _Again, wait: float | None) -> None:
        """A try failed, and a further one comes after so long, or none."""
        if wait is not None:
            wait = None if self.limits.stopped else max(wait, self.limits.closed_for)
        self._events.error(
            course.request, again.failure, again.took, course.tries, wait, paid=again.paid, cost=again.cost
        )

    async def _sleep(self, seconds: float) -> None:
        """Wait for the next try, unless the run ends first."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)

    async def _probing(self, course: _Course) -> Answer | Rejected | Failure | _Again:
        """A try; as long as nobody knows which response_format the endpoint takes, one at a time."""
        while not self._rung_settled:
            async with self._probe:
                if self._rung_settled:
                    break
                result = await self._try(course)
                if result is not None:
                    self._rung_settled = not isinstance(result, (_Again, Failure))
                    if self._rung_settled and self._rung:
                        form = bodies.RUNGS[self._rung]
                        warn(f"the endpoint refuses response_format, now using {form}: {self._refusal}")
                    return result
        result = await self._try(course)
        assert result is not None  # once it is settled no form is given up
        return result

    async def _try(self, course: _Course) -> Answer | Rejected | Failure | _Again | None:
        """One HTTP call in one slot. None: response_format was refused, and the next form is to be tried."""
        if not await self.limits.enter(again=course.tries > 0):
            return NOT_STARTED
        try:
            self._hold_cost()
            if self.limits.stopped:
                return NOT_STARTED
            if self._endpoint is None:
                self._prices.start()
                self._endpoint = self._connect()
            self._note_try(course)
            began = time.monotonic()
            key = course.request.key if course.asking == 1 else f"{course.request.key}+{course.asking - 1}"
            body = bodies.lowered(course.body, self._rung) if self._check else course.body
            try:
                got = await self._endpoint.post(body, key)
            except Stop as reason:  # a certificate that is not trusted: it was a call nevertheless
                failure = Failure("connection", reason.reason, attempts=course.tries)
                self._events.error(course.request, failure, round(time.monotonic() - began, 3), course.tries)
                raise
            took = round(time.monotonic() - began, 3)
            if isinstance(got, Sent) and got.status != 200:
                message, code = answer.error_of(got.body)
                if not self._rung_settled and answer.refuses_format(got.status, message) and self._lower(message):
                    refused = Failure("http", message, got.status, course.tries)
                    self._events.error(course.request, refused, took, course.tries, 0)
                    return None
                return self._http_error(course, got, message, code, took)
            if isinstance(got, Trouble):
                return self._trouble(course, got, took)
            return self._read(course, got, took)
        finally:
            self.limits.leave()

    def _lower(self, message: str) -> bool:
        """Go on to the next form of response_format, if there is one."""
        if self._rung + 1 == len(bodies.RUNGS):
            return False
        self._rung += 1
        self._refusal = brief(message, 120)
        return True

    # -- what came back

    def _read(self, course: _Course, got: Sent, took: float) -> Answer | Rejected | Failure | _Again:
        reply = answer.read(got.body)
        if isinstance(reply, Failure):
            return self._unusable(course, reply, answer.paid(got.body), took)
        self.limits.answered(first=course.tries == 1)
        cost = self._prices.cost(reply.model, course.request.model, reply.tier, reply.usage)
        value = answer.judge(reply, self._check)
        told = None
        if isinstance(value, Rejected):
            value = value._replace(content=reply.content or reply.refusal or "")
            told = f"{value.type}: {value.why}"
        self._keep(course, reply, took, cost, value if isinstance(value, Rejected) else None)
        self._events.complete(course.request, reply, took, course.tries, cost, told)
        if isinstance(value, Rejected):
            return value
        return Answer(value, reply.content or "", reply.model, reply.usage, took, course.tries, cost)

    def _unusable(self, course: _Course, failure: Failure, paid: Reply | None, took: float) -> _Again:
        """A 200 that holds no answer. Where it says what it took, that was paid."""
        if failure.type != "cut":
            self.limits.refused(failure.message)
        failure = failure._replace(attempts=course.tries)
        cost = None
        if paid:
            paid = paid._replace(model=paid.model or course.request.model)
            cost = self._prices.cost(paid.model, course.request.model, paid.tier, paid.usage)
            self._keep(course, paid, took, cost, Rejected(failure.type, failure.message))
        return _Again(failure, counted=False, billed=True, took=took, paid=paid, cost=cost)

    def _hold_cost(self) -> None:
        """--max-cost: what is in flight goes on, nothing else is asked. Looked at before a call, not behind one:
        a run that has nothing more to ask does not stop."""
        if self.policy.most is None or self.limits.stopped:
            return
        spent = self._events.cost
        if spent is None:
            unknown = "a reply without usage, or a service tier without a price"
            reason = f"it is not known what the calls cost ({unknown}), so --max-cost cannot be held"
            self.limits.stop(Stop(FIX_FIRST, reason))
        elif spent >= self.policy.most:
            self.limits.stop(
                Stop(1, f"stopped: the calls cost {spent:.6g} USD so far (--max-cost {self.policy.most:g})")
            )

    def _trouble(self, course: _Course, trouble: Trouble, took: float) -> _Again:
        self.limits.troubled(trouble.reason, first=course.tries == 1, certain=trouble.unsent)
        failure = Failure(trouble.kind, trouble.reason, attempts=course.tries)
        connection = trouble.kind == "connection"
        return _Again(failure, counted=connection, billed=not connection, certain=trouble.unsent, took=took)

    def _http_error(self, course: _Course, got: Sent, message: str, code: str, took: float) -> Failure | _Again:
        status = got.status
        failure = Failure("http", message or "the endpoint gave no reason", status, course.tries)
        if status == 429 and code != "insufficient_quota":
            self.limits.pause(retry_after(got.headers))
            return _Again(failure, counted=False, took=took)
        if status in (401, 402, 403, 404, 429):
            self._events.error(course.request, failure, took, course.tries)
            raise Stop(FIX_FIRST, f"{_FIX[status]} (HTTP {status}): {failure.message}")
        if status in (408, 409) or status >= 500:
            # Of an endpoint that has answered, it may be one request that its server dies of.
            certain = status in (502, 503) and not self.limits.known
            self.limits.troubled(f"HTTP {status}: {message}", first=course.tries == 1, certain=certain)
            return _Again(failure, certain=certain, wait=min(60.0, retry_after(got.headers) or 0), took=took)
        if 300 <= status < 400:
            to = brief(got.headers.get("location", "elsewhere"), 80)
            failure = failure._replace(message=f"the endpoint redirects to {to}, which is not followed")
        self._events.error(course.request, failure, took, course.tries)
        self.limits.refused(f"{failure.message} (HTTP {status})")
        return failure

    # -- on disk before anyone sees it

    def _keep(
        self, course: _Course, reply: Reply, latency: float, cost: float | None, rejected: Rejected | None
    ) -> None:
        if self._done is None:
            return
        fields: dict[str, Any] = {
            "key": course.request.key,
            "answer": rejected.content if rejected else reply.content,
            "model": reply.model,
            "usage": told_usage(reply.usage),
            "cost": cost,
            "latency": latency,
            "attempts": course.tries,
            "at": _now(),
        }
        if course.request.id is not None:
            fields["id"] = course.request.id
        if rejected:
            fields |= {"rejected": f"{rejected.type}: {rejected.why}", "asked": course.asking}
        self._append(fields)

    async def give_up(self, request: Request, failure: Failure) -> None:
        """Remember that a vote failed which was not needed: a replay does without it, too."""
        if self._done is None or self.recall(request, again=False):
            return
        fields: dict[str, Any] = {"key": request.key, "answer": "", "attempts": failure.attempts, "at": _now()}
        if request.id is not None:
            fields["id"] = request.id
        self._append({**fields, "rejected": f"{failure.type}: {failure.message}"})
        await self._synced()

    def _append(self, fields: dict[str, Any]) -> None:
        assert self._done is not None  # its callers looked
        try:
            self._done.append(fields)
        except DiskFailed as error:
            self.limits.stop(Stop(CANNOT_WRITE, str(error)))

    async def _synced(self) -> None:
        if self._done is None:
            return
        try:
            await self._done.synced()
        except DiskFailed as error:
            self.limits.stop(Stop(CANNOT_WRITE, str(error)))

    async def close(self) -> None:
        if self._endpoint is not None:
            await self._endpoint.close()


_FIX = {
    401: "the endpoint refuses the key",
    402: "the account's money is spent",
    403: "the endpoint forbids it",
    404: "the endpoint knows no such model or path",
    429: "the account's quota is spent",
}


class _Earlier(NamedTuple):
    """A rejected answer in the done-file, and the number of its asking."""

    rejected: Rejected
    asked: int


def _now() -> str:
    return _written(int(time.time()))


@functools.lru_cache(maxsize=1)
def _written(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _money(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _answer_of(line: dict[str, Any], value: bytes) -> Answer:
    get = line.get
    latency, model = get("latency"), str(get("model") or "")
    seconds = latency if isinstance(latency, (int, float)) else 0.0
    attempts, cost = _count(get("attempts")), _money(get("cost"))
    return Answer(value, line["answer"], model, _usage(get("usage")), seconds, attempts, cost, replayed=True)


def _usage(told: Any) -> Usage | None:
    if not isinstance(told, dict):
        return None
    get = told.get
    return Usage(_count(get("input")), _count(get("output")), _count(get("cached")), _count(get("reasoning")))


def _result(state: tenacity.RetryCallState) -> Any:
    assert state.outcome is not None  # only asked after an attempt
    return state.outcome.result()


def _pause(state: tenacity.RetryCallState) -> float:
    return state.next_action.sleep if state.next_action else 0.0


_exponential = tenacity.wait_exponential_jitter(multiplier=SHORTEST_WAIT, max=LONGEST_WAIT, jitter=SHORTEST_WAIT)


def _backoff(state: tenacity.RetryCallState) -> float:
    again: _Again = _result(state)
    return max(again.wait, _exponential(state)) if again.counted or again.billed else 0.0


def retry_after(headers: Any) -> float | None:
    """How long the endpoint asks to wait, in seconds; None where it does not say, or nothing sensible."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        told = headers.get(name)
        if told is None:
            continue
        with contextlib.suppress(ValueError):
            seconds = float(told) * unit
            return seconds if 0 <= seconds < math.inf else None
        with contextlib.suppress(ValueError, TypeError):
            return max(0.0, parsedate_to_datetime(told).timestamp() - time.time())
    return None
