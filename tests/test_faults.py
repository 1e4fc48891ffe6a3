"""System calls that fail: each write, fdatasync, ftruncate and open of a short run, once and for good.

strace makes the kernel say no, to the real executable and on one file alone. What must hold
after each: no hang, no traceback, a status that is not 0 unless all came out, a done-file
that the next run reads without losing what was whole; and that run completes the output and
pays at most for what was in flight.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from endpoint import Call, Endpoint, Reply, says
from tool import command, environment, jsonl, lines, run

RECORDS = [{"id": n, "text": f"text {n}"} for n in range(5)]
JOBS = 2

needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")


def answer(call: Call) -> Reply:
    return says(call.prompt.upper())


def words(folder: Path) -> list[str]:
    return command("llm-map", "-j", JOBS, "-d", folder / "x.done", "-e", folder / "bad", "Say {{ text }}")


def traced(folder: Path, url: str, file: str, fault: str) -> subprocess.CompletedProcess[bytes]:
    """Run with a fault in one system call on one file; stdout is the file "out"."""
    call = fault.partition(":")[0]
    strace = ["strace", "-f", "-qq", "-o", os.devnull, "-P", str(folder / file), "-e", f"trace={call}"]
    with (folder / "out").open("wb") as out:
        return subprocess.run(
            [*strace, "-e", f"inject={fault}", *words(folder)],
            input=jsonl(*RECORDS).encode(), stdout=out, stderr=subprocess.PIPE,
            env=environment(OPENAI_BASE_URL=url), timeout=60, check=False,
        )  # fmt: skip


def check_after(folder: Path, endpoint: Endpoint, first: subprocess.CompletedProcess[bytes]) -> None:
    """The promises, after a run that met a fault."""
    told = first.stderr.decode()
    assert "Traceback" not in told
    assert "a bug" not in told
    assert all(line.startswith("llm-map: ") for line in told.splitlines()), told
    out = lines((folder / "out").read_bytes().rpartition(b"\n")[0])
    assert first.returncode in (0, 2, 74), told
    assert first.returncode or len(out) == len(RECORDS), told
    second = run("llm-map", *words(folder)[2:], stdin=jsonl(*RECORDS), url=endpoint.url)
    assert second.returncode == 0, second.stderr
    assert {line["id"]: line["output"] for line in lines(second.stdout)} == {
        record["id"]: f"SAY {record['text'].upper()}" for record in RECORDS
    }
    assert len(endpoint.asked) <= len(RECORDS) + JOBS
    for line in (folder / "x.done").read_bytes().splitlines():
        assert json.loads(line)["crc"]


def survive(folder: Path, file: str, fault: str) -> int:
    folder.mkdir()
    with Endpoint(answer) as endpoint:
        first = traced(folder, endpoint.url, file, fault)
        try:
            check_after(folder, endpoint, first)
        except AssertionError as error:
            raise AssertionError(f"{file} {fault}: {error}\n{first.stderr.decode()}") from error
    return first.returncode


def survive_all(folder: Path, faults: list[tuple[str, str]]) -> list[int]:
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda n: survive(folder / str(n), *faults[n]), range(len(faults))))


@needs_strace
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_the_done_file_cannot_be_written(tmp_path: Path, error: str) -> None:
    whens = [f"{n}{plus}" for n in range(1, 6) for plus in ("", "+")]
    statuses = survive_all(tmp_path, [("x.done", f"write:error={error}:when={when}") for when in whens])
    assert set(statuses) == {74}


@needs_strace
def test_the_done_file_cannot_be_synced(tmp_path: Path) -> None:
    faults = [("x.done", f"fdatasync:error=EIO:when={when}") for when in ("1", "2", "3", "1+", "2+")]
    assert 74 in survive_all(tmp_path, faults)


@needs_strace
def test_an_interrupted_call_is_no_failure(tmp_path: Path) -> None:
    faults = [(file, f"write:error=EINTR:when={n}") for file in ("x.done", "out") for n in (1, 3)]
    faults += [("x.done", "fdatasync:error=EINTR:when=1"), ("x.done", "openat:error=EINTR:when=1")]
    assert set(survive_all(tmp_path, faults)) == {0}


@needs_strace
def test_stdout_cannot_be_written(tmp_path: Path) -> None:
    faults = [("out", f"write:error={error}:when={when}") for error in ("EIO", "ENOSPC") for when in ("1", "2", "1+")]
    assert 74 in survive_all(tmp_path, faults)


@needs_strace
@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EACCES", "EMFILE"])
def test_the_done_file_cannot_be_opened(tmp_path: Path, error: str) -> None:
    assert survive(tmp_path / "x", "x.done", f"openat:error={error}:when=1+") in (2, 74)


@needs_strace
@pytest.mark.parametrize("fault", ["ftruncate:error=EIO:when=1+", "ftruncate:error=EIO:when=1"])
def test_a_torn_tail_that_cannot_be_cut(tmp_path: Path, fault: str) -> None:
    """While recovering: nothing is asked, the status is 74, and the next run mends the file."""
    folder = tmp_path / "x"
    folder.mkdir()
    with Endpoint(answer) as endpoint:
        run("llm-map", *words(folder)[2:], stdin=jsonl(*RECORDS), url=endpoint.url)
        whole = (folder / "x.done").read_bytes()
        (folder / "x.done").write_bytes(whole[:-30])
        first = traced(folder, endpoint.url, "x.done", fault)
        assert first.returncode == 74
        assert len(endpoint.asked) == 5
        second = run("llm-map", *words(folder)[2:], stdin=jsonl(*RECORDS), url=endpoint.url)
        assert second.returncode == 0
        assert len(lines(second.stdout)) == 5
        assert len(endpoint.asked) == 6


@pytest.mark.parametrize("room", [1, 150, 200, 400, 401, 640, 900])
def test_a_disk_that_fills_up(tmp_path: Path, room: int) -> None:
    """A real short write: the file may grow to so many bytes, and then the kernel says no."""

    def little_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    with Endpoint(answer) as endpoint:
        first = run("llm-map", *words(tmp_path)[2:], stdin=jsonl(*RECORDS), url=endpoint.url, preexec_fn=little_room)
        assert first.returncode == 74, first.stderr
        assert re.search(r"cannot write done-file .*: File too large", first.stderr.decode())
        done = (tmp_path / "x.done").read_bytes()
        assert not done or done.endswith(b"\n")
        second = run("llm-map", *words(tmp_path)[2:], stdin=jsonl(*RECORDS), url=endpoint.url)
        assert second.returncode == 0, second.stderr
        assert len(lines(second.stdout)) == 5
        assert b"torn" not in second.stderr
        assert len(endpoint.asked) <= 5 + JOBS
