"""The books of a run: what is counted, and that the log, the summary, the done-file and the bill agree to the token."""

from __future__ import annotations

import json
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from endpoint import Call, Endpoint, Reply, chat, error
from tool import jsonl, lines, run, start, until

from llmstream.books import events
from llmstream.books.events import Counts, Events
from llmstream.records.values import BadLine, Failure, Outcome, Request, Usage
from llmstream.records.values import Reply as Said
from llmstream.shell import messages

AT_LAST = 30.0  # what hangs is a failure

# -- what is counted ------------------------------------------------------------------------------


def test_the_first_failures_are_told_and_the_first_three_named(capfd: pytest.CaptureFixture[str]) -> None:
    happened = Events()
    for n in range(20):
        failed = Outcome(BadLine(b"", f"in:{n}", ""), of=2)
        happened.failed(failed, Failure("http", "no", 400), talkative=False, kept_in="bad.jsonl")
    told = capfd.readouterr().err.splitlines()
    counts = happened.counts
    assert (counts.failed, counts.failures, counts.kinds) == (40, 20, {"http": 40})
    assert counts.names == ["in:0", "in:1", "in:2"]
    assert len(told) == events.SHOWN + 1
    assert told[0].endswith("in:0: no (HTTP 400)")
    assert "bad.jsonl" in told[-1]


def test_whoever_is_talkative_tells_of_all(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "quiet", True)  # a failure is told nevertheless
    happened = Events()
    for n in range(20):
        failed = Outcome(BadLine(b"", f"in:{n}", ""))
        happened.failed(failed, Failure("input", "no"), talkative=True, kept_in=None)
    assert len(capfd.readouterr().err.splitlines()) == 20


def test_what_was_spent_is_counted_by_model() -> None:
    happened = Events()
    asked, answered = Request(b"", "k", model="small"), Said("x", "stop", None, False, "small-2", Usage(10, 2, 5, 1))
    happened.complete(asked, answered, 0.1, 1, 0.25, None)
    happened.complete(asked, answered._replace(model=""), 0.1, 1, 0.25, "length: cut")
    happened.error(asked, Failure("http", "no", 500), 0.1, 2)  # nothing was paid
    assert {model: tuple(spent) for model, spent in happened.spent.items()} == {
        "small-2": (1, 10, 2, 5, 1, 0.25),
        "small": (1, 10, 2, 5, 1, 0.25),
    }
    assert (happened.cost, happened.counts.ended, happened.latencies.total()) == (0.5, 3, 2)
    happened.complete(asked, answered, 0.1, 1, None, None)
    assert (happened.cost, happened.spent["small-2"].cost, happened.spent["small"].cost) == (None, None, 0.25)


@pytest.mark.parametrize(
    ("most", "failed", "seen", "stops"),
    [
        (None, 100, 100, False),
        ((3, ""), 2, 2, False),
        ((3, ""), 3, 3, True),
        ((10, "%"), 50, 99, False),  # not before the hundredth
        ((10, "%"), 10, 100, False),
        ((10, "%"), 11, 100, True),
        ((0, "%"), 1, 100, True),
    ],
)
def test_too_many(most: tuple[float, str] | None, failed: int, seen: int, stops: bool) -> None:
    assert bool(Counts(failing=failed, finished=seen).too_many(most)) == stops


# -- an endpoint that writes bills ------------------------------------------------------------------

PRICES = {"bill": {"input": 0.75, "cached": 0.075, "output": 4.5}, "bill-large": {"input": 3, "output": 12}}


class Paid(NamedTuple):
    """What one call took, whoever tells of it."""

    model: str
    input: int
    output: int
    cached: int
    reasoning: int

    @property
    def cost(self) -> float:
        usd = PRICES[self.model]
        cached = usd.get("cached", usd["input"])
        return ((self.input - self.cached) * usd["input"] + self.cached * cached + self.output * usd["output"]) / 1e6


# How often a call meets what, in a hundred, when it comes for the first time and when it comes again.
FIRST = {
    "fine": 53, "garbled": 16, "cut off": 4, "refused": 4, "void": 8, "500": 4, "429": 4, "reset": 3, "closed": 2,
    "torn": 2,
}  # fmt: skip
AGAIN = {"fine": 94, "500": 3, "429": 3}
QUICK = {"fine": 60, "garbled": 25, "cut off": 5, "refused": 5, "429": 5}  # nothing that is waited for


class Till:
    """Answers as the seed, the call and the number of its coming say; writes down each whole 200 as paid."""

    def __init__(self, seed: int, first: dict[str, int] = FIRST, *, delay: float = 0.0) -> None:
        self.paid: list[Paid] = []
        self.met: Counter[str] = Counter()
        self._seed, self._first, self._delay = seed, first, delay
        self._seen: Counter[str] = Counter()

    def __call__(self, call: Call) -> Reply:
        came = f"{call.key} {call.json['messages'][0]['content']}"
        self._seen[came] += 1
        dice = random.Random(f"{self._seed} {came} {self._seen[came]}")
        kinds = self._first if self._seen[came] == 1 else AGAIN
        kind = "poison" if "poison" in came else "void" if "void" in came else self._drawn(dice, kinds)
        if "slow" in came and self._seen[came] == 1:
            kind = "hangs"
        self.met[kind] += 1
        return _not_paid(kind) or Reply(self._billed(kind, dice), delay=self._delay)

    @staticmethod
    def _drawn(dice: random.Random, kinds: dict[str, int]) -> str:
        return dice.choices(list(kinds), list(kinds.values()))[0]

    def _billed(self, kind: str, dice: random.Random) -> Any:
        into = dice.randrange(1, 9000)
        model = "bill" if kind == "void" else dice.choice(list(PRICES))
        paid = Paid(model, into, dice.randrange(0, 900), dice.choice((0, into // 3)), dice.choice((0, 0, 7)))
        self.paid.append(paid)
        usage = {
            "prompt_tokens": paid.input,
            "completion_tokens": paid.output,
            "prompt_tokens_details": {"cached_tokens": paid.cached},
            "completion_tokens_details": {"reasoning_tokens": paid.reasoning} if paid.reasoning else None,
        }
        said = {"cut off": chat('{"n": 1', finish="length"), "refused": chat(None, refusal="I will not")}
        good = f'{{"n": {dice.randrange(9)}, "tag": "{dice.choice("abc")}"}}'
        body = said.get(kind) or chat("no JSON" if kind == "garbled" else good)
        return {**body, **({"choices": []} if kind == "void" else {}), "model": model, "usage": usage}


def _not_paid(kind: str) -> Reply | None:
    return {
        "poison": error(400, "too long"),
        "500": error(500, "no luck"),
        "429": error(429, "slow down", retry_after_ms="40"),
        "reset": Reply(reset=True),
        "closed": Reply(close=True),
        "torn": Reply(chat(), promise=5000),
        "hangs": Reply(hang=True),
    }.get(kind)


class Books:
    """A tool with all that keeps books, in a folder of its own; each run has a log and a summary."""

    def __init__(self, folder: Path, words: Iterable[str], questions: Iterable[str], url: str) -> None:
        self.folder, self.url, self.runs = folder, url, 0
        self.tool, *self.words = words
        (folder / "prices").write_text(json.dumps(PRICES))
        asked = jsonl(*({"id": n, "g": n // 2, "q": f"{n} {text}"} for n, text in enumerate(questions)))
        (folder / "in").write_text(asked)

    def command(self) -> list[str | Path]:
        """Of another run of the same."""
        self.runs += 1
        own = ["-m", "bill", "-d", "done", "-e", "bad", "--prices", "prices", "-M", "meta"]
        return [*self.words, *own, "--log", f"log{self.runs}", "--summary", f"summary{self.runs}", "in"]

    def run(self) -> subprocess.CompletedProcess[bytes]:
        return run(self.tool, *self.command(), url=self.url, cwd=self.folder)

    def start(self) -> subprocess.Popen[bytes]:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        return start(self.tool, *self.command(), url=self.url, cwd=self.folder, **streams)

    def log(self, number: int) -> list[dict[str, Any]]:
        return lines((self.folder / f"log{number}").read_bytes())

    def logs(self) -> list[dict[str, Any]]:
        return [event for number in range(1, self.runs + 1) for event in self.log(number)]

    def summary(self, number: int) -> dict[str, Any]:
        return json.loads((self.folder / f"summary{number}").read_bytes())

    def done(self) -> list[dict[str, Any]]:
        return lines((self.folder / "done").read_bytes())


def paid(told: Iterable[dict[str, Any]]) -> Counter[Paid]:
    """What events, or the lines of a done-file, say was paid."""
    return Counter(
        Paid(line["model"], *(line["usage"].get(name, 0) for name in ("input", "output", "cached", "reasoning")))
        for line in told
        if line.get("usage")
    )


def cost(told: Iterable[dict[str, Any]]) -> float:
    return sum(line["cost"] for line in told if line.get("usage"))


def calls(log: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in log if event["event_type"] in ("api_call_complete", "api_call_error")]


def check_summary(books: Books, number: int) -> None:
    """A summary says what its run's log says, in the file, in the log and to the person."""
    log, told = books.log(number), books.summary(number)
    ended = calls(log)
    took = paid(ended)
    names = ("input", "output", "cached", "reasoning")
    assert told["tokens"] == {name: sum(getattr(one, name) * n for one, n in took.items()) for name in names}
    assert told["cost"] == pytest.approx(cost(ended), abs=1e-9)
    assert told["cost"] == pytest.approx(sum(one.cost * n for one, n in took.items()), abs=1e-9)
    assert set(told["models"]) == {one.model for one in took}
    for model, spent in told["models"].items():
        of = {one: n for one, n in took.items() if one.model == model}
        assert (spent["calls"], spent["input"]) == (sum(of.values()), sum(one.input * n for one, n in of.items()))
        assert spent["cost"] == pytest.approx(sum(one.cost * n for one, n in of.items()), abs=1e-9)
    assert told["tries"] == len(ended) + told["unanswered"]
    assert told["calls"] == sum(event["attempt"] == 1 for event in ended) + told["unanswered"]
    assert told["read"] == told["out"] + told["failed"] + told["kept"] + told["unasked"]
    failed = Counter({event["type"]: 0 for event in log if event["event_type"] == "record_failed"})
    for event in log:
        if event["event_type"] == "record_failed":
            failed[event["type"]] += event["records"]
    assert (told["failures"], told["failed"]) == (failed, failed.total())
    assert [event["event_type"] for event in (log[0], log[-1])] == ["run_start", "run_summary"]
    assert told == {name: value for name, value in log[-1].items() if name in told}
    assert len({event["run"] for event in log}) == 1


def check_all(books: Books, till: Till, endpoint: Endpoint) -> None:
    """The log, the summaries, the done-file and the endpoint tell the same, to the token."""
    for number in range(1, books.runs + 1):
        check_summary(books, number)
    ended, told = calls(books.logs()), [books.summary(number) for number in range(1, books.runs + 1)]
    assert paid(ended) == paid(books.done()) == Counter(till.paid)
    assert sum(one["tokens"]["input"] for one in told) == sum(one.input for one in till.paid)
    billed = sum(one.cost for one in till.paid)
    assert [cost(ended), cost(books.done()), sum(one["cost"] for one in told)] == pytest.approx([billed] * 3, abs=1e-9)
    assert len(ended) == len(endpoint.asked) == sum(one["tries"] for one in told)
    assert [one["unanswered"] for one in told] == [0] * books.runs


SCHEMA = ("-S", "n int, tag a|b|c", "--retries", "8")
TOOLS = {
    "map": ("llm-map", *SCHEMA, "{{ q }}"),
    "vote": ("llm-vote", "-n", "3", *SCHEMA, "{{ q }}"),
    "merge": ("llm-merge", "-g", "g", *SCHEMA, "-p", "{{ records }}"),
}
every_tool = pytest.mark.parametrize("tool", TOOLS)
QUESTIONS = [*["plain"] * 36, "poison", "plain", "void", "plain"]


@every_tool
def test_the_books_agree(tool: str, tmp_path: Path) -> None:
    till = Till(16)
    questions = [*QUESTIONS, *(["slow", "plain"] if tool == "map" else [])]
    words = (*TOOLS[tool], *(["--timeout", "4"] if tool == "map" else []))
    with Endpoint(till) as endpoint:
        books = Books(tmp_path, words, questions, endpoint.url)
        first = books.run()
        assert (first.returncode, b"a bug" in first.stderr) == (1, False), first.stderr
        check_all(books, till, endpoint)
        met = {*FIRST, "poison", "hangs"} if tool == "map" else {"garbled", "poison", "void", "500"}
        assert till.met.keys() >= met, till.met
        told = books.summary(1)
        assert {"http", "reply"} <= set(told["failures"])
        tries = rf"calls {told['calls']} in {told['tries']} tries, "
        assert tries in first.stderr.decode()
        again = books.run()  # what failed is asked again; what was answered is not
        check_all(books, till, endpoint)
        assert books.summary(2)["calls"] < told["calls"] / 2
        assert books.summary(2)["saved"]["done"] >= told["out"] // (2 if tool == "merge" else 1)
        assert set(first.stdout.splitlines()) <= set(again.stdout.splitlines())


@every_tool
def test_a_run_that_was_told_to_stop_and_one_more(tool: str, tmp_path: Path) -> None:
    till = Till(6, QUICK, delay=0.05)
    with Endpoint(till) as endpoint:
        books = Books(tmp_path, TOOLS[tool], QUESTIONS, endpoint.url)
        process = books.start()
        until(lambda: len(endpoint.asked) >= 14, process)
        process.terminate()
        process.communicate(timeout=AT_LAST)
        assert process.returncode == -signal.SIGTERM
        check_all(books, till, endpoint)
        told = books.summary(1)
        assert (told["status"], told["unasked"] > 0) == (128 + signal.SIGTERM, True)
        assert told["stopped"].startswith("SIGTERM")
        assert books.run().returncode == 1
        check_all(books, till, endpoint)


@every_tool
def test_a_run_that_was_killed_and_one_more(tool: str, tmp_path: Path) -> None:
    """The log knows what the done-file knows; the endpoint at most what was in flight beside it."""
    till = Till(7, QUICK, delay=0.03)
    with Endpoint(till) as endpoint:
        books = Books(tmp_path, TOOLS[tool], QUESTIONS, endpoint.url)
        process = books.start()
        until(lambda: len(endpoint.asked) >= 14, process)
        process.kill()
        process.communicate(timeout=AT_LAST)
        in_flight = Counter(till.paid) - paid(books.done())
        assert in_flight.total() <= 8
        assert paid(books.done()) <= Counter(till.paid)
        missing = paid(books.done()) - paid(calls(books.log(1)))  # killed between the one line and the other
        assert missing.total() <= 1
        assert paid(calls(books.log(1))) <= paid(books.done())
        assert not (tmp_path / "summary1").exists()
        assert books.log(1)[-1]["event_type"] != "run_summary"
        assert books.run().returncode == 1
        check_summary(books, 2)
        assert paid(books.done()) + in_flight == Counter(till.paid)
        assert paid(calls(books.logs())) + missing == paid(books.done())


def test_a_drain_that_is_too_short_says_how_many_calls_it_left(tmp_path: Path) -> None:
    with Endpoint(Reply(hang=True)) as endpoint:
        books = Books(tmp_path, ("llm-map", "--drain", "0.2", "{{ q }}"), ["plain"] * 20, endpoint.url)
        process = books.start()
        until(lambda: len(endpoint.asked) == 8, process)
        process.terminate()
        process.communicate(timeout=AT_LAST)
        told = books.summary(1)
    assert (told["calls"], told["tries"], told["unanswered"]) == (8, 8, 8)
    assert (told["read"], told["unasked"]) == (told["unasked"], told["read"])
    assert [event["event_type"] for event in books.log(1)] == ["run_start", "run_summary"]


def test_a_certificate_that_is_not_trusted_is_a_try_too(tmp_path: Path) -> None:
    import ssl

    import trustme

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Endpoint(Reply(chat()), tls=context) as endpoint:
        books = Books(tmp_path, TOOLS["map"], ["plain"], endpoint.url)
        done = books.run()
    assert done.returncode == 2, done.stderr
    check_summary(books, 1)
    assert books.summary(1)["tries"] == len(calls(books.log(1))) == 1


def test_a_replay_costs_nothing(tmp_path: Path) -> None:
    till = Till(8, QUICK)
    with Endpoint(till) as endpoint:
        books = Books(tmp_path, TOOLS["map"], ["plain"] * 8, endpoint.url)
        books.words += ["--reask", "9"]
        while books.run().returncode:  # until even those that were refused have an answer
            assert books.runs < 9
        before = len(till.paid)
        books.run()
        assert len(till.paid) == before
    told = books.summary(books.runs)
    assert (told["replayed"], told["saved"], told["calls"], told["tries"]) == (8, {"done": 8, "share": 0}, 0, 0)
    assert (told["cost"], told["models"], told["latency"]) == (0, {}, {})
    assert set(told["tokens"].values()) == {0}
    replayed = [event for event in books.log(books.runs) if event["event_type"] == "record_replayed"]
    assert sorted(event["id"] for event in replayed) == list(range(8))
