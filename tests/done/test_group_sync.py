"""On disk before anyone sees it: one fdatasync for all who wait."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from done_files import (
    NO_SPACE,
    fails,
    fields,
    opened,
    written,
)

from llmstream.done.done_file import DiskFailed, DoneFile

real_fdatasync = os.fdatasync


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
