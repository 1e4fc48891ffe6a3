"""How often each label came up: wherever a schema has labels, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from endpoint import Call, Endpoint, error, says
from tool import jsonl, lines, run

from llmstream.books import labels
from llmstream.books.labels import Labels
from llmstream.records import schema


def counted(notation: str, *answers: Any) -> Labels:
    found = labels.of(schema.read(notation))
    assert found
    for answer in answers:
        found.add(answer)
    return found


def counts(told: dict[str, Any]) -> dict[str, dict[str, int]]:
    return {path: {label: one["count"] for label, one in found.items()} for path, found in told.items()}


@pytest.mark.parametrize(
    ("notation", "answers", "told", "said"),
    [
        (
            "tone good|bad, name",
            [{"tone": tone, "name": "x"} for tone in ("good", "bad", "good")],
            {"tone": {"good": {"count": 2, "share": 0.6667}, "bad": {"count": 1, "share": 0.3333}}},
            ["tone: good 2 (66.7 %), bad 1"],
        ),
        (
            "ok bool",
            [{"ok": True}, {"ok": False}, {"ok": True}],
            {"ok": {"true": {"count": 2, "share": 0.6667}, "false": {"count": 1, "share": 0.3333}}},
            ["ok: true 2 (66.7 %), false 1"],
        ),
        (
            "tone good|bad?",
            [{"tone": None}, {"tone": "bad"}, {"tone": None}, {"tone": None}],
            {"tone": {"null": {"count": 3, "share": 0.75}, "bad": {"count": 1, "share": 0.25}}},
            ["tone: null 3 (75.0 %), bad 1"],
        ),
        (
            "at {place {kind a|b}}",
            [{"at": {"place": {"kind": "b"}}}],
            {"at.place.kind": {"b": {"count": 1, "share": 1.0}}},
            ["at.place.kind: b 1 (100.0 %)"],
        ),
        (
            "tags [a|b]",
            [{"tags": ["a", "b", "a"]}, {"tags": []}],
            {
                "tags[]": {"a": {"count": 2, "share": 0.6667}, "b": {"count": 1, "share": 0.3333}},
                "tags": {"average_length": 1.5},
            },
            ["tags[]: a 2 (66.7 %), b 1", "tags: 1.5 on average"],
        ),
        (
            "people [{name, role x|y}]",
            [{"people": [{"name": "n", "role": "x"}, {"name": "m", "role": "y"}]}, {"people": [{"role": "y"}]}],
            {
                "people[].role": {"y": {"count": 2, "share": 0.6667}, "x": {"count": 1, "share": 0.3333}},
                "people": {"average_length": 1.5},
            },
            ["people[].role: y 2 (66.7 %), x 1", "people: 1.5 on average"],
        ),
        (
            "grid [[a|b]]",
            [{"grid": [["a"], ["b", "b"], []]}],
            {
                "grid[][]": {"b": {"count": 2, "share": 0.6667}, "a": {"count": 1, "share": 0.3333}},
                "grid": {"average_length": 3.0},
                "grid[]": {"average_length": 1.0},
            },
            ["grid[][]: b 2 (66.7 %), a 1", "grid: 3.0 on average", "grid[]: 1.0 on average"],
        ),
        (
            '{"enum": ["yes", "no", 1, 1.5, null, {"a": [1]}]}',
            ["yes", 1, 1.5, None, {"a": [1]}, "yes"],
            {
                "": {
                    "yes": {"count": 2, "share": 0.3333},
                    **{label: {"count": 1, "share": 0.1667} for label in ("1", "1.5", "null", '{"a":[1]}')},
                }
            },
            ['answer: yes 2 (33.3 %), 1 1, 1.5 1, null 1, {"a":[1]} 1'],
        ),
    ],
)
def test_labels(notation: str, answers: list[Any], told: dict[str, Any], said: list[str]) -> None:
    found = counted(notation, *answers)
    assert found.as_dict() == told
    assert list(next(iter(found.as_dict().values()))) == list(next(iter(told.values())))  # the most frequent first
    assert found.as_lines() == said


def test_what_is_not_there_is_not_counted() -> None:
    shape = '{"type":"object","properties":{"a":{"enum":["x"]},"l":{"type":"array","items":{"enum":["y"]}}}}'
    found = counted(shape, {}, {"a": "x"}, {"l": None}, {"l": "y"}, {"l": [["y"]]}, [], None, "x")
    assert counts({"a": found.as_dict()["a"]}) == {"a": {"x": 1}}
    assert found.as_dict()["l"] == {"average_length": 1.0}
    assert counted(shape).as_dict() == {}
    assert counted(shape).as_lines() == []


@pytest.mark.parametrize("notation", ["name, age int", "n 1..10", '{"type": "object"}'])
def test_a_schema_without_labels(notation: str) -> None:
    assert labels.of(schema.read(notation)) is None


def test_a_choice_within_a_choice() -> None:
    """Where null is another form of the field, as programs write their schemas."""
    kinds = {"anyOf": [{"enum": ["p", "q"]}, {"type": "null"}]}
    shape = {"type": "object", "properties": {"d": kinds, "e": {"$ref": "#/$defs/t"}}, "$defs": {"t": {"enum": ["r"]}}}
    found = counted(json.dumps(shape), {"d": "p", "e": "r"}, {"d": None, "e": "r"})
    assert counts(found.as_dict()) == {"d": {"p": 1, "null": 1}, "e": {"r": 2}}


ODD = ["a, b", "", " ", "x 3 (5.0 %)", "null", "true", "\x1b[2J", "đỏ", "a.b[]", "1"]


def test_odd_names_of_labels() -> None:
    shape = {"type": "object", "properties": {"o": {"enum": [*ODD, None, True, 1]}}}
    found = counted(json.dumps(shape), *({"o": label} for label in [*ODD, None, True, 1]))
    told = counts(found.as_dict())["o"]
    assert told["đỏ"] == told["a, b"] == told[""] == 1
    assert sum(told.values()) == len(ODD) + 3
    assert len(told) == len(ODD) + 3  # "true" is not true


@pytest.mark.parametrize("name", ["a.b", "list[]", "", "a b: c", "đỏ", "[]", "."])
def test_odd_names_of_fields(name: str) -> None:
    inner = {"type": "object", "properties": {name: {"enum": ["x"]}}}
    shape = {"type": "object", "properties": {name: {"enum": ["x", "y"]}, "in": inner}}
    found = counted(json.dumps(shape), {name: "y", "in": {name: "x"}}, {name: "x", "in": {}})
    assert sorted(map(sorted, (of.items() for of in counts(found.as_dict()).values()))) == [
        [("x", 1)],
        [("x", 1), ("y", 1)],
    ]


def test_many_labels_and_many_fields() -> None:
    """A line for people is no page; programs are told all."""
    names = [f"l{n:02}" for n in range(30)]
    shape = {"type": "object", "properties": {f"f{n:02}": {"enum": names} for n in range(25)}}
    found = counted(json.dumps(shape), *({f"f{n:02}": name for n in range(25)} for name in [*names, "l07"]))
    told = found.as_lines()
    assert len(told) == labels.MOST_FIELDS + 1
    assert told[0].startswith("f00: l07 2 (6.5 %), l00 1, ")
    assert told[0].count(", ") == labels.MOST_LABELS
    assert told[0].endswith(", others 18")
    assert told[-1] == "15 further fields are in --summary FILE"
    assert len(found.as_dict()) == 25
    assert all(len(of) == 30 for of in found.as_dict().values())


# -- from end to end --------------------------------------------------------------------------------


def answers(call: Call) -> Any:
    n = int(call.prompt.split()[-1])
    if n == 7:
        return error(400, "no")
    return says(json.dumps({"tone": "good" if n % 3 else "bad", "ok": n < 2, "tags": ["x"] * n}))


def test_in_the_summary_and_the_same_at_replay(tmp_path: Path) -> None:
    books = ("--summary", "summary", "--log", "log", "-d", "done")
    words = (*books, "-S", "tone good|bad, ok bool, tags [x|y]", "Say {{ n }}")
    stdin = jsonl(*({"n": n} for n in range(8)))
    with Endpoint(answers) as endpoint:
        got = run("llm-map", *words, stdin=stdin, url=endpoint.url, cwd=tmp_path)
        told = json.loads((tmp_path / "summary").read_bytes())["labels"]
        again = run("llm-map", *words, "--offline", stdin=stdin, url=endpoint.url, cwd=tmp_path)
    assert (got.returncode, again.returncode) == (1, 1)
    assert counts({name: told[name] for name in ("tone", "ok", "tags[]")}) == {
        "tone": {"good": 4, "bad": 3}, "ok": {"true": 2, "false": 5}, "tags[]": {"x": 21},
    }  # fmt: skip
    assert told["tags"] == {"average_length": 3.0}
    replayed = json.loads((tmp_path / "summary").read_bytes())["labels"]
    assert replayed == told
    first, second = [e for e in lines((tmp_path / "log").read_bytes()) if e["event_type"] == "run_summary"]
    assert first["labels"] == second["labels"] == told
    for done in (got, again):
        said = [line for line in done.stderr.decode().splitlines() if line.startswith(("llm-map: tone", "llm-map: ok"))]
        assert said == ["llm-map: tone: good 4 (57.1 %), bad 3", "llm-map: ok: false 5 (71.4 %), true 2"]


def test_of_the_consensus_and_not_of_the_votes(tmp_path: Path) -> None:
    said = iter(["a", "a", "b"] * 4)
    with Endpoint(lambda _: says(json.dumps({"t": next(said)}))) as endpoint:
        words = ("--summary", "summary", "--all-votes", "-j", "1", "-S", "t a|b", "Say {{ n }}")
        stdin = jsonl(*({"n": n} for n in range(4)))
        got = run("llm-vote", *words, stdin=stdin, url=endpoint.url, cwd=tmp_path)
    assert got.returncode == 0, got.stderr
    told = json.loads((tmp_path / "summary").read_bytes())
    assert counts(told["labels"]) == {"t": {"a": 4}}


def test_of_what_a_model_folded(tmp_path: Path) -> None:
    with Endpoint(says('{"t": "b"}')) as endpoint:
        words = ("--summary", "summary", "-g", "g", "-S", "t a|b", "-p", "Fold {{ records }}")
        members = [{"g": 1, "t": "a"}, {"g": 1, "t": "b"}, {"g": 2, "t": "a"}]
        got = run("llm-merge", *words, stdin=jsonl(*members), url=endpoint.url, cwd=tmp_path)
    assert len(lines(got.stdout)) == 2
    assert counts(json.loads((tmp_path / "summary").read_bytes())["labels"]) == {"t": {"b": 1}}


def test_a_label_that_a_terminal_would_obey(tmp_path: Path) -> None:
    shape = json.dumps({"type": "object", "properties": {"t": {"enum": ["\x1b[2J\u202ex", "x"]}}})
    with Endpoint(says('{"t": "\\u001b[2J\\u202ex"}')) as endpoint:
        got = run("llm-map", "-S", shape, "{{ n }}", stdin=jsonl({"n": 1}), url=endpoint.url, cwd=tmp_path)
    assert b"llm-map: t: \\x1b[2J\\u202ex 1 (100.0 %)\n" in got.stderr
    assert got.stderr.isascii()
