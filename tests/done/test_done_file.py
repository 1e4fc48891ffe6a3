"""The done-file: whatever happens to it or to the process, never a wrong answer and never more lost than must be."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tool import TOP

from llmstream.done import done_file
from llmstream.done.done_file import DiskFailed, DoneFile, Index, key_of, seal, sealed
from llmstream.shell.messages import Stop


def fields(number: int, **more: Any) -> dict[str, Any]:
    told = {
        "key": f"{number:032x}",
        "answer": f'say "{number}" é\n',
        "model": "sim",
        "usage": {"input": 8, "output": 2},
    }
    return {**told, "latency": 0.12, "attempts": 1, "at": "2026-11-20T10:30:00Z", "id": f"DS_{number}", **more}


FIVE = [fields(number) for number in range(5)]
LINES = [seal(line) for line in FIVE]
WHOLE = b"".join(LINES)
real_fdatasync = os.fdatasync


@pytest.fixture(autouse=True)
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is warned of; and small tables, for a table of the real size takes longer than a test."""
    monkeypatch.setattr(Index, "SLOTS", 64)
    told: list[str] = []
    monkeypatch.setattr(done_file, "warn", told.append)
    return told


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """For thousands of files, none of which has to survive anything."""
    monkeypatch.setattr(os, "fdatasync", lambda _: None)
    monkeypatch.setattr(os, "fsync", lambda _: None)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[DoneFile]:
    it = DoneFile(str(path))
    try:
        yield it
    finally:
        os.close(it.fd)


def written(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


def found(it: DoneFile, lines: list[dict[str, Any]] = FIVE) -> list[dict[str, Any] | None]:
    return [it.find(line["key"]) for line in lines]


def answers(it: DoneFile) -> list[str | None]:
    return [line and line["answer"] for line in found(it)]


def plain(line: dict[str, Any] | None) -> dict[str, Any] | None:
    return line and {name: value for name, value in line.items() if name != "crc"}


def refusal(path: Path) -> Stop:
    with pytest.raises(Stop) as told, opened(path):
        pass
    return told.value


# -- what is written is found, what is damaged never is ----------------------------------------------


def test_what_is_appended_is_found_now_and_later(tmp_path: Path, warnings: list[str]) -> None:
    path = tmp_path / "x.done"
    with opened(path) as it:
        for line in FIVE:
            it.append(line)
            assert plain(it.find(line["key"])) == line
        assert it.find("f" * 32) is None
        assert it.usable == 0
    assert path.read_bytes() == WHOLE
    with opened(path) as it:
        assert list(map(plain, found(it))) == FIVE
        assert (it.usable, warnings) == (5, [])


def test_a_long_line_is_found(tmp_path: Path) -> None:
    long = [fields(number, answer="é" * size) for number, size in enumerate((2000, 4096, 20_000, 1_000_000))]
    with opened(tmp_path / "x.done") as it:
        for line in long:
            it.append(line)
        assert list(map(plain, found(it, long))) == long


@pytest.mark.parametrize("order", ["as they stand", "backwards", "about as they stand", "anyhow", "each twice"])
@pytest.mark.parametrize("longest", [300, 30_000])
def test_lines_are_found_in_any_order(tmp_path: Path, order: str, longest: int) -> None:
    chance = random.Random(order)
    lines = [fields(number, answer="x" * chance.randrange(longest)) for number in range(1500)]
    path = written(tmp_path / "x.done", b"".join(map(seal, lines[:1400])))
    wanted = {
        "as they stand": lines,
        "backwards": lines[::-1],
        "about as they stand": sorted(lines, key=lambda line: lines.index(line) + chance.randrange(300)),
        "anyhow": chance.sample(lines, len(lines)),
        "each twice": [line for pair in zip(lines, lines, strict=True) for line in pair],
    }[order]
    with opened(path) as it:
        for line in lines[1400:]:
            assert it.find(lines[1390]["key"])  # what stands before the line that comes is known
            it.append(line)
            assert plain(it.find(line["key"])) == line
        assert list(map(plain, found(it, wanted))) == wanted


@pytest.mark.usefixtures("unsynced")
def test_a_last_line_torn_at_any_byte(tmp_path: Path, warnings: list[str]) -> None:
    path = tmp_path / "x.done"
    for size in range(len(WHOLE) + 1):
        warnings.clear()
        written(path, WHOLE[:size])
        whole = sum(size >= len(b"".join(LINES[: n + 1])) - 1 for n in range(5))  # the newline may be missing
        torn = size > len(b"".join(LINES[:whole]))
        with opened(path) as it:
            assert list(map(plain, found(it))) == FIVE[:whole] + [None] * (5 - whole)
            assert len(warnings) == torn
            it.append(fields(9))
        assert path.read_bytes() == b"".join(LINES[:whole]) + seal(fields(9))
    assert f"x.done:5: the last line was torn; it is set aside in {path}.torn" in warnings[0] if warnings else True
    assert (tmp_path / "x.done.torn").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "x.done.torn").read_bytes().endswith(LINES[4][:-2] + b"\n")


@pytest.mark.usefixtures("unsynced")
@pytest.mark.parametrize("change", [lambda byte: byte ^ 1, lambda _: 0, lambda _: 10, lambda _: 34, lambda _: 125])
def test_any_one_byte_changed(tmp_path: Path, warnings: list[str], change: Callable[[int], int]) -> None:
    path = tmp_path / "x.done"
    for place in range(len(WHOLE)):
        warnings.clear()
        data = bytearray(WHOLE)
        data[place] = change(data[place])
        written(path, bytes(data))
        with opened(path) as it:
            answered = answers(it)
            lost = [n for n in range(5) if answered[n] is None]
            assert [told for told in answered if told] == [FIVE[n]["answer"] for n in range(5) if n not in lost]
            assert len(lost) <= (2 if place + 1 in {len(b"".join(LINES[:n])) for n in range(1, 5)} else 1)
            assert bool(warnings) == bool(lost)
            assert len(warnings) <= 2  # a newline makes two lines of one
            it.append(fields(9))
            assert plain(it.find(fields(9)["key"])) == fields(9)
        with opened(path) as it:
            assert answers(it) == answered
        assert path.read_bytes().endswith(b"\n" + seal(fields(9)))


ONE, TWO = LINES[:2]
CONTENTS = [  # what is in the file, which of five are found, how many warnings
    (b"", "", 0),
    (b"\n\n" + ONE + b" \n\r\n" + TWO + b"\n", "01", 0),
    (WHOLE.replace(b"\n", b"\r\n"), "01234", 0),
    (WHOLE.replace(b"\n", b" \t\n"), "01234", 0),
    (WHOLE[:-1], "01234", 0),
    (WHOLE[:-1] + b"  ", "01234", 0),
    (ONE[:-1] + TWO + LINES[2], "2", 1),
    (ONE + b"\0" * 5000 + b"\n" + TWO, "01", 1),
    (ONE + TWO[:40] + b"\0" * 4096 + LINES[2][9:] + LINES[3], "03", 1),
    (ONE + b"\0" * 5000, "0", 1),
    (ONE + b"   ", "0", 1),
    (b"\xef\xbb\xbf" + ONE + TWO, "1", 1),
    (ONE + b"[]\nnull\n7\n{}\n" + TWO, "01", 4),
    (b"\xff\xfe\n" + ONE, "0", 1),
    (LINES[4] + LINES[2] + LINES[0], "024", 0),
    (WHOLE + WHOLE, "01234", 0),
    (ONE.replace(b",", b", ").replace(b"}", b"} "), "", 1),
]


@pytest.mark.parametrize(("data", "numbers", "warned"), CONTENTS)
def test_what_may_stand_in_a_file(tmp_path: Path, warnings: list[str], data: bytes, numbers: str, warned: int) -> None:
    with opened(written(tmp_path / "x.done", data)) as it:
        assert answers(it) == [line["answer"] if str(n) in numbers else None for n, line in enumerate(FIVE)]
        assert it.usable == len(numbers)
        assert len(warnings) == warned
        it.append(fields(9))
        assert plain(it.find(fields(9)["key"])) == fields(9)
    with opened(tmp_path / "x.done") as it:
        assert it.usable == len(numbers) + 1


def test_two_files_in_one(tmp_path: Path, warnings: list[str]) -> None:
    newer = seal(fields(1, answer="newer"))
    with opened(written(tmp_path / "c.done", WHOLE + newer + seal(fields(7)))) as it:
        assert answers(it)[:3] == [FIVE[0]["answer"], "newer", FIVE[2]["answer"]]
        assert (it.usable, warnings) == (6, [])


def test_few_words_about_many_damaged_lines(tmp_path: Path, warnings: list[str]) -> None:
    path = written(tmp_path / "x.done", b"broken\n" * 1000 + ONE)
    with opened(path) as it:
        assert answers(it)[0] == FIVE[0]["answer"]
    assert warnings[0] == f"ignoring {path}:1: the line is damaged"
    assert warnings[done_file.SHOWN :] == [f"ignoring 990 further damaged lines of {path}"]


# -- lines by hand ---------------------------------------------------------------------------------------

KEY = FIVE[0]["key"]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (f'{{"key":"{KEY}","answer":"by hand"}}', "by hand"),
        (f' {{ "answer" : "by hand" ,\t"key" : "{KEY}" }} ', "by hand"),
        (f'{{"answer":"by hand","key":"{KEY}","crc":null,"note":[1]}}', "by hand"),
        (f'{{"key":"{KEY[:-1]}\\u0030","answer":"by hand"}}', "by hand"),
        (ONE.decode()[:-19].replace("say", "said") + "}", FIVE[0]["answer"].replace("say", "said")),
        (f'{{"key":"{KEY}","answer":1}}', None),
        (f'{{"key":"{KEY}"}}', None),
        (f'{{"key":["{KEY}"],"answer":"x"}}', None),
        (f'["{KEY}","x"]', None),
    ],
)
@pytest.mark.parametrize("end", ["\n", "", "\r\n"])
def test_a_line_by_hand(tmp_path: Path, warnings: list[str], line: str, answer: str | None, end: str) -> None:
    with opened(written(tmp_path / "x.done", TWO + (line + end).encode())) as it:
        assert answers(it)[:2] == [answer, FIVE[1]["answer"]]
        assert len(warnings) == (answer is None)


@pytest.mark.parametrize(
    "line",
    [
        ONE.replace(b"say", b"said"),
        ONE.replace(b",", b", "),
        ONE.replace(b'"crc":"', b'"crc": "'),
        b'{"crc":"00000000","key":"%b","answer":"x"}\n' % KEY.encode(),
    ],
)
def test_a_line_that_was_mended_and_keeps_its_crc(tmp_path: Path, warnings: list[str], line: bytes) -> None:
    with opened(written(tmp_path / "x.done", line)) as it:
        assert answers(it)[0] is None
    assert warnings == [f"ignoring {it.path}:1: the line is damaged; if you mended it by hand, delete its crc"]


BAD = seal(fields(0, answer="no", rejected="schema: it is not JSON", asked=1))
WORSE = seal(fields(0, answer="worse", rejected="length: cut off", asked=2))
NEWER = seal(fields(0, answer="newer"))
LOOKS_BAD = seal(fields(0, answer='{"rejected":1}', id="rejected"))


@pytest.mark.parametrize(
    ("lines", "answer"),
    [
        ((BAD,), "no"),
        ((BAD, WORSE), "worse"),
        ((BAD, ONE), FIVE[0]["answer"]),
        ((ONE, BAD), FIVE[0]["answer"]),
        ((ONE, BAD, WORSE), FIVE[0]["answer"]),
        ((BAD, ONE, WORSE, NEWER, BAD), "newer"),
        ((ONE, NEWER), "newer"),
        ((NEWER, ONE), FIVE[0]["answer"]),
        ((ONE, LOOKS_BAD), '{"rejected":1}'),
        ((ONE, BAD[:-19].replace(b'"rejected":', b'"rejected" : ') + b"}\n"), FIVE[0]["answer"]),
        ((ONE, NEWER.replace(b"newer", b"n3wer")), FIVE[0]["answer"]),
    ],
)
@pytest.mark.parametrize("tail", [b"\n", b""])
def test_the_last_line_counts_but_rejected_never_hides_accepted(
    tmp_path: Path, lines: tuple[bytes, ...], answer: str, tail: bytes
) -> None:
    with opened(written(tmp_path / "x.done", b"".join(lines).removesuffix(b"\n") + tail)) as it:
        assert answers(it)[0] == answer
        assert it.usable == 1


@given(st.binary(max_size=200) | st.binary(max_size=30).map(lambda more: ONE[:-1] + more))
def test_any_line_has_a_key_or_none(line: bytes) -> None:
    assert key_of(line) in (None, KEY.encode())


@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=12))
def test_lines_are_sealed_as_one_by_one(place: int, other: bytes) -> None:
    lines = (WHOLE[:place] + other + WHOLE[place + len(other) :]).splitlines()
    assert not sealed(lines) or all(key_of(line) for line in lines)
    assert sealed(lines) == (other == WHOLE[place : place + len(other)])


def test_many_lines_with_one_that_is_not_as_we_write_them(tmp_path: Path, warnings: list[str]) -> None:
    lines = [seal(fields(number, answer="x" * 300)) for number in range(10_000)]  # more than are read at once
    for odd, usable in (
        (b"{}\n", 9_999),
        (lines[5000].replace(b"x", b"y", 1), 9_999),
        (lines[5000][:-1] + b" \r\n", 10_000),
    ):
        some = [*lines[:5000], odd, *lines[5001:]]
        with opened(written(tmp_path / "x.done", b"".join(some))) as it:
            assert it.usable == usable
            assert all(it.find(f"{number:032x}") for number in range(10_000) if number != 5000)
        assert len(warnings) == 10_000 - usable
        assert all(":5001: " in told for told in warnings)
        warnings.clear()


# -- opening ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_a_new_file_is_for_its_owner_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with opened(tmp_path / "x.done"):
            assert (tmp_path / "x.done").stat().st_mode & 0o7777 == 0o600
    finally:
        os.umask(before)


def _link(path: Path) -> None:
    written(path.with_name("real"), WHOLE)
    path.symlink_to("real")


def _others(path: Path) -> None:
    written(path, WHOLE, 0o602)


def _group(path: Path) -> None:
    written(path, WHOLE, 0o620)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_link, "it is a link"),
        (lambda path: path.symlink_to("nowhere"), "it is a link"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.mkdir(), "directory"),
        (lambda path: path.symlink_to("/dev/null"), "it is a link"),
        (_others, "chmod go-w "),
        (_group, "chmod go-w "),
    ],
)
def test_a_file_that_is_refused(tmp_path: Path, make: Callable[[Path], None], said: str) -> None:
    path = tmp_path / "x.done"
    make(path)
    told = refusal(path)
    assert told.status == 2
    assert said in told.reason
    assert str(path) in told.reason
    assert "chmod" not in said or told.reason.endswith(f"chmod go-w {path}")


def test_a_device_a_missing_directory_and_somebody_elses_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refusal(Path("/dev/null")).status == 2
    assert refusal(tmp_path / "none" / "x.done").status == 2
    path = written(tmp_path / "x.done", WHOLE)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert f"belongs to user {os.getuid()}, not to you" in refusal(path).reason


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640, 0o700])
def test_a_file_that_others_may_read_is_used(tmp_path: Path, mode: int) -> None:
    with opened(written(tmp_path / "x.done", WHOLE, mode)) as it:
        assert it.usable == 5


HOLDER = """
import sys
from llmstream.done import DoneFile
it = DoneFile(sys.argv[1])
print(flush=True)
sys.stdin.read()
"""


def other(tmp_path: Path, script: str, *words: str | Path) -> subprocess.Popen[bytes]:
    program = tmp_path / "llm-other"
    program.write_text(script)
    return subprocess.Popen(
        [sys.executable, program, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(TOP)},
    )


def test_one_process_at_a_time_and_the_holder_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "x.done", WHOLE + b"torn")
    with other(tmp_path, HOLDER, path) as holder:
        assert holder.stdout
        holder.stdout.readline()
        began = time.monotonic()
        told = refusal(path)
        assert time.monotonic() - began < 1
        assert told.status == 75
        assert f"llm-other (process {holder.pid}) is using it" in told.reason
        holder.kill()
    with opened(path) as it:  # a dead process keeps nothing
        assert it.usable == 5


def test_a_second_opening_in_the_same_process_is_refused_too(tmp_path: Path) -> None:
    with opened(tmp_path / "x.done"):
        assert f"(process {os.getpid()})" in refusal(tmp_path / "x.done").reason
        status = (tmp_path / "x.done").stat()
    assert status.st_size == 0


@pytest.mark.usefixtures("unsynced")
def test_of_many_that_create_it_at_once_one_gets_it(tmp_path: Path) -> None:
    for turn in range(10):
        start, told = threading.Barrier(8), []

        def create(path: Path, start: threading.Barrier = start, told: list[Any] = told) -> None:
            start.wait()
            try:
                told.append(DoneFile(str(path)))
            except Stop as stop:
                told.append(stop.status)

        threads = [threading.Thread(target=create, args=[tmp_path / f"{turn}.done"]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (it,) = [one for one in told if isinstance(one, DoneFile)]
        assert told.count(75) == 7
        os.close(it.fd)


def test_a_holder_that_nobody_can_name(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    assert done_file._holder(fd) == "another process"
    os.close(fd)


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    told = refusal(tmp_path / "x.done")
    assert told.status == 74
    assert told.reason.endswith("No locks available")


def test_what_a_killed_run_left_is_on_disk_before_it_is_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    with opened(written(tmp_path / "x.done", WHOLE)) as it:
        assert synced == [it.fd]


# -- a tail that has to be mended ---------------------------------------------------------------------------


class Killed(BaseException):
    """kill -9: nothing of ours runs after it."""


def fails(error: BaseException) -> Callable[..., Any]:
    def call(*_: Any, **__: Any) -> Any:
        raise error

    return call


NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("call", ["write", "ftruncate", "fdatasync", "fsync"])
@pytest.mark.parametrize("data", [WHOLE[:-1], WHOLE[:-9], WHOLE])
def test_killed_while_mending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, data: bytes) -> None:
    path = written(tmp_path / "x.done", data)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails(Killed()))
        with contextlib.suppress(Killed):
            DoneFile(str(path))
    for fd in Path("/proc/self/fd").iterdir():  # as the end of the process would
        with contextlib.suppress(OSError):
            if fd.readlink().parent == tmp_path:
                os.close(int(fd.name))
    with opened(path) as it:
        assert answers(it)[:4] == [line["answer"] for line in FIVE[:4]]
        assert (answers(it)[4] is None) == (data == WHOLE[:-9])
    assert path.read_bytes() == (WHOLE if data != WHOLE[:-9] else b"".join(LINES[:4]))


@pytest.mark.parametrize(("data", "call"), [(WHOLE[:-1], "write"), (WHOLE[:-9], "ftruncate"), (WHOLE, "fdatasync")])
def test_a_disk_that_fails_while_mending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, call: str
) -> None:
    path = written(tmp_path / "x.done", data)
    monkeypatch.setattr(os, call, fails(NO_SPACE))
    told = refusal(path)
    assert (told.status, told.reason) == (74, f"cannot recover done-file {path}: No space left on device")
    assert path.read_bytes() == data


def _torn_link(torn: Path) -> None:
    written(torn.with_name("precious"), b"precious")
    torn.symlink_to("precious")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_torn_link, "it is a link"),
        (os.mkfifo, "not a regular file"),
        (lambda torn: torn.mkdir(), "directory"),
        (lambda torn: written(torn, b"", 0o666), "others can write it"),
    ],
)
def test_a_tail_is_cut_off_where_it_cannot_be_set_aside(
    tmp_path: Path, warnings: list[str], make: Callable[[Path], None], said: str
) -> None:
    path = written(tmp_path / "x.done", WHOLE[:-9])
    make(tmp_path / "x.done.torn")
    with opened(path) as it:
        assert it.usable == 4
    assert path.read_bytes() == b"".join(LINES[:4])
    assert len(warnings) == 1
    assert "the last line was torn; it is cut off, and not set aside: " in warnings[0]
    assert said in warnings[0]
    if (tmp_path / "precious").exists():
        assert (tmp_path / "precious").read_bytes() == b"precious"


def test_what_is_set_aside_is_kept_each_time(tmp_path: Path) -> None:
    for size in (9, 30):
        with opened(written(tmp_path / "x.done", WHOLE[:-size])):
            pass
    assert (tmp_path / "x.done.torn").read_bytes() == LINES[4][:-9] + b"\n" + LINES[4][:-30] + b"\n"


# -- a process that is killed, a disk that is full, a file that is not left alone --------------------------------

WRITER = """
import sys
from llmstream.done import DoneFile
it = DoneFile(sys.argv[1])
number = it.usable
while True:
    it.append({"key": f"{number:032x}", "answer": "a" * (number % 97)})
    number += 1
    print(number, flush=True)
"""


def test_killed_while_writing_nothing_is_lost(tmp_path: Path, warnings: list[str]) -> None:
    path = tmp_path / "x.done"
    for turn in range(4):
        with other(tmp_path, WRITER, path) as writer:
            assert writer.stdout
            for _ in range(50 + 37 * turn):
                last = int(writer.stdout.readline())
            writer.kill()
            last = int((writer.stdout.read().splitlines() or [last])[-1])
        with opened(path) as it:
            assert last <= it.usable <= last + 1
            assert all(it.find(f"{number:032x}") for number in range(last))
    assert len(warnings) <= 4


SMALL_DISK = """
import resource, sys
from llmstream.done import DiskFailed, DoneFile
it = DoneFile(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
number = 0
try:
    while True:
        it.append({"key": f"{number:032x}", "answer": "a"})
        number += 1
except DiskFailed as error:
    print(number, error)
try:
    it.append({"key": "f" * 32, "answer": "a"})
except DiskFailed as error:
    print(error)
"""


@pytest.mark.parametrize("size", [0, 1, 200, 801, 1234])
def test_a_full_disk_leaves_whole_lines(tmp_path: Path, warnings: list[str], size: int) -> None:
    path = tmp_path / "x.done"
    with other(tmp_path, SMALL_DISK, path, str(size)) as writer:
        assert writer.stdout
        first, again = writer.stdout.read().decode().splitlines()
    number, _, reason = first.partition(" ")
    assert reason == again == f"cannot write done-file {path}: File too large"
    line = seal({"key": "0" * 32, "answer": "a"})
    assert int(number) == size // len(line)
    assert path.stat().st_size == int(number) * len(line)
    with opened(path) as it:
        assert (it.usable, warnings) == (int(number), [])
        it.append(fields(99))
        assert it.find(fields(99)["key"])


def test_a_full_disk_that_cannot_even_be_cut_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.done"
    with opened(path) as it:
        it.append(FIVE[0])
        with monkeypatch.context() as patch:
            patch.setattr(os, "ftruncate", fails(NO_SPACE))
            patch.setattr(os, "write", _short(os.write, 30))
            with pytest.raises(DiskFailed):
                it.append(FIVE[1])
        assert plain(it.find(KEY)) == FIVE[0]
    assert path.read_bytes() == ONE + TWO[:30]
    with opened(path) as it:
        assert it.usable == 1


def _short(write: Callable[[int, bytes], int], size: int) -> Callable[[int, bytes], int]:
    """A write that takes some bytes and then finds the disk full."""
    room = [size]

    def call(fd: int, data: bytes) -> int:
        if not room[0]:
            raise NO_SPACE
        count = write(fd, data[: room[0]])
        room[0] -= count
        return count

    return call


def test_somebody_appends_while_we_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.done"
    with opened(path) as it:
        it.append(FIVE[0])
        with path.open("ab") as foreign:
            foreign.write(LINES[1])
        it.append(FIVE[2])
        assert answers(it)[:3] == [FIVE[0]["answer"], None, FIVE[2]["answer"]]
        monkeypatch.setattr(os, "write", _short(os.write, 30))
        with pytest.raises(DiskFailed):
            it.append(FIVE[3])
    assert path.read_bytes() == b"".join(LINES[:3])  # ours only is cut back


def test_somebody_writes_into_the_file_while_we_have_it(tmp_path: Path) -> None:
    path = written(tmp_path / "x.done", WHOLE)
    with opened(path) as it:
        with path.open("r+b") as foreign:
            foreign.write(LINES[1])
            foreign.seek(len(LINES[0]) * 2 + 60)
            foreign.write(b"x")
        assert answers(it) == [None, FIVE[1]["answer"], None, FIVE[3]["answer"], FIVE[4]["answer"]]
        os.truncate(path, 10)  # what was read may still be known; never is it another's
        assert all(found in (None, line["answer"]) for found, line in zip(answers(it), FIVE, strict=True))


# -- the index -------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("pcf"), st.integers(0, 24), st.integers(0, 1 << 39)), max_size=300))
def test_the_index_is_a_dict(todo: list[tuple[str, int, int]]) -> None:
    Index.SLOTS = 16  # eight keys a table
    index, places, counts = Index(), {}, {}
    for what, number, place in todo:
        key = b"%d" % number
        if what == "p":
            index.put(key, place)
            places[key] = place
        elif what == "c":
            assert index.count(key) == counts.get(key, 0)
            counts[key] = counts.get(key, 0) + 1
        assert index.find(key) == places.get(key)
    assert all(index.find(b"%d" % number) == places.get(b"%d" % number) for number in range(25))
    assert index.keys == len(places)


def test_equal_hashes_cost_a_call_and_never_give_a_wrong_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(done_file, "hash", lambda _: 7, raising=False)
    with opened(written(tmp_path / "x.done", WHOLE)) as it:
        assert answers(it) == [None] * 4 + [FIVE[4]["answer"]]


def test_the_index_takes_32_bytes_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Index, "SLOTS", 1 << 20)
    index = Index()
    for number in range(2_000_000):
        index.put(b"%032x" % number, number)
    assert sum(sys.getsizeof(table) for table in index._tables) <= 32 * 2_100_000
    assert index.keys == 2_000_000
    assert all(index.find(b"%032x" % number) == number for number in range(0, 2_000_000, 997))


# -- on disk before anyone sees it --------------------------------------------------------------------------------


class Disk:
    """fdatasync that counts its calls and can be made to wait, or to fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self.error: OSError | None = None
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        monkeypatch.setattr(os, "fdatasync", self)

    def __call__(self, fd: int) -> None:
        self.calls += 1
        assert self.may_go_on.wait(10)
        if self.error:
            raise self.error
        real_fdatasync(fd)


async def turn(times: int = 5) -> None:
    for _ in range(times):
        await asyncio.sleep(0.005)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_who_comes_during_a_sync_shares_the_next(tmp_path: Path, disk: Disk) -> None:
    async def main(it: DoneFile) -> None:
        async def keep(number: int) -> None:
            it.append(fields(number))
            await it.synced()

        disk.calls = 0
        disk.may_go_on.clear()
        first = asyncio.create_task(keep(0))
        await turn()
        others = [asyncio.create_task(keep(number)) for number in range(1, 100)]
        await turn()
        assert (disk.calls, first.done()) == (1, False)  # nobody is told before it is on disk
        others[7].cancel()
        disk.may_go_on.set()
        await first
        assert disk.calls <= 2
        told = await asyncio.gather(*others, return_exceptions=True)
        assert [type(one) for one in told if one is not None] == [asyncio.CancelledError]
        assert disk.calls == 2

    with opened(tmp_path / "x.done") as it:
        asyncio.run(main(it))


def test_a_waiter_is_not_released_by_the_sync_that_ran_when_it_came(tmp_path: Path, disk: Disk) -> None:
    async def main(it: DoneFile) -> None:
        disk.calls = 0
        disk.may_go_on.clear()
        it.append(fields(0))
        first = asyncio.create_task(it.synced())
        await turn()
        it.append(fields(1))
        second = asyncio.create_task(it.synced())
        await turn()
        released: list[int] = []
        second.add_done_callback(lambda _: released.append(disk.calls))
        disk.may_go_on.set()
        await asyncio.gather(first, second)
        await turn(1)
        assert released == [2]

    with opened(tmp_path / "x.done") as it:
        asyncio.run(main(it))


def test_a_thousand_lines_take_few_syncs(tmp_path: Path, disk: Disk) -> None:
    async def main(it: DoneFile) -> None:
        async def keep(part: int) -> None:
            for number in range(20):
                it.append(fields(part * 20 + number))
                await it.synced()

        disk.calls = 0
        await asyncio.gather(*map(keep, range(50)))

    with opened(tmp_path / "x.done") as it:
        asyncio.run(main(it))
        assert 20 <= disk.calls <= 200
    with opened(tmp_path / "x.done") as it:
        assert it.usable == 1000


def test_a_sync_that_fails_is_told_to_all_and_never_tried_again(tmp_path: Path, disk: Disk) -> None:
    async def main(it: DoneFile) -> None:
        disk.calls = 0
        disk.may_go_on.clear()
        disk.error = OSError(errno.EIO, "Input/output error")
        it.append(fields(0))
        first = asyncio.create_task(it.synced())
        await turn()
        it.append(fields(1))
        second = asyncio.create_task(it.synced())
        await turn()
        disk.may_go_on.set()
        told = await asyncio.gather(first, second, it.synced(), return_exceptions=True)
        expected = f"cannot sync done-file {it.path}: Input/output error"
        assert [(type(error), str(error)) for error in told] == [(DiskFailed, expected)] * 3
        disk.error = None
        with pytest.raises(DiskFailed, match="Input/output error"):
            it.append(fields(2))
        with pytest.raises(DiskFailed, match="Input/output error"):
            await it.synced()
        assert disk.calls == 1

    with opened(tmp_path / "x.done") as it:
        asyncio.run(main(it))


def test_a_write_that_fails_does_not_forget_who_waits(tmp_path: Path, disk: Disk, monkeypatch: Any) -> None:
    async def main(it: DoneFile) -> None:
        disk.may_go_on.clear()
        it.append(fields(0))
        waiting = [asyncio.create_task(it.synced()) for _ in range(3)]
        await turn()
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", fails(NO_SPACE))
            with pytest.raises(DiskFailed, match="No space left"):
                it.append(fields(1))
        disk.may_go_on.set()
        assert await asyncio.gather(*waiting) == [None] * 3

    with opened(tmp_path / "x.done") as it:
        asyncio.run(main(it))


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
def test_a_file_that_is_taken_away_is_noticed(tmp_path: Path, how: str) -> None:
    path = tmp_path / "x.done"

    async def main(it: DoneFile) -> None:
        it.append(fields(0))
        await it.synced()
        if how == "deleted":
            path.unlink()
        elif how == "moved":
            path.rename(tmp_path / "y.done")
        else:  # as many editors save
            written(tmp_path / "new", path.read_bytes()).rename(path)
        it.append(fields(1))
        with pytest.raises(DiskFailed, match="another file" if how == "replaced" else "No such file"):
            await it.synced()

    with opened(path) as it:
        asyncio.run(main(it))


def test_a_loop_that_ends_before_the_sync_does_no_harm(tmp_path: Path, disk: Disk) -> None:
    async def main(it: DoneFile) -> None:
        it.append(fields(0))
        disk.may_go_on.clear()
        await asyncio.wait_for(it.synced(), 0.02)

    with opened(tmp_path / "x.done") as it:
        with pytest.raises(TimeoutError):
            asyncio.run(main(it))
        disk.may_go_on.set()
        time.sleep(0.05)  # the thread finds nobody to tell; a traceback of it would be a warning, and so an error
    with opened(tmp_path / "x.done") as it:
        assert it.usable == 1
