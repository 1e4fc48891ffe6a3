"""What a run came to: the lines for a person, and the file for programs, which is whole or not there."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from endpoint import Call, Endpoint, Reply, chat, error, says
from tool import command, environment, jsonl, lines, run, start, until

from llmstream.books import summary
from llmstream.books.events import Counts, Events
from llmstream.records.values import Reply as Said
from llmstream.records.values import Request, Usage

AT_LAST = 30.0  # what hangs is a failure


def records(*names: Any) -> str:
    return jsonl(*({"id": n, "q": str(name)} for n, name in enumerate(names)))


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_bytes())


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(lambda call: says(call.prompt)) as made:
        yield made


# -- the line of the records --------------------------------------------------------------------------


def happened(seconds: float = 10.0, **counts: Any) -> Events:
    events = Events()
    events.counts = Counts(**counts, began=time.monotonic() - seconds)
    return events


@pytest.mark.parametrize(
    ("counts", "usable", "line"),
    [
        ({}, None, "read 0, out 0, failed 0, replayed 0, calls 0, 10.0 s"),
        (
            {"read": 2, "out": 2, "calls": 2, "tries": 2},
            None,
            "read 2, out 2, failed 0, replayed 0, calls 2, 10.0 s (12 records/min)",
        ),
        ({"calls": 2, "tries": 5}, None, "read 0, out 0, failed 0, replayed 0, calls 2 in 5 tries, 10.0 s"),
        (
            {"read": 3, "out": 3, "replayed": 3, "recalled": 3},
            7,
            "read 3, out 3, failed 0, replayed 3 (of 7 in the file), calls 0, 10.0 s (18 records/min)",
        ),
        (
            {"read": 9, "kept": 1, "unasked": 8},
            0,
            "read 9, out 0, failed 0, kept 1, unasked 8, replayed 0, calls 0, 10.0 s",
        ),
        ({"failed": 1, "names": ["a:1"]}, None, "read 0, out 0, failed 1 (a:1), replayed 0, calls 0, 10.0 s"),
        (
            {"failed": 4, "names": ["a:1", "a:2", "b:1"]},
            None,
            "read 0, out 0, failed 4 (a:1, a:2, b:1, ...), replayed 0, calls 0, 10.0 s",
        ),
        (
            {"read": 5, "out": 5000, "replayed": 1, "recalled": 3, "shared": 2, "calls": 4, "tries": 4},
            3,
            (
                "read 5, out 5000, failed 0, replayed 1 (of 3 in the file), "
                "saved 3 calls by the done-file and 2 by --share, calls 4, 10.0 s (500 records/s)"
            ),
        ),
        ({"shared": 2}, None, "read 0, out 0, failed 0, replayed 0, saved 2 by --share, calls 0, 10.0 s"),
    ],
)
def test_the_line_of_the_records(counts: dict[str, Any], usable: int | None, line: str) -> None:
    assert summary.lines(happened(**counts), usable) == [line]


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ({"read": 3, "out": 3}, "read 3, out 3, failed 0, 10.0 s (18 records/min)"),
        ({"read": 3, "out": 1}, "read 3, out 1, failed 0, unfinished 2, 10.0 s (6 records/min)"),
        ({"read": 3, "failed": 3, "names": ["x:1"]}, "read 3, out 0, failed 3 (x:1, ...), 10.0 s"),
    ],
)
def test_the_line_where_nobody_is_asked(counts: dict[str, Any], line: str) -> None:
    assert summary.books(happened(**counts).counts) == line


def test_a_short_run_has_no_rate() -> None:
    """A quotient of next to nothing says nothing."""
    assert summary.books(happened(0.04, read=1, out=1).counts) == "read 1, out 1, failed 0, 0.0 s"


# -- the line of the calls ----------------------------------------------------------------------------


def spent(events: Events, *calls: tuple[str, Usage | None, float, float | None]) -> Events:
    for model, usage, duration, cost in calls:
        asked, reply = Request(b"", "k", model=model), Said("x", "stop", None, False, model, usage)
        events.complete(asked, reply, duration, 1, cost, None)
    return events


@pytest.mark.parametrize(
    ("calls", "most", "line"),
    [
        (
            [("m", Usage(1000, 64), 0.5, 0.0123)],
            None,
            "tokens 1,000 in, 64 out; cost $0.0123; latency p50 500 ms, p95 500 ms, p99 500 ms",
        ),
        (
            [("m", Usage(1234567, 89012, 1000000, 80000), 2.0, 1234.5)],
            None,
            (
                "tokens 1,234,567 in (1,000,000 cached), 89,012 out (80,000 reasoning); cost $1,234.50; "
                "latency p50 2 s, p95 2 s, p99 2 s"
            ),
        ),
        (
            [("m", Usage(1, 1), 0.5, 0.25), ("n", Usage(1, 1), 0.5, 0.0)],
            None,
            "tokens 2 in, 2 out; cost $0.2500 (m $0.2500, n $0.00); latency p50 500 ms, p95 500 ms, p99 500 ms",
        ),
        (
            [("m", Usage(1, 1), 0.5, 0.25), ("n", Usage(1, 1), 0.5, None)],
            None,
            "tokens 2 in, 2 out; cost - (m $0.2500, n -); latency p50 500 ms, p95 500 ms, p99 500 ms",
        ),
        ([("m", None, 0.5, None)], None, "tokens 0 in, 0 out; cost -; latency p50 500 ms, p95 500 ms, p99 500 ms"),
        (
            [("m", Usage(1, 1), 0.5, 1.25)],
            1.0,
            "tokens 1 in, 1 out; cost $1.25, $0.2500 over --max-cost; latency p50 500 ms, p95 500 ms, p99 500 ms",
        ),
        (
            [("m", Usage(1, 1), 0.5, 1.0)],
            1.0,
            "tokens 1 in, 1 out; cost $1.00; latency p50 500 ms, p95 500 ms, p99 500 ms",
        ),
    ],
)
def test_the_line_of_the_calls(calls: list[Any], most: float | None, line: str) -> None:
    told = summary.lines(spent(happened(), *calls), None, most)[1]
    assert re.sub(r"(49\d|50\d)(\.\d)? ms", "500 ms", re.sub(r"(1\.9\d|2\.0\d) s", "2 s", told)) == line


def test_percentiles() -> None:
    events = spent(happened(), *(("m", None, 0.1 + n / 1000, None) for n in range(1000)))
    found = summary.latencies(events)
    assert found == pytest.approx({"p50": 0.6, "p95": 1.05, "p99": 1.09}, rel=0.02)


def test_a_new_model_for_each_call() -> None:
    """An endpoint may name its models as it likes: neither the memory nor the line is its to fill."""
    calls = [(f"model-{n}" + "x" * 100, Usage(1, 1), 0.5, 0.001) for n in range(5000)]
    events = spent(happened(), *calls)
    assert len(events.spent) <= 200
    assert summary.total(events)[:3] == (5000, 5000, 5000)
    assert len(summary.lines(events, None)[1]) < 2000


# -- the file -----------------------------------------------------------------------------------------

NAMES = {
    "tool", "ended", "status", "stopped", "read", "out", "failed", "kept", "unasked", "lost", "replayed", "calls",
    "tries", "unanswered", "saved", "tokens", "cost", "models", "seconds", "rate", "latency", "failures",
    "first_failed",
}  # fmt: skip


def test_the_file_of_a_run(tmp_path: Path) -> None:
    def answer(call: Call) -> Reply:
        usage = {"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
        return error(400, "no") if call.prompt == "bad" else Reply({**chat(), "usage": usage}, delay=0.02)

    (tmp_path / "prices").write_text('{"sim": {"input": 1, "cached": 0.5, "output": 2}}')
    words = ("--summary", "summary", "-d", "done", "--share", "--prices", "prices", "{{ q }}")
    with Endpoint(answer) as endpoint:
        stdin = records("a", "a", "bad", "b", "a")
        got = run("llm-map", *words, stdin=stdin, url=endpoint.url, cwd=tmp_path)
        told = read(tmp_path / "summary")
        again = run("llm-map", *words, stdin=stdin, url=endpoint.url, cwd=tmp_path)
        after = read(tmp_path / "summary")
    assert set(told) == NAMES
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", told["ended"])
    one = {"calls": 2, "input": 20, "output": 4, "cached": 8, "reasoning": 0, "cost": 2.4e-05}
    assert told == told | {
        "tool": "llm-map", "status": 1, "stopped": None, "read": 5, "out": 4, "failed": 1, "kept": 0, "unasked": 0,
        "lost": 0,        "replayed": 0, "calls": 3, "tries": 3, "unanswered": 0, "saved": {"done": 0, "share": 2},
        "tokens": {"input": 20, "output": 4, "cached": 8, "reasoning": 0}, "cost": 2.4e-05, "models": {"sim": one},
        "failures": {"http": 1}, "first_failed": ["<stdin>:3"],
    }  # fmt: skip
    assert list(told["latency"]) == ["p50", "p95", "p99"]
    assert 0.019 < told["latency"]["p50"] <= told["latency"]["p99"] <= told["seconds"] < AT_LAST
    assert told["rate"] == pytest.approx(4 / told["seconds"], rel=0.01)
    assert b"saved 2 by --share, calls 3, " in got.stderr
    assert b"replayed 4 (of 2 in the file), calls 1, " in again.stderr
    assert (after["replayed"], after["saved"], after["calls"]) == (4, {"done": 4, "share": 0}, 1)
    assert (after["cost"], after["models"], after["latency"]) == (0, {}, {})
    assert sorted(os.listdir(tmp_path)) == ["done", "prices", "summary"]


def test_calls_saved_by_votes(tmp_path: Path, endpoint: Endpoint) -> None:
    """What was replayed is counted in records; what that saved, in calls."""
    words = ("--summary", "summary", "-d", "done", "-n", "3", "--all-votes", "{{ q }}")
    run("llm-vote", *words, stdin=records(*"ab"), url=endpoint.url, cwd=tmp_path)
    assert read(tmp_path / "summary")["calls"] == len(endpoint.asked) == 6
    got = run("llm-vote", *words, stdin=records(*"ab"), url=endpoint.url, cwd=tmp_path)
    told = read(tmp_path / "summary")
    assert (told["replayed"], told["saved"], told["calls"]) == (2, {"done": 6, "share": 0}, 0)
    assert b"replayed 2 (of 6 in the file), saved 6 calls by the done-file, calls 0, " in got.stderr
    assert told["votes"]["cast"] == 6
    more = run("llm-vote", *words, "-n", "5", stdin=records(*"ab"), url=endpoint.url, cwd=tmp_path)
    told = read(tmp_path / "summary")
    assert (told["replayed"], told["saved"], told["calls"]) == (0, {"done": 6, "share": 0}, 4)
    assert b"saved 6 calls by the done-file, calls 4, " in more.stderr


def test_equal_folds_are_one_call(tmp_path: Path, endpoint: Endpoint) -> None:
    members = [{"g": n // 2, "q": n % 2} for n in range(6)]  # three groups with the same members, but for the group
    words = ("--summary", "summary", "-g", "g", "-p", "Fold {% for r in records %}{{ r.q }}{% endfor %}")
    got = run("llm-merge", *words, stdin=jsonl(*members), url=endpoint.url, cwd=tmp_path)
    told = read(tmp_path / "summary")
    assert (told["out"], told["calls"] + told["saved"]["share"] + told["saved"]["done"]) == (6, 3), got.stderr
    assert told["calls"] == len(endpoint.asked)


# -- whatever becomes of the run ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words", "status", "stopped"),
    [
        (error(400, "no"), ("--max-errors", "2"), 1, "stopped: 2 of 2 records failed (--max-errors 2)"),
        (error(401, "no"), (), 2, "the endpoint refuses the key (HTTP 401): no"),
        (says(), ("--max-cost", "1e-5"), 1, "stopped: the calls cost 1.4e-05 USD so far (--max-cost 1e-05)"),
        (
            error(429, retry_after="900"),
            (),
            75,
            "the endpoint's limit is reached: it asks to wait 900 s; run again then",
        ),
    ],
)
def test_a_run_that_stops(answer: Reply, words: tuple[str, ...], status: int, stopped: str, tmp_path: Path) -> None:
    (tmp_path / "prices").write_text('{"sim": {"input": 1, "output": 2}}')
    (tmp_path / "summary").write_text("of an earlier run")
    with Endpoint(answer) as endpoint:
        words = ("--summary", "summary", "--prices", "prices", "-j", "1", *words, "{{ q }}")
        got = run("llm-map", *words, stdin=records(*range(20)), url=endpoint.url, cwd=tmp_path)
    told = read(tmp_path / "summary")
    assert (got.returncode, told["status"], told["stopped"]) == (status, status, stopped)
    assert told["read"] == told["out"] + told["failed"] + told["unasked"]
    assert told["unasked"] > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_run_that_is_told_to_stop(number: int, tmp_path: Path) -> None:
    with Endpoint(lambda call: Reply(chat(call.prompt), delay=0.3)) as endpoint:
        words = ("--summary", "summary", "-d", "done", "-j", "2", "{{ q }}")
        with start("llm-map", *words, url=endpoint.url, cwd=tmp_path) as process:
            assert process.stdin
            process.stdin.write(records(*range(20)).encode())
            process.stdin.flush()
            until(lambda: len(endpoint.asked) >= 2)
            assert not (tmp_path / "summary").exists()
            process.send_signal(number)
            out, said = process.communicate(timeout=AT_LAST)
    told = read(tmp_path / "summary")
    assert (process.returncode, told["status"]) == (-number, 128 + number)
    assert told["stopped"].startswith(signal.Signals(number).name)
    assert told["out"] == len(lines(out)) == told["calls"]
    assert told["unasked"] == told["read"] - told["out"] > 0
    assert f"out {told['out']}".encode() in said


def test_a_reader_that_leaves(tmp_path: Path, endpoint: Endpoint) -> None:
    """Death by SIGPIPE is quiet; the file and the log tell of it nevertheless."""
    script = '"$@" <in | head -1 >first; exit ${PIPESTATUS[0]}'
    (tmp_path / "in").write_text(records(*range(200)))
    words = command("llm-map", "--summary", "summary", "--log", "log", "-d", "done", "-j", "2", "{{ q }}")
    env = environment(OPENAI_BASE_URL=endpoint.url)
    got = subprocess.run(
        ["bash", "-c", script, "bash", *words], cwd=tmp_path, env=env, capture_output=True, check=False
    )
    assert (got.returncode, got.stderr) == (128 + signal.SIGPIPE, b"")
    told = read(tmp_path / "summary")
    assert told["status"] == 128 + signal.SIGPIPE
    assert told["read"] == told["out"] + told["kept"] + told["unasked"]
    assert told["calls"] == told["out"] + told["kept"]
    assert lines((tmp_path / "log").read_bytes())[-1]["status"] == told["status"]


def test_the_file_of_an_earlier_run_is_gone(tmp_path: Path) -> None:
    """Also when this one is killed: nobody takes the one for the other."""
    (tmp_path / "summary").write_text("of an earlier run")
    there: list[bool] = []

    def answer(call: Call) -> Reply:
        there.append((tmp_path / "summary").exists())
        return Reply(hang=True)

    with Endpoint(answer) as endpoint:
        words = ("--summary", "summary", "{{ q }}")
        with start("llm-map", *words, url=endpoint.url, cwd=tmp_path) as process:
            assert process.stdin
            process.stdin.write(records("a").encode())
            process.stdin.flush()
            until(lambda: there)
            process.kill()
    assert there == [False]
    assert os.listdir(tmp_path) == []


def test_nobody_sees_half_of_it(tmp_path: Path) -> None:
    """Whenever somebody looks, it is the whole file, or none."""
    script = 'for n in 1 2 3 4 5 6; do "$@" <in >/dev/null; done; touch ended'
    (tmp_path / "in").write_text("{}\n")
    seen: set[bytes] = set()
    words = command("llm-merge", "-q", "--summary", "summary")
    with subprocess.Popen(["bash", "-c", script, "bash", *words], cwd=tmp_path, env=environment()) as process:
        while process.poll() is None:
            try:
                seen.add((tmp_path / "summary").read_bytes())
            except FileNotFoundError:
                pass
    assert seen
    assert all(json.loads(one)["out"] == 1 for one in seen), b"" in seen


def test_silence_is_for_people(tmp_path: Path, endpoint: Endpoint) -> None:
    got = run("llm-map", "-q", "--summary", "s", "{{ q }}", stdin=records("a"), url=endpoint.url, cwd=tmp_path)
    assert (got.stderr, read(tmp_path / "s")["out"]) == (b"", 1)


# -- wherever it goes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["/dev/fd/2", "link", "told"])
@pytest.mark.parametrize("redirection", ["2>told", "2>>told", "2>&1 >out | cat >>told"])
def test_beside_the_messages(name: str, redirection: str, tmp_path: Path) -> None:
    """Behind what was said before, and on top of nothing; /dev/stderr, a link as this one, stays what it is."""
    (tmp_path / "link").symlink_to("/proc/self/fd/2")
    name = "/dev/stderr" if name == "told" and "cat" in redirection else name
    (tmp_path / "in").write_text("{}\nx\n")
    script = f'"$@" --summary {name} <in {redirection if "out" in redirection else f">out {redirection}"}'
    words = ["bash", "-c", script, "bash", *command("llm-merge")]
    subprocess.run(words, cwd=tmp_path, env=environment(), timeout=AT_LAST, check=False)
    data = (tmp_path / "told").read_text()
    begin, end = data.index("{\n"), data.rindex("}\n") + 2
    assert json.loads(data[begin:end])["failed"] == 1
    said = (data[:begin] + data[end:]).splitlines()
    assert all(line.startswith("llm-merge: ") for line in said)
    assert len(said) == 2
    assert (tmp_path / "link").is_symlink()


def test_through_a_pipe(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    run("llm-merge", "--summary", f"/dev/fd/{writer}", stdin="{}\n", cwd=tmp_path, pass_fds=(writer,))
    os.close(writer)
    with open(reader, "rb") as file:
        assert json.loads(file.read())["out"] == 1


@pytest.mark.parametrize("redirection", ["3>told", "3>>told"])
def test_by_the_number_of_a_descriptor(redirection: str, tmp_path: Path) -> None:
    """The file stays the one that the shell opened."""
    words = ["bash", "-c", f'"$@" --summary /dev/fd/3 {redirection}; ls', "bash", *command("llm-merge")]
    got = subprocess.run(
        words, cwd=tmp_path, env=environment(), input=b"{}\n", capture_output=True, timeout=AT_LAST, check=True
    )
    assert got.stdout == b"{}\ntold\n", got.stderr
    assert read(tmp_path / "told")["out"] == 1


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "latest").symlink_to("runs/1")
    for _ in range(2):
        assert run("llm-merge", "--summary", "latest", stdin="{}\n", cwd=tmp_path).returncode == 0
        assert (tmp_path / "latest").is_symlink()
        assert read(tmp_path / "runs" / "1")["out"] == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [(".", "Is a directory"), ("no/s", "No such file or directory"), ("in/s", "Not a directory")],
)
@pytest.mark.parametrize("tool", ["llm-map", "llm-merge"])
def test_what_cannot_be_written(tool: str, name: str, reason: str, tmp_path: Path, endpoint: Endpoint) -> None:
    """It is told before anything is paid, not when all is done."""
    (tmp_path / "in").write_text(records("a"))
    words = ("--summary", name, *(["{{ q }}"] if tool == "llm-map" else []), "in")
    got = run(tool, *words, url=endpoint.url, cwd=tmp_path)
    assert (got.returncode, got.stdout, endpoint.asked) == (2, b"", [])
    assert got.stderr.decode() == f"{tool}: cannot write summary {name}: {reason}\n"


@pytest.mark.parametrize("tool", ["llm-map", "llm-merge"])
def test_a_disk_that_is_full_at_the_end(tool: str, tmp_path: Path, endpoint: Endpoint) -> None:
    words = ("--summary", "/dev/full", *(["{{ q }}"] if tool == "llm-map" else []))
    got = run(tool, *words, stdin=records("a"), url=endpoint.url, cwd=tmp_path)
    assert (got.returncode, len(lines(got.stdout))) == (0, 1)
    assert b"cannot write summary /dev/full: No space left on device" in got.stderr


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ("llm-merge", "x"), ("llm-merge", "-e x"), ("llm-merge", "-"), ("llm-map", "-d x {{q}}"),
        ("llm-map", "--prices x {{q}}"), ("llm-map", "-f x"), ("llm-map", "{{q}} x"), ("llm-vote", "--count q x"),
    ],
)  # fmt: skip
def test_no_file_is_used_for_two_purposes(tool: str, words: str, tmp_path: Path, endpoint: Endpoint) -> None:
    """And what stood in it stays."""
    (tmp_path / "x").write_text("{}")
    (tmp_path / "x").chmod(0o600)
    with (tmp_path / "x").open() as stdin:
        given = {"stdin_from": stdin} if words == "-" else {}
        got = run(tool, "--summary", "x", *words.split(), url=endpoint.url, cwd=tmp_path, **given)
    assert (got.returncode, got.stdout, endpoint.asked) == (2, b"", []), got.stderr
    assert (tmp_path / "x").read_text() == "{}"
