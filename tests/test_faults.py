"""System calls that fail: each read, write, fdatasync, ftruncate and open of a short run, once and for good.

strace makes the kernel say no, to the real executable and on one file alone; what it cannot
do, a write that comes back short, a limit on the size of files and a tiny pipe do. What must
hold after each: no hang, no traceback, a status that is not 0 unless all came out, a done-file
that the next run reads without losing what was whole; and that run completes the output and
pays at most for what was in flight.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, NamedTuple, TypeVar

import pytest
from endpoint import Call, Endpoint, Reply, error, says
from little_room import LITTLE_ROOM
from tool import command, environment, jsonl, lines, run

from llmstream.done.line import key_of

Case = TypeVar("Case")
Found = TypeVar("Found")
RECORDS: list[dict[str, Any]] = [{"id": n, "text": f"text {n}"} for n in range(3)]
WANTED = {record["id"]: f"SAY {record['text'].upper()}" for record in RECORDS}
LONG = [{**record, "more": "x" * 30_000} for record in RECORDS]  # read in two pieces, written in none
JOBS = 2

needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
needs_small_pipes = pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="pipes have one size")


class Fault(NamedTuple):
    file: str
    call: str
    error: str
    when: str  # as strace has it: 2 is the second call, 2+ that and all behind it, 1+2 the first, the third, ...


def answer(call: Call) -> Reply:
    return says(call.prompt.upper())


def answer_some(call: Call) -> Reply:
    return error(400, "no") if call.prompt[-1] in "12" else answer(call)


def words(folder: Path, *more: str | Path) -> list[str]:
    return command("llm-map", "-j", JOBS, "-d", folder / "x.done", "-e", folder / "bad", "Say {{ text }}", *more)


def side_by_side(play: Callable[[Case], Found], cases: Iterable[Case]) -> list[Found]:
    def one(case: Case) -> Found:
        try:
            return play(case)
        except BaseException as failed:
            failed.add_note(str(case))
            raise

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(one, cases))


def begin(folder: Path, left: bytes = b"", records: list[Any] = RECORDS) -> None:
    """A folder with the input, and with the done-file that an earlier run left."""
    folder.mkdir(exist_ok=True)
    (folder / "in").write_text(jsonl(*records))
    if left:
        (folder / "x.done").touch(0o600)
        (folder / "x.done").write_bytes(left)


def play_under(
    folder: Path, url: str, wrap: list[str], *more: str | Path, stdin: str = "in"
) -> CompletedProcess[bytes]:
    """Run under something else. Stdout is the file "out"."""
    with (folder / stdin).open("rb") as given, (folder / "out").open("wb") as out:
        return subprocess.run(
            [*wrap, *words(folder, *more)], stdin=given, stdout=out, stderr=subprocess.PIPE,
            env=environment(OPENAI_BASE_URL=url), timeout=60, check=False,
        )  # fmt: skip


def strace(folder: Path, files: Iterable[str], *expressions: str) -> list[str]:
    paths = [word for name in files for word in ("-P", str(folder / name))]
    told = ["strace", "-f", "-qq", "-y", "-s0", "--seccomp-bpf", "-o", str(folder / "strace")]
    return [*told, *paths, *(word for expression in expressions for word in ("-e", expression))]


def traced(
    folder: Path, url: str, fault: Fault, *more: str | Path, stdin: str = "in"
) -> tuple[CompletedProcess[bytes], bool]:
    """Run with a fault; and whether it came to pass."""
    file, call, error, when = fault
    wrap = strace(folder, [file], f"trace={call}", f"inject={call}:error={error}:when={when}")
    first = play_under(folder, url, wrap, *more, stdin=stdin)
    return first, "(INJECTED)" in (folder / "strace").read_text()


def again(folder: Path, endpoint: Endpoint, records: list[Any] = RECORDS) -> CompletedProcess[bytes]:
    """The same command without a fault."""
    return run("llm-map", *words(folder)[2:], stdin=jsonl(*records), url=endpoint.url)


# -- what must hold ------------------------------------------------------------------------------


def printed(data: bytes) -> dict[int, str]:
    """What came out, each record once and right; the last line may be cut."""
    out = [(line["id"], line["output"]) for line in lines(data[: data.rfind(b"\n") + 1])]
    assert set(out) <= set(WANTED.items())
    assert len(out) == len(set(out))
    return dict(out)


def check_told(first: CompletedProcess[bytes]) -> None:
    told = first.stderr.decode()
    assert "Traceback" not in told
    assert "a bug" not in told, told
    assert all(line.startswith("llm-map: ") for line in told.splitlines()), told


def check_kept(folder: Path, *, torn: bool) -> None:
    """Every line of the done-file is whole, but for the last after a fault."""
    data = (folder / "x.done").read_bytes() if (folder / "x.done").exists() else b""
    whole = data[: data.rfind(b"\n") + 1]
    assert all(key_of(line) and b'"crc"' in line for line in whole.splitlines())
    assert torn or whole == data


def check_after(
    folder: Path, endpoint: Endpoint, first: CompletedProcess[bytes], lost: int, records: list[Any] = RECORDS
) -> None:
    """The promises, after a run that met a fault, and that began with so many answers lost."""
    check_told(first)
    check_kept(folder, torn=True)
    out = printed((folder / "out").read_bytes())
    assert first.returncode in (0, 2, 74), first.stderr
    assert first.returncode or out == WANTED, first.stderr
    second = again(folder, endpoint, records)
    assert second.returncode == 0, second.stderr
    assert printed(second.stdout) == WANTED
    assert len(endpoint.asked) <= lost + min(lost, JOBS)
    check_kept(folder, torn=False)


def survive(folder: Path, fault: Fault, left: bytes = b"", lost: int = len(RECORDS)) -> tuple[int, bool]:
    """Run with a fault; the status, and whether the fault came to pass."""
    begin(folder, left)
    with Endpoint(answer) as endpoint:
        first, met = traced(folder, endpoint.url, fault)
        check_after(folder, endpoint, first, lost)
    assert met or first.returncode == 0
    return first.returncode, met


def survive_all(folder: Path, faults: list[Fault], *left: Any) -> set[int]:
    """The statuses of the runs in which the fault came to pass."""
    found = side_by_side(lambda fault: survive(folder / ":".join(fault), fault, *left), faults)
    return {status for status, met in found if met}


# -- a run without a fault, for its calls --------------------------------------------------------


# What an earlier run left: nothing, a line cut short, one that lacks its newline alone, all of it.
# And how much is cut off, and how many answers are lost with it.
LEFT = {"nothing": (-(1 << 20), len(RECORDS)), "torn": (-30, 1), "bare": (-1, 0), "all": (None, 0)}
CALLS = ("openat", "read", "write", "ftruncate", "fdatasync")


class Normal(NamedTuple):
    """What a run begins with, and how often it then calls what on which file."""

    left: bytes
    lost: int
    calls: Counter[tuple[str, str]]

    def each(self, file: str, call: str, once: str = "EIO", for_good: str = "ENOSPC") -> list[Fault]:
        """A fault in the first such call, in the second and so on to the last."""
        numbers = range(1, self.calls[file, call] + 1)
        assert numbers
        return [Fault(file, call, *how) for n in numbers for how in ((once, f"{n}"), (for_good, f"{n}+"))]


@pytest.fixture(scope="module")
def normal(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Normal]:
    folder = tmp_path_factory.mktemp("normal")
    full = b""
    found = {}
    with Endpoint(answer) as endpoint:
        for name, (cut, lost) in LEFT.items():
            left = full[:cut]
            begin(folder / name, left)
            found[name] = Normal(left, lost, calls_of(folder / name, endpoint.url))
            full = full or (folder / name / "x.done").read_bytes()
    return found


# A line of strace's: the thread, the call, and the file that it opens or has open.
_CALL = r'^(\d+) +(\w+)\((?:\d+<|AT_FDCWD[^"]*")[^">]*/([\w.]+)[">]'


def calls_of(folder: Path, url: str) -> Counter[tuple[str, str]]:
    first = play_under(folder, url, strace(folder, ("x.done", "x.done.torn", "out"), f"trace={','.join(CALLS)}"))
    assert first.returncode == 0, first.stderr
    seen = re.findall(_CALL, (folder / "strace").read_text(), re.MULTILINE)
    calls: Counter[tuple[str, str]] = Counter()
    for (_, call, file), n in Counter(seen).items():  # strace counts for each thread by itself
        calls[file, call] = max(calls[file, call], n)
    return calls


# -- the done-file -----------------------------------------------------------------------------


@needs_strace
def test_the_done_file_cannot_be_written(tmp_path: Path, normal: dict[str, Normal]) -> None:
    faults = normal["nothing"].each("x.done", "write")
    assert len(faults) == 2 * len(RECORDS)
    assert survive_all(tmp_path, faults) == {74}


@needs_strace
def test_the_done_file_cannot_be_synced(tmp_path: Path, normal: dict[str, Normal]) -> None:
    faults = normal["nothing"].each("x.done", "fdatasync", for_good="EIO")
    assert survive_all(tmp_path, faults) == {74}


@needs_strace
def test_the_done_file_cannot_be_opened(tmp_path: Path) -> None:
    faults = [Fault("x.done", "openat", error, "1+") for error in ("EIO", "ENOSPC", "EACCES", "EMFILE")]
    assert survive_all(tmp_path, faults) == {2}


@needs_strace
@pytest.mark.parametrize("left", ["torn", "bare"])
def test_a_tail_that_cannot_be_mended(tmp_path: Path, left: str, normal: dict[str, Normal]) -> None:
    """While recovering: nothing more is paid than what was lost, and the next run mends the file."""
    begun = normal[left]
    faults = [fault for call in CALLS if begun.calls["x.done", call] for fault in begun.each("x.done", call)]
    assert {fault.call for fault in faults} == set(CALLS) - ({"ftruncate"} if left == "bare" else set())
    assert survive_all(tmp_path, faults, begun.left, begun.lost) == {2, 74}


@needs_strace
def test_a_torn_tail_that_cannot_be_set_aside(tmp_path: Path, normal: dict[str, Normal]) -> None:
    """That was a courtesy: it is cut off, and the run goes on."""
    begun = normal["torn"]
    faults = [*begun.each("x.done.torn", "openat"), *begun.each("x.done.torn", "write")]
    assert survive_all(tmp_path, faults, begun.left, begun.lost) == {0}


@needs_strace
def test_an_answer_that_cannot_be_read_is_not_paid_again(tmp_path: Path, normal: dict[str, Normal]) -> None:
    faults = [Fault("x.done", "pread64", "EIO", when) for when in ("2", "1+")]
    assert survive_all(tmp_path, faults, normal["all"].left, 0) == {74}


def filled_up(folder: Path, endpoint: Endpoint, room: int, records: list[Any] = RECORDS) -> CompletedProcess[bytes]:
    """Run where no file may grow beyond so many bytes: a real write comes back short, and the next one fails."""
    begin(folder, records=records)
    first = play_under(folder, endpoint.url, [sys.executable, "-c", LITTLE_ROOM, str(room)])
    check_told(first)
    assert first.returncode == 74, first.stderr
    return first


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    def play(room: int) -> None:
        folder = tmp_path / str(room)
        with Endpoint(answer) as endpoint:
            first = filled_up(folder, endpoint, room)
            assert re.search(r"cannot write done-file .*: File too large", first.stderr.decode())
            check_kept(folder, torn=False)
            check_after(folder, endpoint, first, len(RECORDS))
            assert not (folder / "x.done.torn").exists()

    side_by_side(play, [1, 150, 200, 400, 401])


def test_a_disk_that_is_full_while_recovering(tmp_path: Path) -> None:
    """What does not fit the file for torn lines is not said to be there."""
    begin(tmp_path, b'{"key":"' + b"x" * 3000, [])
    first = play_under(tmp_path, "http://127.0.0.1:9/v1", [sys.executable, "-c", LITTLE_ROOM, "2000"])
    assert b"it is cut off, and not set aside: File too large" in first.stderr


# -- stdout ------------------------------------------------------------------------------------


@needs_strace
def test_stdout_cannot_be_written(tmp_path: Path, normal: dict[str, Normal]) -> None:
    assert survive_all(tmp_path, normal["nothing"].each("out", "write")) == {74}


def test_a_disk_that_fills_up_with_the_output(tmp_path: Path) -> None:
    """Records longer than what the done-file keeps of them: there is room for all of that, and not for these."""
    size = len(jsonl(LONG[0])) + len(',"output":"SAY TEXT 0"')

    def play(room: int) -> None:
        folder = tmp_path / str(room)
        with Endpoint(answer) as endpoint:
            first = filled_up(folder, endpoint, room, LONG)
            assert b"cannot write stdout: File too large" in first.stderr
            assert (folder / "out").stat().st_size == room
            assert len(printed((folder / "out").read_bytes())) == room // size
            check_after(folder, endpoint, first, len(RECORDS), LONG)
            assert len(endpoint.asked) == len(RECORDS)

    side_by_side(play, [2000, size - 1, size, 2 * size + 7, 3 * size - 1])


def tiny_pipe(folder: Path, url: str, *, blocking: bool) -> tuple[subprocess.Popen[bytes], int]:
    """Start with stdout a pipe that holds one page, and far longer records; our end of it."""
    begin(folder, records=LONG)
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, blocking)
    with (folder / "in").open("rb") as given:
        env = environment(OPENAI_BASE_URL=url)
        process = subprocess.Popen(words(folder), stdin=given, stdout=writer, stderr=subprocess.PIPE, env=env)
    os.close(writer)
    return process, reader


@needs_small_pipes
def test_a_tiny_pipe(tmp_path: Path) -> None:
    """Writes come back short whenever the reader has made a little room."""

    def play(blocking: bool) -> None:
        with Endpoint(answer) as endpoint:
            process, reader = tiny_pipe(tmp_path / str(blocking), endpoint.url, blocking=blocking)
            got = b""
            while chunk := os.read(reader, 997):
                got += chunk
            os.close(reader)
            _, told = process.communicate(timeout=60)
        assert process.returncode == 0, told
        assert got.endswith(b"\n")
        assert printed(got) == WANTED
        assert all(line["more"] == LONG[0]["more"] for line in lines(got))

    side_by_side(play, [True, False])


@needs_small_pipes
def test_a_reader_that_leaves_within_a_record(tmp_path: Path) -> None:
    def play(blocking: bool) -> None:
        folder = tmp_path / str(blocking)
        with Endpoint(answer) as endpoint:
            process, reader = tiny_pipe(folder, endpoint.url, blocking=blocking)
            assert os.read(reader, 997)
            os.close(reader)
            _, told = process.communicate(timeout=60)
            assert (process.returncode, told) == (-13, b"")
            assert printed(again(folder, endpoint, LONG).stdout) == WANTED
            assert len(endpoint.asked) == len(RECORDS)

    side_by_side(play, [True, False])


# -- the errors file ---------------------------------------------------------------------------


def check_errors(folder: Path, *, torn: bool) -> None:
    """Failed records, each at most once; the last may be cut."""
    data = (folder / "bad").read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    failed = [line["id"] for line in lines(whole)]
    assert len(failed) == len(set(failed))
    assert set(failed) <= {1, 2}
    assert torn or (whole == data and set(failed) == {1, 2})


def check_errors_after(
    folder: Path, endpoint: Endpoint, first: CompletedProcess[bytes], records: list[Any] = RECORDS
) -> None:
    """Nothing is lost, and no answer is paid twice."""
    check_told(first)
    assert first.returncode == 74, first.stderr
    assert b"cannot write errors file" in first.stderr
    check_errors(folder, torn=True)
    second = again(folder, endpoint, records)
    assert second.returncode == 1, second.stderr
    assert printed(second.stdout) == {0: WANTED[0]}
    check_errors(folder, torn=False)
    assert [call.prompt for call in endpoint.asked].count("Say text 0") == 1


@needs_strace
def test_the_errors_file_cannot_be_written(tmp_path: Path) -> None:
    def play(fault: Fault) -> None:
        folder = tmp_path / ":".join(fault)
        begin(folder)
        with Endpoint(answer_some) as endpoint:
            first, met = traced(folder, endpoint.url, fault)
            assert met == (fault.when != "3")
            if met:
                check_errors_after(folder, endpoint, first)
            else:
                assert first.returncode == 1

    cases = [("EIO", "1"), ("ENOSPC", "1+"), ("ENOSPC", "2"), ("EIO", "2+"), ("EIO", "3")]
    side_by_side(play, [Fault("bad", "write", error, when) for error, when in cases])


def test_a_disk_that_fills_up_with_failures(tmp_path: Path) -> None:
    records = [RECORDS[0], *LONG[1:]]
    size = len(jsonl(LONG[1])) + 80  # about, of a failed record

    def play(room: int) -> None:
        folder = tmp_path / str(room)
        with Endpoint(answer_some) as endpoint:
            first = filled_up(folder, endpoint, room, records)
            assert (folder / "bad").stat().st_size <= room
            check_errors_after(folder, endpoint, first, records)

    side_by_side(play, [2000, size // 2, size + size // 2])


@needs_strace
@pytest.mark.parametrize("call", ["openat", "ftruncate"])
def test_the_errors_file_cannot_be_opened(tmp_path: Path, call: str) -> None:
    begin(tmp_path)
    first, met = traced(tmp_path, "http://127.0.0.1:9/v1", Fault("bad", call, "EIO", "1"))
    assert (first.returncode, met) == (2, True)
    assert b"cannot open errors file" in first.stderr
    check_told(first)


# -- input -------------------------------------------------------------------------------------


def feed(folder: Path) -> None:
    """Write the records into the FIFO, for a reader who may leave."""
    try:
        (folder / "fifo").write_text(jsonl(*LONG))
    except BrokenPipeError:
        pass


def read_with(folder: Path, url: str, source: str, fault: Fault) -> tuple[CompletedProcess[bytes], bool]:
    """Run with a fault in what is read: a file by its name, one that is stdin, or a FIFO that is."""
    begin(folder, records=LONG)
    if source == "fifo":
        os.mkfifo(folder / "fifo")
        threading.Thread(target=feed, args=(folder,), daemon=True).start()
    stdin = {"name": os.devnull, "stdin": "in", "fifo": "fifo"}[source]
    return traced(folder, url, fault, *([folder / "in"] if source == "name" else []), stdin=stdin)


@needs_strace
@pytest.mark.parametrize("source", ["name", "stdin", "fifo"])
def test_input_that_cannot_be_read(tmp_path: Path, source: str) -> None:
    """What came before the fault is kept, and never passes for the whole."""
    file = "fifo" if source == "fifo" else "in"

    def play(when: str) -> None:
        folder = tmp_path / when
        with Endpoint(answer) as endpoint:
            first, met = read_with(folder, endpoint.url, source, Fault(file, "read", "EIO", when))
            assert met == (when != "4")  # two pieces, the end, and no more
            assert first.returncode == (2 if met else 0)
            check_after(folder, endpoint, first, len(RECORDS), LONG)
            assert len(endpoint.asked) == len(RECORDS)
        if met:
            told = first.stderr.decode().splitlines()
            said = [line for line in told if not re.match("llm-map: (read|tokens) ", line)]
            assert len(said) == 1
            assert re.search(r"cannot read .*: Input/output error$", said[0])

    side_by_side(play, ["1", "2", "2+", "3", "4"] if source == "name" else ["1", "2", "3"])


# -- interruptions ------------------------------------------------------------------------------


@needs_strace
@pytest.mark.parametrize("left", LEFT)
def test_an_interrupted_call_is_no_failure(tmp_path: Path, left: str, normal: dict[str, Normal]) -> None:
    """Every other call, so that each is interrupted once and then made."""
    begun = normal[left]
    files = {"in": ["read"], "out": ["write"], "x.done": [*CALLS, "pread64", "flock"], "x.done.torn": [*CALLS]}
    faults = [Fault(file, ",".join(calls), "EINTR", "1+2") for file, calls in files.items()]
    assert survive_all(tmp_path, faults, begun.left, begun.lost) == {0}
