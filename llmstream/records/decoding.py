"""Bytes in any encoding to UTF-8."""

from __future__ import annotations

import codecs

from llmstream.records.values import BadLine, Found, Unreadable

NOT_UTF8 = "not valid UTF-8"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MARK_WHAT_IS_WRONG = "llmstream.mark"


def _mark(error: UnicodeError) -> tuple[str | bytes, int]:
    """What stands for bytes that cannot be decoded. It is not valid UTF-8 either, so whoever reads on finds it."""
    if isinstance(error, UnicodeDecodeError):
        return "\udcff", error.end
    if isinstance(error, UnicodeEncodeError):
        return b"\xff" * (error.end - error.start), error.end
    raise error


codecs.register_error(_MARK_WHAT_IS_WRONG, _mark)


class Utf8:
    """Turns bytes in some encoding into UTF-8 without a byte order mark. UTF-8 passes as it is, right or wrong."""

    def __init__(self, name: str, encoding: str) -> None:
        self._name = name
        self._encoding = encoding
        self._decoder = _decoder(encoding)
        self.why = f"not valid {encoding}" if self._decoder else NOT_UTF8  # what a bad line is told
        self._first = b""
        self._begun = False

    def feed(self, chunk: bytes, *, final: bool = False) -> bytes:
        if self._decoder:
            try:
                chunk = self._decoder.decode(chunk, final).encode("utf-8", _MARK_WHAT_IS_WRONG)
            except UnicodeError as error:  # a file of the wrong kind: UTF-16 without a byte order mark
                raise Unreadable(f"{self._name}: cannot be read as {self._encoding}: {error}") from None
        if self._begun:
            return chunk
        self._first += chunk
        if not final and len(self._first) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(self._first):
            return b""  # it may be half of a byte order mark
        self._begun = True
        return self._first.removeprefix(_BYTE_ORDER_MARK)

    def end(self) -> bytes:
        return self.feed(b"", final=True)

    def name_encoding(self, found: Found) -> Found:
        """What was found in the UTF-8; a bad line says which encoding it is not in."""
        if not self._decoder:
            return found
        return [
            one._replace(why=self.why) if isinstance(one, BadLine) and one.why == NOT_UTF8 else one for one in found
        ]


def _decoder(encoding: str) -> codecs.IncrementalDecoder | None:
    """None for UTF-8. ValueError if there is no such encoding."""
    try:
        "a".encode(encoding)  # refuses what is no encoding of text, such as base64
        if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig"):
            return None
        return codecs.getincrementaldecoder(encoding)(_MARK_WHAT_IS_WRONG)
    except (LookupError, ValueError):
        raise ValueError(f"unknown encoding {encoding}") from None
