"""--each: a file a record, written whole or not at all, and never where the template's own part does not lead."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from memory import growth
from merging import AT_LAST, failures, merge, out
from tool import command, environment, jsonl, lines, start

RECORDS: list[dict[str, Any]] = [
    {"split": "train", "kind": "thơ", "name": "a", "text": 'Một "dòng"\n', "n": 12345678901234567890123},
    {"split": "train", "kind": "văn", "name": "b", "x": [1.5, None, {"y": []}], "p": 0.1},
    {"split": "test", "kind": "thơ", "name": "a"},
]
TEMPLATE = "out/{{ split }}/{{ kind }}/{{ name }}.json"


def files(folder: Path) -> dict[str, Any]:
    """Every file below a folder, and what is in it."""
    return {name: json.loads((folder / name).read_bytes()) for name in names(folder)}


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_file_for_each_record(tmp_path: Path) -> None:
    """Pretty JSON that is the record; and the record goes on as it came."""
    data = jsonl(*RECORDS).replace("1.5", "1.50").replace("0.1", "0.10000000000000000001")
    assert merge("--each", TEMPLATE, stdin=data, cwd=tmp_path).stdout.decode() == data
    expected = {f"out/{one['split']}/{one['kind']}/{one['name']}.json": one for one in RECORDS}
    assert files(tmp_path) == expected
    assert (tmp_path / "out/train/văn/b.json").read_text() == (
        '{\n  "split": "train",\n  "kind": "văn",\n  "name": "b",\n'
        '  "x": [\n    1.5,\n    null,\n    {\n      "y": []\n    }\n  ],\n  "p": 0.10000000000000000001\n}\n'
    )
    assert b"12345678901234567890123\n" in (tmp_path / "out/train/thơ/a.json").read_bytes()


def test_of_a_group_the_folded_record_and_of_a_row_its_object(tmp_path: Path) -> None:
    data = "id,tag\n1,a\n2,b\n1,c\n"
    words = ("--from", "csv", "-g", "id", "-t", "tag=list", "--to", "csv", "--each", "{{ id }}-{{ tag[0] }}")
    assert merge(*words, stdin=data, cwd=tmp_path).stdout == b'id,tag\n1,"[""a"",""c""]"\n2,"[""b""]"\n'
    assert files(tmp_path) == {"1-a": {"id": "1", "tag": ["a", "c"]}, "2-b": {"id": "2", "tag": ["b"]}}


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    """One file gone, one changed, one record changed: these three are written, and make sees no others."""
    records = [{"n": number, "text": "x" * number} for number in range(8)]
    out("--each", "d/{{ n }}", stdin=jsonl(*records), cwd=tmp_path)
    (tmp_path / "d/2").unlink()
    (tmp_path / "d/3").write_text("half")
    (tmp_path / "d/4").write_bytes((tmp_path / "d/4").read_bytes().replace(b"xxxx", b"xyxx"))
    records[5]["text"] = "other"
    for path in (tmp_path / "d").iterdir():
        os.utime(path, (1, 1))
    inodes = {path.name: path.stat().st_ino for path in (tmp_path / "d").iterdir()}
    assert out("--each", "d/{{ n }}", stdin=jsonl(*records), cwd=tmp_path) == records
    assert files(tmp_path / "d") == {str(record["n"]): record for record in records}
    written = {path.name for path in (tmp_path / "d").iterdir() if path.stat().st_mtime > 1}
    assert written == {"2", "3", "4", "5"}
    assert {path.name for path in (tmp_path / "d").iterdir() if inodes.get(path.name) == path.stat().st_ino} >= {
        "0",
        "7",
    }


def test_modes_are_those_of_any_new_file(tmp_path: Path) -> None:
    merge("--each", "d/{{ a }}/f", stdin='{"a":1}', cwd=tmp_path, preexec_fn=lambda: os.umask(0o027))
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("d/1/f", "d/1", "d")] == [0o640, 0o750, 0o750]


# -- paths that are refused ---------------------------------------------------------------------------------

LONG = "x" * 300


@pytest.mark.parametrize(
    ("template", "bad"),
    [
        ("d/{{ a }}", ["../x", "a/../../x", "a/../b", "..", ".", "", "/", "/etc/x", "a/", "a//b", "./b", "x\0y", LONG]),
        ("d/{{ a }}/f", ["..", ".", "", "/", "../d", "x/..", f"{LONG}/y", "\0"]),
        ("d/x{{ a }}", ["/../y", "/", "/.", f"/{LONG}"]),
        ("d/{{ a }}{{ a }}", ["."]),
        ("{{ a }}", ["../x", "/etc/x", "..", "", "d/../../x"]),
        ("./{{ a }}", ["../x", "/x", "."]),
    ],
)
def test_paths_that_lead_elsewhere(tmp_path: Path, template: str, bad: list[str]) -> None:
    """Each fails by name, alone; and nothing is outside of the template's own part, or of the wrong name in it."""
    here = tmp_path / "here"
    here.mkdir()
    records = [record for text in bad for record in ({"a": text}, {"a": f"good{bad.index(text)}"})]
    done = merge("-v", "--each", template, "-e", tmp_path / "bad", stdin=jsonl(*records), status=1, cwd=here)
    assert lines(done.stdout) == records[1::2]
    assert out(tmp_path / "bad") == records[::2]
    assert {type_ for type_, _ in failures(tmp_path / "bad")} == {"each"}
    for number, line in enumerate(done.stderr.decode().splitlines()[: len(bad)]):
        assert line.startswith(f"llm-merge: <stdin>:{2 * number + 1}: cannot write ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "here"]
    assert sorted(files(tmp_path / "here").values(), key=str) == sorted(records[1::2], key=str)


def test_folders_that_cannot_be_made_leave_nothing_open(tmp_path: Path) -> None:
    """There are more of them than files that a process may open."""
    records = [*({"a": f"{number}/{'x' * 300}"} for number in range(200)), {"a": "good"}]
    few = (64, 64)
    words = ("--each", "d/{{ a }}/f", "-e", tmp_path / "bad")
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, few)}
    done = merge(*words, stdin=jsonl(*records), cwd=tmp_path, status=1, **limit)
    assert lines(done.stdout) == [{"a": "good"}]
    assert {message.rpartition(": ")[2] for _, message in failures(tmp_path / "bad")} == {"File name too long"}


def test_a_message_is_no_longer_than_a_person_reads(tmp_path: Path) -> None:
    data = jsonl({"a": "x" * 100_000}, {"a": "../" + "y" * 100_000})
    done = merge("--each", "{{ a }}", "-e", tmp_path / "bad", stdin=data, cwd=tmp_path, status=1)
    assert len(done.stderr) < 2000
    assert all(len(message) < 500 for _, message in failures(tmp_path / "bad"))


def test_the_second_record_with_a_path_fails(tmp_path: Path) -> None:
    records = [{"a": 1, "n": 1}, {"a": "1", "n": 2}, {"a": 1, "n": 1}, {"a": 2}]
    done = merge("--each", "d/{{ a }}", "-e", tmp_path / "bad", stdin=jsonl(*records), cwd=tmp_path, status=1)
    assert lines(done.stdout) == [records[0], records[3]]
    assert failures(tmp_path / "bad") == [("each", "cannot write d/1: it is the file of an earlier record")] * 2
    assert files(tmp_path / "d") == {"1": records[0], "2": records[3]}


def test_a_record_that_failed_does_not_own_its_path(tmp_path: Path) -> None:
    (tmp_path / "d/x").mkdir(parents=True)
    records = [{"a": "x"}, {"a": "y"}]
    done = merge("--each", "d/{{ a }}", stdin=jsonl(*records), cwd=tmp_path, status=1)
    assert lines(done.stdout) == [{"a": "y"}]
    assert b"<stdin>:1: cannot write d/x: Is a directory" in done.stderr
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == ["x", "y"]  # and nothing beside them


def test_of_a_group_that_has_no_file_all_records_fail(tmp_path: Path) -> None:
    group = [{"g": 1, "name": "../x", "error": "mine"}, {"g": 1, "n": 2}, {"n": 3, "g": 1}]
    words = ("-g", "g", "--each", "d/{{ name }}", "-e", tmp_path / "bad")
    done = merge(*words, stdin=jsonl(*group, {"g": 2, "name": "y"}), cwd=tmp_path, status=1)
    assert lines(done.stdout) == [{"g": 2, "name": "y"}]
    assert out(tmp_path / "bad") == group


# -- links ----------------------------------------------------------------------------------------------------


def test_links_in_what_comes_from_data(tmp_path: Path) -> None:
    """A folder that is a link, or no folder, is refused; a link that a file is to be, is replaced."""
    elsewhere, d = tmp_path / "elsewhere", tmp_path / "d"
    elsewhere.mkdir()
    (elsewhere / "victim").write_text("precious")
    d.mkdir()
    (d / "folder").symlink_to(elsewhere)
    (d / "file").write_text("no folder")
    (d / "victim").symlink_to(elsewhere / "victim")
    (d / "new").symlink_to(elsewhere / "new")
    (elsewhere / "same").write_text('{\n  "a": "same"\n}\n')
    (d / "same").symlink_to(elsewhere / "same")
    (d / "loop").symlink_to("loop")
    os.link(elsewhere / "victim", d / "hard")
    os.mkfifo(d / "fifo")
    bad = [{"a": name} for name in ("folder/f", "folder/victim", "file/f", "loop/f", "victim/f", "folder/x/y")]
    good = [{"a": name} for name in ("victim", "new", "same", "loop", "folder", "hard", "fifo")]
    done = merge("-v", "--each", "d/{{ a }}", stdin=jsonl(*bad, *good), cwd=tmp_path, status=1)
    assert lines(done.stdout) == good
    for record, line in zip(bad, done.stderr.decode().splitlines()[:-1], strict=True):
        assert f": cannot write d/{record['a']}: " in line
        assert line.endswith(" is in the way")
    assert {path.name for path in elsewhere.iterdir()} == {"victim", "same"}
    assert (elsewhere / "victim").read_text() == "precious"
    for record in good:
        path = d / record["a"]
        assert not path.is_symlink()
        assert json.loads(path.read_text()) == record


def test_the_part_before_the_data_is_the_users_own(tmp_path: Path) -> None:
    """It may be a link, lie anywhere, and go up; and folders are made there, too."""
    (tmp_path / "real").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to("real")
    for template in (
        "../link/a{{ n }}",
        f"{tmp_path}/link/b{{{{ n }}}}",
        "./../link/../real/new/./deep/c{% if n %}{{ n }}{% endif %}",
    ):
        merge("--each", template, stdin='{"n":1}', cwd=tmp_path / "here")
    assert files(tmp_path) == {name: {"n": 1} for name in ("real/a1", "real/b1", "real/new/deep/c1")}


def test_a_part_that_cannot_be_a_folder_fails_no_record(tmp_path: Path) -> None:
    """All of them would: the user is to change something, at the first of them."""
    (tmp_path / "file").write_text("precious")
    for template in ("file/{{ n }}", "file/x/{{ n }}", f"{LONG}/{{{{ n }}}}"):
        done = merge("--each", template, "-e", tmp_path / "bad", stdin='{"n":1}\n{"n":2}\n', cwd=tmp_path, status=2)
        assert done.stderr.count(b"\n") == 1
        assert done.stdout == (tmp_path / "bad").read_bytes() == b""
    assert (tmp_path / "file").read_text() == "precious"


# -- templates ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("d/a.json", "cannot use --each d/a.json: without a {{ field }} all records are one file"),
        ("", "cannot use --each : it needs something that is not empty"),
        ("d/{{ a", "cannot use the template of --each: "),
        ("d/{{ a | nonsense }}", "cannot use the template of --each: "),
        ("d/{% include 'x' %}{{ a }}", "cannot use the template of --each: a template cannot read other files"),
    ],
)
def test_templates_that_cannot_work(tmp_path: Path, template: str, why: str) -> None:
    done = merge("--each", template, stdin='{"a":1}', cwd=tmp_path, status=2)
    assert done.stderr.decode().startswith(f"llm-merge: {why}")
    assert done.stderr.count(b"\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_what_a_template_cannot_make_of_a_record_is_its_failure(tmp_path: Path) -> None:
    template = r"d/{{ a.b }}{{ '\ud800' if c else '' }}"
    data = '{"a":{"b":1}}\n{"a":{}}\n{"x":1}\n{"a":{"b":2},"c":0}\n{"a":{"b":3},"c":1}\n'.replace("}}\n", '},"c":0}\n')
    done = merge("--each", template, "-e", tmp_path / "bad", stdin=data, cwd=tmp_path, status=1)
    assert [record["a"]["b"] for record in lines(done.stdout)] == [1, 2]
    assert b"llm-merge: <stdin>:2: no field 'b'\n" in done.stderr
    assert b"llm-merge: <stdin>:3: no field 'a'\n" in done.stderr
    assert [type_ for type_, _ in failures(tmp_path / "bad")] == ["template"] * 3


def test_any_value_may_be_a_part_of_a_path(tmp_path: Path) -> None:
    record = {"a": None, "b": [1, "é"], "c": 1.5, "d": True, "e": " \n*?'\x1b", "f": "x/y"}
    template = "{{ a }}-{{ b }}-{{ c }}-{{ d }}-{{ e }}-{{ f }}-{{ record.b[1] | upper }}"
    for env in ({}, {"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
        merge("--each", template, stdin=jsonl(record), cwd=tmp_path, env=env)
    assert files(tmp_path) == {'null-[1,"é"]-1.5-true- \n*?\'\x1b-x/y-É': record}


# -- killed, and out of room -----------------------------------------------------------------------------------


def test_killed_in_the_middle(tmp_path: Path) -> None:
    """Whatever stands under a record's name is that record, whole; and the next run does the rest."""
    records = [{"n": f"{number % 40}/{number}", "text": "Phở " * 2000} for number in range(600)]
    (tmp_path / "in").write_text(jsonl(*records))
    whole = {record["n"]: record for record in records}
    words = ("-q", "--each", "d/{{ n }}", tmp_path / "in")
    killed = 0
    for turn in range(8):
        with start("llm-merge", *words, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
            until = time.monotonic() + 0.08 + 0.015 * turn
            while time.monotonic() < until and process.poll() is None:
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
            killed += process.wait(AT_LAST) == -signal.SIGKILL
        found = [path for path in (tmp_path / "d").rglob("*") if path.is_file() and not path.name.startswith(".")]
        assert all(json.loads(path.read_bytes()) == whole[str(path.relative_to(tmp_path / "d"))] for path in found)
    assert killed
    assert out(*words, cwd=tmp_path) == records
    assert {path for path in names(tmp_path / "d") if not path.rpartition("/")[2].startswith(".")} == whole.keys()


def test_what_was_left_by_one_that_was_killed_is_in_nobodys_way(tmp_path: Path) -> None:
    """In a container the next process has the same number again."""
    with start("llm-merge", "-q", "--each", "d/{{ n }}", cwd=tmp_path) as process:
        (tmp_path / "d").mkdir()
        (tmp_path / f"d/.llm-merge.{process.pid}.tmp").write_text('{"ha')
        told = process.communicate(b'{"n":1}\n{"n":2}\n', timeout=AT_LAST)
    assert (process.returncode, *told) == (0, b'{"n":1}\n{"n":2}\n', b"")
    assert files(tmp_path / "d") == {"1": {"n": 1}, "2": {"n": 2}}


def test_a_full_disk_ends_the_run(tmp_path: Path) -> None:
    """What was written stays, what fits no more leaves nothing, and another run goes on from there."""
    records: list[dict[str, Any]] = [{"n": 1}, {"n": 2, "text": "x" * 5000}, {"n": 3}]
    done = merge("--each", "d/{{ n }}", stdin=jsonl(*records), cwd=tmp_path, status=74, preexec_fn=little_room(1000))
    assert done.stderr == b"llm-merge: cannot write d/2: File too large\n"
    assert lines(done.stdout) == records[:1]
    assert files(tmp_path / "d") == {"1": records[0]}
    assert out("--each", "d/{{ n }}", stdin=jsonl(*records), cwd=tmp_path) == records
    assert files(tmp_path / "d") == {str(record["n"]): record for record in records}


def little_room(size: int) -> Callable[[], None]:
    """No file may grow beyond this."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


SMALL_DISK = 'mount -t tmpfs -o size=64k none "$1" && cd "$1" && shift && exec "$@"'


def test_a_disk_that_is_full_indeed(tmp_path: Path) -> None:
    small = ["unshare", "-rm", "sh", "-c", SMALL_DISK, "sh", str(tmp_path)]
    if not shutil.which("unshare") or subprocess.run([*small, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no small disk to be had here")
    script = '"$@" --each "d/{{ n }}" > /dev/null; echo $?; ls -A d | wc -l; "$@" -q --from json d/*'
    records = [{"n": number, "text": "x" * 3000} for number in range(10, 60)]
    words = [*small, "sh", "-c", script, "sh", *command("llm-merge")]
    given: dict[str, Any] = {"input": jsonl(*records).encode(), "env": environment(), "timeout": AT_LAST}
    done = subprocess.run(words, capture_output=True, check=False, **given)
    status, count, *found = lines(done.stdout)
    assert done.stderr.decode() == f"llm-merge: cannot write d/{10 + count}: No space left on device\n"
    assert (status, found) == (74, records[:count])
    assert count


def test_memory_does_not_grow_with_what_fails(tmp_path: Path) -> None:
    for template in ("d/{{ nope }}", "d/{{ n }}/../x"):
        assert growth(tmp_path, 10_000, "--each", template) < 0.05


def test_a_file_that_is_read_is_not_replaced(tmp_path: Path) -> None:
    """Nor is the errors file: its name may come from data like any other."""
    (tmp_path / "in.jsonl").write_text('{"f":"in.jsonl"}\n{"f":"bad"}\n{"f":"good"}\n')
    done = merge("--each", "{{ f }}", "-e", "bad", "in.jsonl", cwd=tmp_path, status=1)
    assert (done.returncode, done.stdout) == (1, b'{"f":"good"}\n')
    assert b"in.jsonl:1: cannot write in.jsonl: it is a file of this very run" in done.stderr
    assert (tmp_path / "in.jsonl").read_text().startswith('{"f":"in.jsonl"}\n')
