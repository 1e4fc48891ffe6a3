"""Slots, pauses, outages: who may call now, who waits, and when a run ends rather than go on."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from endpoint import Call, Endpoint, Reply, chat, error, says
from tool import jsonl, lines, run

from llmstream.books.events import Events
from llmstream.calls.limits import Limits
from llmstream.calls.patience import FIRST_PATIENCE, LULL, PATIENCE
from llmstream.shell.messages import FIX_FIRST, LATER, Stop
from llmstream.shell.stop_switch import StopSwitch

PROMPT = "{{ q }}"


def records(count: int) -> str:
    return jsonl(*({"q": str(number)} for number in range(count)))


def tries(got: CompletedProcess[bytes]) -> int:
    """HTTP calls, by the summary."""
    found = re.search(rb"calls (\d+)(?: in (\d+) tries)?", got.stderr)
    assert found
    return int(found[2] or found[1])


def status(got: CompletedProcess[bytes]) -> tuple[int, int]:
    return got.returncode, len(got.stdout.splitlines())


# -- a pure machine: a clock of our own, and a real event loop -----------------------------------


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


class Machine(Limits):
    """With its jobs and its switch at hand."""

    def __init__(self, jobs: int, clock: Clock) -> None:
        self.jobs = jobs
        self.switch = StopSwitch()
        super().__init__(jobs, self.switch, Events(), clock)

    @property
    def stopped(self) -> Stop | None:
        return self.switch.reason


def machine(jobs: int = 8) -> tuple[Machine, Clock]:
    clock = Clock()
    return Machine(jobs, clock), clock


def in_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def wrapped() -> None:
        asyncio.run(test())

    wrapped.__name__, wrapped.__doc__ = test.__name__, test.__doc__
    return wrapped


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def at_once(limits: Machine) -> int:
    """How many more could call now."""
    asked = [asyncio.ensure_future(limits.enter()) for _ in range(limits.jobs + 1)]
    await settle()
    admitted = [task for task in asked if task.done()]
    for task in asked:
        task.cancel()
    await settle()
    for _ in admitted:
        limits.leave()
    return len(admitted)


def down(limits: Machine, times: int = 64, *, first: bool = True, certain: bool = False) -> None:
    for _ in range(times):
        limits.troubled("no", first_try=first, certain=certain)


def stopped(limits: Machine) -> tuple[int, str]:
    assert limits.stopped
    return limits.stopped.status, limits.stopped.reason


@in_loop
async def test_turns() -> None:
    """First come, first served; but what was begun comes before what was not."""
    limits, _ = machine(1)
    assert await limits.enter()
    turns: list[str] = []

    async def take(name: str, *, again: bool) -> None:
        await limits.enter(first_try=not again)
        turns.append(name)
        limits.leave()

    for name in ("fresh 1", "again 1", "fresh 2", "again 2"):
        asyncio.ensure_future(take(name, again=name.startswith("again")))  # noqa: RUF006 - they end below
        await settle()
    limits.leave()
    await settle()
    assert turns == ["again 1", "again 2", "fresh 1", "fresh 2"]


@pytest.mark.parametrize("admitted", [False, True])
def test_a_cancelled_waiter_leaks_no_slot(admitted: bool) -> None:
    async def test() -> None:
        limits, _ = machine(2)
        assert await limits.enter()
        assert await limits.enter()
        waiter = asyncio.ensure_future(limits.enter())
        behind = asyncio.ensure_future(limits.enter())
        await settle()
        if admitted:
            limits.leave()  # the slot is the waiter's, and it has not noticed
        waiter.cancel()
        await settle()
        if not admitted:
            limits.leave()
        await settle()
        assert waiter.cancelled()
        assert behind.done()
        limits.leave()
        limits.leave()
        assert await at_once(limits) == 2

    asyncio.run(test())


@in_loop
async def test_nobody_calls_after_a_stop() -> None:
    limits, _ = machine(1)
    told: list[bool] = []
    limits.switch.on_pull.append(lambda: told.append(True))
    await limits.enter()
    waiters = [asyncio.ensure_future(limits.enter()) for _ in range(3)]
    await settle()
    limits.leave()  # the first waiter is admitted, and before it runs:
    limits.switch.pull(Stop(2, "first"))
    limits.switch.pull(Stop(75, "second"))
    assert await asyncio.gather(*waiters, limits.enter()) == [False] * 4
    assert (told, stopped(limits)) == ([True], (2, "first"))


@pytest.mark.parametrize("jobs", [8, 64, 1000])
def test_width_follows_what_is_answered(jobs: int) -> None:
    limits, _ = machine(jobs)
    assert limits.width == jobs
    for number in range(50 * jobs):
        if number % 5:
            limits.answered()
        else:
            limits.troubled("no", first_try=False, certain=False)
    assert 0.6 * jobs <= limits.width <= 0.9 * jobs
    down(limits, 10 * jobs)
    assert limits.width == 1
    answers = 0
    while limits.width < jobs:
        limits.answered()
        answers += 1
    assert answers <= jobs + 10


@in_loop
async def test_probes_in_an_outage() -> None:
    """One at a time, at most every 250 ms, later every eight seconds; the first answer ends that."""
    limits, clock = machine(8)
    limits.answered()
    down(limits)
    gaps = []
    while clock.time < 1100:
        began = clock.time
        while not await at_once(limits):
            clock.time += 0.125
        assert await at_once(limits) == 1
        gaps.append(clock.time - began)
        down(limits, 1, first=False)
    assert (gaps[0], gaps[-1]) == (0.25, 8)
    assert sorted(gaps) == gaps
    assert len(gaps) < 40
    clock.time += 8
    for _ in range(20):
        limits.answered()
    assert await at_once(limits) == 8


@in_loop
async def test_requests_that_always_fail_are_no_outage() -> None:
    """Among themselves at the end of a run they use up their tries, without probes or patience."""
    limits, clock = machine(8)
    limits.answered()
    down(limits, first=False)
    assert (limits.blames_endpoint(certain=False), await at_once(limits)) == (False, 1)
    limits.troubled("no", first_try=True, certain=False)
    assert not limits.blames_endpoint(certain=False)
    down(limits, 2)
    assert limits.blames_endpoint(certain=False)  # three new ones in a row
    limits.answered()
    assert not limits.blames_endpoint(certain=False)
    clock.time += PATIENCE + 1
    down(limits, 1, first=False)
    assert not limits.stopped


PATIENT = {
    # known, certain, first, a fresh one waits: how long a silence may last, and what comes after it
    (False, False, False, False): (FIRST_PATIENCE, "they fail"),
    (False, False, True, False): (FIRST_PATIENCE, "stop"),
    (False, False, False, True): (FIRST_PATIENCE, "stop"),
    (False, True, False, False): (FIRST_PATIENCE, "stop"),
    (True, False, False, False): (FIRST_PATIENCE, "they fail"),
    (True, False, True, False): (PATIENCE, "stop"),
    (True, False, False, True): (PATIENCE, "stop"),
    (True, True, False, False): (PATIENCE, "stop"),
}


@pytest.mark.parametrize("case", PATIENT)
def test_patience(case: tuple[bool, bool, bool, bool]) -> None:
    known, certain, first, fresh = case
    limit, comes = PATIENT[case]

    async def test() -> None:
        limits, clock = machine(1)
        await limits.enter()
        if known:
            limits.answered()
        waiting = asyncio.ensure_future(limits.enter()) if fresh else None
        await settle()
        down(limits, 3, certain=certain)
        clock.time += limit - 1
        limits.troubled("no", first_try=first, certain=certain)
        assert not limits.stopped
        assert limits.blames_endpoint(certain=certain)
        clock.time += 2
        limits.troubled("gone", first_try=first, certain=certain)
        if comes == "stop":
            told = f"cannot reach the endpoint for {limit + 1:.0f} s: gone; run again later"
            assert stopped(limits) == (LATER, told)
        else:
            assert not limits.stopped
            assert not limits.blames_endpoint(certain=certain)  # from here on their tries count
        if waiting:
            waiting.cancel()

    asyncio.run(test())


def test_patience_where_all_that_are_under_way_fail() -> None:
    """Then the next would fail as well: it is the endpoint."""
    limits, clock = machine(2)
    limits.answered()
    for count, out in ((7, False), (1, True)):
        down(limits, count)
        clock.time += FIRST_PATIENCE + 1
        limits.troubled("no", first_try=False, certain=False)
        assert limits.blames_endpoint(certain=False) == out


@in_loop
async def test_an_hour_without_input_is_no_silence() -> None:
    limits, clock = machine(8)
    limits.answered()
    await limits.enter()
    limits.troubled("no", first_try=True, certain=False)
    limits.leave()
    clock.time += LULL + PATIENCE
    await limits.enter()
    limits.troubled("no", first_try=True, certain=False)
    assert not limits.stopped


@in_loop
async def test_a_pause_that_nobody_measures() -> None:
    """A burst of 429 without Retry-After is one pause; the next is twice as long, up to a minute."""
    limits, clock = machine(16)
    limits.answered()
    pauses = []
    for _ in range(8):
        for _ in range(16):
            limits.limited(None)
        began = clock.time
        while not await at_once(limits):
            clock.time += 0.5
        pauses.append(clock.time - began)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert not limits.stopped
    while not limits.stopped and clock.time < 3000:
        clock.time += 61
        limits.limited(None)
    assert (stopped(limits)[0], clock.time) == (LATER, pytest.approx(1000 + PATIENCE, abs=150))
    assert "nothing but 429" in stopped(limits)[1]


def test_a_pause_that_is_too_long() -> None:
    limits, _ = machine()
    limits.limited(120)
    assert not limits.stopped
    limits.limited(121)
    assert stopped(limits) == (LATER, "the endpoint's limit is reached: it asks to wait 121 s; run again then")


@pytest.mark.parametrize(
    ("messages", "stops"), [("a" * 8, True), ("a" * 7, False), ("ab" * 8, False), ("aba" * 9, False)]
)
def test_the_same_refusal_for_all(messages: str, stops: bool) -> None:
    limits, _ = machine()
    for message in messages:
        limits.refused(message)
    assert bool(limits.stopped) == stops
    assert not stops or stopped(limits)[0] == FIX_FIRST
    known, _ = machine()
    known.answered()
    for message in messages:
        known.refused(message)
    assert not known.stopped


def test_one_in_five_is_flaky_and_one_in_fifty_is_not() -> None:
    for share, flaky in ((5, True), (50, False)):
        limits, _ = machine()
        for number in range(1000):
            if number % share:
                limits.answered()
            else:
                limits.troubled("no", first_try=True, certain=False)
        assert limits.flaky == flaky


# -- runs that wait more than they work, one beside another ---------------------------------------

Run = tuple[CompletedProcess[bytes], Endpoint]
SLOW: dict[str, Callable[[], Any]] = {}
Slow = Callable[[str], Any]


@pytest.fixture(scope="module", autouse=True)
def slow() -> Iterator[Slow]:
    """What came of a run in SLOW; all of them are started before the first test."""
    with ThreadPoolExecutor(len(SLOW)) as pool:
        running = {name: pool.submit(run) for name, run in SLOW.items()}
        yield lambda name: running[name].result()


# -- 429 ----------------------------------------------------------------------------------------

WAITS: dict[str, tuple[float, dict[str, str]]] = {
    "seconds": (1.5, {"Retry-After": "1.5"}),
    "a date": (0.9, {"Retry-After": "in two seconds"}),
    "milliseconds": (1.2, {"retry-after-ms": "1200", "Retry-After": "60"}),
    "negative": (1.0, {"Retry-After": "-5"}),
    "nonsense": (1.0, {"Retry-After": "soon"}),
    "no number": (1.0, {"Retry-After": "nan"}),
    "for ever": (1.0, {"Retry-After": "inf"}),
    "nothing": (1.0, {}),
}
LIMITED, JOBS = 10, 4


def limited(headers: dict[str, str]) -> Run:
    def answer(call: Call) -> Reply:
        if call.number != LIMITED:
            return Reply(chat(), delay=0.05)
        date = formatdate(time.time() + 2, usegmt=True)
        return Reply(
            error(429).body, 429, {name: value.replace("in two seconds", date) for name, value in headers.items()}
        )

    with Endpoint(answer) as endpoint:
        return run("llm-map", f"-j{JOBS}", "--retries", "0", PROMPT, stdin=records(30), url=endpoint.url), endpoint


SLOW |= {what: partial(limited, headers) for what, (_, headers) in WAITS.items()}


@pytest.mark.parametrize("what", WAITS)
def test_429_is_a_pause_for_all(what: str, slow: Slow) -> None:
    """And no try: without any further try allowed, nothing is lost."""
    got, endpoint = slow(what)
    assert (*status(got), len(endpoint.calls)) == (0, 30, 31)
    until = endpoint.calls[LIMITED].at + WAITS[what][0]
    in_flight = JOBS - 1  # may have been on their way
    assert min(call.at for call in endpoint.calls[LIMITED + 1 + in_flight :]) > until - 0.05
    assert max(call.at for call in endpoint.calls) < until + 10


@pytest.mark.parametrize(
    ("reply", "code", "told"),
    [
        (error(429, Retry_After="3600"), 75, "it asks to wait 3600 s; run again then"),
        (error(429, Retry_After="1e9"), 75, "it asks to wait 1000000000 s"),
        (
            error(429, "You exceeded your current quota", "insufficient_quota"),
            2,
            "the account's quota is spent (HTTP 429)",
        ),
    ],
)
def test_429_that_ends_the_run(reply: Reply, code: int, told: str) -> None:
    with Endpoint(reply) as endpoint:
        got = run("llm-map", "-j4", PROMPT, stdin=records(1000), url=endpoint.url)
    assert status(got) == (code, 0)
    assert len(endpoint.calls) <= 4
    assert told in got.stderr.decode()


def test_a_burst_of_429_is_one_pause() -> None:
    with Endpoint(lambda call: error(429) if call.number < 16 else says()) as endpoint:
        got = run("llm-map", "-j16", "--retries", "0", PROMPT, stdin=records(50), url=endpoint.url, timeout=30)
    assert (*status(got), len(endpoint.calls)) == (0, 50, 66)


# -- what trying again heals --------------------------------------------------------------------


def test_heals() -> None:
    seen: Counter[str] = Counter()

    def answer(call: Call) -> Reply:
        seen[call.prompt] += 1
        return error(int(call.prompt)) if seen[call.prompt] == 1 else says(call.prompt)

    codes = ["408", "409", "500", "502", "503", "504", "529"]
    with Endpoint(answer) as endpoint:
        got = run("llm-map", PROMPT, stdin=jsonl(*({"q": code} for code in codes)), url=endpoint.url)
    assert status(got) == (0, len(codes))
    assert seen == dict.fromkeys(codes, 2)
    assert len({call.key for call in endpoint.calls}) == len(codes)


ALWAYS = {"500": error(500), "502": error(502), "503": error(503), "504": error(504), "reset": Reply(reset=True)}
POISON = {"5", "20", "59"}


def poisoned(bad: Reply) -> Run:
    with Endpoint(lambda call: bad if call.prompt in POISON else Reply(chat(), delay=0.05)) as endpoint:
        return run(
            "llm-map", "-j4", "--retries", "2", PROMPT, stdin=records(60), url=endpoint.url, timeout=30
        ), endpoint


SLOW |= {bad: partial(poisoned, reply) for bad, reply in ALWAYS.items()}


@pytest.mark.parametrize("bad", ALWAYS)
def test_what_always_fails_is_that_record_alone(bad: str, slow: Slow) -> None:
    """While the others are answered, and when it is alone at the end."""
    got, endpoint = slow(bad)
    assert status(got) == (1, 57)
    assert b"failed 3 " in got.stderr
    assert Counter(call.prompt for call in endpoint.calls) == {str(n): 3 if str(n) in POISON else 1 for n in range(60)}


def test_waiting_for_a_further_try_holds_no_slot() -> None:
    with Endpoint(lambda call: error(500) if call.number == 0 else says()) as endpoint:
        got = run("llm-map", "-j1", PROMPT, stdin=records(4), url=endpoint.url)
    assert (status(got), endpoint.most_at_once) == ((0, 4), 1)
    assert [call.prompt for call in endpoint.calls] == ["0", "1", "2", "3", "0"]


def test_one_call_in_five_fails() -> None:
    """Nothing is lost, and it costs little more than the further tries and a fifth of the slots."""
    unlucky: Counter[str] = Counter()

    def answer(call: Call) -> Reply:
        failed = call.number % 5 == 2 and unlucky[call.prompt] < 2  # more often would only take longer
        unlucky[call.prompt] += failed
        return Reply(chat(), 500 if failed else 200, delay=0.02)

    with Endpoint(answer) as endpoint:
        got = run("llm-map", "-j16", PROMPT, stdin=records(1000), url=endpoint.url)
    assert status(got) == (0, 1000)
    assert len(endpoint.calls) == 1000 + unlucky.total() >= 1200
    assert endpoint.most_at_once <= 16
    first = {call.prompt: call.at for call in reversed(endpoint.calls)}
    assert max(first.values()) - min(first.values()) < 10  # 1.25 s of pure waiting where nothing fails


# -- outages ------------------------------------------------------------------------------------

COUNT, AWAY = 300, 3.0


def overloaded() -> tuple[CompletedProcess[bytes], float, int]:
    """503 for a while. What the run gave, how long after the end of it the first answer came, tries."""
    began: list[float] = []

    def answer(call: Call) -> Reply:
        if call.number >= 100 and not began:
            began.append(call.at)
        if began and call.at < began[0] + AWAY:
            return error(503)
        return Reply(chat(), delay=0.05)

    with Endpoint(answer) as endpoint:
        got = run("llm-map", "-j8", PROMPT, stdin=records(COUNT), url=endpoint.url)
    back = next(call.at for call in endpoint.calls if call.at >= began[0] + AWAY) - began[0] - AWAY
    return got, back, len(endpoint.calls)


def unreachable() -> tuple[CompletedProcess[bytes], float, int]:
    """The same for an endpoint that is not there at all for a while."""
    reply = Reply(chat(), delay=0.05)
    with ThreadPoolExecutor(1) as pool:
        with Endpoint(reply) as endpoint:
            running = pool.submit(run, "llm-map", "-j8", PROMPT, stdin=records(COUNT), url=endpoint.url)
            while len(endpoint.calls) < 100:
                time.sleep(0.01)
        time.sleep(AWAY)
        with Endpoint(reply, port=endpoint.port) as again:
            came = time.monotonic()
            while not again.calls:
                time.sleep(0.01)
            back = time.monotonic() - came
            got = running.result()
    return got, back, tries(got)


OUTAGES = {"it answers 503": overloaded, "it is not there": unreachable}
SLOW |= OUTAGES


@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_in_the_middle(outage: str, slow: Slow) -> None:
    """Nothing is lost, it is not hammered, and the run goes on soon after."""
    got, back, made = slow(outage)
    assert status(got) == (0, COUNT)
    assert made == tries(got)
    assert made <= 1.1 * COUNT + 8
    assert back < 4


# -- what nobody can heal by trying -------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "told", "waiting"),
    [
        (error(401, "Incorrect key"), "the endpoint refuses the key (HTTP 401): Incorrect key", 100_000),
        (error(402, "pay"), "money is spent (HTTP 402)", 100),
        (error(403, "no"), "forbids it (HTTP 403)", 100),
        (error(404, "no such model"), "knows no such model or path (HTTP 404): no such model", 100_000),
    ],
)
def test_refused_with_many_waiting(reply: Reply, told: str, waiting: int, tmp_path: Path) -> None:
    began = time.monotonic()
    with Endpoint(Reply(reply.body, reply.status, delay=0.05)) as endpoint:
        words = ("-j16", "-e", tmp_path / "errors", PROMPT)
        got = run("llm-map", *words, stdin=records(waiting), url=endpoint.url)
    assert time.monotonic() - began < 5
    assert status(got) == (2, 0)
    assert len(endpoint.calls) <= 16
    message, summary = got.stderr.decode().splitlines()
    assert told in message
    count = len(endpoint.calls)
    assert re.match(rf"llm-map: read (\d+), out 0, failed 0, unasked \1, replayed 0, calls {count}, ", summary)
    assert (tmp_path / "errors").read_bytes() == b""


def test_a_key_revoked_in_the_middle(tmp_path: Path) -> None:
    done = tmp_path / "done"
    with Endpoint(lambda call: says() if call.number < 50 else error(401)) as endpoint:
        got = run("llm-map", "-d", done, PROMPT, stdin=records(500), url=endpoint.url)
    assert status(got) == (2, 50)
    assert len(lines(done.read_bytes())) == 50
    assert b"out 50, failed 0, unasked " in got.stderr
    with Endpoint(says()) as endpoint:
        got = run("llm-map", "-d", done, PROMPT, stdin=records(500), url=endpoint.url)
    assert (*status(got), len(endpoint.calls)) == (0, 500, 450)


def test_the_same_400_for_all() -> None:
    with Endpoint(error(400, "unknown parameter: temperatur")) as endpoint:
        got = run("llm-map", "-j4", PROMPT, stdin=records(1000), url=endpoint.url)
    assert status(got) == (2, 0)
    assert len(endpoint.calls) <= 8 + 4
    assert b"the first 8 calls all failed: unknown parameter: temperatur" in got.stderr


def test_a_400_for_one_record(tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    bad = {"7": 400, "8": 413, "9": 422}
    with Endpoint(lambda call: error(bad[call.prompt], "no") if call.prompt in bad else says()) as endpoint:
        got = run("llm-map", "-e", errors, PROMPT, stdin=records(30), url=endpoint.url)
    assert (*status(got), len(endpoint.calls)) == (1, 27, 30)
    assert {line["q"]: line["error"]["status"] for line in lines(errors.read_bytes())} == bad


# -- gone for good --------------------------------------------------------------------------------


def refused() -> CompletedProcess[bytes]:
    with Endpoint(says()) as gone:
        url = gone.url
    return run("llm-map", PROMPT, stdin=records(1000), url=url)


def unknown() -> CompletedProcess[bytes]:
    return run("llm-map", PROMPT, stdin=records(1000), url="http://nosuch.invalid/v1")


def black_hole() -> CompletedProcess[bytes]:
    """Connections that are never made: the queue of a socket that nobody accepts from is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as hole:
        fill = [socket.socket() for _ in range(4)]
        for one in fill:
            one.setblocking(False)
            one.connect_ex(hole.getsockname())
        url = f"http://127.0.0.1:{hole.getsockname()[1]}/v1"
        got = run("llm-map", "--timeout", "3", PROMPT, stdin=records(1000), url=url)
        for one in fill:
            one.close()
        return got


GONE = {
    "nobody listens": (refused, r"cannot connect to 127\.0\.0\.1:\d+: .*"),
    "no such name": (unknown, r"cannot connect to nosuch\.invalid: .*"),
    "a black hole": (black_hole, r"cannot connect to 127\.0\.0\.1:\d+ within 1\.5 s"),
}
SLOW |= {what: go for what, (go, _) in GONE.items()}


@pytest.mark.parametrize("what", GONE)
def test_gone_for_good(what: str, slow: Slow) -> None:
    got = slow(what)
    assert status(got) == (75, 0)
    told, summary = got.stderr.decode().splitlines()
    assert re.search(rf"cannot reach the endpoint for [23]\d s: {GONE[what][1]}; run again later", told)
    assert re.search(r"read (\d+), out 0, failed 0, unasked \1, ", summary)
    assert tries(got) <= 8 + 25
    assert float(summary.split()[-2]) < 45
