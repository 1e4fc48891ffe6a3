"""What our filters tell one another through a pipe: who wrote, and whether it ended well."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from endpoint import Call, Endpoint, Reply, chat
from tool import command, environment, jsonl, start, until

from llmstream.shell import neighbours
from llmstream.shell.neighbours import Pipe

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="nobody tells who runs")
AT_LAST = 30.0
EARLY = "the input is not complete: the filter before it in the pipe ended early; run the same command again"


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "runtime"
    folder.mkdir(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def word(runtime: Path) -> list[str]:
    """What is left in the files."""
    return [path.read_text().strip() for path in runtime.glob("llmstream-*/*")]


# -- within this process ------------------------------------------------------------------------------


def test_a_writer_that_ended_well(pipe: tuple[int, int], runtime: Path) -> None:
    writer, reader = Pipe(pipe[1], "w"), Pipe(pipe[0], "r")
    assert len(word(runtime)) == 1
    writer.end_well()
    assert reader.writers_that_ended_early() == []
    assert word(runtime) == []


def test_a_writer_that_did_not(pipe: tuple[int, int], runtime: Path) -> None:
    Pipe(pipe[1], "w")
    reader = Pipe(pipe[0], "r")
    assert reader.writers_that_ended_early() == [os.getpid()]
    assert word(runtime) == []


def test_a_writer_that_ended_well_before_anybody_read(pipe: tuple[int, int], runtime: Path) -> None:
    Pipe(pipe[1], "w").end_well()
    assert word(runtime) == []
    assert Pipe(pipe[0], "r").writers_that_ended_early() == []


def test_another_program_before_us(pipe: tuple[int, int]) -> None:
    assert Pipe(pipe[0], "r").writers_that_ended_early() == []


def dead(role: str) -> str:
    return f"{role} 1 1 0\n"  # process 1 began at another time


@pytest.mark.parametrize("role", ["r", "w"])
def test_a_number_that_is_used_again(pipe: tuple[int, int], runtime: Path, role: str) -> None:
    """An earlier pipe of the same number, whose filters were all killed."""
    Pipe(pipe[1], "w")
    (path,) = runtime.glob("llmstream-*/*")
    path.write_text(dead("r") + dead("w"))
    if role == "r":
        assert Pipe(pipe[0], "r").writers_that_ended_early() == []
        return
    writer = Pipe(pipe[1], "w")
    reader = Pipe(pipe[0], "r")
    writer.end_well()
    assert reader.writers_that_ended_early() == []


def test_a_writer_that_died_before_the_reader_was_there(pipe: tuple[int, int], runtime: Path) -> None:
    Pipe(pipe[1], "w")
    (path,) = runtime.glob("llmstream-*/*")
    path.write_text(dead("w"))
    assert Pipe(pipe[0], "r").writers_that_ended_early() == [1]


def test_a_folder_that_others_may_write_is_not_used(pipe: tuple[int, int], runtime: Path) -> None:
    Pipe(pipe[1], "w")
    (folder,) = runtime.glob("llmstream-*")
    for file in folder.iterdir():
        file.unlink()
    folder.chmod(0o777)
    Pipe(pipe[1], "w")
    assert Pipe(pipe[0], "r").writers_that_ended_early() == []
    assert word(runtime) == []


def test_what_is_no_pipe(tmp_path: Path, runtime: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        Pipe(file.fileno(), "w").end_well()
    assert word(runtime) == []


def test_what_was_killed_long_ago_is_removed(pipe: tuple[int, int], runtime: Path) -> None:
    Pipe(pipe[1], "w")
    (folder,) = runtime.glob("llmstream-*")
    old = folder / "old"
    old.write_text(dead("w"))
    os.utime(old, (1, 1))
    Pipe(pipe[0], "r")
    assert not old.exists()
    assert neighbours.FORGOTTEN > 0


# -- real pipes ---------------------------------------------------------------------------------------

RECORDS = jsonl(*({"g": n % 4, "n": n} for n in range(40)))
FOLD = ("llm-merge", "-g", "g", "-d", "fold.done", "--always", "-p", "Fold {{ records }}")


def slow(call: Call) -> Reply:
    return Reply(chat("x"), delay=0.2 if call.prompt.startswith("Map") else 0.0)


def shell(script: str, url: str, cwd: Path) -> subprocess.Popen[bytes]:
    env = environment(OPENAI_BASE_URL=url, XDG_RUNTIME_DIR=os.environ["XDG_RUNTIME_DIR"])
    return subprocess.Popen(["bash", "-c", script], cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def line(*words: str) -> str:
    return shlex.join(command(*words))


def test_a_fold_after_a_killed_map_asks_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").write_text(RECORDS)
    with Endpoint(slow) as endpoint:
        first = line("llm-map", "-j", "4", "-d", "map.done", "-o", "said", "Map {{ n }}", "in")
        script = f"({first} & echo $! >pid; wait $!) | {line(*FOLD)}"
        process = shell(script, endpoint.url, tmp_path)
        until(lambda: len(endpoint.asked) >= 12, process)
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        out, told = process.communicate(timeout=AT_LAST)
        assert (process.returncode, out) == (75, b"")
        assert f"llm-merge: {EARLY}\n".encode() in told
        assert not [call for call in endpoint.asked if call.prompt.startswith("Fold")]
        again = shell(f"{first} | {line(*FOLD)}", endpoint.url, tmp_path)
        out, _ = again.communicate(timeout=AT_LAST)
        assert (again.returncode, out.count(b"\n")) == (0, 4)
        third = shell(f"{first} | {line(*FOLD)}", endpoint.url, tmp_path)
        asked = len(endpoint.asked)
        assert third.communicate(timeout=AT_LAST)[0] == out
        assert len(endpoint.asked) == asked


@pytest.mark.parametrize(
    "after",
    [
        ("llm-map", "-o", "again", "Then {{ n }}"),
        ("llm-merge", "-g", "g"),
        ("llm-vote", "--count", "said", "-g", "g"),
        ("llm-merge", "--all", "-p", "Fold {{ records }}"),
    ],
    ids=lambda words: " ".join(words[:3]),
)
def test_a_limit_that_stops_the_first_stops_those_behind_it(tmp_path: Path, after: tuple[str, ...]) -> None:
    (tmp_path / "in").write_text(RECORDS + "{\n" + RECORDS)
    with Endpoint(slow) as endpoint:
        first = line("llm-map", "-j", "4", "--max-errors", "1", "-o", "said", "Map {{ n }}", "in")
        process = shell(f"{first} | {line(*after)}", endpoint.url, tmp_path)
        _, told = process.communicate(timeout=AT_LAST)
    assert process.returncode == 75
    assert f"{after[0]}: {EARLY}\n".encode() in told


def test_failed_records_are_no_early_end(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("{\n" + RECORDS)
    with Endpoint(slow) as endpoint:
        first = line("llm-map", "-j", "40", "-o", "said", "Map {{ n }}", "in")
        process = shell(f"{first} | {line('llm-merge', '-g', 'g')}", endpoint.url, tmp_path)
        out, _ = process.communicate(timeout=AT_LAST)
    assert (process.returncode, out.count(b"\n")) == (0, 4)


@pytest.mark.parametrize("killed", [0, 1])
def test_one_writer_after_the_other(tmp_path: Path, killed: int) -> None:
    (tmp_path / "in").write_text(RECORDS)
    with Endpoint(slow) as endpoint:
        one = line("llm-map", "-j", "40", "-o", "said", "Map {{ n }}", "in")
        stopped = line("llm-map", "--max-errors", "1", "-o", "said", "Map {{ nothing }}", "in")
        script = f"({stopped if killed else one}; {one}) | {line('llm-merge', '-g', 'g')}"
        process = shell(script, endpoint.url, tmp_path)
        out, _ = process.communicate(timeout=AT_LAST)
    assert (process.returncode, out.count(b"\n")) == ((75, 0) if killed else (0, 4))


def test_an_early_end_goes_through_a_progress_line(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("{\n" + RECORDS)
    with Endpoint(slow) as endpoint:
        first = line("llm-map", "--max-errors", "1", "-o", "said", "Map {{ n }}", "in")
        script = f"{first} | {line('llm-progress', '-q')} | {line('llm-merge', '-g', 'g')}"
        process = shell(script, endpoint.url, tmp_path)
        assert process.communicate(timeout=AT_LAST)[0] == b""
    assert process.returncode == 75


def test_another_program_between_hides_it(tmp_path: Path) -> None:
    """No filter can know: the manual says so."""
    (tmp_path / "in").write_text("{\n" + RECORDS)
    with Endpoint(slow) as endpoint:
        first = line("llm-map", "--max-errors", "1", "-o", "said", "Map {{ n }}", "in")
        process = shell(f"{first} | cat | {line('llm-merge', '-g', 'g')}", endpoint.url, tmp_path)
        process.communicate(timeout=AT_LAST)
    assert process.returncode == 0


def test_a_stopped_neighbour_that_holds_the_lock_keeps_nobody(tmp_path: Path, runtime: Path) -> None:
    import fcntl

    reader, writer = os.pipe()
    Pipe(writer, "w")
    (path,) = runtime.glob("llmstream-*/*")
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        began = time.monotonic()
        process = start("llm-merge", stdin=reader, env={"XDG_RUNTIME_DIR": str(runtime)})
        os.close(writer)
        assert process.wait(AT_LAST) == 0
        assert time.monotonic() - began < AT_LAST / 2
    os.close(reader)
