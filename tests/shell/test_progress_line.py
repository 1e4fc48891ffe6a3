"""The progress line: what it says in how much room, and what a terminal shows of it, whoever else writes there."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from terminals import Terminal, linux, terminal, width
from tool import TOP

from llmstream.records import figures, words
from llmstream.shell import messages
from llmstream.shell.progress_line import Line, Shown, compose

# -- a terminal ---------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _a_good_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")


# -- what it says -------------------------------------------------------------------------------

ONE = Shown("llm-map", "1,234 of 5,000", 0.2468, "123/s, 0:32 left, 3 failed, $0.12, 0:10")
TWO = Shown("answers", "99 lines", None, "12/s, 0:08")


def test_a_part_with_a_share_has_a_bar() -> None:
    said = compose([ONE], 100)
    assert re.fullmatch(r"llm-map: 1,234 of 5,000 \|█+[▏▎▍▌▋▊▉]? +\| 24\.7 %, 123/s, 0:32 left, 3 failed, .*", said)
    assert width(said) == 100
    bar = said.partition("|")[2].partition("|")[0]
    assert abs(bar.count("█") / len(bar) - 0.2468) < 1 / len(bar)


def test_the_bar_in_ascii() -> None:
    said = compose([ONE], 100, ascii_only=True)
    assert said.isascii()
    assert "|####" in said


@pytest.mark.parametrize(
    ("share", "bar", "ascii_bar"),
    [
        (0, "        ", "        "),
        (1e-9, "        ", "        "),
        (0.02, "▏       ", "        "),
        (0.0625, "▌       ", "        "),
        (0.125, "█       ", "#       "),
        (0.4, "███▏    ", "###     "),
        (0.99, "███████▉", "####### "),
        (1, "████████", "########"),
    ],
)
def test_a_bar_grows_by_eighths_of_a_cell(share: float, bar: str, ascii_bar: str) -> None:
    part = Shown("a", "b", share)
    columns = len(f"a: b || {figures.percent(share)}") + 8
    assert compose([part], columns).split("|")[1] == bar
    assert compose([part], columns, ascii_only=True).split("|")[1] == ascii_bar


def test_wide_letters_take_two_columns() -> None:
    part = Shown("日本語", "5 of 10", 0.5, "9/s")
    assert [compose([part], columns) for columns in (29, 28, 20, 19, 14, 13, 9, 7, 5, 3)] == [
        "日本語: 5 of 10 (50.0 %), 9/s",
        "日本語: 5 of 10, 9/s",
        "日本語: 5 of 10, 9/s",
        "日本語: 5, 9/s",
        "日本語: 5, 9/s",
        "日本語: 5",
        "日本語: 5",
        "日本: 5",
        "日: 5",
        "5",
    ]
    assert width(compose([part], 60)) == 60


def test_less_room_takes_the_least_important_away() -> None:
    said = [compose([ONE], columns) for columns in (100, 80, 60, 55, 45, 30, 29, 20, 13, 8)]
    assert said[0].endswith("| 24.7 %, 123/s, 0:32 left, 3 failed, $0.12, 0:10")
    assert said[1].endswith("  | 24.7 %, 123/s, 0:32 left")
    assert re.fullmatch(r"llm-map: 1,234 of 5,000 \|.{9}\| 24\.7 %, 123/s, 0:32 left", said[2])
    assert said[3:] == [
        "llm-map: 1,234 of 5,000 (24.7 %), 123/s, 0:32 left",
        "llm-map: 1,234 of 5,000, 123/s",
        "llm-map: 1,234 of 5,000, 123/s",
        "llm-map: 1,234, 123/s",
        "llm-map: 1,234",
        "llm-ma: 1,234",
        "l: 1,234",
    ]


def test_several_parts_stand_side_by_side() -> None:
    assert compose([ONE, TWO], 120) == (
        "llm-map: 1,234 of 5,000 (24.7 %), 123/s, 0:32 left, 3 failed, $0.12, 0:10 | answers: 99 lines, 12/s, 0:08"
    )
    assert compose([ONE, TWO], 70) == "llm-map: 1,234 of 5,000, 123/s | answers: 99 lines, 12/s"
    assert compose([ONE, TWO], 50) == "llm-map: 1,234, 123/s | answers: 99, 12/s"
    assert compose([ONE, TWO], 30) == "llm-map: 1,234 | answers: 99"
    assert compose([ONE, TWO, ONE], 30) == "l: 1,234 | answ: 99 | l: 1,234"


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
PARTS = st.builds(Shown, WORDS, WORDS, st.none() | st.floats(-1, 2), WORDS)


@settings(max_examples=300, deadline=None)
@given(st.lists(PARTS, min_size=1, max_size=5), st.integers(1, 120), st.booleans())
def test_never_wider_than_there_is_room(parts: list[Shown], columns: int, ascii_only: bool) -> None:
    said = compose(parts, columns, ascii_only=ascii_only)
    assert width(said) <= columns
    assert words.escape(said) == said


def test_what_could_move_the_cursor_is_escaped() -> None:
    assert compose([Shown("a\x1b[2Jb", "1\r\n", None, "\u202e")], 80) == r"a\x1b[2Jb: 1\r\n, \u202e"


def test_braces_are_braces() -> None:
    assert compose([Shown("{n}", "{bar}", 0.5, "{0}")], 60).startswith("{n}: {bar} |")


# -- what a terminal shows ----------------------------------------------------------------------


def test_one_line_below_an_empty_row() -> None:
    with terminal() as it:
        it.write("before\r\n")
        drawn = Line(it.fd)
        for count in range(5):
            drawn.draw(TWO._replace(text=f"{count} lines"))
        assert it.look() == ["before", "", "answers: 4 lines, 12/s, 0:08"]
        assert (it.screen.row, it.screen.column) == (1, 0)
        drawn.clear()
        assert it.look() == ["before"]
        it.write("after\r\n")
        assert it.look() == ["before", "after"]


def test_messages_of_others_stand_as_they_were_written() -> None:
    """Also of those who have never heard of us, and at the end of the screen, where it scrolls."""
    with terminal(60, 5) as it:
        drawn = Line(it.fd)
        for count in range(12):
            drawn.draw(TWO)
            it.write(f"message {count}\r\n")
            drawn.draw(TWO)
        assert it.look() == [*(f"message {count}" for count in range(12)), "", "answers: 99 lines, 12/s, 0:08"]
        drawn.clear()
        assert it.look() == [f"message {count}" for count in range(12)]


def test_our_own_messages_leave_no_rest_however_many_come_at_once() -> None:
    with terminal(40, 6) as it:
        drawn = Line(it.fd)
        said = []
        for length in (3, 100, 38, 39, 40, 41, 5):
            drawn.draw(TWO)
            for char in "ab":
                said.append(char * length)
                drawn.say(said[-1])
        drawn.draw(TWO)
        rows = [text[at : at + 40] for text in said for at in range(0, len(text), 40)]
        assert it.look() == [*rows, "", "answers: 99 lines, 12/s, 0:08"]


def test_what_is_typed_or_has_no_newline_stays() -> None:
    with terminal() as it:
        drawn = Line(it.fd)
        drawn.draw(TWO)
        it.write("a question: ")
        drawn.draw(TWO)
        it.write("an answer")
        drawn.draw(TWO)
        assert it.look() == ["a question: an answer", "answers: 99 lines, 12/s, 0:08"]
        it.write("\r\n")
        drawn.draw(TWO)
        assert it.look() == ["a question: an answer", "", "answers: 99 lines, 12/s, 0:08"]


@pytest.mark.parametrize("rows", [6, 10])
def test_another_width_leaves_one_line(rows: int) -> None:
    with terminal(80, rows) as it:
        it.write("before\r\n")
        drawn = Line(it.fd)
        for columns in (80, 30, 20, 9, 100, 41, 40, 60):
            it.resize(columns)
            drawn.draw(ONE)
            drawn.draw(ONE)
            assert it.look()[-2:] == ["", compose([ONE], columns - 1)]
        it.resize(80)
        drawn.clear()
        assert [row for row in it.look() if row] == ["before"]


def test_a_last_line_stays() -> None:
    with terminal() as it:
        drawn = Line(it.fd)
        drawn.draw(ONE)
        drawn.finish("llm-map: that was it \x1b")
        assert it.look() == ["llm-map: that was it \\x1b"]


def test_it_can_be_drawn_again_after_it_was_cleared() -> None:
    with terminal() as it:
        drawn = Line(it.fd)
        for _ in range(2):
            drawn.draw(TWO)
            drawn.clear()
            drawn.clear()
        drawn.draw(TWO)
        assert it.look() == ["", "answers: 99 lines, 12/s, 0:08"]


@pytest.mark.parametrize("term", ["dumb", "", None])
def test_a_terminal_that_can_do_nothing_gets_nothing(term: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if term is None:
        monkeypatch.delenv("TERM")
    else:
        monkeypatch.setenv("TERM", term)
    with terminal() as it:
        drawn = Line(it.fd)
        assert not messages.on_screen(it.fd)
        drawn.draw(ONE)
        drawn.clear()
        drawn.finish("end")
        it.look()
        assert it.screen.raw == b"end\r\n"


def test_what_is_no_terminal_gets_nothing() -> None:
    reader, writer = os.pipe()
    drawn = Line(writer)
    drawn.draw(ONE)
    drawn.clear()
    assert not select.select([reader], [], [], 0)[0]
    os.close(reader)
    os.close(writer)
    drawn.draw(ONE)
    drawn.finish("to nobody")


def test_a_terminal_of_one_row_gets_nothing() -> None:
    with terminal(80, 1) as it:
        Line(it.fd).draw(ONE)
        assert it.look() == []


def test_a_terminal_that_does_not_know_its_size() -> None:
    with terminal() as it:
        termios.tcsetwinsize(it.fd, (0, 0))
        Line(it.fd).draw(ONE)
        assert width(it.look()[-1]) == 79


# -- never waited for ---------------------------------------------------------------------------


def test_a_stopped_terminal_is_not_waited_for() -> None:
    with terminal() as it:
        drawn = Line(it.fd)
        drawn.draw(TWO)
        it.look()
        termios.tcflow(it.fd, termios.TCOOFF)
        for _ in range(3):
            drawn.draw(ONE)
        drawn.clear()
        assert it.look() == ["", "answers: 99 lines, 12/s, 0:08"]
        termios.tcflow(it.fd, termios.TCOON)
        drawn.draw(ONE)
        assert it.look()[-1].startswith("llm-map: 1,234 of 5,000 |")


def test_a_terminal_that_nobody_reads_is_not_waited_for() -> None:
    with terminal() as it:
        drawn = Line(it.fd)
        for _ in range(2000):
            drawn.draw(ONE)
        drawn.clear()


def test_a_terminal_that_is_gone() -> None:
    it = Terminal()
    drawn = Line(it.fd)
    drawn.draw(ONE)
    os.close(it.master)
    drawn.draw(ONE)
    drawn.finish("to nobody")
    os.close(it.fd)
    drawn.draw(ONE)
    drawn.clear()


def test_nobody_elses_descriptor_becomes_non_blocking() -> None:
    with terminal() as it:
        Line(it.fd).draw(ONE)
        assert os.get_blocking(it.fd)


# -- the processes of a pipe --------------------------------------------------------------------


@linux
def test_one_draws_for_all() -> None:
    with terminal() as it:
        one, two = Line(it.fd), Line(it.fd)
        one.draw(ONE)
        two.draw(TWO)
        it.look()
        before = len(it.screen.raw)
        two.draw(TWO)
        assert it.look()[-1].startswith("llm-map: 1,234 of 5,000 |")
        assert len(it.screen.raw) == before
        one.draw(ONE)
        assert it.look() == ["", compose([ONE, TWO], 79)]
        two.finish("answers: 99 lines")
        one.draw(ONE)
        assert it.look() == ["answers: 99 lines", "", compose([ONE], 79)]
        one.finish("llm-map: that was it")
        assert it.look() == ["answers: 99 lines", "llm-map: that was it"]


@linux
def test_another_draws_when_the_first_leaves() -> None:
    with terminal() as it:
        lines = [Line(it.fd) for _ in range(4)]
        parts = [Shown(f"part{number}", f"{number} lines") for number in range(4)]
        for number in range(4):
            for _ in range(2):
                for drawn, part in zip(lines[number:], parts[number:], strict=True):
                    drawn.draw(part)
            lines[number].draw(parts[number])
            shown = set(it.look()[-1].split(" | "))
            assert shown == {f"part{n}: {n} lines" for n in range(number, 4)}
            lines[number].finish(f"part{number} ends")
        assert it.look() == [f"part{number} ends" for number in range(4)]


def door(fd: int) -> str:
    return f"\0llmstream-line-{os.geteuid()}-{os.fstat(fd).st_rdev:x}-{os.getpgrp()}"


@linux
@pytest.mark.parametrize(
    "sent",
    [
        b"\xff",
        b"[]",
        b"{}",
        b"[" * 5000,
        b'[1,"a","b",2,"c"]',
        b'[1,"a","b",NaN,"c"]',
        b'["x","a","b",null,"c"]',
        b'[1,"a","b",null,5]',
        b'[1,"a",null,null,"c"]',
    ],
)
def test_nonsense_is_passed_over(sent: bytes) -> None:
    with terminal() as it, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        drawn = Line(it.fd)
        drawn.draw(TWO)
        other.connect(door(it.fd))
        other.send(sent)
        for _ in range(2):
            drawn.draw(TWO)
        assert it.look() == ["", "answers: 99 lines, 12/s, 0:08"]
        other.send(b'[1,"a\\u001b","b",null,"c"]')
        drawn.draw(TWO)
        assert sorted(it.look()[-1].split(" | ")) == sorted(["a\\x1b: b, c", "answers: 99 lines, 12/s, 0:08"])


@linux
def test_who_draws_but_does_not_listen_is_not_waited_for() -> None:
    with terminal() as it, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as deaf:
        deaf.bind(door(it.fd))
        deaf.listen(1)
        lines = [Line(it.fd) for _ in range(4)]
        for _ in range(500):
            for drawn in lines:
                drawn.draw(ONE)
        assert it.look() == []
        deaf.close()
        lines[0].draw(ONE)
        lines[0].draw(ONE)
        assert it.look()[-1].startswith("llm-map: 1,234 of 5,000 |")
        for drawn in lines:
            drawn.clear()


AS_NOBODY = """
import os, socket, sys
os.setuid(65534)
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
if sys.argv[1] == "listen":
    sock.bind("\\0" + sys.argv[2])
    sock.listen()
    print(flush=True)
    sys.stdin.read()
else:
    sock.connect("\\0" + sys.argv[2])
    sock.send(b'[1,"forged","b",null,"c"]')
    print(flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def nobody(what: str, fd: int) -> Iterator[None]:
    """A process of another user at the door."""
    words = [sys.executable, "-c", AS_NOBODY, what, door(fd)[1:]]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"\n"
        yield
        process.kill()


@linux
@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user")
def test_another_user_is_not_heard() -> None:
    with terminal() as it:
        drawn = Line(it.fd)
        drawn.draw(TWO)
        with nobody("connect", it.fd):
            drawn.draw(TWO)
            drawn.draw(TWO)
            assert it.look() == ["", "answers: 99 lines, 12/s, 0:08"]


@linux
@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user")
def test_another_user_is_told_nothing() -> None:
    with terminal() as it, nobody("listen", it.fd):
        drawn = Line(it.fd)
        drawn.draw(TWO)
        assert it.look() == ["", "answers: 99 lines, 12/s, 0:08"]
        drawn.clear()


# -- the foreground -----------------------------------------------------------------------------

PLAY = """
import fcntl, os, signal, sys, termios, time
from llmstream.shell.progress_line import Line, Shown
fcntl.ioctl(2, termios.TIOCSCTTY, 0)
child = os.fork()
if child:
    os.setpgid(child, child)
    if sys.argv[1] == "foreground":
        os.tcsetpgrp(2, child)
    print(child, flush=True)
    os.waitpid(child, 0)
    sys.exit()
while os.getpgrp() != os.getpid() or (os.tcgetpgrp(2) == os.getpid()) != (sys.argv[1] == "foreground"):
    time.sleep(0.01)
drawn = Line()
signal.signal(signal.SIGTSTP, drawn.suspend)
for count in range(int(sys.argv[2])):
    drawn.draw(Shown("me", f"{count} lines"))
    time.sleep(0.01)
drawn.finish("me: the end")
"""


@contextlib.contextmanager
def playing(it: Terminal, where: str, times: int) -> Iterator[int]:
    """Somebody who draws in a process group of its own, as a shell would have it: the process."""
    process = subprocess.Popen(
        [sys.executable, "-c", PLAY, where, str(times)],
        cwd=TOP,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=it.fd,
        start_new_session=True,
    )
    assert process.stdout
    with process, process.stdout as out:
        child = int(out.readline())
        try:
            yield child
        finally:
            for pid in (child, process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def test_in_the_background_nothing_is_drawn() -> None:
    with terminal() as it, playing(it, "background", 50):
        assert it.until(lambda lines: lines) == ["me: the end"]
        assert it.screen.raw == b"me: the end\r\n"


def test_in_the_foreground_it_is() -> None:
    with terminal() as it, playing(it, "foreground", 50):
        it.until(lambda lines: lines[-1:] == ["me: 7 lines"] or lines == ["me: the end"])
        assert it.until(lambda lines: lines == ["me: the end"])


def is_stopped(process: int) -> bool:
    with open(f"/proc/{process}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] == b"T"


@linux
def test_the_line_goes_while_the_job_is_stopped() -> None:
    with terminal() as it, playing(it, "foreground", 100_000) as process:
        for _ in range(3):
            it.until(lambda lines: lines and lines[-1].startswith("me: "))
            os.kill(process, signal.SIGTSTP)
            it.until(lambda lines: not lines or not lines[-1].startswith("me: "), "it does not go")
            it.until(lambda lines: is_stopped(process), "it does not stop")
            it.write("[1]+ Stopped\r\n")
            assert it.look(0.1)[-1] == "[1]+ Stopped"
            os.kill(process, signal.SIGCONT)
