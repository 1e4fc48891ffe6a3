"""A done-file in whatever state it was left: what is damaged is never used, and no more is lost than must be."""

from __future__ import annotations

import contextlib
import os
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
    plain,
    refusal,
    written,
)

from llmstream.done import recovery
from llmstream.done.done_file import DoneFile
from llmstream.done.line import seal


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
    assert warnings[recovery.SHOWN :] == [f"ignoring 990 further damaged lines of {path}"]


# -- lines by hand ---------------------------------------------------------------------------------------


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
