"""llm-merge without a model, from end to end: folds, formats there and back, and what it owes to its caller."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import os
import pty
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from json_texts import OBJECTS, has_huge, meaning
from merging import AT_LAST, failures, merge, out
from tool import BIN, command, environment, jsonl, lines, start

from llmstream.shell import messages


def without_errors(file: Path) -> list[Any]:
    """The records in the errors file."""
    return [{name: value for name, value in line.items() if name != "error"} for line in lines(file.read_bytes())]


# -- folds ------------------------------------------------------------------------------------------

PEOPLE = """\
{"id":1,"name":"Ánh","tags":["Hà Nội","a"],"at":{"x":1,"y":null},"n":12345678901234567890123,"k":null}
{"id":2,"name":"Bo","tags":["z"]}
{"id":1,"name":null,"tags":["HÀ  NỘI ","A","b"],"at":{"y":0.10000000000000000001,"z":[1]},"k":[1]}
{"id":1.0,"name":"Anh","at":{"z":[1.0,2]},"k":5,"new":{"deep":[[1],[1]]}}
"""


def test_deep_merge() -> None:
    done = merge("-g", "id", stdin=PEOPLE)
    assert done.stdout.decode() == (
        '{"id":1.0,"name":"Anh","tags":["Hà Nội","a","b"],"at":{"x":1,"y":0.10000000000000000001,"z":[1,2]},'
        '"n":12345678901234567890123,"k":[1],"new":{"deep":[[1],[1]]}}\n'
        '{"id":2,"name":"Bo","tags":["z"]}\n'
    )
    assert done.stderr.startswith(b"llm-merge: read 4, out 4, failed 0, ")


HOWS: dict[str, tuple[list[Any], Any]] = {
    "first": ([1, 2, None], 1),
    "last": ([1, [2], None], [2]),
    "union": ([["a"], ["A ", "b"], None], ["a", "b"]),
    "union:exact": ([["a"], ["A", "a"], None], ["a", "A"]),
    "concat": ([["a"], ["a", 1], None], ["a", "a", 1]),
    "list": ([1, None, [2]], [1, None, [2]]),
    "sum": ([0.1, 0.2, None], 0.3),
    "mean": ([1, 2, 6], 3),
    "min": ([3, 1.0, 1], 1.0),
    "max": (["a", "b", "B"], "b"),
    "count": ([1, None, "x"], 2),
    "majority": (["yes", "no", "YES"], "yes"),
    "longest": (["ab", "xyz", "xyw"], "xyz"),
}


def test_a_field_is_folded_as_it_is_told() -> None:
    """All rules at once, each on a field of its own, in the record and deep in it."""
    records = [
        {
            "g": "x",
            **{how: met[n] for how, (met, _) in HOWS.items()},
            "in": {how: met[n] for how, (met, _) in HOWS.items()},
        }
        for n in range(3)
    ]
    rules = [word for how in HOWS for place in (how, f"in.{how}") for word in ("-t", f"{place}={how}")]
    folded = {how: value for how, (_, value) in HOWS.items()}
    assert out("-g", "g", *rules, stdin=jsonl(*records)) == [{"g": "x", **folded, "in": folded}]


def test_a_record_alone_stays_as_it_was_written() -> None:
    """Byte for byte, unless a rule makes something else of one value."""
    alone = '{ "g": 1.50,"x":[ "a","A" ],"n":1e2, "dup":1,"dup":2 , "u":"\\u00e9\\/" }'
    data = f'\ufeff{alone}\r\n\r\n  {{"g":2,"n":-0.0}} \n{alone.replace("1.50", "3")}'
    rules = [word for field in "xnu" for word in ("-t", f"{field}=first")]
    expected = f'{alone}\n{{"g":2,"n":-0.0}}\n{alone.replace("1.50", "3")}\n'
    assert merge("-g", "g", *rules, "--conflicts", "c", "--match", "x", stdin=data).stdout.decode() == expected
    assert merge(stdin=data).stdout.decode() == expected
    assert out("-g", "g", "-t", "n=list", stdin='{"g":1,"n":5}') == [{"g": 1, "n": [5]}]


def test_objects_in_lists_are_matched(tmp_path: Path) -> None:
    records = [
        {"doc": 1, "people": [{"name": "Ann", "age": None, "said": ["a"]}, {"id": 7, "x": 1}]},
        {"doc": 1, "people": [{"name": "ann ", "age": 40, "said": ["b"]}, {"id": 7, "name": "Bo"}, {"y": 1}]},
        {"doc": 1, "people": [{"y": 1}, {"name": "ANN", "age": 41}]},
    ]
    matched, _, *others = out("-g", "doc", "--match", "name", stdin=jsonl(*records))[0]["people"]
    assert matched == {"name": "ANN", "age": 41, "said": ["a", "b"]}
    assert others == [{"id": 7, "name": "Bo"}, {"y": 1}]
    whole = out("-g", "doc", stdin=jsonl(*records))[0]["people"]
    assert len(whole) == 6


def test_conflicts_say_what_disagreed_and_where_it_came_from(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"id":1,"at":{"city":"Hue"},"p":[{"n":"Ann","age":4}],"same":1}\n{"id":2,"x":1}\n'
    )
    (tmp_path / "b.csv").write_text("id,same\n1,1\n")
    (tmp_path / "c.json").write_text(
        '[\n{"id":1,"at":{"city":"Huế"},"p":[{"n":"ann","age":5}],"same":1.0},\n{"id":2,"x":2,"why":{"old":1}}]'
    )
    words = ("-g", "id", "--match", "n", "--conflicts", "why.not")
    files = [tmp_path / name for name in ("a.jsonl", "b.csv", "c.json")]
    one, two, text = lines(merge(*words, *files).stdout)
    a, _, c = map(str, files)
    assert one == {
        "id": 1, "at": {"city": "Huế"}, "p": [{"n": "ann", "age": 5}], "same": 1.0,
        "why": {"not": [
            {"field": "at.city", "values": ["Hue", "Huế"], "from": [f"{a}:1", f"{c}:2"]},
            {"field": "p[Ann].n", "values": ["Ann", "ann"], "from": [f"{a}:1", f"{c}:2"]},
            {"field": "p[Ann].age", "values": [4, 5], "from": [f"{a}:1", f"{c}:2"]},
        ]},
    }  # fmt: skip
    assert two == {
        "id": 2,
        "x": 2,
        "why": {"old": 1, "not": [{"field": "x", "values": [1, 2], "from": [f"{a}:2", f"{c}:3"]}]},
    }
    assert text == {"id": "1", "same": "1"}  # a cell is a string, and no number


def test_conflicts_have_no_place_in_what_is_no_object(tmp_path: Path) -> None:
    records = [{"g": 1, "c": 3, "v": 1}, {"g": 1, "v": 2, "error": 5}, {"g": 2, "v": 1}]
    bad = tmp_path / "bad"
    done = merge("-g", "g", "--conflicts", "c.d", "-e", bad, stdin=jsonl(*records), status=1)
    assert lines(done.stdout) == [{"g": 2, "v": 1}]
    assert failures(bad) == [("output", "cannot put c.d into the record: c is not an object")] * 2
    assert out("-g", "g", "--conflicts", "d", bad) == [
        {"g": 1, "c": 3, "v": 2, "error": 5, "d": [{"field": "v", "values": [1, 2], "from": [f"{bad}:1", f"{bad}:2"]}]}
    ]


def test_what_cannot_be_folded_fails_with_all_its_group(tmp_path: Path) -> None:
    """And comes back, byte for byte but for what went wrong, so that it can be mended and tried again."""
    group = ['{"g":1, "v":1.50}', '{"g":1,"v":"2","error":"mine"}', '{"v":null ,"g":1}']
    data = "\n".join([group[0], '{"g":2,"v":5}', group[1], "{", group[2], '{"g":2,"v":1}'])
    bad, again = tmp_path / "bad", tmp_path / "again"
    done = merge("-g", "g", "-t", "v=sum", "-e", bad, stdin=data, status=1)
    assert done.stdout == b'{"g":2,"v":6}\n'
    why = b"v: sum takes numbers, not a string (<stdin>:3)"
    assert done.stderr.splitlines()[1] == b"llm-merge: <stdin>:1: " + why
    assert b"read 6, out 2, failed 4 (<stdin>:4, <stdin>:1, ...), " in done.stderr
    assert failures(bad)[1:] == [("fold", why.decode())] * 3
    assert merge("-q", bad, status=1).stdout.decode() == "\n".join([*group, ""])
    assert merge("-q", "-g", "g", "-t", "v=sum", "-e", again, bad, status=1).stdout == b""
    again.write_bytes(again.read_bytes().replace(b'"v":"2"', b'"v":2').replace(b'"raw":"{"', b'"raw":"{\\"g\\":3}"'))
    assert out("-g", "g", "-t", "v=sum", again) == [{"g": 3}, {"g": 1, "v": 3.5, "error": "mine"}]


def test_a_group_that_fails_on_its_way_out_is_kept_whole(tmp_path: Path) -> None:
    group = [{"g": 1, "a": 1}, {"g": 1, "b": [2], "error": "mine"}, {"g": 1, "a": 3}]
    bad = tmp_path / "bad"
    words = ("-g", "g", "-e", bad, "--to", "csv", "--columns", "g,a")
    done = merge(*words, stdin=jsonl(*group, {"g": 2}), status=1)
    assert done.stdout == b"g,a\n2,\n"
    assert b"<stdin>:1: no column for the field b" in done.stderr
    assert [type_ for type_, _ in failures(bad)] == ["column"] * 3
    assert out(bad) == group


def test_max_errors() -> None:
    """The run stops, and what it has printed until then is well-formed."""
    data = '{"a":1}\n{}\nno\n{"b":2}\n'
    for form, printed in (("jsonl", '{"a":1}\n{}\n'), ("json", '[\n{"a":1},\n{}\n]\n'), ("csv", 'a\n1\n""\n')):
        done = merge("--max-errors", "1", "--to", form, stdin=data, status=1)
        assert done.stdout.decode() == printed
        assert b"stopped: 1 of 3 records failed (--max-errors 1)" in done.stderr


# -- formats, there and back ----------------------------------------------------------------------------

LETTERS = st.text('aế7"\n\r\t,;= \0\x0b\ufeff\u2028\U0001f600', max_size=4)
CELLS = LETTERS | st.sampled_from(
    ["", "007", "1.50", "=1+1", "-", "+1", "@x", "null", "[1]", "\r\n", '""', 'Phở, "bò"']
)
FEW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def written_tables(draw: st.DrawFn) -> list[list[str]]:
    """A header and some rows."""
    names = draw(st.lists(CELLS.filter(lambda name: name and name[0] != "\ufeff"), min_size=1, max_size=4, unique=True))
    return [names, *draw(st.lists(st.lists(CELLS, min_size=len(names), max_size=len(names)), min_size=1, max_size=40))]


def as_csv(rows: Iterable[Iterable[str]], delimiter: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue()


def of_csv(data: bytes, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(data.decode(), newline=""), delimiter=delimiter, strict=True))


@FEW
@given(written_tables(), st.sampled_from(",;|\t"), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be"]))
def test_csv_to_records_to_csv(rows: list[list[str]], delimiter: str, encoding: str) -> None:
    between = ("--delimiter", delimiter)
    data = as_csv(rows, delimiter).encode(encoding)
    records = merge("--from", "csv", "--encoding", encoding, *between, stdin=data)
    assert lines(records.stdout) == [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    back = merge("--to", "csv", *between, stdin=records.stdout)
    assert of_csv(back.stdout, delimiter) == rows
    assert merge("--from", "csv", "--to", "csv", *between, stdin=back.stdout).stdout == back.stdout


@FEW
@given(st.lists(OBJECTS, min_size=5, max_size=40))
def test_json_to_records_to_json(texts: list[str]) -> None:
    texts = [text for text in texts if not has_huge(text)]
    records = merge("--from", "json", stdin=f"[{','.join(texts)}\n]")
    back = merge("--to", "json", stdin=records.stdout)
    expected = list(map(meaning, texts))
    assert list(map(meaning, records.stdout.split(b"\n")[:-1])) == expected
    assert meaning(back.stdout) == expected
    assert merge("--from", "json", "--to", "json", stdin=back.stdout).stdout == back.stdout


def test_json_on_many_lines() -> None:
    records = [{"a": [1, {"b": "x\n]"}], "n": 1.5}, {}, {"a": {}}]
    for indent in (1, 4, None):
        assert out("--from", "json", stdin=json.dumps(records, indent=indent)) == records
    assert merge("--to", "json").stdout == b"[]\n"
    assert out("--from", "json", stdin="[]") == []
    assert out("--from", "json", stdin='{"one":\n1}') == [{"one": 1}]


def test_the_columns_of_a_table_are_all_the_fields_that_there_are() -> None:
    """In the order in which they came up, of a pipe too; what is no string is JSON, and nothing is nothing."""
    records = [
        {"a": {"b": [1, "ễ,"]}, "n": 1.50}, {"c": None, "a": "=1+1"}, {}, {"b": True, "c": 12345678901234567890123},
    ]  # fmt: skip
    table = b'a,n,c,b\n"{""b"":[1,""\xe1\xbb\x85,""]}",1.5,,\n=1+1,,,\n,,,\n,,12345678901234567890123,true\n'
    assert merge("--to", "csv", stdin=jsonl(*records)).stdout == table
    assert merge("--to", "csv").stdout == b""
    assert merge("--to", "csv", "--columns", "x,y").stdout == b"x,y\n"


def test_columns_that_are_named(tmp_path: Path) -> None:
    """A record with anything else fails: nothing is dropped without a word."""
    data = '{"b":1,"a":2}\n{"c":3}\n{"b":4}\n{"b":null,"c":null}\n'
    done = merge("--to", "csv", "--columns", "a,z,b", "-e", tmp_path / "bad", stdin=data, status=1)
    assert done.stdout == b"a,z,b\n2,,1\n,,4\n"
    assert failures(tmp_path / "bad") == [("column", "no column for the field c")] * 2
    assert out(tmp_path / "bad") == [{"c": 3}, {"b": None, "c": None}]


def test_a_column_without_a_name(tmp_path: Path) -> None:
    """As pandas writes it for the index: read, it is called by its number."""
    table = merge("-q", "--to", "csv", stdin='{"":1,"b":2}\n{"c":3}\n').stdout
    assert table == b",b,c\n1,2,\n,,3\n"
    assert out("--from", "csv", stdin=table) == [{"1": "1", "b": "2", "c": ""}, {"1": "", "b": "", "c": "3"}]


def test_dialects(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("x\ty\n1\t2,3\n")
    (tmp_path / "b.CSV").write_bytes(b"\xef\xbb\xbfx,y\r\n007,\r\n")
    (tmp_path / "c.csv").write_text("x;y\n1;2\n")
    (tmp_path / "latin.csv").write_bytes("x,y\né,ü\n".encode("latin-1"))
    (tmp_path / "wide.csv").write_bytes("x,y\nPhở,ü\n".encode("utf-16"))
    for words, expected in (
        (("a.tsv", "b.CSV"), [{"x": "1", "y": "2,3"}, {"x": "007", "y": ""}]),
        (("--delimiter", ";", "c.csv"), [{"x": "1", "y": "2"}]),
        (("--delimiter", "tab", "--from", "csv", "a.tsv"), [{"x": "1", "y": "2,3"}]),
        (("--no-header", "--delimiter", ";", "c.csv"), [{"1": "x", "2": "y"}, {"1": "1", "2": "2"}]),
        (("--no-header", "--columns", "p,q", "b.CSV"), [{"p": "x", "q": "y"}, {"p": "007", "q": ""}]),
        (("--encoding", "latin-1", "latin.csv"), [{"x": "é", "y": "ü"}]),
        (("--encoding", "UTF-16", "wide.csv"), [{"x": "Phở", "y": "ü"}]),
    ):
        assert out(*words, cwd=tmp_path) == expected
    table = merge("-q", "--to", "csv", "--delimiter", "\\t", "a.tsv", cwd=tmp_path).stdout
    assert table == (tmp_path / "a.tsv").read_bytes()


def test_a_file_is_read_as_its_name_says(tmp_path: Path) -> None:
    """Each of them; and all as --from says. What cannot be read costs no more than its record."""
    (tmp_path / "a.csv").write_text('t\n"x\ny"\n1,2\nz\n')
    (tmp_path / "b.json").write_text('[{"t":1},\n7,{"t":2}]')
    (tmp_path / "c.txt").write_text("Một\nhai\n")
    (tmp_path / "d.jsonl").write_text('{"t":3}')
    (tmp_path / "e").write_text('{"t":4}\n{"t":5}')
    names = ("a.csv", "b.json", "c.txt", "d.jsonl", "-", "e")
    done = merge(*names, stdin='{"t":0}\n', cwd=tmp_path, status=1)
    text = {"file_name": "c.txt", "path": "c.txt", "text": "Một\nhai\n"}
    assert lines(done.stdout) == [
        {"t": "x\ny"}, {"t": "z"}, {"t": 1}, {"t": 2}, text, *({"t": number} for number in (3, 0, 4, 5)),
    ]  # fmt: skip
    told = done.stderr.decode().splitlines()
    assert told[0] == "llm-merge: a.csv:4: 2 cells where there are 1 columns"
    assert told[1] == "llm-merge: b.json:2: not a JSON object: 7"
    assert told[2].startswith("llm-merge: read 11, out 9, failed 2 (a.csv:4, b.json:2), ")
    paths = [tmp_path / name for name in ("a.csv", "c.txt")]
    assert out("--from", "text", *paths) == [
        {"file_name": path.name, "path": str(path), "text": path.read_text()} for path in paths
    ]
    assert out("--from", "jsonl", "-R", "c.txt", cwd=tmp_path) == [{"text": "Một"}, {"text": "hai"}]
    assert out("-R", "c.txt", cwd=tmp_path) == [{"text": "Một"}, {"text": "hai"}]


def test_a_quote_that_is_never_closed_costs_the_rest_of_its_file_alone(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('x,y\n1,2\n3,"4\n5,6\n7,8\n9,0\n')
    (tmp_path / "b.csv").write_text("x,y\n1,2\n")
    done = merge("-e", "bad", "a.csv", "b.csv", cwd=tmp_path, status=1)
    assert lines(done.stdout) == [{"x": "1", "y": "2"}] * 2
    told = done.stderr.decode().splitlines()
    assert told[0] == "llm-merge: a.csv:3: a quote is never closed; the rest of the file is not read"
    assert told[1].startswith("llm-merge: read 3, out 2, failed 1 (a.csv:3), ")
    (kept,) = lines((tmp_path / "bad").read_bytes())
    assert kept["error"]["raw"] == '3,"4\n5,6\n7,8\n9,0'


def test_what_comes_before_a_file_that_cannot_be_read_is_printed(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a":1}\n')
    (tmp_path / "b.csv").write_text("x,x\n1,2\n")
    done = merge("a.jsonl", "b.csv", cwd=tmp_path, status=2)
    assert done.stdout == b'{"a":1}\n'
    assert done.stderr.startswith(b"llm-merge: cannot read b.csv:1: two columns ")


def test_a_disk_without_room_for_the_rows_that_wait(tmp_path: Path) -> None:
    """Until the columns are known they wait in a temporary file; and without a disk at all not even that is there."""
    record = {"a": "x" * 300}
    for room in (0, 100, 100_000):
        done = merge("--to", "csv", stdin=jsonl(record) * 1000, preexec_fn=little_room(room), status=74)
        assert done.stdout == b""
        assert done.stderr.startswith(b"llm-merge: cannot ")
        assert done.stderr.count(b"\n") == 1


def little_room(size: int) -> Callable[[], None]:
    """No file may grow beyond this."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


# -- others as judges -----------------------------------------------------------------------------------


def judge(*words: str, stdin: str) -> bytes:
    if not shutil.which(words[0]):
        pytest.skip(f"no {words[0]} here")
    return subprocess.run(words, input=stdin.encode(), capture_output=True, check=True, timeout=AT_LAST).stdout


def drawn(seed: int, count: int = 400) -> list[dict[str, Any]]:
    """Flat records without null, and lists of tags."""
    dice = random.Random(seed)

    def record() -> dict[str, Any]:
        made: dict[str, Any] = {"g": dice.choice(["a", "b", "ấ", 1, 2, "1", True, ""])}
        for name in dice.sample("pqrstuv", dice.randint(0, 5)):
            made[name] = dice.choice([dice.randint(-9, 9), dice.random(), "x", "Ừ", "", True, False])
        made["tags"] = [dice.choice(["a", "B", "b", "é", "É", "c d"]) for _ in range(dice.randint(0, 4))]
        made["x"] = dice.choice([dice.randint(-1000, 1000), round(dice.uniform(-5, 5), 3)])
        return made

    return [record() for _ in range(count)]


def by_group(records: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By the value of g; Python would take true for 1."""
    return {json.dumps(record["g"]): record for record in records}


@pytest.mark.parametrize("seed", [1, 2])
def test_jq_merges_groups_in_the_same_way(seed: int) -> None:
    data = jsonl(*({name: value for name, value in record.items() if name != "tags"} for record in drawn(seed)))
    theirs = lines(judge("jq", "-sc", "group_by(.g) | map(add) | .[]", stdin=data))
    ours = out("-g", "g", stdin=data)
    assert len(ours) == len(theirs) == 8
    assert by_group(ours) == by_group(theirs)
    assert lines(judge("jq", "-sc", "add", stdin=data)) == out("--all", stdin=data)


UNION = """
group_by(.g)[] | {g: .[0].g, tags: (reduce .[].tags[] as $tag ([]; if any(.[]; %s) then . else . + [$tag] end))}
"""


@pytest.mark.parametrize(
    ("how", "same"), [("union:exact", ". == $tag"), ("union", "ascii_downcase == ($tag | ascii_downcase)")]
)
def test_jq_finds_the_same_union_of_tags(how: str, same: str) -> None:
    records = [{"g": record["g"], "tags": [tag for tag in record["tags"] if tag.isascii()]} for record in drawn(3)]
    theirs = lines(judge("jq", "-sc", UNION % same, stdin=jsonl(*records)))
    assert by_group(out("-g", "g", "-t", f"tags={how}", stdin=jsonl(*records))) == by_group(theirs)


@pytest.mark.parametrize("seed", [4, 5])
def test_miller_counts_and_sums_in_the_same_way(seed: int) -> None:
    names = ("sum", "mean", "min", "max", "count")
    records = [{"g": f"g{record['g']}", "x": record["x"]} for record in drawn(seed)]
    stats = ["mlr", "--ijsonl", "--ojsonl", "stats1", "-a", ",".join(names), "-f", "x", "-g", "g"]
    theirs = by_group(lines(judge(*stats, stdin=jsonl(*records))))
    own = [{"g": record["g"], **dict.fromkeys(names, record["x"])} for record in records]
    ours = by_group(out("-g", "g", *itertools.chain(*(("-t", f"{name}={name}") for name in names)), stdin=jsonl(*own)))
    assert ours.keys() == theirs.keys()
    for group, told in theirs.items():
        assert all(math.isclose(ours[group][name], told[f"x_{name}"], abs_tol=1e-9) for name in names), (
            ours[group],
            told,
        )
    similar = lines(judge("mlr", "--ijsonl", "--ojsonl", "count-similar", "-g", "g", "-o", "n", stdin=jsonl(*records)))
    assert {group: record["n"] for group, record in by_group(similar).items()} == {
        group: record["count"] for group, record in ours.items()
    }


@pytest.mark.parametrize("seed", [6])
def test_miller_reads_and_writes_the_same_tables(seed: int) -> None:
    dice = random.Random(seed)
    cells = ["", "007", "1.50", 'say "x"', "a,b", "two\nlines", "Phở", " x ", "=1", "-"]
    records = [{name: dice.choice(cells) for name in ("k", "b c", "p,q", "ế")} for _ in range(200)]
    table = merge("--to", "csv", stdin=jsonl(*records)).stdout
    assert lines(judge("mlr", "-S", "--icsv", "--ojsonl", "cat", stdin=table.decode())) == records
    theirs = judge("mlr", "-S", "--ijsonl", "--ocsv", "cat", stdin=jsonl(*records))
    assert out("--from", "csv", stdin=theirs) == records


# -- manners --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["-t", "a=sum"], "cannot use -t alone: it needs -g FIELD or --all"),
        (["--match", "a"], "cannot use --match alone"),
        (["--conflicts", "a"], "cannot use --conflicts alone"),
        (["--sorted"], "cannot use --sorted alone"),
        (["--complete", "a"], "cannot use --complete alone"),
        (["--all", "-g", "a"], "cannot use --all and -g together"),
        (["-g", "a", "-t", "b=median"], "cannot use -t b=median: it needs one of first last union union:exact "),
        (["-g", "a", "-t", "b"], "cannot use -t b: it needs FIELD=HOW"),
        (["-g", "a", "-t", "b=sum", "-t", "b.c=sum"], "cannot use -t: b and b.c: one is a part of the other"),
        (["-g", "a", "-t", "b=sum", "-t", "b=max"], "cannot use -t: b is taken twice"),
        (["-g", "."], "cannot use -g .: it needs the name of a field"),
        (["-g", "a..b"], "cannot use -g a..b: it needs the name of a field"),
        (["--delimiter", "||"], "cannot use --delimiter ||: it needs one character, or tab"),
        (["--delimiter", '"'], 'cannot use --delimiter ": it needs one character'),
        (["--encoding", "nonsense"], "cannot use --encoding nonsense: it needs the name of an encoding"),
        (["--encoding", "base64"], "cannot use --encoding base64: it needs the name of an encoding"),
        (["--from", "xml"], "cannot use --from xml: it needs csv, json, jsonl or text"),
        (["--to", "text"], "cannot use --to text: it needs csv, json or jsonl"),
        (["--columns", "a,a"], "cannot use --columns"),
        (["--columns", "a,,b"], "cannot use --columns"),
        (["--columns", "a,a", "--no-header", "--from", "csv"], "cannot use --columns"),
        (["nowhere.jsonl"], "cannot read nowhere.jsonl: No such file or directory"),
        (["-", "nowhere.jsonl"], "cannot read nowhere.jsonl: No such file or directory"),
        ([os.sep], f"cannot read {os.sep}: it is a directory"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_told_before_anything_is_read(words: list[str], why: str) -> None:
    done = merge(*words, stdin='{"a":1}\n', status=2)
    assert done.stderr.decode().startswith(f"llm-merge: {why}")
    assert done.stderr.count(b"\n") == 1
    assert done.stdout == b""


def test_no_input_is_no_output() -> None:
    for words in ((), ("--all",), ("-g", "a", "--sorted", "-t", "b=count"), ("--from", "csv"), ("--from", "json")):
        assert merge(*words, stdin_from=subprocess.DEVNULL).stdout == b""


@pytest.mark.parametrize(
    "words", [(), ("--all",), ("--to", "json"), ("--to", "csv"), ("--to", "csv", "--columns", "a")]
)
def test_stdout_that_cannot_be_written(words: tuple[str, ...]) -> None:
    for where, why in ((">/dev/full", "No space left on device"), (">&-", "it is closed")):
        script = ["sh", "-c", f'exec "$@" {where}', "sh", *command("llm-merge", *words)]
        done = subprocess.run(script, input=b'{"a":1}', capture_output=True, env=environment(), check=False)
        assert done.returncode == 74
        assert done.stderr.decode() == f"llm-merge: cannot write stdout: {why}\n"


@pytest.mark.parametrize("form", ["jsonl", "csv", "json"])
def test_a_reader_that_has_seen_enough(tmp_path: Path, form: str) -> None:
    (tmp_path / "in").write_text(jsonl(*({"id": number, "t": "x" * 90} for number in range(20_000))))
    with start("llm-merge", "--to", form, tmp_path / "in") as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(AT_LAST) == -signal.SIGPIPE
        assert process.stderr.read() == b""


@pytest.mark.parametrize("form", ["jsonl", "csv", "json"])
def test_a_terminal_sees_no_control_character(form: str) -> None:
    master, slave = pty.openpty()
    with start("llm-merge", "--to", form, "-g", "b", stdout=slave, stderr=slave) as process:
        os.close(slave)
        assert process.stdin
        process.stdin.write('{"b":"\x9b31m\x7f","c\x9b":"\\u001b[2J\u202e"}\n{"\x1b[2J"\n'.encode())
        process.stdin.close()
        assert process.wait(AT_LAST) == 1
        shown = os.read(master, 1 << 16).decode()
        os.close(master)
    shown = re.sub("(?m)^" + re.escape(messages.CLEAR), "", shown)  # ours: of a progress line below
    assert [letter for letter in shown if not letter.isprintable() and letter not in "\r\n"] == []
    assert "\\u009b31m\\u007f" in shown


def test_it_loads_nothing_that_calls_need(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("g,x\n1,2\n")
    words = ("-g", "g", "-t", "x=majority", "--match", "y", "--conflicts", "c", "--to", "csv", str(tmp_path / "a.csv"))
    code = [sys.executable, "-X", "importtime", str(BIN / "llm-merge"), *words]
    done = subprocess.run(code, env=environment(), capture_output=True, timeout=AT_LAST, check=True)
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.decode().splitlines()}
    assert done.stdout == b"g,x\n1,2\n"
    assert "llmstream" in loaded
    assert not loaded & {"openai", "pypeln", "asyncio", "aiohttp", "httpx", "jinja2", "jsonschema_rs", "tenacity"}
