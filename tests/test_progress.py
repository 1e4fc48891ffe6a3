"""llm-progress: its command line, and what a person sees of it in a pipe."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminals import AT_LAST, Terminal, linux, terminal
from tool import BIN, command, environment, run

# -- the command line ---------------------------------------------------------------------------


def refused(*words: str | Path, **more: object) -> str:
    done = run("llm-progress", *words, stdin=b"a\n", timeout=AT_LAST, **more)
    assert (done.returncode, done.stdout) == (2, b""), done.stderr
    message = done.stderr.decode()
    assert message.startswith("llm-progress: ")
    assert message.count("\n") == 1
    return message.removeprefix("llm-progress: ").removesuffix("\n")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["-s", "5", "--size-of", "a"], "cannot use -s and --size-of together: "),
        (["-s", "5", "--size-of", "a", "b.done"], "cannot use -s and --size-of together: "),
        (["-s", "-1"], "cannot use -s -1: it needs a whole number, 0 or more"),
        (["-s", "many"], "cannot use -s many: it needs a whole number, 0 or more"),
        (["-i", "0"], "cannot use -i 0: it needs a number, 0.1 or more"),
        (["-i", "nan"], "cannot use -i nan: it needs a number, 0.1 or more"),
        (["-N", ""], "cannot use -N : it needs something that is not empty"),
        (["--size-of", "-"], "cannot use --size-of -: it needs the name of a file"),
        (["--html", "-", "a"], "cannot use --html -: it needs the name of a file"),
        (["--watch"], "cannot use --watch in a pipe: name the done-files or logs to report on"),
        (["--json"], "cannot use --json in a pipe: name"),
        (["--prometheus", "a"], "cannot use --prometheus in a pipe: name"),
        (["--html", "a"], "cannot use --html in a pipe: name"),
        (["-N", "a", "b.done"], "cannot use -N with files: each is called by its own name"),
        (["--html", "a", "--prometheus", "./a", "b.done"], "cannot use ./a for both --prometheus and --html: "),
    ],
)
def test_refused(words: list[str], reason: str) -> None:
    assert refused(*words).startswith(reason)


def test_what_is_read_is_not_written(tmp_path: Path) -> None:
    for name in ("a.done", "a.log", "size"):
        (tmp_path / name).write_text('{"key":"1","answer":"x"}\n')
    (tmp_path / "link").symlink_to("a.log")
    (tmp_path / "hard").hardlink_to(tmp_path / "a.done")
    for option in ("--html", "--prometheus"):
        for name in ("a.done", "a.log", "link", "hard", "size"):
            reason = refused("--size-of", "size", "a.done", "a.log", option, name, cwd=tmp_path)
            assert reason.endswith(("the same file", "it is a done-file"))
            assert f"cannot use {name} for " in reason
    assert (tmp_path / "a.done").read_text() == '{"key":"1","answer":"x"}\n'


def test_help_loads_no_more_than_it_must() -> None:
    words = [sys.executable, "-X", "importtime", str(BIN / "llm-progress"), "--help"]
    done = subprocess.run(words, env=environment(), capture_output=True, timeout=AT_LAST, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines()}
    assert not {name.partition(".")[0] for name in loaded} & {"asyncio", "orjson", "threading", "socket"}


def test_help_needs_no_package() -> None:
    """In a Python without site-packages."""
    words = [sys.executable, "-S", "-E", str(BIN / "llm-progress"), "--help"]
    done = subprocess.run(words, capture_output=True, timeout=AT_LAST, check=False)
    assert (done.stderr, done.returncode) == (b"", 0)
    assert done.stdout.startswith(b"usage: llm-progress ")


def test_a_pipe_that_nobody_watches_loads_no_more_than_it_must() -> None:
    words = [sys.executable, "-X", "importtime", str(BIN / "llm-progress")]
    done = subprocess.run(words, input=b"", env=environment(), capture_output=True, timeout=AT_LAST, check=True)
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.decode().splitlines()}
    assert not loaded & {"asyncio", "openai", "pypeln", "aiohttp", "jinja2"}


# -- on a terminal ------------------------------------------------------------------------------


class Feed:
    """Pipes of llm-progress on a terminal, and the end that is written to."""

    def __init__(self, it: Terminal, *stages: list[str], **env: str) -> None:
        self.it = it
        reader, self.fd = os.pipe()
        self.processes = []
        for number, words in enumerate(stages):
            last = number == len(stages) - 1
            process = subprocess.Popen(
                command("llm-progress", *words),
                stdin=reader,
                stdout=subprocess.DEVNULL if last else subprocess.PIPE,
                stderr=it.fd,
                env=environment(**{"TERM": "xterm", "LC_ALL": "C.UTF-8", **env}),
            )
            os.close(reader)
            self.processes.append(process)
            if process.stdout:
                reader = os.dup(process.stdout.fileno())
                process.stdout.close()

    def put(self, count: int) -> None:
        os.write(self.fd, b"x\n" * count)

    def end(self) -> list[str]:
        """The screen, when all have ended."""
        os.close(self.fd)
        self.fd = -1
        assert [process.wait(AT_LAST) for process in self.processes] == [0] * len(self.processes)
        return self.it.look()


@contextlib.contextmanager
def feed(it: Terminal, *stages: list[str], **env: str) -> Iterator[Feed]:
    given = Feed(it, *stages, **env)
    try:
        yield given
    finally:
        for process in given.processes:
            process.kill()
            process.wait()
        if given.fd >= 0:
            os.close(given.fd)


def test_one_line_and_a_last_one_that_stays() -> None:
    with terminal() as it, feed(it, ["-s", "100"]) as given:
        it.write("before\r\n")
        given.put(25)
        form = r"llm-progress: 25 of 100 \|█+.? +\| 25\.0 %, \S+/s(, \S+ left)?.*"
        lines = it.until(lambda lines: lines and re.fullmatch(form, lines[-1]))
        assert lines[:-1] == ["before", ""]
        given.put(75)
        it.until(lambda lines: "100 of 100 |" in lines[-1])
        lines = given.end()
        assert lines[0] == "before"
        assert re.fullmatch(r"llm-progress: 100 of 100 \(100\.0 %\), 200 B, (\S+/(s|min), )?\d:\d\d", lines[1])
        assert lines[2:] == []


def test_without_a_size_there_is_no_bar() -> None:
    with terminal() as it, feed(it, []) as given:
        given.put(3)
        form = r"llm-progress: 3 lines, \S+/(s|min), \S+/(s|min) overall, \d:\d\d, 6 B"
        it.until(lambda lines: lines and re.fullmatch(form, lines[-1]))
        assert len(given.end()) == 1


def test_another_width_and_messages_in_between() -> None:
    with terminal() as it, feed(it, ["-s", "100", "-N", "posts"]) as given:
        messages = []
        for number, columns in enumerate((80, 20, 120, 50, 30, 80)):
            it.resize(columns)
            given.put(1)
            it.until(lambda lines, n=number + 1: lines and lines[-1].startswith(f"posts: {n}"))
            messages.append(f"message {number}")
            it.write(f"{messages[-1]}\r\n")
            it.until(lambda lines: lines[-1].startswith("posts: ") and not lines[-2])
            assert [line for line in it.look()[:-1] if line] == messages
        assert given.end()[:-1] == messages


def test_twenty_columns() -> None:
    with terminal(20) as it, feed(it, ["-s", "5000"]) as given:
        given.put(1234)
        it.until(lambda lines: lines == ["", "llm-progress: 1,234"])


@linux
def test_two_of_one_pipe_share_the_line() -> None:
    with terminal(100) as it, feed(it, ["-N", "one", "-s", "10"], ["-N", "two"]) as given:
        given.put(4)
        form = r"one: 4 of 10.*, \S+/(s|min).* \| two: 4 lines, \S+/(s|min).*"
        lines = it.until(lambda lines: lines and re.fullmatch(form, lines[-1]))
        assert len(lines) == 2
        it.write("a message\r\n")
        it.until(lambda lines: re.fullmatch(form, lines[-1]) and lines[:2] == ["a message", ""])
        message, *lines = given.end()
        assert message == "a message"
        assert sorted(line.partition(",")[0] for line in lines) == ["one: 4 of 10 (40.0 %)", "two: 4 lines"]


@linux
def test_three_of_one_pipe_and_one_is_killed() -> None:
    """Whichever it is, the others go on; what is drawn stays one line."""
    with terminal(100) as it, feed(it, *(["-N", name] for name in "abc")) as given:
        given.put(4)
        it.until(lambda lines: lines and re.fullmatch(r"a: 4.* \| b: 4.* \| c: 4.*", lines[-1]))
        given.processes[0].kill()
        lines = it.until(lambda lines: sum("c: 4 lines, 8 B" in line for line in lines) == 1)
        assert [process.wait(AT_LAST) for process in given.processes] == [-signal.SIGKILL, 75, 75]
        lines = it.look()
        assert sorted(line.partition(",")[0] for line in lines if " lines, " in line) == ["b: 4 lines", "c: 4 lines"]
        assert sum(line.startswith("llm-progress: the input is not complete") for line in lines) == 2


def test_a_name_of_wide_characters_and_one_that_would_clear_the_screen() -> None:
    with terminal(60) as it, feed(it, ["-s", "10", "-N", "số dư 進捗 😀"]) as given:
        given.put(5)
        lines = it.until(lambda lines: lines and lines[-1].startswith("số dư 進捗 😀: 5 of 10"))
        assert len(lines) == 2
        assert given.end()[0].startswith("số dư 進捗 😀: 5 of 10 (50.0 %), ")
    with terminal(60) as it, feed(it, ["-N", "a\x1b[2J\nb"]) as given:
        given.put(5)
        it.until(lambda lines: lines and lines[-1].startswith(r"a\x1b[2J\nb: 5 lines"))
        assert given.end()[0].startswith(r"a\x1b[2J\nb: 5 lines, ")


def test_a_terminal_that_is_not_in_utf_8() -> None:
    with terminal() as it, feed(it, ["-s", "10"], LC_ALL="C") as given:
        given.put(5)
        it.until(lambda lines: lines and "5 of 10 |####" in lines[-1])
        assert it.screen.raw.isascii()


def test_a_terminal_that_can_do_nothing_gets_plain_lines() -> None:
    with terminal() as it, feed(it, ["-i", "0.2", "-N", "posts"], TERM="dumb") as given:
        given.put(5)
        it.until(lambda lines: lines and re.match(r"llm-progress: posts: 5 lines, \S+ now", lines[-1]))
        assert given.end()[-1].startswith("llm-progress: posts: 5 lines, 10 B, ")
        assert b"\x1b" not in it.screen.raw


def test_what_it_passes_on_to_the_terminal_itself_stands_alone() -> None:
    with terminal() as it:
        env = environment(TERM="xterm", LC_ALL="C.UTF-8")
        process = subprocess.Popen(command("llm-progress"), stdin=subprocess.PIPE, stdout=it.fd, stderr=it.fd, env=env)
        with process, process.stdin as given:
            assert given
            for number in range(3):
                given.write(b"passed on\n" * 2)
                given.flush()
                seen = [*["passed on"] * 2 * (number + 1), ""]
                it.until(lambda lines, n=number, seen=seen: lines[:-1] == seen and f": {2 * n + 2} " in lines[-1])
        assert it.look()[:-1] == ["passed on"] * 6


def test_quiet_draws_nothing() -> None:
    with terminal() as it, feed(it, ["-q"]) as given:
        given.put(5)
        time.sleep(0.5)
        assert given.end() == []
        assert it.screen.raw == b""


def test_a_signal_leaves_the_last_line_and_no_other() -> None:
    with terminal() as it, feed(it, ["-s", "10"]) as given:
        given.put(5)
        it.until(lambda lines: lines and "5 of 10 |" in lines[-1])
        given.processes[0].send_signal(signal.SIGUSR1)
        it.until(lambda lines: re.match(r"llm-progress: 5 of 10 \(50\.0 %\), \S+ now, ", lines[0]))
        it.until(lambda lines: len(lines) == 3 and not lines[1] and "5 of 10 |" in lines[2])
        given.processes[0].send_signal(signal.SIGTERM)
        assert given.processes[0].wait(AT_LAST) == -signal.SIGTERM
        lines = it.look()
        assert len(lines) == 2
        assert lines[1].startswith("llm-progress: 5 of 10 (50.0 %), 10 B, ")


def test_a_stopped_terminal_stops_no_bytes() -> None:
    with terminal() as it, feed(it, ["-N", "one"]) as given:
        given.put(5)
        it.until(lambda lines: lines and "5 lines" in lines[-1])
        termios.tcflow(it.fd, termios.TCOOFF)
        given.processes[0].send_signal(signal.SIGUSR1)  # what it says now waits
        for _ in range(100):
            given.put(1000)
        termios.tcflow(it.fd, termios.TCOON)
        assert given.end()[-1].startswith("one: 100,005 lines, ")
