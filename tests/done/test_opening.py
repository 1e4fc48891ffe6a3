"""Which done-files are refused, and that only one process has one."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from done_files import (
    WHOLE,
    opened,
    other,
    refusal,
    written,
)

from llmstream.done import opening
from llmstream.done.done_file import DoneFile
from llmstream.shell.messages import Stop


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
from llmstream.done.done_file import DoneFile
it = DoneFile(sys.argv[1])
print(flush=True)
sys.stdin.read()
"""


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
    assert opening._holder(fd) == "another process"
    os.close(fd)


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    told = refusal(tmp_path / "x.done")
    assert told.status == 74
    assert told.reason.endswith("No locks available")
