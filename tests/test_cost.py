"""What a run costs: counted whatever became of the calls, told the same at replay, and held to --max-cost."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from endpoint import Call, Endpoint, Reply, chat, error
from tool import command, jsonl, lines, run

from llmstream.records.values import Answer, Usage, combined, meta_of

PRICES = {"m": {"input": 100, "cached": 10, "output": 400}, "n": {"input": 1, "output": 1}}
ONE = 0.0018  # what a call of m costs: 10 tokens in, 2 out


def records(*names: Any) -> str:
    return jsonl(*({"id": n, "q": str(name)} for n, name in enumerate(names)))


def body(content: str | None = "ok", model: str = "m", usage: Any = ..., **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {**chat(content), "model": model, **more}
    return made if usage is ... else {**made, "usage": usage}


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(lambda call: Reply(body(model=call.json["model"]))) as made:
        yield made


class Run:
    """llm-map, or another, with prices and a summary in a folder of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        (folder / "prices").write_text(json.dumps(PRICES))

    def __call__(
        self, *words: str, stdin: str = records("a"), status: int = 0, tool: str = "llm-map", **env: str
    ) -> subprocess.CompletedProcess[bytes]:
        books = ("--summary", "summary", "--prices", "prices")
        ask = () if tool == "llm-merge" else ("{{ q }}",)
        model = () if "-m" in words else ("-m", "m")
        got = run(tool, *books, *model, *words, *ask, stdin=stdin, url=self.url, cwd=self.folder, env=env)
        assert got.returncode == status, got.stderr
        return got

    @property
    def summary(self) -> dict[str, Any]:
        return json.loads((self.folder / "summary").read_bytes())

    @property
    def kept(self) -> list[dict[str, Any]]:
        return lines((self.folder / "done").read_bytes())


@pytest.fixture
def ask(tmp_path: Path, endpoint: Endpoint) -> Run:
    return Run(tmp_path, endpoint.url)


# -- what is told of one answer ------------------------------------------------------------------------


def test_beside_each_answer_and_the_same_at_replay(ask: Run) -> None:
    got = ask("-d", "done", "-M", "meta")
    meta = lines(got.stdout)[0]["meta"]
    assert meta == {
        "model": "m", "usage": {"input": 10, "output": 2}, "cost": ONE, "latency": meta["latency"], "attempts": 1,
    }  # fmt: skip
    (ask.folder / "prices").write_text('{"m": {"input": 7, "output": 7}}')
    assert ask("-d", "done", "-M", "meta").stdout == got.stdout
    (ask.folder / "prices").write_text("{}")
    assert ask("-d", "done", "-M", "meta", "--offline").stdout == got.stdout
    assert ask.summary["cost"] == 0


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 0}, 0.001),
        ({"prompt_tokens": 10, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 4}}, 0.00064),
        ({"prompt_tokens": 0, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 5}}, 0.002),
        ({"prompt_tokens": 0, "completion_tokens": 0}, 0.0),
        ({}, 0.0),
        (None, None),
        ("12", None),
    ],
)
def test_what_the_endpoint_says_of_its_tokens(usage: Any, cost: float | None, tmp_path: Path) -> None:
    with Endpoint(Reply(body(usage=usage))) as endpoint:
        ask = Run(tmp_path, endpoint.url)
        got = ask("-d", "done", "-M", "meta")
    assert lines(got.stdout)[0]["meta"]["cost"] == cost
    assert ask.kept[0]["cost"] == ask.summary["cost"] == ask.summary["models"]["m"]["cost"] == cost
    assert (b"cost -" in got.stderr) == (cost is None)


def test_what_a_line_without_a_cost_says_at_replay(ask: Run) -> None:
    """A done-file of before there were costs, or one that was written by hand: unknown, and not nought."""
    ask("-d", "done")
    (line,) = ask.kept
    del line["cost"], line["crc"]
    (ask.folder / "done").write_text(json.dumps(line) + "\n")
    assert lines(ask("-d", "done", "-M", "meta").stdout)[0]["meta"]["cost"] is None


def test_several_answers_together() -> None:
    one = Answer(b"1", "1", "m", Usage(10, 2, 4, 1), 0.5, 1, 0.25)
    other = Answer(b"1", "1", "n", Usage(1, 1), 1.5, 3, 0.5)
    both = meta_of(combined([one, other], b"1"))
    assert both == {
        "model": "m, n", "usage": {"input": 11, "output": 3, "cached": 4, "reasoning": 1}, "cost": 0.75,
        "latency": 1.5, "attempts": 4,
    }  # fmt: skip
    assert combined([one, other._replace(cost=None)], b"1").cost is None
    assert combined([one._replace(cost=0.1), other._replace(cost=0.2)], b"1").cost == 0.3
    unknown = combined([one._replace(usage=None, cost=None)], b"1")
    assert (unknown.usage, unknown.cost) == (None, None)


def test_a_vote_costs_what_its_votes_cost(ask: Run) -> None:
    words = ("-d", "done", "-M", "meta", "-n", "3", "--all-votes")
    got = ask(*words, tool="llm-vote")
    assert lines(got.stdout)[0]["meta"]["cost"] == ask.summary["cost"] == 3 * ONE
    assert ask(*words, tool="llm-vote").stdout == got.stdout


def test_a_jury_of_two(ask: Run) -> None:
    words = ("-d", "done", "-M", "meta", "-n", "3", "--all-votes", "-m", "m", "-m", "n")
    got = ask(*words, tool="llm-vote")
    assert lines(got.stdout)[0]["meta"]["cost"] == pytest.approx(2 * ONE + 12e-6, abs=1e-12)
    models = ask.summary["models"]
    assert {model: (one["calls"], one["cost"]) for model, one in models.items()} == {"m": (2, 2 * ONE), "n": (1, 12e-6)}
    assert b"; cost $0.0036 (m $0.0036, n $0.000012); " in got.stderr
    (ask.folder / "prices").write_text(json.dumps({"m": PRICES["m"]}))
    got = ask("-M", "meta", "-n", "3", "--all-votes", "-m", "m", "-m", "n", tool="llm-vote")
    assert lines(got.stdout)[0]["meta"]["cost"] is None  # half of it is no cost
    assert (ask.summary["cost"], ask.summary["models"]["n"]["cost"]) == (None, None)
    assert ask.summary["models"]["m"]["cost"] == 2 * ONE
    assert b"; cost - (m $0.0036, n -); " in got.stderr
    words = ("--max-cost", "1", "-m", "m", "-m", "n")
    assert b"the price of n is not known" in ask(*words, tool="llm-vote", status=2).stderr


def test_a_tree_of_folds(ask: Run) -> None:
    members = jsonl(*({"g": 1, "q": n} for n in range(5)))
    words = ("-g", "g", "--fan-in", "2", "-p", "{{ records }}", "-M", "meta", "-d", "done")
    got = ask(*words, stdin=members, tool="llm-merge")
    assert ask.summary["calls"] == 4
    assert lines(got.stdout)[0]["meta"]["cost"] == ask.summary["cost"] == pytest.approx(4 * ONE, abs=1e-12)
    assert ask(*words, stdin=members, tool="llm-merge").stdout == got.stdout


# -- what nobody knows ---------------------------------------------------------------------------------


def test_a_model_that_nobody_knows(ask: Run) -> None:
    """A dash and null; never a number that is too low."""
    got = ask("-m", "unheard-of", "-d", "done", "-M", "meta", "--log", "log")
    assert lines(got.stdout)[0]["meta"]["cost"] is None
    assert (ask.summary["cost"], ask.summary["models"]["unheard-of"]["cost"]) == (None, None)
    assert ask.summary["tokens"]["input"] == 10
    assert ask.kept[0]["cost"] is None
    (complete,) = [e for e in lines((ask.folder / "log").read_bytes()) if e["event_type"] == "api_call_complete"]
    assert complete["cost"] is None
    assert b"; cost -; " in got.stderr


def test_one_answer_without_a_cost(tmp_path: Path) -> None:
    """Of a sum with an unknown part nothing is known."""
    with Endpoint(lambda call: Reply(body(usage=None) if call.prompt == "b" else body())) as endpoint:
        ask = Run(tmp_path, endpoint.url)
        ask("-M", "meta", stdin=records(*"abc"))
    assert ask.summary["cost"] is None


def test_a_name_that_replies_use(tmp_path: Path) -> None:
    """Prices of one's own by the name that the reply gives, or else by the one that was asked for."""
    with Endpoint(lambda call: Reply(body(model="n" if call.prompt == "b" else "m-2026-01-01"))) as endpoint:
        ask = Run(tmp_path, endpoint.url)
        got = ask("-M", "meta", stdin=records("a", "b"))
    assert [line["meta"]["cost"] for line in lines(got.stdout)] == [ONE, 12e-6]


# -- what the list knows -------------------------------------------------------------------------------

FULL, FLEX = (10 * 0.75 + 2 * 4.5) / 1e6, (10 * 0.375 + 2 * 2.25) / 1e6


@pytest.mark.parametrize(
    ("words", "said", "cost"),
    [
        ((), None, FULL),
        ((), "default", FULL),
        (("-P", "service_tier=flex"), "flex", FLEX),
        (("-P", "service_tier=flex"), None, FLEX),  # where the reply does not say
        (("-P", "service_tier=flex"), "default", FULL),  # it was asked for, and not given
        (("-P", "service_tier=auto"), "flex", FLEX),
        ((), "unheard-of", None),
    ],
)
def test_tiers_of_service(words: tuple[str, ...], said: str | None, cost: float | None, tmp_path: Path) -> None:
    more = {} if said is None else {"service_tier": said}
    with Endpoint(Reply(body(model="gpt-5.4-mini-2026-03-05", **more))) as endpoint:
        got = run(
            "llm-map", "-m", "gpt-5.4-mini", *words, "-M", "meta", "{{ q }}", stdin=records("a"), url=endpoint.url
        )
    found = lines(got.stdout)[0]["meta"]["cost"]
    assert found == (cost if cost is None else pytest.approx(cost, abs=1e-12)), got.stderr


def test_a_tier_of_a_reply_without_an_answer(tmp_path: Path) -> None:
    """It was paid at the price that it names, as any other."""
    void = body(model="gpt-5.4-mini", service_tier="flex", choices=[])
    with Endpoint(Reply(void)) as endpoint:
        words = ("-m", "gpt-5.4-mini", "--summary", "s", "{{ q }}")
        run("llm-map", *words, stdin=records("a"), url=endpoint.url, cwd=tmp_path)
    assert json.loads((tmp_path / "s").read_bytes())["cost"] == pytest.approx(2 * FLEX, abs=1e-12)


def test_a_model_of_a_reply_without_an_answer(tmp_path: Path) -> None:
    with Endpoint(Reply(body(model="n", choices=[]))) as endpoint:
        ask = Run(tmp_path, endpoint.url)
        ask("-d", "done", "--log", "log", status=1)
    assert {model: one["cost"] for model, one in ask.summary["models"].items()} == {"n": pytest.approx(24e-6)}
    assert {line["model"] for line in ask.kept} == {"n"}
    told = lines((tmp_path / "log").read_bytes())
    assert {event["model"] for event in told if event["event_type"] == "api_call_error"} == {"n"}


# -- --max-cost ----------------------------------------------------------------------------------------


def test_it_stops_when_that_is_spent(ask: Run, endpoint: Endpoint) -> None:
    words = ("--max-cost", str(3.5 * ONE), "-j", "1", "-d", "done")
    got = ask(*words, stdin=records(*range(20)), status=1)
    assert (len(endpoint.asked), len(ask.kept), len(lines(got.stdout))) == (4, 4, 4)
    assert (ask.summary["cost"], ask.summary["status"]) == (4 * ONE, 1)
    assert "--max-cost" in ask.summary["stopped"]
    assert b"llm-map: stopped: the calls cost 0.0072 USD so far (--max-cost 0.0063)\n" in got.stderr
    assert b"; cost $0.0072, $0.0009 over --max-cost; " in got.stderr
    more = ask(*words, stdin=records(*range(20)), status=1)  # what was spent before is not counted
    assert (len(endpoint.asked), len(lines(more.stdout))) == (8, 8)


def test_what_is_in_flight_is_kept(tmp_path: Path) -> None:
    """And the summary says by how much it was passed."""
    slow = Reply(body(), delay=0.4)
    with Endpoint(lambda call: slow if call.number else Reply(body(), delay=0.1)) as endpoint:
        ask = Run(tmp_path, endpoint.url)
        words = ("--max-cost", str(ONE), "-j", "6", "-d", "done")
        got = ask(*words, stdin=records(*range(30)), status=1)
        calls = len(endpoint.asked)
    assert 6 <= calls <= 7
    assert len(ask.kept) == len(lines(got.stdout)) == calls
    assert ask.summary["cost"] == pytest.approx(calls * ONE, abs=1e-12)
    over = float(re.search(rb"cost \$[\d.]+, \$([\d.]+) over --max-cost", got.stderr)[1])
    assert over == pytest.approx((calls - 1) * ONE, abs=1e-4)
    assert ask.summary["unanswered"] == 0


def test_by_the_environment(ask: Run, endpoint: Endpoint) -> None:
    ask("-j", "1", stdin=records(*"abc"), status=1, LLMSTREAM_MAX_COST="1e-6")
    assert len(endpoint.asked) == 1
    ask("-j", "1", "--max-cost", "5", stdin=records(*"abc"), LLMSTREAM_MAX_COST="1e-6")
    assert ask.summary["out"] == 3


def nothing_but(content: str | None, **more: Any) -> Callable[[Call], Reply]:
    return lambda call: Reply(body(content, **more))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (nothing_but("no JSON"), ("-S", "n int", "--reask", "9")),
        (nothing_but(None), ("-S", "n int")),
        (nothing_but("x", choices=[]), ()),
    ],
    ids=["rejected", "empty", "without an answer"],
)
def test_what_was_of_no_use_counts_too(answer: Callable[[Call], Reply], words: tuple[str, ...], tmp_path: Path) -> None:
    with Endpoint(answer) as endpoint:
        ask = Run(tmp_path, endpoint.url)
        ask("--max-cost", str(2.5 * ONE), "-j", "1", *words, stdin=records(*range(20)), status=1)
        assert len(endpoint.asked) == 3
    assert ask.summary["cost"] == pytest.approx(3 * ONE)
    assert ask.summary["unasked"] > 0


def test_calls_that_cost_nothing(tmp_path: Path) -> None:
    """An HTTP error is no bill: there is nothing to hold."""
    with Endpoint(lambda call: error(400, "no") if call.number < 5 else Reply(body())) as endpoint:
        ask = Run(tmp_path, endpoint.url)
        ask("--max-cost", str(3.5 * ONE), "-j", "1", stdin=records(*range(8)), status=1)
    assert (ask.summary["cost"], ask.summary["out"], ask.summary["failed"]) == (pytest.approx(3 * ONE), 3, 5)
    assert ask.summary["stopped"] is None


def test_all_came_out_for_just_that_much(ask: Run) -> None:
    """Nothing is missing, so nothing was stopped: make and cron are told that all is there."""
    got = ask("--max-cost", str(3 * ONE), "-j", "1", stdin=records(*"abc"))
    assert (len(lines(got.stdout)), ask.summary["status"]) == (3, 0)


def test_a_replay_needs_no_money(ask: Run, endpoint: Endpoint) -> None:
    ask("-d", "done", stdin=records(*"abc"))
    got = ask("-d", "done", "--max-cost", "1e-9", stdin=records(*"abc"))
    assert (len(lines(got.stdout)), len(endpoint.asked)) == (3, 3)
    (ask.folder / "prices").write_text("{}")
    ask("-d", "done", "--max-cost", "1", "--offline", stdin=records(*"abc"))  # nor a price


@pytest.mark.parametrize("tool", ["llm-map", "llm-vote", "llm-merge"])
def test_a_price_that_is_not_known(tool: str, ask: Run, endpoint: Endpoint) -> None:
    """Nothing is called, read or touched."""
    more = ("-g", "q", "-p", "{{ records }}") if tool == "llm-merge" else ()
    words = ("--max-cost", "5", "-m", "unheard-of", "-d", "done", *more)
    got = ask(*words, tool=tool, status=2)
    reason = "cannot hold --max-cost: the price of unheard-of is not known; --prices FILE tells it"
    assert got.stderr.decode() == f"{tool}: {reason}\n"
    assert (got.stdout, endpoint.calls) == (b"", [])
    assert not (ask.folder / "done").exists()


def test_an_endpoint_that_does_not_say_what_it_took(tmp_path: Path) -> None:
    with Endpoint(Reply(body(usage=None))) as endpoint:
        ask = Run(tmp_path, endpoint.url)
        got = ask("--max-cost", "5", "-j", "1", "-d", "done", stdin=records(*range(20)), status=2)
        assert len(endpoint.asked) == 1
    assert b"--max-cost cannot be held" in got.stderr
    assert (ask.summary["status"], ask.summary["cost"], len(ask.kept)) == (2, None, 1)
    assert len(lines(got.stdout)) == 1  # it is paid


def test_a_tier_whose_price_nobody_knows(tmp_path: Path) -> None:
    """The endpoint did say what its call took: that is not the reason."""
    with Endpoint(Reply(body(model="gpt-5.4-mini", service_tier="unheard-of"))) as endpoint:
        words = ("-m", "gpt-5.4-mini", "--max-cost", "5", "-j", "1", "{{ q }}")
        got = run("llm-map", *words, stdin=records(*range(20)), url=endpoint.url)
        assert (got.returncode, len(endpoint.asked)) == (2, 1)
    assert b"--max-cost cannot be held" in got.stderr
    assert b"tier" in got.stderr


def test_more_tokens_than_there_are(tmp_path: Path) -> None:
    """What no endpoint can mean is not counted: sums stay numbers that JSON readers take."""
    with Endpoint(Reply(body(usage={"prompt_tokens": 2**63, "completion_tokens": 2**63}))) as endpoint:
        ask = Run(tmp_path, endpoint.url)
        got = ask("-M", "meta", "--log", "log", "-n", "3", stdin=records(*"abc"), tool="llm-vote")
    assert (len(lines(got.stdout)), b"a bug" in got.stderr) == (3, False)
    assert ask.summary["tokens"]["input"] < 2**63
    assert lines((tmp_path / "log").read_bytes())[-1]["event_type"] == "run_summary"


@pytest.mark.parametrize("value", ["0", "nan", "$5"])
def test_no_amount(value: str, ask: Run, endpoint: Endpoint) -> None:
    got = ask("--max-cost", value, status=2)
    assert (got.stderr.startswith(f"llm-map: cannot use --max-cost {value}: ".encode()), endpoint.calls) == (True, [])
    assert len(got.stderr.splitlines()) == 1


# -- prices of one's own ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "cannot use the prices in prices: not JSON: "),
        ('{"m": {"input": 1}}', "cannot use the prices in prices: m: no price for output"),
        ('{"m\\u001b[2J\\u009b": 5}', "cannot use the prices in prices: m\\x1b[2J\\x9b: must be an object"),
        ("\udcff", "cannot read prices prices: it is not UTF-8"),
    ],
)
def test_a_file_of_prices_that_is_none(content: str, reason: str, ask: Run, endpoint: Endpoint) -> None:
    (ask.folder / "prices").write_bytes(content.encode(errors="surrogateescape"))
    got = ask(status=2)
    assert len(got.stderr.splitlines()) == 1
    assert got.stderr.decode().startswith(f"llm-map: {reason}")
    assert (got.stdout, endpoint.calls) == (b"", [])


def test_no_file_of_prices(ask: Run, endpoint: Endpoint) -> None:
    got = ask("--prices", "no", status=2)
    assert got.stderr == b"llm-map: cannot read prices no: No such file or directory\n"
    assert endpoint.calls == []


def test_the_file_by_the_environment(tmp_path: Path, endpoint: Endpoint) -> None:
    (tmp_path / "prices").write_text('{"n": {"input": 5, "output": 5}}')
    env = {"LLMSTREAM_PRICES": "prices", "LLMSTREAM_MODEL": "n"}
    got = run("llm-map", "-M", "meta", "{{ q }}", stdin=records("a"), url=endpoint.url, cwd=tmp_path, env=env)
    assert lines(got.stdout)[0]["meta"]["cost"] == 6e-05


def test_a_sim_costs_nothing_that_is_known(tmp_path: Path) -> None:
    words = command("llm-map", "--summary", "s", "{{ q }}")
    got = run("llm-sim", "--", *words, stdin=records("a"), cwd=tmp_path)
    assert got.returncode == 0, got.stderr
    assert json.loads((tmp_path / "s").read_bytes())["cost"] is None


def test_it_says_nothing_of_cost_where_nobody_is_asked(tmp_path: Path) -> None:
    got = run("llm-merge", "--summary", "s", "--max-cost", "5", stdin="{}\n", cwd=tmp_path)
    assert (got.returncode, b"cost" in got.stderr, b"token" in got.stderr) == (0, False, False)
    told = json.loads((tmp_path / "s").read_bytes())
    assert (told["cost"], told["models"]) == (0, {})
