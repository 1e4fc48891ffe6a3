"""What is known from done-files and logs: never more than what stands in them, and nothing twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from endpoint import Endpoint, error, says
from hypothesis import given, settings
from hypothesis import strategies as st
from tool import TOP, jsonl, lines, run
from written_lines import (
    NOON,
    as_dict,
    call,
    event,
    failed,
    fields,
    given_up,
    iso,
    logged,
    needs_locks,
    rejected,
    start,
    summary,
    written,
)

from llmstream.books import histogram
from llmstream.done.done_file import DoneFile
from llmstream.done.line import key_of, seal
from llmstream.records.values import Spent
from llmstream.shell import processes
from llmstream.shell.messages import Stop
from llmstream.watch import done_files, tail
from llmstream.watch.journal import Journal
from llmstream.watch.labels import MOST_FIELDS
from llmstream.watch.stages import Seen, Stage, Stages
from llmstream.watch.standing_out import Call

# Later Pythons warn of a fork where there are threads: the runner of these tests has some, llm-progress has none.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


def without(line: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in names}


def look(*paths: Path | str, size: int | None = None, now: float = NOON + 3600, labels: bool = False) -> list[Seen]:
    return Stages([str(path) for path in paths], labels=labels).look(size, now)


def stage(*paths: Path | str, **more: Any) -> Stage:
    (seen,) = look(*paths, **more)
    return seen.stage


def complete(*paths: Path | str, size: int | None = None) -> bool:
    return all(seen.complete for seen in look(*paths, size=size))


def refusal(*paths: Path) -> str:
    with pytest.raises(Stop) as stopped:
        look(*paths)
    assert stopped.value.status == 2
    return stopped.value.reason


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces so small that lines lie across them, and a second process for every kilobyte."""
    monkeypatch.setattr(tail, "CHUNK", 64)
    monkeypatch.setattr(tail, "SHARE", 1 << 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)


# -- a done-file ------------------------------------------------------------------------------------


def test_a_done_file(tmp_path: Path) -> None:
    other = {"model": "big", "usage": {"input": 100, "output": 30, "cached": 60, "reasoning": 20}, "cost": 0.25}
    path = written(
        tmp_path / "x.done",
        *(fields(number, latency=number) for number in range(1, 4)),
        fields(200, latency=9.5, **other),
        fields(200, 1, at=iso(NOON + 60)),
        rejected(5, latency=0.1),
        rejected(6, "length: cut off"),
    )
    it = stage(path, size=10)
    assert (it.name, it.done, it.rejected, it.failed, it.left) == (str(path), 5, 2, None, 6)
    assert it.models == {"sim": Spent(6, 60, 12, 0, 0, 0.006), "big": Spent(1, 100, 30, 60, 20, 0.25)}
    assert (it.first, it.last) == (NOON + 1, NOON + 200)
    assert it.minutes == {NOON // 60: 3, NOON // 60 + 1: 1, NOON // 60 + 3: 1}
    assert it.latencies == Counter(histogram.bucket(seconds) for seconds in (1, 2, 3, 9.5, 0.5, 0.1, 0.5))
    assert it.failures == {"schema": 1, "length": 1}
    assert (it.running, it.rate, it.eta, it.labels) == (None, None, None, {})
    big = Call(f"{200:032x}", "DS_200", "big", 9.5, 100, 30, 0.25)
    assert (it.slowest[0], it.dearest[0]) == (big, big)
    assert [call.latency for call in it.slowest] == [9.5, 3, 2, 1, 0.5, 0.5, 0.1]


def test_an_empty_done_file(tmp_path: Path) -> None:
    it = stage(written(tmp_path / "x.done"), size=3)
    assert (it.done, it.left, it.first, it.overall, it.models, it.minutes) == (0, 3, None, None, {}, {})


def test_what_it_took_counts_each_time_and_what_is_done_once(tmp_path: Path) -> None:
    path = written(tmp_path / "x.done", rejected(1), rejected(1), fields(1), fields(1), fields(2), rejected(2))
    it = stage(path)
    assert (it.done, it.rejected, it.models["sim"].calls) == (2, 3, 6)


def test_a_vote_that_was_given_up_took_nothing(tmp_path: Path) -> None:
    it = stage(written(tmp_path / "x.done", fields(1), given_up(1), given_up(2, "http: no")))
    assert (it.done, it.rejected, it.failures) == (1, 0, {"timeout": 1, "http": 1})
    assert it.models == {"sim": Spent(1, 10, 2, 0, 0, 0.001)}


@pytest.mark.parametrize("cost", [None, "missing"])
def test_a_cost_that_is_not_known(tmp_path: Path, cost: str | None) -> None:
    line = fields(2, cost=None) if cost is None else without(fields(2), "cost")
    it = stage(written(tmp_path / "x.done", fields(1), fields(2, model="other"), line))
    assert it.models == {"sim": Spent(2, 20, 4, 0, 0, None), "other": Spent(1, 10, 2, 0, 0, 0.001)}


def test_where_no_cost_is_known_tokens_make_the_dearest(tmp_path: Path) -> None:
    sizes = [5, 900, 20]
    path = written(tmp_path / "x.done", *(fields(n, cost=None, usage={"input": n, "output": 1}) for n in sizes))
    assert [call.input for call in stage(path).dearest] == [900, 20, 5]


def test_only_a_few_stand_out(tmp_path: Path) -> None:
    path = written(tmp_path / "x.done", *(fields(n, latency=n % 50 / 10, cost=n % 30 / 10) for n in range(300)))
    it = stage(path)
    assert [call.latency for call in it.slowest] == [4.9] * 6 + [4.8] * 4
    assert [call.cost for call in it.dearest] == [2.9] * 10


def test_a_usage_that_is_missing(tmp_path: Path) -> None:
    it = stage(written(tmp_path / "x.done", fields(1, usage=None, cost=None), fields(2)))
    assert (it.done, it.models) == (2, {"sim": Spent(2, 10, 2, 0, 0, None)})


HANDMADE: list[dict[str, Any]] = [
    {"key": "a", "answer": "b"},
    {"answer": "b", "id": 5, "key": "a", "more": {"key": "c", "usage": {"input": 1000}}},
    {"key": "a", "answer": "b", "latency": "long", "at": 5, "cost": "much", "usage": [1], "rejected": True},
    {"key": "a", "answer": "b", "usage": {"input": "x", "output": None}, "at": "yesterday", "model": ""},
    {"key": "a", "answer": "b", "rejected": None, "latency": None, "cost": None, "model": None, "usage": None},
    {"key": "a", "answer": "b", "rejected": "schema: mended by hand, so that its crc had to go"},
    {"key": "a", "answer": "b", "id": {"x": [1.5, None]}, "usage": {"input": 2}, "latency": 1e6, "model": "hand"},
    {"key": "a", "answer": "b", "at": "2026-11-24T12:00:00+02:00", "latency": True, "model": 5},
]


@pytest.mark.parametrize("line", HANDMADE, ids=range(len(HANDMADE)))
@pytest.mark.parametrize(
    "form", [json.dumps, lambda line: f" {json.dumps(line, indent=None, separators=(',', ':'))}\r"]
)
def test_lines_by_hand(tmp_path: Path, line: dict[str, Any], form: Any) -> None:
    it = stage(written(tmp_path / "x.done", fields(1), form(line).encode() + b"\n\n", fields(2)))
    assert it.done == 3
    assert it.models["sim"] == Spent(2, 20, 4, 0, 0, 0.002)


@pytest.mark.parametrize("line", HANDMADE, ids=range(len(HANDMADE)))
def test_strange_fields_under_a_good_checksum(tmp_path: Path, line: dict[str, Any]) -> None:
    it = stage(written(tmp_path / "x.done", fields(1), line, {"nothing": 1}, fields(2)), labels=True)
    assert it.done == 2 + (not isinstance(line.get("rejected"), str))
    assert it.models["sim"] == Spent(2, 20, 4, 0, 0, 0.002)


TRICKS = [
    '","model":"evil","usage":{"input":1,"output":1},"cost":99,"latency":9,"attempts":1,"at":"2026-01-01T00:00:00Z"}',
    '","usage":{"input":99999999,"output":99999999},"cost":1000000,"crc":"00000000"}\n',
    '"rejected":"schema: no"',
    '{"key":"x","answer":"y"}\n{"event_type":"run_start"}',
    "\\",
    '\\","model":"evil"',
    '"}\n{"key":"evil","answer":"',
    "],[",
]


@pytest.mark.parametrize("answer", TRICKS)
@pytest.mark.parametrize("place", ["answer", "id", "model", "rejected"])
def test_text_is_never_taken_for_fields(tmp_path: Path, answer: str, place: str) -> None:
    line = fields(2, **{place: answer})
    it = stage(written(tmp_path / "x.done", fields(1), line, fields(3)), labels=True)
    assert (it.done, it.rejected) == ((2, 1) if place == "rejected" else (3, 0))
    assert it.models == {
        "sim": Spent(
            3 - (place == "model"),
            30 - 10 * (place == "model"),
            6 - 2 * (place == "model"),
            0,
            0,
            it.models["sim"].cost,
        ),
        **({answer: Spent(1, 10, 2, 0, 0, 0.001)} if place == "model" else {}),
    }
    assert sum(spent.cost or 0 for spent in it.models.values()) == pytest.approx(0.003)


@pytest.mark.usefixtures("small")
def test_a_line_that_is_damaged_at_any_byte(tmp_path: Path) -> None:
    good = [seal(fields(number)) for number in range(3)]
    path = tmp_path / "x.done"
    for place in range(len(good[1])):
        broken = bytearray(good[1])
        broken[place] ^= 1 << place % 7
        path.write_bytes(good[0] + bytes(broken) + good[2])
        (seen,) = look(path)
        whole = sum(key_of(line) is not None for line in path.read_bytes().splitlines())
        assert (seen.stage.done, seen.stage.models["sim"].calls) == (whole, whole), place
        # What is left when the name of the checksum is hit is a line as somebody may write it by hand.
        assert whole < 3 or chr(good[1][place]) in "crc"


def test_damage_of_all_kinds(tmp_path: Path) -> None:
    path = written(tmp_path / "x.done", fields(1), b"\x00\xff\n", b"[]\n", b"5\n", b'"key"\n', b"\n  \n", fields(2))
    (seen,) = look(path)
    assert (seen.stage.done, seen.damaged) == (2, 4)


def test_lines_that_make_sense_only_together(tmp_path: Path) -> None:
    """Each of these is damaged; with a comma between them they are an object."""
    halves = b'{"key":"a","answer":"b"\n"more":1}\n{"key":"c","answer":"d"},{"key":"e","answer":"f"}\n'
    (seen,) = look(written(tmp_path / "x.done", fields(1), halves, fields(2)))
    assert (seen.stage.done, seen.damaged) == (2, 3)


# -- any lines at all, read in any pieces -----------------------------------------------------------

LINES = st.one_of(
    st.builds(
        fields,
        st.integers(0, 20),
        st.integers(0, 3),
        model=st.sampled_from(["sim", "big", 'q"uote']),
        usage=st.one_of(
            st.none(),
            st.fixed_dictionaries(
                {"input": st.integers(0, 99), "output": st.integers(0, 9)},
                optional={"cached": st.integers(1, 9), "reasoning": st.integers(1, 9)},
            ),
        ),
        cost=st.one_of(st.none(), st.integers(0, 99).map(lambda cents: cents / 100)),
        latency=st.integers(0, 9000).map(lambda ms: ms / 1000),
        at=st.integers(NOON, NOON + 9999).map(iso),
        answer=st.one_of(st.text(max_size=9), st.sampled_from(["calm", "angry", '{"tone":"calm","deep":{"ok":true}}'])),
    ),
    st.builds(rejected, st.integers(0, 20), st.sampled_from(["schema: x", "length: y", "refusal"])),
    st.builds(given_up, st.integers(0, 20)),
)
PARTS = st.one_of(
    LINES.map(seal),
    LINES.map(lambda line: (json.dumps(line) + "\n").encode()),
    st.binary(max_size=20).map(lambda data: data.replace(b"\n", b"") + b"\n"),
)


def plainly(data: bytes) -> dict[str, Any]:
    """What the lines come to, line by line."""
    done, calls, out, took = set(), Counter(), Counter(), Counter()
    for line in data.splitlines(keepends=True) if b"\r" not in data else [part + b"\n" for part in data.split(b"\n")]:
        try:
            found = json.loads(line)
            key, answer = found["key"], found["answer"]
        except (ValueError, TypeError, KeyError):
            continue
        if not isinstance(key, str) or not isinstance(answer, str):
            continue
        if not ("crc" in found and "rejected" in found):
            done.add(key)
        if "model" in found:
            calls[found["model"]] += 1
            out[found["model"]] += (found["usage"] or {"output": 0})["output"]
            took[histogram.bucket(found["latency"])] += 1
    return {"done": len(done), "calls": calls, "output": +out, "latencies": took}


@given(parts=st.lists(PARTS, max_size=40), cuts=st.lists(st.integers(0, 10_000), max_size=5))
@settings(max_examples=60, deadline=None)
def test_any_lines_in_any_pieces(parts: list[bytes], cuts: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("any") / "x.done"
    data = seal(fields(0)) + b"".join(parts)
    path.write_bytes(data)
    whole = stage(path, labels=True)
    assert as_dict(whole) == plainly(data)
    ends = sorted({*(cut % len(data) for cut in cuts), len(data)})
    path.write_bytes(b"")
    watched = Stages([str(path)], labels=True)
    for begin, end in zip([0, *ends], ends, strict=False):
        with path.open("ab") as file:
            file.write(data[begin:end])
        (seen,) = watched.look(None, NOON)
    assert seen.stage._replace(overall=None, models={}) == whole._replace(overall=None, models={})
    assert as_dict(seen.stage) == as_dict(whole)


@pytest.mark.usefixtures("small")
@given(parts=st.lists(PARTS, min_size=20, max_size=60))
@settings(max_examples=10, deadline=None)
def test_several_processes_see_the_same(parts: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    data = b"".join([seal(fields(0)), *parts, seal(fields(1, answer="x" * 5000)), *parts])
    path = tmp_path_factory.mktemp("apart") / "x.done"
    path.write_bytes(data)
    apart = stage(path, labels=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tail, "SHARE", 1 << 30)
        alone = stage(path, labels=True)
    assert as_dict(apart) == as_dict(alone) == plainly(data)
    assert apart._replace(models={}, overall=None) == alone._replace(models={}, overall=None)


@pytest.mark.usefixtures("small")
def test_a_second_process_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = os.getpid()
    real = done_files.line.parse_all_fields

    def killed(lines: Sequence[bytes]) -> Any:
        if os.getpid() != parent:
            os.kill(os.getpid(), 9)
        return real(lines)

    monkeypatch.setattr(done_files.line, "parse_all_fields", killed)
    assert stage(written(tmp_path / "x.done", *map(fields, range(40)))).done == 40


@pytest.mark.usefixtures("small")
def test_the_last_line_torn_at_any_byte(tmp_path: Path) -> None:
    path, last = tmp_path / "x.done", seal(fields(2))
    path.write_bytes(seal(fields(1)))
    watched = Stages([str(path)])
    for place in range(len(last)):
        (seen,) = watched.look(None, NOON)
        whole = place == len(last) - 1  # but for its newline, which an editor may have left out for good
        assert (seen.stage.done, seen.damaged) == (1 + whole, 0), place
        assert stage(path).done == 1 + whole
        with path.open("ab") as file:
            file.write(last[place : place + 1])
    assert watched.look(None, NOON)[0].stage == stage(path)
    assert stage(path).models["sim"].calls == 2


def test_a_very_long_line(tmp_path: Path) -> None:
    path = written(
        tmp_path / "x.done", *(fields(n, answer="é" * size) for n, size in enumerate((10, 200_000, 3_000_000)))
    )
    assert stage(path).done == 3
    with path.open("ab") as file:
        file.write(seal(fields(9, answer="x" * 1_000_000))[:-30])
    assert stage(path).done == 3


# -- a file that somebody is writing ----------------------------------------------------------------

WRITER = """
import asyncio, sys, time
from llmstream.done.done_file import DoneFile
it = DoneFile(sys.argv[1])
print("open", flush=True)
for number in range(int(sys.argv[2])):
    it.append({"key": f"{number:032x}", "answer": "x" * (number % 500), "model": "sim",
               "usage": {"input": 10, "output": 2}, "cost": 0.001, "latency": 0.5, "attempts": 1,
               "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "id": number})
    if number % 100 == 0:
        time.sleep(0.002)
print("written", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    words = [sys.executable, "-c", WRITER, str(tmp_path / "x.done"), "20000"]
    with subprocess.Popen(words, cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"open\n"
        yield process
        process.kill()


def test_while_another_process_writes(tmp_path: Path, writer: subprocess.Popen[bytes]) -> None:
    watched = Stages([str(tmp_path / "x.done")])
    done = [0]
    end = time.monotonic() + 60
    while done[-1] < 20_000 and time.monotonic() < end:
        (seen,) = watched.look(30_000, time.time())
        done.append(seen.stage.done)
        assert seen.damaged == 0
        assert done[-1] == (seen.stage.models["sim"].calls if seen.stage.models else 0)
    assert done == sorted(done)
    assert done[-1] == 20_000
    assert writer.stdout and writer.stdin
    assert writer.stdout.readline() == b"written\n"
    (seen,) = watched.look(30_000, time.time())
    it = seen.stage
    assert it.models == {"sim": Spent(20_000, 200_000, 40_000, 0, 0, pytest.approx(20))}
    if os.path.exists("/proc/locks"):
        assert it.running == writer.pid
        assert it.rate and it.eta
        assert it.eta == pytest.approx(10_000 / it.rate)
    writer.stdin.close()
    writer.wait(10)
    (seen,) = watched.look(20_000, time.time())
    assert (seen.stage.running, seen.stage.rate, seen.stage.eta, seen.complete) == (None, None, None, True)


def test_a_run_that_begins_is_never_in_the_way(tmp_path: Path) -> None:
    """A reader that locked the file, if only for a moment, would now and then be met by one of these."""
    path = written(tmp_path / "x.done", *map(fields, range(50)))
    path.chmod(0o600)
    words = [
        sys.executable,
        "-c",
        "import sys\nfrom llmstream.watch.stages import Stages\nwhile True: Stages(sys.argv[1:]).look(1, 0)",
    ]
    with subprocess.Popen([*words, str(path)], cwd=TOP) as reader:
        try:
            for _ in range(200):
                os.close(DoneFile(str(path)).fd)
        finally:
            reader.kill()


def test_nothing_is_written_and_little_is_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "x.done", fields(1), b'{"key":"torn')
    log = written(tmp_path / "run.log", jsonl(start()).encode(), b'{"timestamp":"torn')
    for file in (path, log):
        file.chmod(0o400)
        os.utime(file, ns=(1, 1))
    look(path, log)
    for file in (path, log):
        status = file.stat()
        assert (status.st_mtime_ns, status.st_mode & 0o777) == (1, 0o400)


def test_a_file_that_was_cut(tmp_path: Path) -> None:
    path = written(tmp_path / "x.done", *map(fields, range(10)))
    watched = Stages([str(path)])
    assert watched.look(None, NOON)[0].stage.done == 10
    os.truncate(path, path.stat().st_size // 2 + 3)
    assert watched.look(None, NOON)[0].stage.done == 5
    with path.open("ab") as file:
        file.write(b"\n" + seal(fields(77)))
    assert watched.look(None, NOON)[0].stage == stage(path)


def test_a_file_that_was_written_anew_and_is_longer(tmp_path: Path) -> None:
    path = written(tmp_path / "x.done", *map(fields, range(3)))
    watched = Stages([str(path)])
    watched.look(None, NOON)
    written(path, *map(fields, range(100, 120)))
    assert watched.look(None, NOON)[0].stage.done == 20


def test_a_file_that_another_one_takes_the_place_of(tmp_path: Path) -> None:
    path = written(tmp_path / "x.done", *map(fields, range(3)))
    watched = Stages([str(path)])
    watched.look(None, NOON)
    written(tmp_path / "new", *map(fields, range(3)), fields(9)).rename(path)
    assert watched.look(None, NOON)[0].stage == stage(path)


def test_a_file_that_goes_and_comes(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "x.done"
    watched = Stages([str(path)])
    for number in range(3):
        (seen,) = watched.look(5, NOON)
        assert (seen.kind, seen.stage.done, seen.stage.left, seen.complete) == ("nothing", 0, 5, False)
        path.parent.mkdir()
        written(path, *map(fields, range(number)))
        (seen,) = watched.look(5, NOON)
        assert (seen.kind, seen.stage.done) == ("done-file", number)
        path.unlink()
        path.parent.rmdir()


def test_what_a_file_is_may_show_late(tmp_path: Path) -> None:
    path = written(tmp_path / "run.log")
    watched = Stages([str(path)])
    line = jsonl(start())
    for part in ("", line[:1], line[1:20]):
        with path.open("a") as file:
            file.write(part)
        assert watched.look(None, NOON)[0].kind == "done-file"
    with path.open("a") as file:
        file.write(line[20:])
    assert watched.look(None, NOON)[0].kind == "log"


# -- what is no done-file ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b'{"text":"a"}\n',
        b'{"key":"a","text":"b"}\n',
        b'{"key":1,"answer":"b"}\n',
        b'{"event_type":5}\n',
        b"hello\n",
        b"hello",
        b"[]",
        b"1,2\n3,4\n",
        b"\x1f\x8b\x00" * 99,
        b"{" * 100_000,
    ],
    ids=lambda data: repr(data[:20]),
)
def test_files_of_another_kind(tmp_path: Path, data: bytes) -> None:
    path = written(tmp_path / "it", data)
    assert refusal(path) == f"cannot read {path}: it is neither a done-file nor a log"


def test_what_cannot_be_read(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"cannot read {tmp_path}: it is a directory"
    os.mkfifo(tmp_path / "fifo")
    assert refusal(tmp_path / "fifo").endswith("it is not a regular file")
    if os.path.exists("/proc/self/mem"):
        assert refusal(Path("/proc/self/mem")).endswith("Input/output error")
    if os.geteuid():
        written(tmp_path / "x.done").chmod(0)
        assert refusal(tmp_path / "x.done").endswith("Permission denied")


@pytest.mark.parametrize("first", [b"\n \n", b'{"key":"a","ans', b"garbage\n"])
def test_a_done_file_whose_beginning_is_damaged(tmp_path: Path, first: bytes) -> None:
    assert stage(written(tmp_path / "x.done", first, b"\n", fields(1))).done == 1


def test_a_file_given_twice_is_one_stage(tmp_path: Path) -> None:
    path = written(tmp_path / "x.done", fields(1))
    (tmp_path / "link").symlink_to(path)
    assert len(look(path, tmp_path / "link", f"{tmp_path}/./x.done")) == 1


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.done"
    with open(path, "wb") as file:
        file.write(seal(fields(1)))
    it = stage(os.fsdecode(path))
    assert (it.done, it.name) == (1, f"{tmp_path}/\\xff.done")


# -- how fast ---------------------------------------------------------------------------------------


def test_a_night_between_two_runs_does_not_count(tmp_path: Path) -> None:
    evening = [fields(n, at=iso(NOON + n // 10)) for n in range(1000)]
    morning = [fields(n, at=iso(NOON + 50_000 + n // 10)) for n in range(1000, 2000)]
    assert stage(written(tmp_path / "x.done", *evening, *morning)).overall == pytest.approx(10, rel=0.03)


def test_slow_answers_are_not_taken_for_many_short_runs(tmp_path: Path) -> None:
    every = [fields(n, at=iso(NOON + n * 240), latency=230) for n in range(50)]
    assert stage(written(tmp_path / "x.done", *every)).overall == pytest.approx(1 / 240, rel=0.05)


def test_answers_that_came_at_once(tmp_path: Path) -> None:
    assert stage(
        written(tmp_path / "x.done", *(fields(n, at=iso(NOON), latency=4) for n in range(8)))
    ).overall == pytest.approx(2, rel=0.02)


def test_lines_in_any_order(tmp_path: Path) -> None:
    some = [fields(n, at=iso(NOON + n * 7)) for n in range(100)]
    forth, back = written(tmp_path / "a", *some), written(tmp_path / "b", *reversed(some))
    assert stage(forth)._replace(name="", slowest=(), dearest=()) == stage(back)._replace(
        name="", slowest=(), dearest=()
    )


# -- labels -----------------------------------------------------------------------------------------


def labels(tmp_path: Path, *answers: Any) -> dict[str, dict[str, int]]:
    made = [answer if isinstance(answer, str) else json.dumps(answer) for answer in answers]
    path = written(tmp_path / "x.done", *(fields(n, answer=answer) for n, answer in enumerate(made)))
    return {path: dict(counts) for path, counts in stage(path, labels=True).labels.items()}


def test_labels_of_objects(tmp_path: Path) -> None:
    found = labels(
        tmp_path,
        *[{"tone": "calm", "ok": True, "deep": {"mood": "good"}, "tags": ["a", "b"], "n": 5, "who": [{"role": "x"}]}]
        * 3,
        *[{"tone": "angry", "ok": False, "deep": {"mood": None}, "tags": ["b"], "n": 6, "who": []}] * 2,
    )
    assert found == {
        "tone": {"calm": 3, "angry": 2},
        "ok": {"true": 3, "false": 2},
        "deep.mood": {"good": 3},
        "tags[]": {"b": 5, "a": 3},
        "who[].role": {"x": 3},
    }


def test_labels_that_are_whole_answers(tmp_path: Path) -> None:
    assert labels(tmp_path, "yes", "yes\n", " no", '"yes"', "no") == {"": {"yes": 3, "no": 2}}
    assert labels(tmp_path, "4", "5", "4", "5") == {"": {"4": 2, "5": 2}}


def test_free_text_is_no_label(tmp_path: Path) -> None:
    assert labels(tmp_path, *(f"It is {n}." for n in range(50))) == {}
    assert labels(tmp_path, *({"why": f"Since {n}.", "tone": "calm"} for n in range(50))) == {"tone": {"calm": 50}}
    assert labels(tmp_path, *["word " * 30] * 50) == {}
    assert labels(tmp_path, "one", "two", "three") == {}  # few only because there are few answers
    assert labels(tmp_path, *["two\nlines"] * 50) == {}


def test_labels_do_not_grow_with_the_answers(tmp_path: Path) -> None:
    found = labels(
        tmp_path, *({f"field{n}": "a", "deep": [[[[[[[[[["x"]]]]]]]]]]} for n in range(500)), *[{"field3": "a"}] * 9
    )
    assert len(found) <= MOST_FIELDS


def test_rejected_answers_have_no_labels(tmp_path: Path) -> None:
    path = written(
        tmp_path / "x.done",
        *(rejected(n, answer="calm") for n in range(9)),
        fields(10, answer="a"),
        fields(11, answer="a"),
    )
    assert stage(path, labels=True).labels == {"": {"a": 2}}


# -- event logs -------------------------------------------------------------------------------------


def billed(second: float = 1, **more: Any) -> dict[str, Any]:
    """A reply that was no answer and said what it took."""
    took = {"usage": {"input": 1000, "output": 7}, "cost": 0.5, **more}
    return event(
        "api_call_error",
        second,
        key="k",
        id=None,
        model="sim",
        duration=9,
        status=None,
        type="cut",
        error="e",
        attempt=1,
        retry_in=None,
        **took,
    )


def test_a_log_beside_its_done_file(tmp_path: Path) -> None:
    """What is in both counts once; what a try took that brought no answer is in the log alone."""
    done = written(tmp_path / "x.done", *map(fields, range(5)), rejected(5))
    end = summary(9, read=7, out=5, failed=2, status=1, failures={"http": 1, "schema": 1})
    log = logged(
        tmp_path / "run.log",
        start(done=done),
        *map(call, range(5)),
        call(5, rejected="schema: no"),
        billed(),
        failed(),
        failed(type="schema", status=200),
        end,
    )
    (seen,) = look(log, done)
    it = seen.stage
    assert (it.name, it.done, it.rejected, it.failed, it.left, seen.complete) == (str(done), 5, 1, 2, 0, False)
    assert it.models == {"sim": Spent(7, 1060, 19, 0, 0, pytest.approx(0.506))}
    assert it.failures == {"http 500": 1, "schema": 1}


def test_a_log_alone(tmp_path: Path) -> None:
    calls = [*map(call, range(5)), call(5, rejected="schema: no"), billed()]
    log = logged(tmp_path / "run.log", start(done=tmp_path / "x.done"), *calls, summary(9, read=5, out=5))
    (seen,) = look(log)
    it = seen.stage
    assert (seen.kind, it.name, it.done, it.rejected, it.failed, it.left, seen.complete) == (
        "log",
        str(log),
        5,
        1,
        0,
        0,
        True,
    )
    assert it.models == {"sim": Spent(7, 1060, 19, 0, 0, pytest.approx(0.506))}
    assert (it.first, it.last, it.latencies) == (NOON, NOON + 4, {histogram.bucket(0.5): 6})


def test_one_log_of_three_tools(tmp_path: Path) -> None:
    a, b = written(tmp_path / "a.done", *map(fields, range(4))), written(tmp_path / "b.done", *map(fields, range(2)))
    runs = {"1": a, "2": b, "3": None}
    events = [start(done=done, run=run, tool=f"llm-{run}") for run, done in runs.items()]
    events += [{**call(n), "run": run} for n in range(2) for run in runs]
    events += [failed(run="1"), failed(run="1", records=5), failed(run="3"), summary(9, run="2", read=2, out=2)]
    log = logged(tmp_path / "run.log", *events)
    of_a, of_b, of_c = look(a, b, log)
    assert [seen.stage.failed for seen in (of_a, of_b, of_c)] == [6, 0, 1]
    assert [seen.stage.done for seen in (of_a, of_b, of_c)] == [4, 2, 2]
    assert [seen.complete for seen in (of_a, of_b, of_c)] == [False, True, False]
    assert of_c.stage.name == f"{log} (llm-3)"
    assert [seen.stage.name for seen in look(log)] == [f"{log} (a.done)", f"{log} (b.done)", f"{log} (llm-3)"]


def test_the_latest_run_says_what_failed_and_all_say_what_it_took(tmp_path: Path) -> None:
    done = written(tmp_path / "x.done", *map(fields, range(2)))
    first = [
        start(0, done, run="1"),
        billed(run="1"),
        failed(run="1"),
        summary(5, run="1", read=3, out=2, failed=1, status=1),
    ]
    second = [start(10, done, run="2"), billed(run="2"), summary(20, run="2", read=3, out=3)]
    log, older = logged(tmp_path / "run.log", *second), logged(tmp_path / "old.log", *first)
    for logs in ([log, older], [older, log], [logged(tmp_path / "both.log", *first, *second)]):
        (seen,) = look(done, *logs)
        assert (seen.stage.failed, seen.stage.failures, seen.complete) == (0, {}, True)
        assert seen.stage.models["sim"].calls == 4
    (seen,) = look(done, older)
    assert (seen.stage.failed, seen.stage.left, seen.complete) == (1, 0, False)


def test_a_log_that_is_older_than_the_last_answers(tmp_path: Path) -> None:
    """A later run without a log has mended what failed."""
    log = logged(
        tmp_path / "run.log", start(done=tmp_path / "x.done"), failed(), summary(5, read=4, out=3, failed=1, status=1)
    )
    done = written(tmp_path / "x.done", *map(fields, range(3)), fields(3, at=iso(NOON + 600)))
    (seen,) = look(done, log, size=4)
    assert (seen.stage.failed, seen.stage.left, seen.complete) == (None, 0, True)


def test_a_run_that_was_killed(tmp_path: Path) -> None:
    done = written(tmp_path / "x.done", *map(fields, range(3)))
    log = logged(tmp_path / "run.log", start(done=done), *map(call, range(3)), failed())
    (seen,) = look(done, log, size=10)
    assert (seen.stage.failed, seen.stage.left, seen.complete) == (1, 6, False)
    (seen,) = look(done, log)
    assert (seen.stage.failed, seen.stage.left, seen.complete) == (1, None, False)


def test_a_run_that_was_stopped(tmp_path: Path) -> None:
    log = logged(
        tmp_path / "run.log",
        start(),
        *map(call, range(3)),
        summary(5, read=8, out=3, unasked=5, status=130, stopped="SIGINT"),
    )
    assert (stage(log).left, complete(log)) == (None, False)
    assert stage(log, size=20).left == 17


def test_a_size_that_the_summary_does_not_know(tmp_path: Path) -> None:
    log = logged(tmp_path / "run.log", start(), summary(5, read=8, out=8))
    assert complete(log)
    assert not complete(log, size=9)
    assert stage(log, size=9).left == 1


def test_what_the_size_alone_tells(tmp_path: Path) -> None:
    done = written(tmp_path / "x.done", *map(fields, range(5)))
    assert not complete(done)
    assert not complete(done, size=6)
    assert complete(done, size=5)
    assert complete(done, size=4)


def test_of_votes_only_their_log_knows(tmp_path: Path) -> None:
    """Whether a record has had all its votes, or enough of them, its answers do not say."""
    done = written(tmp_path / "x.done", *(fields(n, vote) for n in range(5) for vote in range(3)))
    (seen,) = look(done, size=5)
    assert (seen.stage.done, seen.stage.left, seen.complete) == (15, 0, False)
    log = logged(tmp_path / "run.log", start(done=done), summary(99, read=5, out=5))
    assert complete(done, log, size=5)


def test_more_answers_than_records_of_several_models(tmp_path: Path) -> None:
    done = written(tmp_path / "x.done", *map(fields, range(4)), *(fields(n, model="other") for n in range(4, 8)))
    assert (stage(done, size=6).left, complete(done, size=6)) == (None, False)
    assert (stage(done, size=8).left, complete(done, size=8)) == (0, True)


def test_a_jury(tmp_path: Path) -> None:
    """Each of three models has a key of its own for a record."""
    done = written(
        tmp_path / "x.done", *(fields(10 * n + juror, model=f"m{juror}") for n in range(4) for juror in range(3))
    )
    log = logged(tmp_path / "run.log", start(-5, done, models=("m0", "m1", "m2"), tool="llm-vote"))
    (seen,) = look(done, log, size=10, now=NOON)
    assert (seen.stage.done, seen.stage.left, seen.complete) == (12, 6, False)
    with done.open("ab") as file:
        file.writelines(seal(fields(100 + n, model=f"m{n % 2}")) for n in range(4))  # the third was not needed
    assert stage(done, log, size=10, now=NOON).left == 4


@pytest.mark.parametrize("sums", [1, 1000])
def test_a_log_that_lost_its_beginning(tmp_path: Path, sums: int) -> None:
    log = logged(
        tmp_path / "run.log",
        *map(call, range(5)),
        failed(),
        summary(9, read=9, out=5, failed=sums, status=1, failures={"schema": sums}),
    )
    it = stage(log)
    assert (it.done, it.failed) == (5, sums)
    assert it.failures == ({"http 500": 1} if sums == 1 else {"schema": 1000})


def test_lines_of_a_log_that_are_no_events(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    good = [json.dumps(one).encode() for one in (start(), call(1), call(2))]
    log.write_bytes(
        b"\n".join([good[0], b"", b"[1]", b"5", b'{"timesta' + good[1], good[1], b"\xff", b"{}", good[2], good[2][:40]])
    )
    assert stage(log).done == 2
    strange: list[dict[str, Any]] = [
        {"event_type": "api_call_complete"},
        {**call(3), "key": 5, "usage": 5},
        {"event_type": "record_failed", "records": "x"},
        {"event_type": "api_call_error", "usage": [1]},
        {"event_type": "run_summary", "failed": "x", "failures": 5},
    ]
    log.write_bytes(b"\n".join([*good, *(json.dumps(one).encode() for one in strange)]) + b"\n")
    assert sum(seen.stage.done for seen in look(log)) == 2


def test_the_last_event_torn_at_any_byte(tmp_path: Path) -> None:
    log = logged(tmp_path / "run.log", start())
    watched, last = Stages([str(log)]), jsonl(call(1)).encode()
    for place in range(len(last)):
        with log.open("ab") as file:
            file.write(last[place : place + 1])
        (seen,) = watched.look(None, NOON)
        assert seen.stage.done == (place >= len(last) - 2)
    assert seen.stage == stage(log, now=NOON)


def test_a_log_of_many_runs_takes_little(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text(
        "".join(
            jsonl(start(n, run=str(n)), call(n, run=str(n)), summary(n, run=str(n), read=1, out=1)) for n in range(500)
        )
    )
    watched = Stages([str(log)])
    (seen,) = watched.look(None, NOON)
    assert (seen.stage.done, seen.complete) == (500, True)
    (operand,) = watched._operands
    assert isinstance(operand.content, Journal)
    assert not operand.content._runs


# -- a run that goes on -----------------------------------------------------------------------------


@needs_locks
def test_a_run_that_goes_on_beside_old_answers(tmp_path: Path) -> None:
    """The file holds answers to requests of another prompt; what this run has done its log tells."""
    path = written(tmp_path / "x.done", *map(fields, range(50)))
    path.chmod(0o600)
    held = DoneFile(str(path))
    replays = [event("record_replayed", 91, where="<stdin>:1", id=None)] * 20
    log = logged(tmp_path / "run.log", start(90, path), *replays, *(call(n, 95) for n in range(60, 65)), failed(96))
    (seen,) = look(path, log, size=100, now=NOON + 100)
    assert seen.stage.running == os.getpid()
    assert (seen.stage.failed, seen.stage.left, seen.complete) == (1, 74, False)
    os.close(held.fd)
    assert look(path, log, size=100)[0].stage.left == 49


@needs_locks
def test_more_votes_on_records_that_had_some(tmp_path: Path) -> None:
    path = written(tmp_path / "x.done", *(fields(n, vote, at=iso(NOON)) for n in range(10) for vote in range(3)))
    path.chmod(0o600)
    held = DoneFile(str(path))
    votes = [call(n, 1, key=f"{n:032x}-v{vote}", tool="llm-vote") for n in range(4) for vote in (3, 4)]
    log = logged(tmp_path / "run.log", start(0, path, tool="llm-vote"), *votes)
    (seen,) = look(path, log, size=10, now=NOON + 2)
    assert (seen.stage.left, seen.complete) == (6, False)
    os.close(held.fd)


@needs_locks
def test_a_jury_that_is_not_always_asked_in_full(tmp_path: Path) -> None:
    path = written(tmp_path / "x.done")
    path.chmod(0o600)
    held = DoneFile(str(path))
    votes = [call(10 * n + juror, 1, model=f"m{juror}-2026") for n in range(9) for juror in range(2 + n % 2)]
    log = logged(tmp_path / "run.log", start(0, path, models=("m0", "m1", "m2"), tool="llm-vote"), *votes)
    assert look(path, log, size=10, now=NOON + 2)[0].stage.left == 1
    os.close(held.fd)


@needs_locks
def test_a_fold_does_not_tell_its_records(tmp_path: Path) -> None:
    path = written(tmp_path / "x.done")
    path.chmod(0o600)
    held = DoneFile(str(path))
    log = logged(tmp_path / "run.log", start(0, path, tool="llm-merge"), call(1, 1), failed(1, records=3))
    it = look(path, log, size=10, now=NOON + 2)[0].stage
    assert (it.failed, it.left) == (3, None)
    os.close(held.fd)


@needs_locks
def test_a_run_after_the_one_that_the_log_tells_of(tmp_path: Path) -> None:
    path = written(tmp_path / "x.done", *(fields(n, at=iso(NOON)) for n in range(3)))
    path.chmod(0o600)
    log = logged(tmp_path / "run.log", start(0, path), failed(1), summary(2, read=4, out=3, failed=1, status=1))
    held = DoneFile(str(path))
    it = look(path, log, size=4, now=NOON + 9)[0].stage
    assert (it.running, it.failed, it.left) == (os.getpid(), None, 1)
    os.close(held.fd)


@needs_locks
def test_the_rate_is_that_of_the_last_minute(tmp_path: Path) -> None:
    now = time.time()
    words = [
        "import sys",
        "from llmstream.done.done_file import DoneFile",
        "it = DoneFile(sys.argv[1])",
        "print(flush=True)",
        "sys.stdin.read()",
    ]
    path = tmp_path / "x.done"
    command = [sys.executable, "-c", "\n".join(words), str(path)]
    with subprocess.Popen(command, cwd=TOP, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdin
        process.stdout.readline()
        old = [fields(n, at=iso(now - 500)) for n in range(1000)]
        written(path, *old, *(fields(2000 + n, at=iso(now + 100 + n / 10)) for n in range(100)))
        assert stage(path, now=now + 111).rate == pytest.approx(100 / 60, rel=0.1)
        assert stage(path, now=now + 165).rate == pytest.approx(45 / 60, rel=0.15)
        assert stage(path, now=now + 200).rate == 0
        assert stage(path, now=now + 200, size=2000).eta is None
        young = stage(path, now=now + 5)  # since it began; how long that took is not known to the second
        assert young.rate and 100 / 60 < young.rate <= 100
        process.stdin.close()
    assert stage(path, now=now + 111).rate is None


def test_nobody_is_at_work_where_the_system_does_not_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "locks", lambda: None)
    path = written(tmp_path / "x.done", fields(1))
    path.chmod(0o600)
    held = DoneFile(str(path))
    assert (stage(path).running, stage(path).rate) == (None, None)
    os.close(held.fd)


# -- real runs --------------------------------------------------------------------------------------


def test_a_real_run_and_its_log(tmp_path: Path) -> None:
    bad = iter(range(1000))

    def answer(call: Any) -> Any:
        if "7" in call.prompt:
            return error(400, "no sevens")
        return says("maybe" if next(bad) % 5 == 0 else '{"good":true}')

    done, log, made = tmp_path / "x.done", tmp_path / "run.log", tmp_path / "summary"
    words = ["-S", "good bool", "-d", done, "--log", log, "--summary", made, "Is it? {{ n }}"]
    with Endpoint(answer) as endpoint:
        ended = run("llm-map", *words, stdin=jsonl(*({"n": n, "id": n} for n in range(40))), url=endpoint.url)
    assert ended.returncode == 1
    known = json.loads(made.read_text())
    for paths in ([done, log], [log]):
        (seen,) = look(*paths, size=40, now=time.time())
        it = seen.stage
        assert (it.done, it.failed, it.left, seen.complete) == (known["out"], known["failed"], 0, False)
        assert {model: spent._asdict() for model, spent in it.models.items()} == known["models"]
        assert sum(it.failures.values()) == known["failed"]
        assert it.failures["http 400"] == 4
        assert sum(it.latencies.values()) == it.done + it.rejected == known["models"]["sim"]["calls"]
    assert len(lines(done.read_bytes())) == it.done + it.rejected
    (alone,) = look(done, size=40)
    assert (alone.stage.done, alone.stage.failed, alone.stage.left) == (known["out"], None, 40 - known["out"])
