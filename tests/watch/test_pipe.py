"""llm-progress in a pipe: every byte, at once, whatever the streams are; and what it says of them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tool import command, environment, run, start

AT_LAST = 30.0  # what hangs is a failure
END = r"llm-progress: (.*)\n"


def passed(*words: str | Path, **more: Any) -> subprocess.CompletedProcess[bytes]:
    """Run it to its end."""
    done = run("llm-progress", *words, timeout=AT_LAST, **more)
    assert b" bug " not in done.stderr, done.stderr
    assert b"Traceback" not in done.stderr, done.stderr
    return done


@contextlib.contextmanager
def started(*words: str | Path, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    with start("llm-progress", *words, **more) as process:
        try:
            yield process
        finally:
            process.kill()


def shell(script: str, *words: str | Path, **more: Any) -> subprocess.CompletedProcess[bytes]:
    """ "$@" is the tool."""
    given = {"capture_output": True, "timeout": AT_LAST, "env": environment(), **more}
    return subprocess.run(["sh", "-c", script, "sh", *command("llm-progress", *words)], check=False, **given)


def until(true: Callable[[], object]) -> None:
    ends = time.monotonic() + AT_LAST
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.01)


def message(line: bytes) -> str:
    return line.decode().removeprefix("llm-progress: ").removesuffix("\n")


# -- the bytes ----------------------------------------------------------------------------------

random.seed(7)
NOISE = random.randbytes(3_000_000)
HUGE = b"x" * 5_000_000 + b"\n" + b"y" * 100_000
DATA = [b"", b"\n", b"a", b"a\nb", b"\0" * 200_000, b"\r\n\r\n\n", NOISE, HUGE, b"y\n" * 300_000]
every_data = pytest.mark.parametrize("data", DATA, ids=["none", "newline", "one", "torn", "nul", "crlf", "noise",
                                                        "huge", "short"])  # fmt: skip


def lines_of(data: bytes) -> int:
    return data.count(b"\n") + (not data.endswith(b"\n") and bool(data))


def says_so(stderr: bytes, data: bytes) -> None:
    """The last line gives the count."""
    count = lines_of(data)
    assert message(stderr).startswith(f"{count:,} line{'' if count == 1 else 's'}, "), stderr


@every_data
def test_through_pipes(data: bytes) -> None:
    done = passed(stdin=data)
    assert (done.returncode, done.stdout == data) == (0, True)
    says_so(done.stderr, data)


@every_data
def test_from_a_file_to_a_file(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(data)
    with open(tmp_path / "in", "rb") as reader, open(tmp_path / "out", "wb") as writer:
        process = subprocess.run(command("llm-progress"), stdin=reader, stdout=writer, stderr=-1, check=True)
    assert (tmp_path / "out").read_bytes() == data
    says_so(process.stderr, data)


def test_through_fifos(tmp_path: Path) -> None:
    for name in ("in", "out"):
        os.mkfifo(tmp_path / name)
    script = 'cat "$IN" > "$D/in" & "$@" < "$D/in" > "$D/out" & cat "$D/out"; wait'
    (tmp_path / "data").write_bytes(NOISE)
    done = shell(script, env=environment(D=str(tmp_path), IN=str(tmp_path / "data")))
    assert done.stdout == NOISE


def test_through_sockets() -> None:
    ours_in, its_in = socket.socketpair()
    ours_out, its_out = socket.socketpair()
    with ours_in, ours_out, started("-q", stdin=its_in, stdout=its_out) as process:
        its_in.close()
        its_out.close()
        sender = threading.Thread(target=lambda: (ours_in.sendall(NOISE), ours_in.close()))
        sender.start()
        got = bytearray()
        while part := ours_out.recv(100_000):
            got += part
        sender.join()
        assert process.wait(AT_LAST) == 0
    assert got == NOISE


def test_a_slow_reader_and_streams_that_do_not_block() -> None:
    """Whoever shares them made them so; nothing is lost, and nobody's flag is changed."""
    reader, feed = os.pipe()
    got_from, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    data = NOISE[:700_000]
    got = bytearray()
    with started(stdin=reader, stdout=writer) as process, os.fdopen(feed, "wb") as feeding:
        feeder = threading.Thread(target=lambda: (feeding.write(data), feeding.close()))
        feeder.start()
        while len(got) < len(data):
            got += os.read(got_from, random.choice((1, 100, 5000, 60_000)))
            if len(got) % 13 == 0:
                time.sleep(0.005)
        feeder.join()
        assert process.wait(AT_LAST) == 0
        assert not os.get_blocking(reader)
        assert not os.get_blocking(writer)
    for fd in (reader, got_from, writer):
        os.close(fd)
    assert got == data


@pytest.mark.parametrize("flags", [0, os.O_NONBLOCK])
def test_stdout_that_blocks_or_not_stays_so(flags: int) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, not flags)
    with started("-q", stdout=writer) as process:
        assert process.stdin
        process.stdin.write(b"a")
        process.stdin.close()
        assert os.read(reader, 5) == b"a"
        assert process.wait(AT_LAST) == 0
        assert os.get_blocking(writer) is not bool(flags)
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("blocking", [True, False])
def test_what_comes_goes_out_at_once(blocking: bool) -> None:
    with started() as process:
        assert process.stdin and process.stdout
        os.set_blocking(process.stdin.fileno(), blocking)
        for part in (b"a", b"bc\n", b"\n", b"d" * 5000):
            os.write(process.stdin.fileno(), part)
            assert select.select([process.stdout], [], [], AT_LAST)[0]
            assert os.read(process.stdout.fileno(), 10_000) == part
        process.stdin.close()
        assert process.wait(AT_LAST) == 0
        assert process.stderr
        assert message(process.stderr.read()).startswith("3 lines, 5.0 kB, ")


def test_what_nobody_has_taken_is_not_counted() -> None:
    """Of a slow reader it tells what went to him, with what the pipe to him holds, and no more."""
    reader, writer = os.pipe()
    holds = fill(writer, reader)
    with started("-q", stdin=subprocess.PIPE, stdout=writer) as process:
        os.close(writer)
        assert process.stdin and process.stderr
        feeder = threading.Thread(target=lambda: (process.stdin.write(b"x\n" * holds), process.stdin.close()))
        feeder.start()
        until(lambda: readable(reader) == holds)
        process.send_signal(signal.SIGUSR1)
        first = message(process.stderr.readline())
        assert first.startswith(f"{holds // 2:,} lines, ")
        assert len(os.read(reader, 8192)) == 8192
        until(lambda: readable(reader) == holds)
        process.send_signal(signal.SIGUSR1)
        assert message(process.stderr.readline()).startswith(f"{holds // 2 + 4096:,} lines, ")
        while os.read(reader, 1 << 16):
            pass
        feeder.join()
        assert process.wait(AT_LAST) == 0
    os.close(reader)


def fill(writer: int, reader: int) -> int:
    """How much a pipe holds."""
    os.set_blocking(writer, False)
    size = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            size += os.write(writer, b"x" * 4096)
    assert len(os.read(reader, size)) == size
    os.set_blocking(writer, True)
    return size


def readable(fd: int) -> int:
    """How many bytes wait in a pipe."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_memory_does_not_grow() -> None:
    def peak(script: str) -> int:
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        done = shell(f'{script} | "$@" > /dev/null', "-q")
        assert done.returncode == 0
        return max(before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)

    small = peak("head -c 1000 /dev/zero")
    assert peak("head -c 300000000 /dev/zero") <= small + 4096


# -- streams that end or fail -------------------------------------------------------------------


def test_a_reader_that_leaves_ends_it() -> None:
    done = shell('yes | "$@" | head -n 1; echo')
    assert done.stdout == b"y\n\n"
    assert re.fullmatch(END, done.stderr.decode())
    done = shell('exec 3>&2; { yes | "$@" -q; echo $? >&3; } | true')
    assert done.stderr == b"141\n"


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_reader_that_leaves_while_nothing_comes(kind: str) -> None:
    reader, writer = os.pipe() if kind == "pipe" else [one.detach() for one in socket.socketpair()]
    with started(stdout=writer) as process:
        os.close(writer)
        assert process.stdin and process.stderr
        os.write(process.stdin.fileno(), b"a\nb")
        assert os.read(reader, 10) == b"a\nb"
        assert process.poll() is None
        os.close(reader)
        assert process.wait(AT_LAST) == -signal.SIGPIPE
        assert message(process.stderr.read()).startswith("1 line, 3 B, ")


def test_a_reader_that_has_left_already() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    for data in (b"", b"a"):
        done = subprocess.run(command("llm-progress", "-q"), input=data, stdout=writer, stderr=-1, check=False)
        assert done.returncode in ((0, -signal.SIGPIPE) if not data else (-signal.SIGPIPE,))
        assert done.stderr == b""
    os.close(writer)


def test_sigpipe_that_is_ignored_is_a_message() -> None:
    done = shell('trap "" PIPE; exec 3>&2; { yes | { "$@"; echo $? >&3; }; } | true', "-q")
    assert re.fullmatch(rb"(yes: .*\n)?llm-progress: cannot write stdout: Broken pipe\n74\n(yes: .*\n)?", done.stderr)


@pytest.mark.parametrize(
    ("where", "why"),
    [(">/dev/full", "No space left on device"), (">&-", "it is closed"), ("1</dev/null", "it is closed")],
)
def test_stdout_that_cannot_be_written(where: str, why: str) -> None:
    done = shell(f'"$@" {where}', "-q", input=b"a\n")
    assert (done.returncode, done.stderr.decode()) == (74, f"llm-progress: cannot write stdout: {why}\n")


def test_its_own_output_is_no_input(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x\n")
    done = shell('"$@" < a >> a', cwd=tmp_path)
    assert done.returncode == 2
    assert (tmp_path / "a").read_bytes() == b"x\n"


@pytest.mark.parametrize("where", ["<&-", "</dev/null", "<&- 2>&-"])
def test_no_input(where: str) -> None:
    done = shell(f'"$@" {where}')
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr == (b"" if "2>" in where else b"llm-progress: 0 lines, 0 B, 0:00\n")


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("0>/dev/null", "cannot read stdin: Bad file descriptor"),
        ("</proc/self/mem", "cannot read stdin: Input/output error"),
    ],
)
def test_input_that_cannot_be_read(where: str, why: str) -> None:
    if "/proc" in where and not os.path.exists("/proc/self/mem"):
        pytest.skip("no /proc")
    done = shell(f'"$@" {where}', "-q")
    assert (done.returncode, done.stderr.decode()) == (2, f"llm-progress: {why}\n")


# -- signals ------------------------------------------------------------------------------------

every_end = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])


@every_end
def test_a_signal_ends_it(number: signal.Signals) -> None:
    with started() as process:
        assert process.stdin and process.stdout and process.stderr
        os.write(process.stdin.fileno(), b"a\nb")
        assert os.read(process.stdout.fileno(), 10) == b"a\nb"
        process.send_signal(number)
        assert process.wait(AT_LAST) == -number
        assert message(process.stderr.read()).startswith("1 line, 3 B, ")


def stuck(process: subprocess.Popen[bytes], reader: int, holds: int) -> bytes:
    """Feed it until it has read more than the pipe behind it holds, and so waits for a reader: what it has read."""
    assert process.stdin
    fd = process.stdin.fileno()
    os.set_blocking(fd, False)
    sent = b""
    ends = time.monotonic() + AT_LAST
    while readable(reader) < holds or len(sent) - readable(fd) <= holds:
        assert time.monotonic() < ends
        with contextlib.suppress(BlockingIOError):
            part = random.randbytes(4096)
            sent += part[: os.write(fd, part)]
    return sent[: len(sent) - readable(fd)]


def test_what_was_read_is_written_before_a_signal_ends_it() -> None:
    reader, writer = os.pipe()
    holds = fill(writer, reader)
    with started("-q", stdout=writer) as process:
        os.close(writer)
        taken = stuck(process, reader, holds)
        process.send_signal(signal.SIGTERM)
        got = b""
        time.sleep(0.1)
        assert process.poll() is None
        while part := os.read(reader, 65536):
            got += part
        assert process.wait(AT_LAST) == -signal.SIGTERM
    os.close(reader)
    assert got == taken


def test_a_second_signal_ends_it_at_once() -> None:
    reader, writer = os.pipe()
    holds = fill(writer, reader)
    with started("-q", stdout=writer) as process:
        os.close(writer)
        stuck(process, reader, holds)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(AT_LAST) == -signal.SIGINT
    os.close(reader)


def test_signals_that_are_ignored_stay_so() -> None:
    done = shell('trap "" INT HUP; { echo a; kill -INT $$; kill -HUP $$; echo b; } | "$@"')
    assert (done.returncode, done.stdout) == (0, b"a\nb\n")


def test_sigusr1_has_it_say_how_far_it_is() -> None:
    with started("-s", "4") as process:
        assert process.stdin and process.stdout and process.stderr
        os.write(process.stdin.fileno(), b"a\n")
        assert os.read(process.stdout.fileno(), 10) == b"a\n"
        process.send_signal(signal.SIGUSR1)
        assert re.fullmatch(
            r"1 of 4 \(25\.0 %\), \S+/(s|min) now, \S+/(s|min) overall, 0:\d\d(, \d+:\d\d left)?",
            message(process.stderr.readline()),
        )
        process.stdin.close()
        assert process.wait(AT_LAST) == 0


def test_a_window_that_changes_is_no_signal_to_it() -> None:
    with started() as process:
        assert process.stdin and process.stdout
        for _ in range(20):
            os.write(process.stdin.fileno(), b"a\n")
            process.send_signal(signal.SIGWINCH)
            assert os.read(process.stdout.fileno(), 10) == b"a\n"
        process.stdin.close()
        assert process.wait(AT_LAST) == 0


# -- what it says -------------------------------------------------------------------------------


def test_a_plain_line_from_time_to_time() -> None:
    """Also when nothing moves, in its form, and the last one is another."""
    with started("-i", "0.3", "-s", "5000", "-N", "posts") as process:
        assert process.stdin and process.stderr
        os.write(process.stdin.fileno(), b"a\n" * 1234)
        form = r"posts: 1,234 of 5,000 \(24\.7 %\), \S+/(s|min) now, \S+/(s|min) overall, 0:\d\d(, \d+:\d\d left)?"
        lines = [message(process.stderr.readline()) for _ in range(2)]
        assert all(re.fullmatch(form, line) for line in lines), lines
        until(lambda: " 0/s now, " in message(process.stderr.readline()))
        process.stdin.close()
        assert process.wait(AT_LAST) == 0
        last = process.stderr.read().decode().splitlines()[-1]
        assert re.fullmatch(r"llm-progress: posts: 1,234 of 5,000 \(24\.7 %\), 2\.5 kB, \S+/s, 0:\d\d", last), last


def test_quiet_says_nothing() -> None:
    assert passed("-q", "-i", "0.1", stdin=b"a\n").stderr == b""
    assert passed("-i", "0.1", stdin=b"a\n", env={"LLMSTREAM_QUIET": "1"}).stderr == b""


def test_the_interval_may_stand_in_the_environment() -> None:
    with started(env={"LLMSTREAM_INTERVAL": "0.1"}) as process:
        assert process.stderr
        assert message(process.stderr.readline()).startswith("0 lines, 0/s now, 0/s overall, 0:00")


@pytest.mark.parametrize(
    ("size", "data", "said"),
    [
        ("3", b"a\nb\nc", "3 of 3 (100.0 %), 5 B, 0:00"),
        ("2", b"a\nb\nc\n", "3 of 2, 6 B, 0:00"),
        ("0", b"", "0 of 0, 0 B, 0:00"),
        ("0", b"a", "1 of 0, 1 B, 0:00"),
        ("10000", b"a\n" * 9999, "9,999 of 10,000 (99.9 %), 20.0 kB, 0:00"),
    ],
)
def test_with_a_size(size: str, data: bytes, said: str) -> None:
    assert message(passed("-s", size, stdin=data).stderr) == said


def test_the_size_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one\n\n \t\r\ntwo\r\n\n\nthree")
    assert message(passed("--size-of", tmp_path / "a", stdin=b"a\n").stderr).startswith("1 of 3 (33.3 %), ")
    (tmp_path / "a").write_bytes(b"")
    assert message(passed("--size-of", tmp_path / "a", stdin=b"a\n").stderr).startswith("1 of 0, ")


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo"])
def test_a_file_that_cannot_be_counted(kind: str, tmp_path: Path) -> None:
    {"missing": lambda path: None, "directory": os.mkdir, "fifo": os.mkfifo}[kind](tmp_path / "a")
    done = passed("--size-of", "a", stdin=b"a\n", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert re.fullmatch(r"cannot count the lines of a: .*", message(done.stderr))
    assert done.stderr.count(b"\n") == 1
