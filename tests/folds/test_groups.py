"""Which records belong together, in what order they come out, and when: llm-merge over files and open pipes."""

from __future__ import annotations

import json
import os
import random
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from memory import growth
from merging import AT_LAST, failures, merge, out
from tool import jsonl, lines, start

# -- who belongs to whom --------------------------------------------------------------------------------

KEYS = [
    ["1", "1.0", "1e0", "10e-1"],
    ['"1"'],
    ["12345678901234567890123", "1.2345678901234567890123e22"],
    ["12345678901234567890124"],
    ["0.1"],
    ["0.10000000000000000001"],
    ["null"],
    ['"null"', r'"n\u0075ll"'],
    ["true"],
    ["false"],
    ["0", "-0.0", "0e5"],
    ['""'],
    ['"é"'],
    ['"e\u0301"'],
    ['"É"'],
    ['"a"'],
    ['" a"'],
    ["[]"],
    ["[1,[2]]", "[1.0, [2e0]]"],
    ["[[2],1]"],
    ["{}"],
    ['{"a":1,"b":[null]}', '{ "b":[null],"a":1.0 }'],
    ['{"a":1}'],
]


@pytest.mark.parametrize("field", ["g", "in.deep"])
@pytest.mark.parametrize("seed", [1, 2])
def test_groups_in_the_order_of_their_first_records(field: str, seed: int) -> None:
    """A group is of one value: 1 is 1.0, and not "1"; a string is itself to the letter."""
    members = [(text, group) for group, texts in enumerate(KEYS) for text in texts * 2]
    random.Random(seed).shuffle(members)
    name, deep = (field, "%s") if field == "g" else ("in", '{"x":[],"deep":%s}')
    data = "".join(f'{{"{name}":{deep % text},"all":{group},"n":{n}}}\n' for n, (text, group) in enumerate(members))
    rules = ("-t", "all=list", "-t", "n=min")
    found = out("-g", field, *rules, stdin=data)
    assert [set(record["all"]) for record in found] == [
        {group} for group in dict.fromkeys(group for _, group in members)
    ]
    assert all(len(record["all"]) == 2 * len(KEYS[record["all"][0]]) for record in found)
    assert [record["n"] for record in found] == sorted(record["n"] for record in found)


def test_several_fields() -> None:
    records = [
        {"a": {"x": 1, "y": 0}, "b": 1, "n": 1},
        {"b": 1, "a": {"x": 2}, "n": 2},
        {"a": {"x": 1}, "b": 1.0, "n": 3},
        {"a": {"x": 1}, "b": None, "n": 4},
        {"a": {"x": 1}, "b": None, "n": 5},
        {"a": {"x": [1, 1]}, "b": None, "n": 6},
    ]
    words = ("-g", "a.x", "-g", "b", "-t", "n=list")
    assert out(*words, stdin=jsonl(*records)) == [
        {"a": {"x": 1, "y": 0}, "b": 1, "n": [1, 3]},
        {"b": 1, "a": {"x": 2}, "n": [2]},
        {"a": {"x": 1}, "b": None, "n": [4, 5]},
        {"a": {"x": [1, 1]}, "b": None, "n": [6]},
    ]


def test_all_are_one() -> None:
    records = [{"n": number, "t": [number % 3]} for number in range(50)]
    assert out("--all", "-t", "n=sum", stdin=jsonl(*records)) == [{"n": 1225, "t": [0, 1, 2]}]
    assert out("--all", "--sorted", "-t", "n=sum", stdin=jsonl(*records)) == [{"n": 1225, "t": [0, 1, 2]}]


def test_a_record_without_the_field_fails_by_name(tmp_path: Path) -> None:
    """What is mended joins its group in another run."""
    data = '{"at":{"g":1},"n":1}\n{"at":{},"n":2}\n{"at":{"g":1},"n":3}\n{"at":7,"n":4}\n{"n":5}\n{"at":{"g":null}}\n'
    bad = tmp_path / "bad"
    words = ("-g", "at.g", "-t", "n=list")
    done = merge(*words, "-e", bad, stdin=data, status=1)
    assert lines(done.stdout) == [{"at": {"g": 1}, "n": [1, 3]}, {"at": {"g": None}}]
    assert done.stderr.splitlines()[:3] == [b"llm-merge: <stdin>:%d: no field 'at.g'" % number for number in (2, 4, 5)]
    assert b"read 6, out 3, failed 3 (<stdin>:2, <stdin>:4, <stdin>:5), " in done.stderr
    assert failures(bad) == [("group", "no field 'at.g'")] * 3
    mended = bad.read_bytes().replace(b'"at":{}', b'"at":{"g":9}').replace(b'"at":7', b'"at":{"g":9}')
    bad.write_bytes(mended.replace(b'{"n":5', b'{"at":{"g":8},"n":5'))
    assert out(*words, bad) == [{"at": {"g": 9}, "n": [2, 4]}, {"at": {"g": 8}, "n": [5]}]


# -- when they come out -----------------------------------------------------------------------------------


class Pipe:
    """A running tool whose input stays open."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    def say(self, *records: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(jsonl(*records).encode())
        self.process.stdin.flush()

    def hear(self) -> Any:
        """The next record that comes out."""
        assert self.process.stdout
        assert select.select([self.process.stdout], [], [], AT_LAST)[0], "nothing comes out"
        return json.loads(self.process.stdout.readline())

    def silent(self, seconds: float = 0.3) -> bool:
        assert self.process.stdout
        return not select.select([self.process.stdout], [], [], seconds)[0]

    def end(self, status: int = 0) -> list[Any]:
        """What else comes out at the end of the input."""
        rest, told = self.process.communicate(timeout=AT_LAST)
        assert self.process.returncode == status, told
        return lines(rest)


@contextmanager
def pipe(*words: str | Path) -> Iterator[Pipe]:
    with start("llm-merge", *words, bufsize=0) as process:
        try:
            yield Pipe(process)
        finally:
            process.kill()


def test_without_groups_each_record_comes_out_at_once() -> None:
    with pipe() as it:
        for number in range(3):
            it.say({"n": number})
            assert it.hear() == {"n": number}
        assert it.end() == []


def test_a_group_comes_out_when_the_next_one_begins() -> None:
    with pipe("-g", "g", "--sorted", "-t", "n=list") as it:
        it.say({"g": 1, "n": 1}, {"g": 1, "n": 2})
        assert it.silent()
        it.say({"g": 2, "n": 3})
        assert it.hear() == {"g": 1, "n": [1, 2]}
        it.say({"g": 3, "n": 4}, {"g": 4, "n": 5})
        assert [it.hear(), it.hear()] == [{"g": 2, "n": [3]}, {"g": 3, "n": [4]}]
        assert it.silent()
        assert it.end() == [{"g": 4, "n": [5]}]


def test_a_record_that_fails_ends_no_group() -> None:
    data = '{"g":1,"n":1}\nno\n{"n":2}\n{"g":1,"n":3}\n{"g":2,"n":4}\n'
    done = merge("-g", "g", "--sorted", "-t", "n=list", stdin=data, status=1)
    assert lines(done.stdout) == [{"g": 1, "n": [1, 3]}, {"g": 2, "n": [4]}]


def test_records_that_do_not_follow_one_another_are_groups_of_their_own() -> None:
    data = jsonl(*({"g": group} for group in (1, 1, 2, 1)))
    assert out("-g", "g", "--sorted", stdin=data) == [{"g": 1}, {"g": 2}, {"g": 1}]


def test_a_group_comes_out_when_it_is_complete() -> None:
    """Each as soon as it has its records, whatever is open beside it; and then another may begin."""
    with pipe("-g", "g", "--complete", "in.of", "-t", "n=list") as it:
        it.say({"g": 1, "in": {"of": 2}, "n": 1}, {"g": 2, "in": {"of": 3}, "n": 2}, {"g": 3, "in": {"of": 1}, "n": 3})
        assert it.hear() == {"g": 3, "in": {"of": 1}, "n": [3]}
        it.say({"g": 2, "in": {"of": 3}, "n": 4}, {"g": 1, "in": {"of": 2}, "n": 5})
        assert it.hear() == {"g": 1, "in": {"of": 2}, "n": [1, 5]}
        assert it.silent()
        it.say({"g": 2, "in": {"of": 3}, "n": 6}, {"g": 1, "in": {"of": 1}, "n": 7})
        assert [it.hear()["n"], it.hear()["n"]] == [[2, 4, 6], [7]]
        assert it.end() == []


def test_the_whole_input_may_be_complete_too() -> None:
    with pipe("--all", "--complete", "of", "-t", "n=sum") as it:
        it.say({"of": 2, "n": 1}, {"of": 2, "n": 2}, {"of": 2, "n": 3})
        assert it.hear() == {"of": 2, "n": 3}
        assert it.end(status=1) == []


@pytest.mark.parametrize("more", [(), ("--sorted",)])
def test_groups_that_are_never_complete_fail_with_all_their_records(tmp_path: Path, more: tuple[str, ...]) -> None:
    group = ['{"g":1,"of":3, "n":1.50}', '{"g":1,"of":3,"n":[]}']
    records = [*group, '{"g":2,"of":1}', '{"of":2,"g":4}', '{"of":2,"g":4,"x":1}', '{"g":5,"of":2}']
    bad = tmp_path / "bad"
    done = merge("-g", "g", "--complete", "of", *more, "-e", bad, stdin="\n".join(records), status=1)
    assert lines(done.stdout) == [{"g": 2, "of": 1}, {"of": 2, "g": 4, "x": 1}]
    assert b"llm-merge: <stdin>:1: the group has 2 of 3 records\n" in done.stderr
    assert b"llm-merge: <stdin>:6: the group has 1 of 2 records\n" in done.stderr
    assert b"read 6, out 3, failed 3 (<stdin>:1, <stdin>:6, ...), " in done.stderr
    assert failures(bad) == [
        *[("incomplete", "the group has 2 of 3 records")] * 2, ("incomplete", "the group has 1 of 2 records"),
    ]  # fmt: skip
    assert merge(bad).stdout.decode().splitlines() == [*group, records[-1]]
    with bad.open("ab") as file:
        file.write(b'{"g":1,"of":3,"late":true}\n{"g":5,"of":2}\n')
    mended = ("-g", "g", "--complete", "of", bad)
    assert out(*mended) == [{"g": 1, "of": 3, "n": [], "late": True}, {"g": 5, "of": 2}]


@pytest.mark.parametrize("size", ["null", "0", "-1", "1.0", '"2"', "true", "[]", ""])
def test_a_size_that_is_none(tmp_path: Path, size: str) -> None:
    data = '{"g":1,"of":2}\n{"g":1%s}\n{"g":1,"of":2}\n' % (size and f',"of":{size}')
    done = merge("-g", "g", "--complete", "of", "-e", tmp_path / "bad", stdin=data, status=1)
    assert lines(done.stdout) == [{"g": 1, "of": 2}]
    assert failures(tmp_path / "bad") == [("group", "of: not the size of a group")]


def test_sizes_that_disagree_are_no_complete_group(tmp_path: Path) -> None:
    data = jsonl(*({"g": 1, "of": size} for size in (5, 5, 5, 2)))
    merge("-g", "g", "--complete", "of", "-e", tmp_path / "bad", stdin=data, status=1)
    assert [type_ for type_, _ in failures(tmp_path / "bad")] == ["incomplete"] * 4


# -- how much memory that takes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (300_000, ["-g", "g", "--sorted"]),
        (100_000, ["-g", "g", "--sorted", "-t", "n=sum", "--match", "x", "--conflicts", "c", "-e", os.devnull]),
        (100_000, ["-g", "n", "--complete", "one"]),
        (100_000, ["--to", "csv"]),
    ],
)
def test_memory_does_not_grow_with_the_stream(tmp_path: Path, count: int, words: list[str]) -> None:
    assert growth(tmp_path, count, *words) < 0.05


def test_a_sorted_group_that_comes_again_is_told_once() -> None:
    stdin = jsonl({"g": 1}, {"g": 2}, {"g": 1}, {"g": 2}, {"g": 3})
    done = merge("-g", "g", "--sorted", stdin=stdin)
    assert done.stdout.count(b"\n") == 5
    assert (
        done.stderr.count(
            b"<stdin>:3: its group has ended already: the input is not sorted, or a filter before used -U"
        )
        == 1
    )
    assert done.stderr.count(b"its group has ended") == 1
    quiet = merge("-g", "g", "--sorted", stdin=jsonl({"g": 1}, {"g": 1}, {"g": 2}))
    assert b"its group has ended" not in quiet.stderr
