"""llm-merge with a prompt: groups, trees and the whole input, over real sockets."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from endpoint import Call, Endpoint, Reply, error, says
from tool import jsonl, killed_until_done, lines, run, start

GROUPS = [
    {"g": 1, "id": 1, "label": "a", "tags": ["x"]},
    {"g": 2, "id": 2, "label": "c", "tags": ["y"]},
    {"g": 1, "id": 3, "label": "b", "tags": ["z"]},
    {"g": 2, "id": 4, "label": "c", "tags": ["z"]},
    {"g": 3, "id": 5, "label": "d"},
]
FOLD = ("-g", "g", "-t", "id=first", "-p", "Fold {{ records }}")


def merge(*words: str | Path, records: Any = GROUPS, url: str | None = None, status: int = 0) -> list[Any]:
    done = run("llm-merge", *words, stdin=records if isinstance(records, str) else jsonl(*records), url=url)
    assert done.returncode == status, done.stderr
    return lines(done.stdout)


def total(call: Call) -> Reply:
    """An endpoint that folds numbers: the sum of what it is shown."""
    parts = json.loads(call.prompt.removeprefix("Sum "))
    return says(json.dumps({"n": sum(part["n"] for part in parts)}))


def test_a_model_is_asked_where_records_disagree_only() -> None:
    with Endpoint(says("both")) as endpoint:
        out = merge(*FOLD, url=endpoint.url)
        (call,) = endpoint.asked
    assert out == [
        {"g": 1, "id": 1, "label": "b", "tags": ["x", "z"], "output": "both"},
        {"g": 2, "id": 2, "label": "c", "tags": ["y", "z"]},
        {"g": 3, "id": 5, "label": "d"},
    ]
    assert json.loads(call.prompt.removeprefix("Fold ")) == [GROUPS[0], GROUPS[2]]


def test_always_asks_about_every_group_of_several() -> None:
    with Endpoint(says("said")) as endpoint:
        out = merge(*FOLD, "--always", url=endpoint.url)
        assert len(endpoint.asked) == 2
    assert [line.get("output") for line in out] == ["said", "said", None]


def test_the_answer_is_the_folded_record() -> None:
    """With a schema it is merged over what the records come to without a model."""
    with Endpoint(says('{"label": "a or b"}')) as endpoint:
        out = merge(*FOLD, "-S", "label", url=endpoint.url)
        placed = merge(*FOLD, "-S", "label", "-o", "by.model", "-M", "meta", url=endpoint.url)
    assert out[0] == {"g": 1, "id": 1, "label": "a or b", "tags": ["x", "z"]}
    assert (placed[0]["label"], placed[0]["by"]) == ("b", {"model": {"label": "a or b"}})
    assert placed[0]["meta"]["attempts"] == 1


def test_what_a_prompt_can_say() -> None:
    with Endpoint(lambda call: says(call.prompt)) as endpoint:
        named = merge("-g", "g", "-p", "{{ g }}: {{ records | length }}", url=endpoint.url)
        shown = merge("-g", "g", "-p", "Fold", url=endpoint.url)
    assert [line.get("output") for line in named] == ["1: 2", "2: 2", None]
    assert shown[0]["output"] == 'Fold\n\n{"g":1,"records":' + json.dumps([GROUPS[0], GROUPS[2]]).replace(" ", "") + "}"


def test_the_order_of_arrival_costs_nothing(tmp_path: Path) -> None:
    dice = random.Random(1)
    with Endpoint(says("both")) as endpoint:
        for _ in range(4):
            shuffled = dice.sample(GROUPS, len(GROUPS))
            without = [{name: value for name, value in record.items() if name != "id"} for record in shuffled]
            merge(*FOLD, "-d", tmp_path / "x", records=shuffled, url=endpoint.url)
            merge("-g", "g", "-p", "Fold", "-d", tmp_path / "y", records=without, url=endpoint.url)
        assert len(endpoint.asked) == 2


@pytest.mark.parametrize("fan_in", [2, 3, 20, 50])
def test_a_large_group_is_a_tree(fan_in: int) -> None:
    records = [{"g": 1, "n": n} for n in range(50)]
    with Endpoint(total) as endpoint:
        (line,) = merge("-g", "g", "--fan-in", str(fan_in), "-S", "n int", "-p", "Sum {{ records }}", "-M", "m",
                        records=records, url=endpoint.url)  # fmt: skip
        calls = len(endpoint.asked)
        most = max(len(json.loads(call.prompt.removeprefix("Sum "))) for call in endpoint.asked)
    assert line["n"] == sum(range(50))
    assert line["m"]["attempts"] == calls
    assert line["m"]["usage"]["input"] == 10 * calls
    assert most <= fan_in
    assert calls == {2: 49, 3: 26, 20: 4, 50: 1}[fan_in]


def test_the_whole_input_is_one_record() -> None:
    records = [{"n": n} for n in range(1000)]
    with Endpoint(total) as endpoint:
        out = merge(
            "--all", "--fan-in", "7", "-S", "n int", "-p", "Sum {{ records }}", records=records, url=endpoint.url
        )
        assert out == [{"n": sum(range(1000))}]
    assert merge("--all", "-p", "Sum", records="", url="http://127.0.0.1:9/v1") == []
    assert merge("--all", "-p", "Sum", records=[{"a": 1}], url="http://127.0.0.1:9/v1") == [{"a": 1}]


def test_the_whole_input_keeps_its_order() -> None:
    """Leaves that are late come to their place all the same."""

    def join(call: Call) -> Reply:
        parts = json.loads(call.prompt)
        text = "".join(part.get("t") or part["output"] for part in parts)
        return Reply(says(text).body, delay=random.Random(text).random() / 5)

    letters = [chr(97 + n % 26) for n in range(60)]
    records = [{"t": letter} for letter in letters]
    with Endpoint(join) as endpoint:
        words = ("--all", "--fan-in", "4", "-j", "16", "-p", "{{ records }}")
        (line,) = merge(*words, records=records, url=endpoint.url)
    assert line == {"output": "".join(letters)}


def test_a_tree_that_is_killed_pays_for_each_node_once(tmp_path: Path) -> None:
    records = jsonl(*({"n": n, "text": f"bài {n}"} for n in range(1000)))

    def slow(call: Call) -> Reply:
        return Reply(total(call).body, delay=0.02)

    words = ("-q", "--all", "--fan-in", "5", "-j", "6", "-S", "n int", "-p", "Sum {{ records }}", "-d")
    with Endpoint(slow) as endpoint:
        quiet = run("llm-merge", *words, tmp_path / "quiet", stdin=records, url=endpoint.url)
        needed = {call.key for call in endpoint.asked}
        del endpoint.calls[:]
        given = {"stdin": records, "url": endpoint.url, "asked": lambda: len(endpoint.asked), "step": 12}
        out, kills = killed_until_done("llm-merge", *words, tmp_path / "killed", **given)
        assert out == quiet.stdout
        assert kills >= 3
        assert {call.key for call in endpoint.asked} == needed
        assert len(needed) == 200 + 40 + 8 + 2 + 1
        assert len(endpoint.asked) <= len(needed) + 6 * kills


def test_a_node_that_fails_fails_its_group(tmp_path: Path) -> None:
    """All of its records are in the errors file, the others come out, and the next run asks for that node alone."""
    bad = [True]

    def answer(call: Call) -> Reply:
        return error(400, "too long") if '"n":3}' in call.prompt and bad else total(call)

    records = [{"g": g, "n": n} for g in (1, 2) for n in range(g * 3, g * 3 + 3)]
    words = ("-g", "g", "--fan-in", "2", "-S", "n int", "-p", "Sum {{ records }}", "-d", tmp_path / "x")
    with Endpoint(answer) as endpoint:
        out = merge(*words, "-e", tmp_path / "bad", records=records, url=endpoint.url, status=1)
        assert out == [{"g": 2, "n": 6 + 7 + 8}]
        assert [record["n"] for record in lines((tmp_path / "bad").read_bytes())] == [3, 4, 5]
        bad.clear()
        calls = len(endpoint.asked)
        assert len(merge(*words, records=records, url=endpoint.url)) == 2
        assert len(endpoint.asked) == calls + 2  # the node that failed, and the one above it
        bad.append(True)
        whole = ("--all", "--fan-in", "2", "-S", "n int", "-p", "Sum {{ records }}")
        done = run("llm-merge", *whole, stdin=jsonl(*records), url=endpoint.url)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"read 6, out 0, failed 6 (<stdin>:1, ...)" in done.stderr


def test_other_formats_are_read() -> None:
    with Endpoint(lambda call: says(call.prompt)) as endpoint:
        (line,) = merge("--from", "csv", "-g", "a", "-p", "{{ records }}", records="a,b\n1,x\n1,y\n", url=endpoint.url)
    assert json.loads(line["output"]) == [{"a": "1", "b": "x"}, {"a": "1", "b": "y"}]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["-p", "Fold"], "cannot use -p alone: it needs -g FIELD or --all"),
        (
            ["-g", "a", "-p", "Fold", "--to", "csv"],
            "cannot use --to and -p together: pipe the records into another llm-merge",
        ),
        (
            ["-g", "a", "-p", "Fold", "--each", "{{ a }}"],
            "cannot use --each and -p together: pipe the records into another llm-merge",
        ),
        (["-g", "a", "-p", "Fold", "-f", "/dev/null"], "cannot use -p and -f together"),
        (["-g", "a", "--always"], "cannot use --always alone: it needs -p PROMPT or -f FILE"),
        (["-g", "a", "-d", "x"], "cannot use -d alone: it needs -p PROMPT or -f FILE"),
        (["--all", "--sorted", "-p", "Fold"], "cannot use --sorted with --all -p"),
        (["--all", "-t", "a=sum", "-p", "Fold"], "cannot use -t with --all -p"),
        (["-g", "a", "-p", "{{ a"], "cannot use the template"),
    ],
)
def test_options_that_cannot_work(words: list[str], why: str) -> None:
    done = run("llm-merge", *words, stdin='{"a":1}', url="http://127.0.0.1:9/v1")
    assert done.returncode == 2
    assert why in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


def test_how_a_record_is_spaced_costs_nothing(tmp_path: Path) -> None:
    """The canonical order is one of content: white space is none."""
    bodies = set()
    for space in ("", " "):
        records = "".join(f'{{"g":1,{space if n else ""}"n":{n}}}\n' for n in range(3))
        with Endpoint(says("sum")) as endpoint:
            merge("-g", "g", "-p", "Fold", records=records, url=endpoint.url)
            bodies |= {call.body for call in endpoint.asked}
    assert len(bodies) == 1


def test_a_group_that_agrees_is_escaped_on_a_terminal_too(tmp_path: Path) -> None:
    """A record that no model was asked about is data like any other."""
    (tmp_path / "in.jsonl").write_bytes(b'{"g":1,"t":"\xc2\x9b31m"}\n')
    ours, theirs = os.openpty()
    words = ("-g", "g", "-p", "Fold", tmp_path / "in.jsonl")
    process = start("llm-merge", *words, url="http://127.0.0.1:9/v1", stdout=theirs)
    os.close(theirs)
    process.communicate(timeout=30)
    assert os.read(ours, 200) == b'{"g":1,"t":"\\u009b31m"}\r\n'
    os.close(ours)
