"""The done-file: whatever happens to it or to the process, never a wrong answer and never more lost than must be."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from done_files import (
    FIVE,
    KEY,
    LINES,
    NO_SPACE,
    ONE,
    TWO,
    WHOLE,
    answers,
    fails,
    fields,
    found,
    opened,
    other,
    plain,
    written,
)

from llmstream.done import index
from llmstream.done.done_file import DiskFailed
from llmstream.done.line import Line, seal


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


def test_a_line_is_a_value(tmp_path: Path) -> None:
    line = Line("k", "yes", "sim", None, 0.25, 0.12, 1, "2026-11-20T10:30:00Z", 7)
    with opened(tmp_path / "x.done") as it:
        it.append(line)
        assert it.find("k") == line
        assert it.find("l") is None


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


def test_equal_hashes_cost_a_call_and_never_give_a_wrong_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "hash", lambda _: 7, raising=False)
    with opened(written(tmp_path / "x.done", WHOLE)) as it:
        assert answers(it) == [None] * 4 + [FIVE[4]["answer"]]


# -- a process that is killed, a disk that is full, a file that is not left alone --------------------------------

WRITER = """
import sys
from llmstream.done.done_file import DoneFile
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
from llmstream.done.done_file import DiskFailed, DoneFile
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
