"""llm-map as its users meet it: a bad day, a kill, the places an answer can go to."""

from __future__ import annotations

import json
import os
import pty
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from endpoint import Call, Endpoint, Reply, error, says
from tool import command, environment, jsonl, lines, run, start

SCHEMA = "tags [str], tone good|bad"
FITS = '{"tags":["a"],"tone":"good"}'


def posts(count: int) -> list[dict]:
    return [{"id": f"p{n}", "text": f"post {n} of đợt {n % 7}"} for n in range(count)]


# -- the whole of it --------------------------------------------------------------------------


def test_a_bad_day_and_the_day_after(tmp_path: Path) -> None:
    """1,000 records, five kinds of trouble: 996 out, 4 failed by name; mended and fed back in, all are out."""
    mended = False
    seen: Counter[str] = Counter()

    def answer(call: Call) -> Reply:
        number = "".join(call.json["messages"][0]["content"].split()[2:3])
        seen[number] += 1
        if number == "200" and not mended:
            return error(400, "this prompt is too long")
        if number == "300" and seen[number] == 1:
            return error(503, "overloaded")
        if number == "400" and not mended:
            return says(None, refusal="I would rather not")
        if number == "500" and not mended:
            return says('{"tags":"none"}')
        return says(FITS)

    rows = [json.dumps(post, ensure_ascii=False) for post in posts(1000)]
    rows[100] = '{"id":"p100","text":'
    with Endpoint(answer) as endpoint:
        words = ("-j", "64", "-S", SCHEMA, "-d", tmp_path / "tags.done", "Tag {{ text }}")
        first = run("llm-map", *words, "-e", tmp_path / "failed.jsonl", stdin="\n".join(rows), url=endpoint.url)
        assert first.returncode == 1
        assert len(lines(first.stdout)) == 996
        told = first.stderr.decode()
        assert "read 1000, out 996, failed 4" in told
        for name, reason in (("101", "JSON"), ("201", "too long"), ("401", "refused"), ("501", "tone")):
            assert any(f"<stdin>:{name}:" in line and reason in line for line in told.splitlines()), name
        assert seen["300"] == 2
        assert seen["200"] == 1
        assert seen["500"] == 3

        failed = (tmp_path / "failed.jsonl").read_text().replace('\\"text\\":', '\\"text\\":\\"mended\\"}')
        assert len(failed.splitlines()) == 4
        mended = True
        second = run("llm-map", *words, stdin=failed, url=endpoint.url)
        assert second.returncode == 0, second.stderr
        assert {line["id"] for line in lines(first.stdout + second.stdout)} == {post["id"] for post in posts(1000)}
        assert not any("error" in line for line in lines(second.stdout))


def test_two_stages_killed_again_and_again(tmp_path: Path) -> None:
    """kill -9 ten times, run again until it ends: every record once, and paid twice at most what was in flight."""
    jobs, count = 8, 240
    dice, delays = random.Random(7), random.Random(8)
    records = tmp_path / "in.jsonl"
    records.write_text(jsonl(*posts(count)))

    def answer(call: Call) -> Reply:
        return Reply(says(call.prompt.upper()).body, delay=delays.uniform(0.005, 0.03))

    def pipe(endpoint: Endpoint) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]:
        one = start("llm-map", "-q", "-j", jobs, "-d", "a.done", "-o", "one", "One {{ text }}", records,
                    url=endpoint.url, cwd=tmp_path, stderr=subprocess.DEVNULL)  # fmt: skip
        with (tmp_path / "out.jsonl").open("wb") as out:
            two = start("llm-map", "-q", "-j", jobs, "-d", "b.done", "-o", "two", "Two {{ one }}",
                        url=endpoint.url, cwd=tmp_path, stdin=one.stdout, stdout=out)  # fmt: skip
        assert one.stdout
        one.stdout.close()
        return one, two

    killed = Counter({"one": 0, "two": 0})
    with Endpoint(answer) as endpoint:
        for _ in range(10):
            one, two = pipe(endpoint)
            goal = len(endpoint.asked) + dice.randint(1, 30)
            wait_until(lambda: len(endpoint.asked) >= goal or two.poll() is not None)  # noqa: B023
            for name in dice.choice((("one",), ("two",), ("one", "two"))):
                process = {"one": one, "two": two}[name]
                if process.poll() is None:
                    process.kill()
                    killed[name] += 1
            one.wait(30)
            two.wait(30)
        one, two = pipe(endpoint)
        assert one.wait(60) == 0
        assert two.wait(60) == 0, two.stderr and two.stderr.read()
        out = lines((tmp_path / "out.jsonl").read_bytes())
        assert sorted(line["id"] for line in out) == sorted(post["id"] for post in posts(count))
        assert all(line["two"] == f"TWO ONE {line['text'].upper()}" for line in out)
        paid = Counter(call.prompt.split()[0] for call in endpoint.asked)
    assert killed.total() > 0
    # The second stage may also see records again that it had in flight when the first one's end took its input away.
    assert paid["One"] <= count + jobs * (killed["one"] + killed["two"])
    assert paid["Two"] <= count + jobs * (killed["one"] + killed["two"])


def wait_until(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def test_a_changed_prompt_is_new_work_and_an_unused_field_is_not(tmp_path: Path) -> None:
    with Endpoint(says("x")) as endpoint:

        def paid(prompt: str, records: list[dict]) -> int:
            before = len(endpoint.asked)
            result = run("llm-map", "-d", tmp_path / "x.done", prompt, stdin=jsonl(*records), url=endpoint.url)
            assert result.returncode == 0
            assert len(lines(result.stdout)) == len(records)
            return len(endpoint.asked) - before

        assert paid("A {{ text }}", posts(5)) == 5
        assert paid("A {{ text }}", [post | {"note": "new"} for post in posts(5)][::-1]) == 0
        assert paid("B {{ text }}", posts(5)) == 5
        assert paid("A {{ text }}", posts(7)) == 2
        assert paid("B {{ text }}", posts(3)) == 0


# -- where an answer goes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "record", "expected"),
    [
        ((), '{"id":1}', '{"id":1,"output":"hi"}'),
        ((), "{}", '{"output":"hi"}'),
        ((), '{ "n": 12345678901234567890123 }', '{ "n": 12345678901234567890123 ,"output":"hi"}'),
        (("-o", "a.b"), '{"a":{"c":1.50}}', '{"a":{"c":1.50,"b":"hi"}}'),
        (("-o", "a.b"), '{"x":0}', '{"x":0,"a":{"b":"hi"}}'),
        (("-o", "x"), '{"x" : [1], "y":2}', '{"x" : "hi", "y":2}'),
        (("-r",), "{}", "hi"),
        (("-S", SCHEMA), "{}", '{"output":' + FITS + "}"),
        (("-S", SCHEMA, "-o", "."), '{"tone":0,"z":1}', '{"tone":"good","z":1,"tags":["a"]}'),
        (("-S", SCHEMA, "-r"), "{}", FITS),
    ],
)
def test_the_place_of_an_answer(words: tuple[str, ...], record: str, expected: str) -> None:
    with Endpoint(says(FITS if "-S" in words else "hi")) as endpoint:
        result = run("llm-map", *words, "Say", stdin=record, url=endpoint.url)
    assert result.stdout.decode() == expected + "\n", result.stderr


def test_no_place_is_known_before_anything_is_paid() -> None:
    with Endpoint(says()) as endpoint:
        result = run("llm-map", "-o", "a.b", "Say", stdin='{"a":1}\n', url=endpoint.url)
        assert result.returncode == 1
        assert b"a is not an object" in result.stderr
        assert not endpoint.calls


def test_meta_is_the_same_at_replay(tmp_path: Path) -> None:
    with Endpoint(says()) as endpoint:
        words = ("-d", tmp_path / "x.done", "-M", "about.call", "Say {{ id }}")
        first = run("llm-map", *words, stdin=jsonl(*posts(3)), url=endpoint.url)
        second = run("llm-map", *words, stdin=jsonl(*posts(3)), url=endpoint.url)
    assert sorted(first.stdout.splitlines()) == sorted(second.stdout.splitlines())
    call = lines(second.stdout)[0]["about"]["call"]
    assert call["model"] == "sim"
    assert call["usage"] == {"input": 10, "output": 2}
    assert call["attempts"] == 1
    assert call.keys() == {"model", "usage", "cost", "latency", "attempts"}


def test_lines_of_text() -> None:
    with Endpoint(lambda call: says(call.prompt.upper())) as endpoint:
        result = run("llm-map", "-R", "-r", "Say {{ text }}", stdin="một\r\n\nhai", url=endpoint.url)
    assert result.stdout.decode() == "SAY MỘT\nSAY HAI\n"


def test_the_body_is_what_was_asked_for() -> None:
    with Endpoint(says()) as endpoint:
        words = ("-s", "You are {{ who }}", "-P", "temperature=0", "-P", 'stop=["\\n"]', "-P", "user=me", "Hi {{ x }}")
        run("llm-map", *words, stdin='{"who":"you","x":[1,null]}', url=endpoint.url)
        assert endpoint.asked[0].json == {
            "model": "sim",
            "messages": [{"role": "system", "content": "You are you"}, {"role": "user", "content": "Hi [1,null]"}],
            "temperature": 0,
            "stop": ["\n"],
            "user": "me",
        }


def test_a_terminal_sees_no_control_character() -> None:
    """Escape sequences in a record or an answer stay letters where a person reads them."""
    with Endpoint(says("a\x1b[2Jb\x9bc")) as endpoint:
        master, slave = pty.openpty()
        process = subprocess.Popen(
            command("llm-map", "-q", "-r", "Say"),
            stdin=subprocess.PIPE, stdout=slave, stderr=slave, env=environment(OPENAI_BASE_URL=endpoint.url),
        )  # fmt: skip
        os.close(slave)
        process.communicate(b'{"x":"\xc2\x9b31m"}\n', timeout=30)
        shown = os.read(master, 4096)
        os.close(master)
    assert b"\x1b" not in shown
    assert b"\xc2\x9b" not in shown
    assert shown.rstrip() == b"a\\u001b[2Jb\\u009bc"


def test_a_field_that_is_there_is_replaced_with_one_warning() -> None:
    with Endpoint(says("new")) as endpoint:
        result = run("llm-map", "Say", stdin='{"output":1}\n{"output":2}\n', url=endpoint.url)
    assert [line["output"] for line in lines(result.stdout)] == ["new", "new"]
    assert result.stderr.count(b"it is replaced") == 1


def test_quiet_says_nothing_and_verbose_names_every_failure() -> None:
    bad = "x\n" * 15
    assert run("llm-map", "-q", "--offline", "-d", os.devnull, "Say").stderr.count(b"\n") == 1  # an error is no chatter
    with Endpoint(says()) as endpoint:
        told = run("llm-map", "Say", stdin=bad, url=endpoint.url).stderr.decode()
        assert sum(line.startswith("llm-map: <stdin>:") for line in told.splitlines()) == 10
        assert "-e FILE" in told
        told = run("llm-map", "-v", "Say", stdin=bad, url=endpoint.url).stderr.decode()
        assert sum(line.startswith("llm-map: <stdin>:") for line in told.splitlines()) == 15
        assert not run("llm-map", "-q", "Say", stdin='{"x":1}', url=endpoint.url).stderr


def test_stopped_and_continued(tmp_path: Path) -> None:
    """A laptop that sleeps: STOP longer than the timeout, then CONT, and nothing has failed."""
    with Endpoint(Reply(says().body, delay=0.3)) as endpoint:
        process = start("llm-map", "--timeout", "1", "-d", tmp_path / "x.done", "Say {{ id }}", url=endpoint.url)
        assert process.stdin
        process.stdin.write(jsonl(*posts(20)).encode())
        process.stdin.flush()
        wait_until(lambda: len(endpoint.asked) >= 8)
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        process.send_signal(signal.SIGCONT)
        out, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert len(lines(out)) == 20
