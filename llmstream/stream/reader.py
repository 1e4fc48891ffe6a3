"""The records of a run, file by file: never a byte further than somebody asked for."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence

from llmstream.records import exact
from llmstream.records.values import BadLine, Record
from llmstream.shell import files
from llmstream.shell.messages import FIX_FIRST, Stop, warn, why
from llmstream.shell.neighbours import Pipe, early_end
from llmstream.shell.standard_streams import Input
from llmstream.shell.stop_switch import StopSwitch
from llmstream.stream.reading import Reading, records_in


class RecordReader:
    """The records of all files, as many at once as a read brought."""

    def __init__(self, reading: Reading, given: Input, upstream: Pipe | None, switch: StopSwitch) -> None:
        """upstream: the pipe on stdin, if that is read."""
        self._reading = reading
        self._upstream = upstream
        self._input = given
        self._switch = switch
        self._bytes_read = 0
        self._size = files.size(reading.files)
        switch.on_pull.append(given.stop)

    async def batches(self) -> AsyncIterator[Sequence[Record | BadLine]]:
        for name in self._reading.files:
            reader = self._reading.open_reader(name)
            async for chunk in self._chunks(name):
                yield records_in(reader, chunk)
            early = early_end(self._upstream) if name == "-" and not self._switch.reason else None
            if early:  # a fold must not take this for the end of its input
                self._switch.pull(early)
            if not self._switch.reason:
                yield records_in(reader, None)

    def share_read(self) -> float | None:
        """How much of the input has been read; None: its size is not known."""
        return min(1.0, self._bytes_read / self._size) if self._size else None

    async def _chunks(self, name: str) -> AsyncIterator[bytes]:
        fd: int | None = 0
        try:
            if name != "-":
                fd = await self._input.open(name)
            while fd is not None and (chunk := await self._input.read(fd)):
                self._bytes_read += len(chunk)
                yield chunk
        except OSError as error:
            shown = "stdin" if name == "-" else name
            self._switch.pull(Stop(FIX_FIRST, f"cannot read {shown}: {why(error)}"))
        finally:
            if fd:
                os.close(fd)


class RepeatedKeys:
    """Says once that an object of the input has a field twice."""

    def __init__(self) -> None:
        self._said = False

    def look_at(self, record: Record) -> None:
        if not self._said and exact.repeats_a_key(record.line, record.data):
            self._said = True
            warn(f"{record.where}: a field stands twice in one object; the last one counts")
