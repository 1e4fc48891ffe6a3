"""The threads that read and write, over real descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from llmstream.records.values import Outcome, Record
from llmstream.shell import line_writer, standard_streams

SOURCE = Record(b"{}", {}, "<stdin>:1")


def outcome(line: bytes) -> Outcome:
    return Outcome(SOURCE, line)


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
        out = standard_streams.Output(writer, 10_000, lambda error: None)
        got = bytearray()
        most = 0

        def drain() -> None:
            while chunk := os.read(reader, 3001):
                got.extend(chunk)

        reading = asyncio.get_running_loop().run_in_executor(None, drain)
        for record in records:
            out.put(outcome(record))
            most = max(most, out._waiting.bytes)
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
        out = standard_streams.Output(writer, 8, gone.set_result)
        os.close(reader)
        trouble = await gone
        out.put(outcome(b"into the void\n"))
        await out.flush()
        assert out.written == 0
        return trouble

    assert isinstance(on(os.pipe(), play), BrokenPipeError)


def test_output_counts_whole_records_only() -> None:
    assert [line_writer._whole([b"ab", b"cde", b"f"], written) for written in (0, 1, 2, 4, 5, 6)] == [0, 0, 1, 1, 2, 3]


def test_a_group_counts_with_all_its_records() -> None:
    async def play(reader: int, writer: int) -> tuple[int, int]:
        out = standard_streams.Output(writer, 8, lambda error: None)
        out.put(Outcome(SOURCE, b"folded\n", of=4))
        out.put(Outcome(SOURCE, b"asked\n", of=3, value=b"1"))
        await out.flush()
        return out.written, out.answers_written

    assert on(os.pipe(), play) == (7, 3)


def test_answers_that_were_called_for_do_not_run_ahead_of_the_reader() -> None:
    async def play(reader: int, writer: int) -> int:
        out = standard_streams.Output(writer, 8, lambda error: None)
        calls = 0

        async def call() -> None:
            nonlocal calls
            while True:
                calls += 1
                out.put(Outcome(SOURCE, b"x" * 999 + b"\n", value=b"1"))
                await out.room()

        task = asyncio.ensure_future(call())
        await asyncio.sleep(0.3)
        task.cancel()
        await out.close(1)
        return calls

    assert on(os.pipe(), play) <= 64 + 2 * 8 + 1  # what the pipe takes, what is being written, what waits


@pytest.mark.parametrize("size", [10, 4_095, 4_097, 60_000])
def test_closing_never_tears_a_line(size: int) -> None:
    """The reader reads a little, then nothing: what is in the pipe ends with a whole line, and is what was counted."""
    line = b"x" * (size - 1) + b"\n"

    async def play(reader: int, writer: int) -> tuple[bytes, int]:
        out = standard_streams.Output(writer, 10_000, lambda error: None)
        for _ in range(400_000 // size):
            out.put(outcome(line))
        await asyncio.sleep(0.05)
        got = os.read(reader, 3 * size // 2)
        await asyncio.sleep(0.05)
        await out.close(1)
        out.put(outcome(line))
        await asyncio.sleep(0.02)
        os.set_blocking(reader, False)
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(reader, 1 << 20):
                got += chunk
        return got, out.written

    got, written = on(os.pipe(), play)
    assert got == line * written
    assert written


def test_a_full_disk_is_told_once() -> None:
    async def play() -> tuple[list[str | None], int]:
        told: list[str | None] = []
        fd = os.open("/dev/full", os.O_WRONLY)
        out = standard_streams.Output(fd, 8, lambda error: told.append(error.strerror))
        for _ in range(3):
            out.put(outcome(b"x\n"))
            await out.flush()
        os.close(fd)
        return told, out.written

    assert asyncio.run(play()) == (["No space left on device"], 0)
