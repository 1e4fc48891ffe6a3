"""A whole text file as one record."""

from __future__ import annotations

from llmstream.records import exact, reading
from llmstream.records.decoding import Utf8
from llmstream.records.values import BadLine, Found, Record
from llmstream.records.words import name_of_input


class TextFile:
    """A file that is one record. What is beyond the limit is not kept: it is one bad line then."""

    def __init__(self, name: str, encoding: str = "utf-8") -> None:
        self._name = name
        self._utf8 = Utf8(name_of_input(name), encoding)
        self._held = bytearray()

    def feed(self, chunk: bytes) -> Found:
        self._keep(self._utf8.feed(chunk))
        return []

    def end(self) -> Found:
        self._keep(self._utf8.end())
        raw, where = bytes(self._held), name_of_input(self._name)
        if len(raw) > reading.LONGEST:
            return [BadLine(raw[: reading.KEPT], where, f"text longer than {reading.LONGEST >> 20} MB")]
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            return [BadLine(raw, where, self._utf8.why)]
        path = exact.scrub(self._name)  # a file's name may be bytes that are no text
        data = {"file_name": path.rpartition("/")[2], "path": path, "text": text}
        return [Record(exact.dumps(data), data, where)]

    def _keep(self, part: bytes) -> None:
        self._held += part[: reading.LONGEST + 1 - len(self._held)]
