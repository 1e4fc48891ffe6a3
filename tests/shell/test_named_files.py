"""No file is written for two purposes, and none that is read is written: every pair of options, every tool."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fcntl import LOCK_EX, flock
from importlib import import_module
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pytest
from endpoint import Endpoint, says
from tool import TOOLS, command, environment, jsonl, run

from llmstream.shell.named_files import OWN, READ
from llmstream.shell.options import Option

ANSWERS = '{"key":"00000000000000000000000000000000","answer":"paid for"}\n'
# What each tool needs besides the options in question.
WORDS = {"llm-map": ["hi"], "llm-vote": ["hi"], "llm-merge": [], "llm-progress": ["x.done"], "llm-sim": ["--", "true"]}


def table(tool: str) -> tuple[Option, ...]:
    found: tuple[Option, ...] = import_module(f"llmstream.{tool.removeprefix('llm-')}").TABLE
    return found


def test_every_option_with_a_file_says_what_it_does_with_it() -> None:
    for tool in TOOLS:
        for option in table(tool):
            assert (option.value == "FILE" or "@FILE" in option.help) == bool(option.file), (tool, option.long)


# -- pairs of options -------------------------------------------------------------------------------


class Pair(NamedTuple):
    one: Option
    other: Option

    def words(self, first: str, second: str) -> list[str]:
        return [*_given(self.one, first), *_given(self.other, second)]


def _given(option: Option, path: str) -> list[str]:
    return [f"--{option.long}", f"@{path}" if option.file == "@" else path]


def pairs(tool: str) -> list[Pair]:
    """Those of which at least one writes."""
    named = [option for option in table(tool) if option.file]
    return [Pair(*two) for two in combinations(named, 2) if not {option.file for option in two} <= {READ, "@"}]


@pytest.fixture
def shm() -> Iterator[Path]:
    """A folder below /dev, of regular files nevertheless."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


def one_name(folder: Path) -> tuple[str, str]:
    return str(folder / "file"), str(folder / "file")


def a_hard_link(folder: Path) -> tuple[str, str]:
    (folder / "hard").hardlink_to(folder / "file")
    return str(folder / "file"), str(folder / "hard")


def a_symbolic_link(folder: Path) -> tuple[str, str]:
    (folder / "link").symlink_to("file")
    return str(folder / "link"), str(folder / "file")


def a_descriptor(folder: Path) -> tuple[str, str]:
    return "/dev/fd/7", str(folder / "file")


def before_it_is_there(folder: Path) -> tuple[str, str]:
    (folder / "file").unlink()
    (folder / "dangling").symlink_to("file")
    return str(folder / "dangling"), str(folder / "file")


WAYS = [one_name, a_hard_link, a_symbolic_link, a_descriptor, before_it_is_there]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tool", [tool for tool in TOOLS if pairs(tool)])
def test_every_pair(tool: str, way: Callable[[Path], tuple[str, str]], shm: Path) -> None:
    (shm / "file").write_text(ANSWERS)
    first, second = way(shm)
    there = (shm / "file").exists()

    def refused(pair: Pair) -> None:
        words = command(tool, *pair.words(first, second), *WORDS[tool])
        script = ["sh", "-c", f'exec "$@" 7<>{shm / "file"}' if way is a_descriptor else 'exec "$@"', "sh", *words]
        done = run_words(script)
        both = f"both {pair.one.flag} and {pair.other.flag}"
        assert done.decode() == f"{tool}: cannot use {first} for {both}: it is the same file\n"

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(refused, pairs(tool)))
    assert (shm / "file").exists() == there
    assert not there or (shm / "file").read_text() == ANSWERS


def run_words(words: list[str]) -> bytes:
    done = subprocess.run(words, input=b"", capture_output=True, env=environment(), timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, b""), done.stderr
    return done.stderr


# -- options and streams ----------------------------------------------------------------------------


CALLERS = ["llm-map", "llm-vote"]


@pytest.mark.parametrize("tool", [*CALLERS, "llm-merge"])
def test_an_option_and_what_is_read(tool: str, shm: Path) -> None:
    (shm / "file").write_text(jsonl({"q": 1}))
    (shm / "hard").hardlink_to(shm / "file")
    for option in table(tool):
        if option.file in (READ, "@", ""):
            continue
        if tool == "llm-merge" and option.long == "done":
            continue  # it has none without a prompt
        words = [*_given(option, str(shm / "hard")), *WORDS[tool]]
        done = run(tool, *words, shm / "file")
        assert done.returncode == 2
        assert b"for both %b and the input" % option.flag.encode() in done.stderr
        with (shm / "file").open("rb") as stdin:
            done = run(tool, *words, stdin_from=stdin)
        assert done.returncode == 2
        assert b"for both %b and stdin" % option.flag.encode() in done.stderr
    assert (shm / "file").read_text() == jsonl({"q": 1})


@pytest.mark.parametrize("tool", TOOLS)
def test_an_option_and_stdout(tool: str, shm: Path) -> None:
    out = shm / "out"
    for option in [option for option in table(tool) if option.file]:
        out.write_text("before\n")
        script = ["sh", "-c", f'exec "$@" >>{out}', "sh", *command(tool, *_given(option, str(out)), *WORDS[tool])]
        told = run_words(script)
        assert b"for both %b and stdout: it is the same file" % option.flag.encode() in told
        assert out.read_text() == "before\n"


def test_a_done_file_is_not_for_messages(shm: Path) -> None:
    path = shm / "file"
    path.write_text(ANSWERS)
    script = ["sh", "-c", f'exec "$@" 2>>{path}', "sh", *command("llm-map", "-d", str(path), "hi")]
    run_words(script)
    assert "for both -d and stderr" in path.read_text()


def test_messages_events_and_failures_may_share_stderr(tmp_path: Path) -> None:
    path = tmp_path / "told"
    words = ["-e", "/dev/stderr", "--log", "/dev/stderr", "--summary", str(path), "{{ q }}"]
    with Endpoint(says("ok")) as here:
        script = ["sh", "-c", f'exec "$@" 2>>{path}', "sh", *command("llm-map", *words)]
        env = environment(OPENAI_BASE_URL=here.url)
        done = subprocess.run(script, input=b'{"q":1}\n{}\n', capture_output=True, env=env, timeout=60, check=False)
    assert done.returncode == 1
    told = path.read_text()
    assert told.count('"event_type":"run_summary"') == 1
    assert told.count('"error":{"by":"llm-map"') == 1
    assert told.count('"tool": "llm-map"') == 1


def test_what_is_no_regular_file_may_be_named_twice(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with Endpoint(says("ok")) as here:
        done = run("llm-map", "-e", "/dev/null", "--log", "/dev/null", "{{ q }}", stdin='{"q":1}\n', url=here.url)
    assert done.returncode == 0


# -- a done-file that is not in use -----------------------------------------------------------------


@pytest.mark.parametrize("flag", ["-e", "--log", "--summary"])
def test_a_done_file_is_not_written_over(tmp_path: Path, flag: str) -> None:
    path = tmp_path / "other.done"
    path.write_text(ANSWERS)
    done = run("llm-map", "-d", tmp_path / "a.done", flag, path, "hi")
    assert done.stderr.decode() == f"llm-map: cannot use {path} for {flag}: it is a done-file\n"
    assert done.returncode == 2
    assert path.read_text() == ANSWERS


def test_a_log_never_waits_for_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "held"
    with path.open("w") as held:
        flock(held, LOCK_EX)
        done = run("llm-map", "--log", path, "hi", timeout=30)
    assert done.returncode == 2
    assert done.stderr.decode().startswith(f"llm-map: cannot use log {path}: another process has locked it")
    assert done.stderr.count(b"\n") == 1


def test_own_is_a_use_of_its_own() -> None:
    assert {option.long for option in table("llm-map") if option.file == OWN} == {"done"}
