"""The one form of a line of the done-file: how it is written, checked and read.

A line of our own form is checked and indexed without parsing its JSON; a line that a person or another program
wrote may have any layout. What is checked or read here is a line without its newline.
"""

from __future__ import annotations

import re
import sys
import zlib
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from llmstream.records import exact
from llmstream.records.values import Usage, usage_as_dict

_HEAD = b'{"key":"'
_CRC = b',"crc":"'
_TAIL = len(_CRC + b'00000000"}')
_BEGINNING = re.compile(rb'\s*\{\s*"key"\s*:\s*"[^"\\]*"\s*,\s*"answer"\s*:\s*"')


class Line(NamedTuple):
    """What a line says. What is missing, or has a wrong type, has its default value."""

    key: str
    answer: str  # as the model gave it
    model: str | None = None  # None: no call stands behind the line
    usage: Usage | None = None
    cost: float | None = None  # USD
    latency: float | None = None  # seconds
    attempts: int = 0
    at: str = ""
    id: str | float | None = None  # of the record
    rejected: str | None = None  # "TYPE: why", of an answer that was not accepted
    asked: int = 0  # which asking it was that brought a rejected answer
    has_crc: bool = True  # False: written or mended by hand

    @property
    def accepted(self) -> bool:
        """A rejected answer that was mended, so that its checksum had to go, counts as accepted."""
        return self.rejected is None or not self.has_crc

    def as_fields(self) -> dict[str, Any]:
        """What is written, in the order in which it is."""
        fields: dict[str, Any] = {"key": self.key, "answer": self.answer}
        if self.model is not None:
            fields["model"] = self.model
            fields["usage"] = usage_as_dict(self.usage)
            fields["cost"] = self.cost
            fields["latency"] = self.latency
        fields["attempts"] = self.attempts
        fields["at"] = self.at
        if self.id is not None:
            fields["id"] = self.id
        if self.rejected is not None:
            fields["rejected"] = self.rejected
        if self.asked:
            fields["asked"] = self.asked
        return fields


# -- writing ------------------------------------------------------------------------------------


def seal(fields: Mapping[str, Any]) -> bytes:
    """A line of the file: the fields, and a checksum of them at the end."""
    body = exact.dumps(fields)[:-1]
    return b'%b%b%08x"}\n' % (body, _CRC, zlib.crc32(body))


# -- checking, without parsing JSON -------------------------------------------------------------


def key_of(raw: bytes) -> bytes | None:
    """The key of a line that is whole; None for a damaged one."""
    if raw[-_TAIL:-10] == _CRC:
        if raw[-10:] != b'%08x"}' % zlib.crc32(raw[:-_TAIL]):
            return None
        if raw.startswith(_HEAD):
            return raw[len(_HEAD) : raw.index(b'"', len(_HEAD))]
    fields = _whole_fields(raw)
    if fields is None:
        return None
    key: str = fields["key"]
    return key.encode()


def sealed(lines: Sequence[bytes]) -> bool:
    """Are all these lines as seal() makes them? A third of the time that key_of() takes."""
    crc32, tail = zlib.crc32, -_TAIL
    sums = array("I", [crc32(line[:tail]) for line in lines])
    if sys.byteorder == "little":
        sums.byteswap()
    wanted = sums.tobytes().hex("|", 4).replace("|", '"},"crc":"')
    return b"".join([line[tail:] for line in lines]) == b',"crc":"%b"}' % wanted.encode()


def accepted_keys(lines: Sequence[bytes]) -> list[bytes] | None:
    """The keys of lines that are all as we write them, and none of them rejected. None: one of them is not."""
    if any(b'"rejected"' in line or not line.startswith(_HEAD) for line in lines) or not sealed(lines):
        return None
    begin = len(_HEAD)
    return [line[begin : line.index(b'"', begin)] for line in lines]


def is_rejected(raw: bytes) -> bool:
    """Does a line hold an answer that was not accepted?"""
    return b'"rejected"' in raw and isinstance((_fields(raw) or {}).get("rejected"), str)


# -- reading ------------------------------------------------------------------------------------


def parse(raw: bytes) -> Line | None:
    """What a line says; None for a damaged one."""
    fields = parse_fields(raw)
    return None if fields is None else from_fields(fields)


def parse_fields(raw: bytes) -> dict[str, Any] | None:
    """The fields of a line, as they stand there; None for a damaged one. Its key and its answer are strings."""
    if raw[-_TAIL:-10] == _CRC and raw[-10:] != b'%08x"}' % zlib.crc32(raw[:-_TAIL]):
        return None
    return _whole_fields(raw)


def parse_all_fields(lines: Sequence[bytes]) -> tuple[list[dict[str, Any]], int]:
    """The fields of the lines that are whole, and the number of damaged ones. Quick where all are as we write them;
    then nobody looks at their types. What Line.accepted says of a mended answer is done here: it is not rejected."""
    try:
        if sealed(lines):
            return exact.loads_quickly(b"[%b]" % b",".join(lines)), 0
    except ValueError:
        pass
    whole = [line.rstrip() for line in lines if line.strip()]
    found = [fields for fields in map(parse_fields, whole) if fields is not None]
    for fields in found:
        if fields.get("crc") is None:
            fields.pop("rejected", None)
    return found, len(whole) - len(found)


def from_fields(fields: Mapping[str, Any]) -> Line:
    """What fields say, whoever wrote them: a wrong type is read as if the field were missing."""
    get = fields.get
    usage, model, name = get("usage"), _text(get("model")), get("id")
    return Line(
        _text(get("key")) or "",
        _text(get("answer")) or "",
        "" if model is None and usage else model,
        _usage(usage),
        _number(get("cost")),
        _number(get("latency")),
        _count(get("attempts")),
        _text(get("at")) or "",
        name if type(name) in (str, int, float) else None,
        _text(get("rejected")),
        _count(get("asked")),
        get("crc") is not None,
    )


def _usage(value: Any) -> Usage | None:
    if not isinstance(value, dict):
        return None
    get = value.get
    return Usage(_count(get("input")), _count(get("output")), _count(get("cached")), _count(get("reasoning")))


def is_line(fields: Mapping[str, Any]) -> bool:
    """May these be the fields of a line of a done-file?"""
    return isinstance(fields.get("key"), str) and isinstance(fields.get("answer"), str)


def begins_line(raw: bytes) -> bool:
    """Does this look like a line of a done-file, though its end may be missing or damaged?"""
    return _BEGINNING.match(raw) is not None


def _whole_fields(raw: bytes) -> dict[str, Any] | None:
    """The fields of a line whose checksum, where it stands as we write it, is right. A checksum that stands anywhere
    else cannot be checked."""
    fields = _fields(raw)
    if fields is None or not is_line(fields):
        return None
    return fields if fields.get("crc") is None or raw[-_TAIL:-10] == _CRC else None


def _fields(raw: bytes) -> dict[str, Any] | None:
    try:
        fields = exact.loads_quickly(raw)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: Any) -> int:
    return value if type(value) is int else 0


def _number(value: Any) -> float | None:
    return value if type(value) in (int, float) else None
