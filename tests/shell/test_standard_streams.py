"""The threads that read and write, over real descriptors."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from llmstream.shell import standard_streams


def on(pipe: tuple[int, int], play: Callable[[int, int], Awaitable[Any]]) -> Any:
    """Play with the two ends of a pipe; the test closes what it did not close itself."""
    try:
        return asyncio.run(asyncio.wait_for(play(*pipe), 20))
    finally:
        for fd in pipe:
            try:
                os.close(fd)
            except OSError:
                pass


def test_input_comes_as_it_is_written_and_ends() -> None:
    async def play(reader: int, writer: int) -> list[bytes]:
        given = standard_streams.Input()
        os.write(writer, b"one\n")
        got = [await given.read(reader)]
        os.write(writer, b"two")
        got.append(await given.read(reader))
        os.close(writer)
        return [*got, await given.read(reader)]

    assert on(os.pipe(), play) == [b"one\n", b"two", b""]


def test_input_that_is_stopped_waits_for_nothing() -> None:
    async def play(reader: int, writer: int) -> tuple[bytes, bytes]:
        given = standard_streams.Input()
        waiting = asyncio.ensure_future(given.read(reader))
        await asyncio.sleep(0.05)
        given.stop()
        return await waiting, await given.read(reader)

    assert on(os.pipe(), play) == (b"", b"")


def test_input_of_a_descriptor_that_a_neighbour_made_non_blocking() -> None:
    async def play(reader: int, writer: int) -> bytes:
        os.set_blocking(reader, False)
        given = standard_streams.Input()
        waiting = asyncio.ensure_future(given.read(reader))
        await asyncio.sleep(0.05)
        os.write(writer, b"late")
        return await waiting

    assert on(os.pipe(), play) == b"late"


def test_a_fifo_is_waited_for_without_holding_up_the_loop(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")

    async def play() -> bytes:
        given = standard_streams.Input()
        opening = asyncio.ensure_future(given.open(str(tmp_path / "fifo")))
        await asyncio.sleep(0.05)
        assert not opening.done()
        with (tmp_path / "fifo").open("wb") as writer:
            writer.write(b"x")
        fd = await opening
        assert fd is not None
        try:
            return await given.read(fd)
        finally:
            os.close(fd)

    assert asyncio.run(asyncio.wait_for(play(), 20)) == b"x"


def test_output_keeps_order_through_short_writes() -> None:
    """A non-blocking pipe and a slow reader: every record once, in order, and the room is bounded."""
    records = [b"%06d" % n + b"x" * 994 + b"\n" for n in range(5000)]

    async def play(reader: int, writer: int) -> tuple[bytes, int, int]:
        os.set_blocking(writer, False)
        out = standard_streams.Output(writer, lambda error: None)
        got = bytearray()
        most = 0

        def drain() -> None:
            while chunk := os.read(reader, 3001):
                got.extend(chunk)

        reading = asyncio.get_running_loop().run_in_executor(None, drain)
        for record in records:
            out.put(record)
            most = max(most, out._size)
            await out.room()
        await out.flush()
        os.close(writer)
        await reading
        return bytes(got), out.written, most

    got, written, most = on(os.pipe(), play)
    assert got == b"".join(records)
    assert written == 5000
    assert most <= standard_streams.ROOM + 1001


def test_output_notices_a_reader_that_leaves_while_nothing_is_written() -> None:
    async def play(reader: int, writer: int) -> OSError:
        gone: asyncio.Future[OSError] = asyncio.get_running_loop().create_future()
        out = standard_streams.Output(writer, gone.set_result)
        os.close(reader)
        trouble = await gone
        out.put(b"into the void\n")
        await out.flush()
        assert (out.taken, out.written) == (1, 0)
        return trouble

    assert isinstance(on(os.pipe(), play), BrokenPipeError)


def test_output_counts_whole_records_only() -> None:
    batch = [(b"ab", 1), (b"cde", 4), (b"f", 1)]  # a group of four is one record that goes out
    assert [standard_streams._whole(batch, written) for written in (0, 4, 5, 6)] == [0, 1, 5, 6]


def test_a_full_disk_is_told_once() -> None:
    async def play() -> tuple[list[str | None], int]:
        told: list[str | None] = []
        fd = os.open("/dev/full", os.O_WRONLY)
        out = standard_streams.Output(fd, lambda error: told.append(error.strerror))
        for _ in range(3):
            out.put(b"x\n")
            await out.flush()
        os.close(fd)
        return told, out.written

    assert asyncio.run(play()) == (["No space left on device"], 0)
