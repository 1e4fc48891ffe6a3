"""The event log: every line whole JSON, no secrets, nothing that a terminal obeys, and no run that waits for it."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from endpoint import Call, Endpoint, Reply, chat, error, says
from tool import command, environment, jsonl, lines, run, start, until

from llmstream.books import log
from llmstream.records import words
from llmstream.shell.options import Option

AT_LAST = 30.0  # what hangs is a failure
ASK = ("-d", "done", "{{ q }}")
SECRET = "sk-5e2c0ffee/12+34=="


def records(*names: Any) -> str:
    return jsonl(*({"id": n, "q": str(name)} for n, name in enumerate(names)))


def events(path: Path, *types: str) -> list[dict[str, Any]]:
    """What a log tells, all of it or of some types; every line is whole."""
    data = path.read_bytes()
    assert data.endswith(b"\n")
    return [event for event in lines(data) if not types or event["event_type"] in types]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(lambda call: says(call.prompt)) as made:
        yield made


# -- the fields of each event -----------------------------------------------------------------------

HEAD = ["timestamp", "level", "logger", "message", "event_type", "run"]
FIELDS = {
    "run_start": ["version", "pid", "done", "usable", "files", "models", "options"],
    "api_call_complete": ["key", "id", "model", "duration", "usage", "cost", "attempt", "rejected"],
    "api_call_error": ["key", "id", "model", "duration", "status", "type", "error", "attempt", "retry_in"],
    "record_failed": ["where", "id", "type", "error", "status", "attempts", "records"],
    "record_replayed": ["where", "id"],
    "rate_limited": ["seconds"],
    "concurrency": ["jobs", "before"],
}
SUMMARY = {
    "read", "out", "failed", "kept", "unasked", "replayed", "calls", "tries", "unanswered", "saved", "tokens", "cost",
    "models", "seconds", "rate", "latency", "failures", "status", "stopped", "labels",
}  # fmt: skip


def bad_day(call: Call) -> Reply:
    came = call.prompt
    if "again" in came and not seen(call, came):
        return error(500, "not now")
    if "limit" in came and not seen(call, came):
        return error(429, "slow down", retry_after_ms="300")
    if "void" in came:
        return Reply({"model": "sim", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 0}})
    return {
        "poison": error(400, "too long"),
        "refuse": says(None, refusal="I will not"),
    }.get(came) or says('{"tag": "a"}')


_SEEN: set[tuple[int, str]] = set()


def seen(call: Call, name: str) -> bool:
    """Did this endpoint see it before?"""
    mark = (hash(call.headers["host"]), name)
    before = mark in _SEEN
    _SEEN.add(mark)
    return before


def test_every_event_has_its_fields(tmp_path: Path) -> None:
    names = ("fine", "again", "limit", "void", "poison", "refuse")
    words = ("-S", "tag a|b", "--log", "log", "--prices", "prices", "-d", "done", "-j", "2", "{{ q }}")
    (tmp_path / "prices").write_text('{"sim": {"input": 1, "output": 2}}')
    with Endpoint(bad_day) as endpoint:
        before = time.time()
        first = run("llm-map", *words, stdin=records(*names) + "no JSON\n", url=endpoint.url, cwd=tmp_path)
        run("llm-map", *words, stdin=records("fine"), url=endpoint.url, cwd=tmp_path)
    told = events(tmp_path / "log")
    for event in told:
        kind = event["event_type"]
        assert event["logger"] == "llm-map"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["timestamp"])
        assert re.fullmatch("[0-9a-f]{8}", event["run"])
        assert event["message"]
        if kind == "run_summary":
            assert list(event)[:6] == HEAD
            assert event.keys() >= SUMMARY
        else:
            paid = ["usage", "cost"] if kind == "api_call_error" and "usage" in event else []
            assert list(event) == [*HEAD, *FIELDS[kind], *paid]
    assert {event["event_type"] for event in told} == {*FIELDS, "run_summary"}
    for one in {event["run"] for event in told}:
        stamps = [event["timestamp"] for event in told if event["run"] == one]
        assert stamps == sorted(stamps)
        assert stamps[0] >= time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(before))
    assert len({event["run"] for event in told}) == 2

    of = {event["id"]: event for event in told if event["event_type"] == "api_call_complete"}
    assert of[0] == of[0] | {
        "level": "INFO", "model": "sim", "usage": {"input": 10, "output": 2}, "cost": 1.4e-05, "attempt": 1,
        "rejected": None,
    }  # fmt: skip
    assert (of[1]["attempt"], of[5]["level"], of[5]["rejected"]) == (
        2,
        "WARNING",
        "refusal: the model refused: I will not",
    )
    assert 0 < of[0]["duration"] < AT_LAST
    errors = Counter((e["id"], e["level"], e["type"], e["status"]) for e in events(tmp_path / "log", "api_call_error"))
    assert errors == {
        (1, "WARNING", "http", 500): 1,
        (2, "WARNING", "http", 429): 1,
        (3, "WARNING", "reply", 200): 1,
        (3, "ERROR", "reply", 200): 1,
        (4, "ERROR", "http", 400): 1,
    }
    void = [event for event in events(tmp_path / "log", "api_call_error") if event["id"] == 3]
    assert [(event["usage"], event["cost"]) for event in void] == [({"input": 5, "output": 0}, 5e-06)] * 2
    failed = {event["where"]: event for event in events(tmp_path / "log", "record_failed")}
    assert {where: (e["id"], e["type"], e["status"], e["attempts"]) for where, e in failed.items()} == {
        "<stdin>:4": (3, "reply", 200, 2),
        "<stdin>:5": (4, "http", 400, 1),
        "<stdin>:6": (5, "refusal", None, 1),
        "<stdin>:7": (None, "input", None, 0),
    }
    assert {(e["level"], e["records"]) for e in failed.values()} == {("ERROR", 1)}
    (limited,) = events(tmp_path / "log", "rate_limited")
    assert (limited["level"], limited["seconds"]) == ("WARNING", 0.3)
    (replayed,) = events(tmp_path / "log", "record_replayed")
    assert (replayed["level"], replayed["where"], replayed["id"]) == ("DEBUG", "<stdin>:1", 0)
    one, other = events(tmp_path / "log", "run_start")
    assert (one["done"], one["usable"], other["usable"]) == (str(tmp_path / "done"), 0, 5)
    assert (one["files"], one["models"], one["pid"] != other["pid"]) == (["-"], ["sim"], True)
    assert one["options"]["jobs"] == 2
    (summary, _) = events(tmp_path / "log", "run_summary")
    assert f"llm-map: {summary['message']}\n" in first.stderr.decode()
    assert (summary["status"], summary["failures"]) == (1, {"reply": 1, "http": 1, "refusal": 1, "input": 1})
    if shutil.which("jq"):
        found = subprocess.run(
            ["jq", "-c", 'select(.level=="ERROR")', tmp_path / "log"], capture_output=True, check=True
        )
        assert lines(found.stdout) == [event for event in told if event["level"] == "ERROR"]


def test_fewer_calls_in_flight_and_more_again(tmp_path: Path) -> None:
    with Endpoint(lambda call: error(500) if call.number < 6 else says()) as endpoint:
        words = ("--log", "log", "-j", "8", "--retries", "9", "{{ q }}")
        assert run("llm-map", *words, stdin=records(*range(60)), url=endpoint.url, cwd=tmp_path).returncode == 0
    found = events(tmp_path / "log", "concurrency")
    widths = [8, *(event["jobs"] for event in found)]
    assert [event["before"] for event in found] == widths[:-1]
    assert min(widths) < 8
    assert all(1 <= width <= 8 for width in widths)
    for event in found:
        assert event["level"] == ("WARNING" if event["jobs"] < event["before"] else "INFO")


@pytest.mark.parametrize(
    ("reply", "words", "kind", "least", "most", "times"),
    [
        (error(500, retry_after_ms="1100"), ("--retries", "1"), "http", 1.1, 1.1, 1),
        (Reply(reset=True), ("--retries", "1"), "connection", 0.5, 2, 1),
        (Reply(chat(), promise=999), (), "cut", 0.5, 2, 1),
        (Reply(hang=True), ("--timeout", "0.4"), "timeout", 0.5, 2, 1),
    ],
)
def test_when_it_is_tried_again(
    reply: Reply, words: tuple[str, ...], kind: str, least: float, most: float, times: int, tmp_path: Path
) -> None:
    with Endpoint(reply) as endpoint:
        run("llm-map", *words, "--log", "log", "{{ q }}", stdin=records("a"), url=endpoint.url, cwd=tmp_path)
    found = events(tmp_path / "log", "api_call_error")
    assert [event["attempt"] for event in found] == list(range(1, times + 2))
    *waited, last = found
    assert all(least <= event["retry_in"] <= most and event["level"] == "WARNING" for event in waited)
    assert (last["retry_in"], last["level"]) == (None, "ERROR")
    assert {event["type"] for event in found} == {kind}
    assert all(event["error"] for event in found)
    assert all("usage" not in event for event in found)
    gaps = [b.at - a.at for a, b in zip(endpoint.asked, endpoint.asked[1:], strict=False)]
    assert all(gap >= event["retry_in"] - 0.05 for gap, event in zip(gaps, waited, strict=True))


def test_a_limit_says_when_it_goes_on(tmp_path: Path) -> None:
    with Endpoint(lambda call: error(429, retry_after_ms="400") if call.number == 0 else says()) as endpoint:
        run("llm-map", "--log", "log", "{{ q }}", stdin=records("a"), url=endpoint.url, cwd=tmp_path)
    (failed,) = events(tmp_path / "log", "api_call_error")
    assert 0.3 <= failed["retry_in"] <= 0.4
    assert failed["status"] == 429


def test_a_form_that_is_refused(tmp_path: Path) -> None:
    """Each form of response_format that is given up was a call, too."""
    refused = error(400, "response_format of type json_schema is not supported")
    with Endpoint(lambda call: refused if call.number == 0 else says('{"n": 1}')) as endpoint:
        words = ("--log", "log", "-S", "n int", "{{ q }}")
        run("llm-map", *words, stdin=records("a"), url=endpoint.url, cwd=tmp_path)
    (failed,) = events(tmp_path / "log", "api_call_error")
    (complete,) = events(tmp_path / "log", "api_call_complete")
    assert (failed["retry_in"], failed["level"], failed["attempt"], complete["attempt"]) == (0, "WARNING", 1, 2)


def test_a_key_that_is_refused(tmp_path: Path) -> None:
    with Endpoint(error(401, "no such key")) as endpoint:
        words = ("--log", "log", "-j", "1", "{{ q }}")
        got = run("llm-map", *words, stdin=records("a", "b"), url=endpoint.url, cwd=tmp_path)
    assert got.returncode == 2
    (failed,) = events(tmp_path / "log", "api_call_error")
    assert (failed["level"], failed["status"], failed["retry_in"]) == ("ERROR", 401, None)
    (summary,) = events(tmp_path / "log", "run_summary")
    assert (summary["status"], summary["unasked"]) == (2, summary["read"])
    assert "refuses the key" in summary["stopped"]


def test_a_group_that_fails_is_so_many_records(tmp_path: Path) -> None:
    members = [{"g": n // 3, "id": n, "q": n} for n in range(6)]
    with Endpoint(lambda call: error(400, "no") if '"id":0' in call.prompt else says()) as endpoint:
        words = ("-g", "g", "-p", "{{ records }}", "--log", "log", "--summary", "summary")
        got = run("llm-merge", *words, stdin=jsonl(*members), url=endpoint.url, cwd=tmp_path)
    assert got.returncode == 1
    (failed,) = events(tmp_path / "log", "record_failed")
    assert (failed["records"], failed["where"], failed["id"], failed["status"]) == (3, "<stdin>:1", 0, 400)
    (summary,) = events(tmp_path / "log", "run_summary")
    assert (summary["out"], summary["failed"], summary["failures"]) == (3, 3, {"http": 3})


def test_where_nobody_is_asked(tmp_path: Path) -> None:
    def told(tool: str, *words: str, stdin: str, status: int) -> list[dict[str, Any]]:
        name = f"{tool}-{'-'.join(words)[:12]}"
        books = ("--log", f"{name}.log", "--summary", f"{name}.json")
        got = run(tool, *words, *books, stdin=stdin, cwd=tmp_path)
        assert got.returncode == status, got.stderr
        found = events(tmp_path / f"{name}.log")
        last = {key: value for key, value in found[-1].items() if key not in HEAD}
        assert json.loads((tmp_path / f"{name}.json").read_bytes()) == last
        assert (last["status"], last["cost"], last["calls"], last["models"]) == (status, 0, 0, {})
        assert f"{tool}: {found[-1]['message']}\n" in got.stderr.decode()
        return found

    merged = told("llm-merge", "-g", "id", stdin='{"id":1,"a":1}\n{"id":1}\nx\n', status=1)
    assert [event["event_type"] for event in merged] == ["run_start", "record_failed", "run_summary"]
    assert [(e.get("read"), e.get("out"), e.get("failed")) for e in merged][-1] == (3, 2, 1)
    counted = told("llm-vote", "--count", "v", stdin='{"v":["a","b","a"]}\n', status=0)
    assert [event["event_type"] for event in counted] == ["run_start", "run_summary"]
    assert counted[-1]["votes"]["cast"] == 3
    stopped = told("llm-merge", "--max-errors", "2", stdin="x\ny\nz\n", status=1)
    assert "--max-errors" in stopped[-1]["stopped"]


# -- the options in it --------------------------------------------------------------------------------

VALUES = {
    "take": "tags=union:exact", "max_errors": "5%", "base_url": "http://127.0.0.1:9/v1", "columns": "a,b",
    "delimiter": "tab", "from": "jsonl", "to": "jsonl", "encoding": "utf-8", "number": "median", "param": "top_p=0.5",
    "group": "id", "count": "v", "fan_in": "2",
}  # fmt: skip
LEFT_OUT = {  # what changes the work, or does not go with the rest
    "help", "version", "closed", "quiet", "log", "all", "sorted", "complete", "each", "prompt", "prompt_file",
    "system", "schema", "raw_input", "output", "meta", "raw_output", "done", "key_file", "criteria", "share",
    "confidence", "offline", "once", "always",
}  # fmt: skip


def given(option: Option, folder: Path) -> list[str]:
    if not option.value:
        return [f"--{option.long}"]
    usual = {"FILE": str(folder / option.name), "N": "2", "SECONDS": "2", "USD": "0.5"}
    return [f"--{option.long}", VALUES.get(option.name, usual.get(option.value, "x"))]


@pytest.mark.parametrize("tool", ["llm-merge", "llm-vote"])
def test_every_option_can_be_told(tool: str, tmp_path: Path) -> None:
    """Whatever an option is read as, it can be put into a log."""
    table: tuple[Option, ...] = import_module(f"llmstream.{tool.removeprefix('llm-')}").TABLE
    left_out = LEFT_OUT | ({"param"} if tool == "llm-vote" else set())
    options = [option for option in table if option.name not in left_out]
    words = [word for option in options for word in given(option, tmp_path)]
    (tmp_path / "prices").write_text("{}")
    got = run(tool, *words, "--log", "log", stdin='{"id":1,"v":"a"}\n' * 2, cwd=tmp_path)
    assert (got.returncode, b"a bug" in got.stderr) == (0, False), got.stderr
    (told,) = events(tmp_path / "log", "run_start")
    assert {option.name for option in options} - told["options"].keys() == set()


def test_names_that_are_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"in-\xff\x9b.jsonl")
    (tmp_path / name).write_text("{}\nx\n")
    got = run("llm-merge", "--log", "log", "--summary", "summary", name, cwd=tmp_path)
    assert got.returncode == 1, got.stderr
    (failed,) = events(tmp_path / "log", "record_failed")
    assert failed["where"].startswith("in-")
    assert json.loads((tmp_path / "summary").read_bytes())["first_failed"][0].startswith("in-")


# -- secrets ------------------------------------------------------------------------------------------


IN_A_URL = f"http://me:{SECRET.replace('/', '%2F')}@HOST/v1"
PARAMS = (f"api_key={SECRET}", f'extra_headers={{"Authorization": "Bearer {SECRET}"}}',
          f'tools=[{{"type": "mcp", "authorization": "{SECRET}"}}]')  # fmt: skip


@pytest.mark.parametrize(
    ("words", "env"),
    [
        ((), {"OPENAI_API_KEY": SECRET, "LLMSTREAM_PARAM": f"user_token={SECRET}"}),
        (("--key-file", "key", *(word for param in PARAMS for word in ("-P", param))), {}),
        (("-u", IN_A_URL), {}),
    ],
)
def test_no_secret(words: tuple[str, ...], env: dict[str, str], tmp_path: Path) -> None:
    """Not from the command line, a file or the environment; nor when an endpoint quotes it."""
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_text(SECRET)
    with Endpoint(lambda call: says() if call.prompt == "fine" else error(400, f"sent: {call.headers}")) as endpoint:
        host = endpoint.url.split("/")[2]
        words = tuple(word.replace("HOST", host) for word in words)
        env = {"OPENAI_BASE_URL": endpoint.url} | {name: value.replace("HOST", host) for name, value in env.items()}
        books = ("--log", "log", "--summary", "summary")
        got = run("llm-map", *books, *words, "{{ q }}", stdin=records("fine", "bad"), cwd=tmp_path, env=env)
    assert (got.returncode, len(endpoint.asked)) == (1, 2), got.stderr
    told = (tmp_path / "log").read_bytes() + (tmp_path / "summary").read_bytes() + got.stderr
    assert SECRET[3:12].encode() not in told


@pytest.mark.parametrize(
    ("tool", "url"),
    [
        ("llm-merge", f"me:{SECRET}@host/v1"),
        ("llm-merge", f"http://me:{SECRET}@host/v1"),
        ("llm-merge", f"http://host/v1?key={SECRET}"),
        ("llm-vote --count q", f"http://host#{SECRET}"),
        ("llm-map --offline -d done -m sim x", f"http://me:{SECRET}@host/v1"),
    ],
)
def test_no_secret_of_a_url_that_nobody_looked_at(tool: str, url: str, tmp_path: Path) -> None:
    name, *words = tool.split()
    got = run(name, *words, "--log", "log", stdin='{"q":["a"]}\n', cwd=tmp_path, env={"LLMSTREAM_BASE_URL": url})
    assert got.returncode in (0, 1), got.stderr
    assert SECRET[3:12].encode() not in (tmp_path / "log").read_bytes()
    (told,) = events(tmp_path / "log", "run_start")
    assert "host" in told["options"]["base_url"]  # which endpoint it was is no secret


def test_what_is_no_secret_is_told(tmp_path: Path) -> None:
    words = ("-P", "temperature=0.5", "-P", "max_completion_tokens=9", "-P", "logit_bias={}", "--log", "log")
    with Endpoint(says()) as endpoint:
        run("llm-map", *words, "{{ q }}", stdin=records("a"), url=endpoint.url, cwd=tmp_path)
    (told,) = events(tmp_path / "log", "run_start")
    assert told["options"]["param"] == {"temperature": 0.5, "max_completion_tokens": 9, "logit_bias": {}}


# -- what a terminal would obey -------------------------------------------------------------------------

NASTY = "\x1b[2J\x07\x7f\x80\x9b31m\u202e\u2066\u2028\u2029\r"
FORBIDDEN = re.compile(words._CONTROL.pattern.replace("\\x00-\\x1f", "\\x00-\\x09\\x0b-\\x1f"))


def test_nothing_that_a_terminal_obeys(tmp_path: Path) -> None:
    """Not from a record, a file's name, an endpoint's words or a model's name; and the text is still all there."""
    name = "in\x1b]0;\x7f\u202e.jsonl"
    (tmp_path / name).write_text(
        jsonl({"id": f"{NASTY}0", "q": "fine"}, {"id": f"{NASTY}1", "q": "bad"}) + f"no JSON {NASTY}\n"
    )

    def answer(call: Call) -> Reply:
        return error(400, f"no {NASTY}") if call.prompt == "bad" else Reply({**chat(), "model": f"sim{NASTY}"})

    with Endpoint(answer) as endpoint:
        words = ("--log", "log", "--summary", "summary", "-m", f"sim{NASTY}", "-s", NASTY, "{{ q }}", name)
        got = run("llm-map", *words, url=endpoint.url, cwd=tmp_path)
    assert got.returncode == 1
    for told in (got.stderr, (tmp_path / "log").read_bytes(), (tmp_path / "summary").read_bytes()):
        assert FORBIDDEN.search(told.decode()) is None
    told = events(tmp_path / "log")
    assert len((tmp_path / "log").read_text().splitlines()) == len(told)  # str.splitlines knows more ends of a line
    ids = {event["id"] for event in told if event.get("id")}
    assert ids == {f"{NASTY}0", f"{NASTY}1"}
    (complete,) = events(tmp_path / "log", "api_call_complete")
    assert complete["model"] == f"sim{NASTY}"
    assert list(json.loads((tmp_path / "summary").read_bytes())["models"]) == [f"sim{NASTY}"]


# -- who writes it at the same time -------------------------------------------------------------------


def test_several_processes_and_one_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Endpoint(lambda call: Reply(chat(call.prompt), delay=0.01)) as endpoint:

        def begin(number: int) -> subprocess.Popen[bytes]:
            (tmp_path / f"in{number}").write_text(
                jsonl(*({"id": f"{number}-{n}" + "é" * 300, "q": f"{number} {n}"} for n in range(150)))
            )
            words = ("-j", "4", "--log", path, "{{ q }}", tmp_path / f"in{number}")
            streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
            return start("llm-map", *words, url=endpoint.url, **streams)

        processes = [begin(number) for number in range(3)]
        until(lambda: sum(call.prompt.startswith("0 ") for call in endpoint.asked) > 40)
        processes[0].kill()
        assert [process.wait(AT_LAST) for process in processes] == [-signal.SIGKILL, 0, 0]
        run("llm-merge", "--log", path, stdin="")
    told = events(path)
    complete = Counter(event["id"].partition("-")[0] for event in told if event["event_type"] == "api_call_complete")
    assert (complete["1"], complete["2"]) == (150, 150)
    assert 40 - 4 <= complete["0"] < 150
    of_runs = {event["run"]: event["logger"] for event in told}
    assert Counter(of_runs.values()) == {"llm-map": 3, "llm-merge": 1}
    ended = [event["run"] for event in told if event["event_type"] == "run_summary"]
    assert len(ended) == len(set(ended)) == 3
    for one in of_runs:
        stamps = [event["timestamp"] for event in told if event["run"] == one]
        assert stamps == sorted(stamps)


WHOLE = b'{"timestamp":"2026-01-01T00:00:00.000Z"}\n'


@pytest.mark.parametrize("before", [b"", WHOLE, WHOLE * 5000])
@pytest.mark.parametrize("torn", [b"{", b'{"timestamp":"2026', b'{"timestamp":"' + b"x" * 200_000])
def test_a_torn_last_line_is_taken_off(before: bytes, torn: bytes, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(before + torn)
    assert run("llm-merge", "--log", "log", stdin="{}\n", cwd=tmp_path).returncode == 0
    data = (tmp_path / "log").read_bytes()
    assert data.startswith(before)
    assert [event["event_type"] for event in lines(data[len(before) :])] == ["run_start", "run_summary"]


def test_what_is_no_event_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"my notes")
    assert run("llm-merge", "--log", "log", stdin="{}\n", cwd=tmp_path).returncode == 0
    first, *events = (tmp_path / "log").read_bytes().splitlines()
    assert first == b"my notes"
    assert len(events) == 2


def test_the_last_line_of_another_writer_is_not_torn(tmp_path: Path) -> None:
    """Somebody has the log open: what looks torn may be a line that is just being written."""
    path = tmp_path / "log"
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        other.write(WHOLE[:20])
        other.flush()
        assert run("llm-merge", "--log", path, stdin="").returncode == 0
        assert path.read_bytes().startswith(WHOLE[:20])


def test_a_log_that_is_moved_away(tmp_path: Path, endpoint: Endpoint) -> None:
    """As logrotate does: the run goes on with the file that it has, a further one begins another."""
    with start("llm-map", "--log", "log", "-r", "{{ q }}", url=endpoint.url, cwd=tmp_path) as process:
        assert process.stdin and process.stdout
        process.stdin.write(records("a").encode())
        process.stdin.flush()
        assert process.stdout.readline() == b"a\n"
        (tmp_path / "log").rename(tmp_path / "log.1")
        process.communicate(records("b").encode(), timeout=AT_LAST)
    assert len(events(tmp_path / "log.1", "api_call_complete")) == 2
    assert not (tmp_path / "log").exists()


# -- wherever it goes -----------------------------------------------------------------------------------

MANY = records(*range(300))  # more events than a pipe holds


def test_a_reader_that_sleeps(tmp_path: Path, endpoint: Endpoint) -> None:
    """The run does not wait for it, and says what the log lacks."""
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    try:
        words = ("-d", "done", "--log", "fifo", "{{ q }}")
        got = run("llm-map", *words, stdin=MANY, url=endpoint.url, cwd=tmp_path, timeout=AT_LAST)
        data = os.read(reader, 1 << 20)
    finally:
        os.close(reader)
    assert (got.returncode, len(lines(got.stdout))) == (0, 300)
    whole = lines(data[: data.rfind(b"\n") + 1])
    assert whole[0]["event_type"] == "run_start"
    missing = re.search(rb"llm-map: (\d+) events are not in the log fifo", got.stderr)
    assert missing, got.stderr
    assert len(whole) + int(missing[1]) == 302


def test_a_reader_that_is_slow_and_gets_all(tmp_path: Path, endpoint: Endpoint) -> None:
    reader, writer = os.pipe()
    taken: list[bytes] = []

    def read() -> None:
        while part := os.read(reader, 4096):
            taken.append(part)
            time.sleep(0.001)

    thread = threading.Thread(target=read)
    thread.start()
    words = ("-d", "done", "--log", f"/dev/fd/{writer}", "{{ q }}")
    got = run("llm-map", *words, stdin=MANY, url=endpoint.url, cwd=tmp_path, pass_fds=(writer,))
    os.close(writer)
    thread.join(AT_LAST)
    os.close(reader)
    told = lines(b"".join(taken))
    assert (got.returncode, len(told), told[-1]["event_type"]) == (0, 302, "run_summary")
    assert b"not in the log" not in got.stderr


def test_a_reader_that_leaves(tmp_path: Path, endpoint: Endpoint) -> None:
    """No more is wanted: no reason to stop, and none to complain."""
    script = '"$@" --log >(head -1 >first) <in >out'
    (tmp_path / "in").write_text(MANY)
    words = ["bash", "-c", script, "bash", *command("llm-map", *ASK)]
    env = environment(OPENAI_BASE_URL=endpoint.url)
    got = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, timeout=AT_LAST, check=False)
    assert (got.returncode, len(lines((tmp_path / "out").read_bytes()))) == (0, 300)
    assert b"Broken pipe" not in got.stderr
    until(lambda: b"run_start" in (tmp_path / "first").read_bytes())


@pytest.mark.parametrize("tool", ["llm-map", "llm-merge"])
def test_a_full_disk_is_no_reason_to_stop(tool: str, tmp_path: Path, endpoint: Endpoint) -> None:
    words = ("--log", "/dev/full", *(ASK if tool == "llm-map" else ()))
    got = run(tool, *words, stdin=records(*"abc"), url=endpoint.url, cwd=tmp_path)
    assert (got.returncode, len(lines(got.stdout))) == (0, 3)
    assert got.stderr.count(b"cannot write log /dev/full: No space left on device") == 1


def test_a_file_that_may_not_grow(tmp_path: Path, endpoint: Endpoint) -> None:
    """What was written in part is taken off again."""
    script = 'ulimit -f 8; trap "" XFSZ; exec "$@" --log log <in >/dev/null'
    (tmp_path / "in").write_text(records(*range(40)))
    words = ["bash", "-c", script, "bash", *command("llm-map", "{{ q }}")]
    env = environment(OPENAI_BASE_URL=endpoint.url)
    got = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, timeout=AT_LAST, check=False)
    assert got.returncode == 0, got.stderr
    assert got.stderr.count(b"cannot write log log: File too large; going on without it") == 1
    assert len(events(tmp_path / "log")) > 10


@pytest.mark.parametrize("name", ["/dev/stderr", "/dev/fd/2", "told"])
@pytest.mark.parametrize("redirection", [">out 2>told", ">out 2>>told", "2>&1 >out | cat >>told"])
def test_beside_the_messages(name: str, redirection: str, tmp_path: Path) -> None:
    """All of the log and all of the messages, neither on top of the other, and nothing that stood there is touched."""
    there = "no newline behind this" if ">>" in redirection and name != "told" else ""
    (tmp_path / "told").write_text(there)
    (tmp_path / "in").write_text("{}\n" + "x\n" * 20)
    words = ["bash", "-c", f'"$@" --log {name} <in {redirection}', "bash", *command("llm-merge", "-v")]
    subprocess.run(words, cwd=tmp_path, env=environment(), timeout=AT_LAST, check=False)
    data = (tmp_path / "told").read_bytes()
    assert data.startswith(there.encode())
    told = data[len(there) :].splitlines()
    found = [json.loads(line)["event_type"] for line in told if line.startswith(b"{")]
    assert Counter(found) == {"run_start": 1, "record_failed": 20, "run_summary": 1}
    said = [line for line in told if not line.startswith(b"{")]
    assert all(line.startswith(b"llm-merge: ") for line in said), said
    assert len(said) == 21


@pytest.mark.parametrize(
    ("name", "reason"),
    [(".", "Is a directory"), ("no/log", "No such file or directory"), ("in/log", "Not a directory")],
)
@pytest.mark.parametrize("tool", ["llm-map", "llm-merge"])
def test_what_cannot_be_a_log(tool: str, name: str, reason: str, tmp_path: Path, endpoint: Endpoint) -> None:
    (tmp_path / "in").write_text(records("a"))
    words = ("--log", name, *(ASK if tool == "llm-map" else ()), "in")
    got = run(tool, *words, url=endpoint.url, cwd=tmp_path)
    assert (got.returncode, got.stdout, endpoint.asked) == (2, b"", [])
    assert got.stderr.decode() == f"{tool}: cannot open log {name}: {reason}\n"


ASKS = {"llm-map": ["{{ q }}"], "llm-merge": [], "llm-vote": ["--count", "q"]}
SAME = {  # words that name a file a second time, behind --log x
    "llm-map": ("-d ./x", "x", "-f x"),
    "llm-merge": ("-e x", "-e link", "--summary x", "x", "in x"),
    "llm-vote": ("--summary ./x", "x"),
}
TORN = records("a")[:-1]  # a record on a last line without its newline


@pytest.mark.parametrize(("tool", "other"), [(tool, other) for tool, others in SAME.items() for other in others])
def test_no_file_is_used_for_two_purposes(tool: str, other: str, tmp_path: Path, endpoint: Endpoint) -> None:
    """And what stood in it stays."""
    (tmp_path / "x").write_text(TORN)
    (tmp_path / "x").chmod(0o600)
    (tmp_path / "link").symlink_to("x")
    (tmp_path / "in").write_text(records("a"))
    words = (
        [*other.split(), *([] if "-f" in other else ASKS[tool]), "in"]
        if "-" in other
        else [*ASKS[tool], *other.split()]
    )
    got = run(tool, "--log", "x", *words, url=endpoint.url, cwd=tmp_path)
    assert (got.returncode, got.stdout, endpoint.asked) == (2, b"", []), got.stderr
    assert len(got.stderr.splitlines()) == 1
    assert (tmp_path / "x").read_text() == TORN


@pytest.mark.parametrize(
    ("tool", "redirection"), [*(("llm-merge", how) for how in ("<x", ">x", ">>x", "1<>x")), ("llm-map", "<x")]
)
def test_it_is_no_stream_of_records(tool: str, redirection: str, tmp_path: Path, endpoint: Endpoint) -> None:
    (tmp_path / "x").write_text(TORN)
    words = ["bash", "-c", f'"$@" --log x {redirection}', "bash", *command(tool, *(ASK if tool == "llm-map" else ()))]
    got = subprocess.run(
        words, cwd=tmp_path, env=environment(OPENAI_BASE_URL=endpoint.url), capture_output=True, check=False,
        timeout=AT_LAST, input=b"",
    )  # fmt: skip
    assert (got.returncode, endpoint.asked) == (2, []), got.stderr
    assert (tmp_path / "x").read_text() == ("" if redirection == ">x" else TORN)


def test_by_the_environment(tmp_path: Path, endpoint: Endpoint) -> None:
    """One export, and every stage of a pipe adds to the log."""
    (tmp_path / "in").write_text(records("a", "b"))
    stages = " | ".join(
        [" ".join(command("llm-map", "-o", "x", "'{{ q }}'")) + " <in", " ".join(command("llm-merge", "-g", "id")),
         " ".join(command("llm-vote", "'{{ x }}'"))]
    )  # fmt: skip
    env = environment(OPENAI_BASE_URL=endpoint.url, LLMSTREAM_LOG="log")
    got = subprocess.run(["bash", "-c", stages], cwd=tmp_path, env=env, capture_output=True, timeout=60, check=True)
    assert len(lines(got.stdout)) == 2
    ended = {event["logger"]: event for event in events(tmp_path / "log", "run_summary")}
    assert {tool: (event["read"], event["calls"]) for tool, event in ended.items()} == {
        "llm-map": (2, 2), "llm-merge": (2, 0), "llm-vote": (2, 4),
    }  # fmt: skip
    assert len({event["run"] for event in events(tmp_path / "log")}) == 3


# -- the parts ------------------------------------------------------------------------------------------


def test_options_that_were_not_given_are_left_out() -> None:
    options = {"jobs": 8, "done": None, "share": False, "group": (), "retries": 0, "drain": 0.0}
    assert log.discreet_options(options) == {"jobs": 8, "retries": 0, "drain": 0.0}
