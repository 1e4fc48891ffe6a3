"""As much of HTTP/1.1 as llm-sim has to speak, by hand: a request costs it less than its answer does.

Bytes become requests, a request becomes a reply, and the reply goes out in one write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import unquote

from llmstream.endpoint.errors import ApiError
from llmstream.endpoint.replies import Reply, error_reply

BODY_LIMIT = 64 << 20
HEAD_LIMIT = 64 << 10


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]  # by their names in small letters
    body: bytes
    keep: bool  # the connection, for more


def requests(buffer: bytearray) -> Iterator[Request | bytes]:
    """The requests in a buffer as they become whole. Bytes: send them, then more must arrive."""
    while True:
        while (end := buffer.find(b"\r\n\r\n")) < 0 and len(buffer) <= HEAD_LIMIT:
            yield b""
        if not 0 <= end <= HEAD_LIMIT:
            raise ApiError(431, "The headers of the request are too large.")
        method, target, version, headers = _head(buffer[:end].decode("latin-1"))
        del buffer[: end + 4]
        if not buffer and headers.get("expect", "").lower() == "100-continue":
            yield b"HTTP/1.1 100 Continue\r\n\r\n"
        chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        body = yield from _chunks(buffer) if chunked else _take(buffer, _size(headers.get("content-length", "0"), 10))
        keep = version == "HTTP/1.1" and "close" not in headers.get("connection", "").lower()
        yield Request(method, unquote(target.partition("?")[0]), headers, body, keep)


def _head(text: str) -> tuple[str, str, str, dict[str, str]]:
    first, *lines = text.lstrip("\r\n").split("\r\n")
    fields = [line.partition(":") for line in lines]
    try:
        method, target, version = first.split(" ")
        if version not in ("HTTP/1.1", "HTTP/1.0") or not all(colon for _, colon, _ in fields):
            raise ValueError
    except ValueError:
        raise ApiError(400, "This is not HTTP/1.1.") from None
    return method, target, version, {name.lower(): value.strip() for name, _, value in fields}


def _size(text: str, base: int) -> int:
    try:
        size = int(text, base) if text.isalnum() else -1
    except ValueError:
        size = -1
    if size < 0:
        raise ApiError(400, "The length of the request's body is not a number.")
    if size > BODY_LIMIT:
        raise ApiError(413, f"The body of the request is larger than {BODY_LIMIT} bytes.")
    return size


def _take(buffer: bytearray, size: int) -> Generator[bytes, None, bytes]:
    while len(buffer) < size:
        yield b""
    taken = bytes(buffer[:size])
    del buffer[:size]
    return taken


def _line(buffer: bytearray) -> Generator[bytes, None, str]:
    while (end := buffer.find(b"\r\n")) < 0:
        if len(buffer) > HEAD_LIMIT:
            raise ApiError(400, "The chunks of the request's body are not well formed.")
        yield b""
    return (yield from _take(buffer, end + 2)).decode("latin-1").strip()


def _chunks(buffer: bytearray) -> Generator[bytes, None, bytes]:
    body = bytearray()
    while size := _size((yield from _line(buffer)).partition(";")[0].strip(), 16):
        _size(str(len(body) + size), 10)
        body += yield from _take(buffer, size)
        yield from _line(buffer)
    while (yield from _line(buffer)):
        pass  # a trailer
    return bytes(body)


class Connection(asyncio.Protocol):
    """One client. Its requests are answered one after another, so that answers keep their order."""

    transport: asyncio.Transport

    def __init__(self, answer: Callable[[Request], Reply]) -> None:
        self.answer = answer
        self.buffer = bytearray()
        self.requests = requests(self.buffer)
        self.busy = False  # a request is being answered, or there will be no more
        self.full = False  # the client does not read
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.busy and len(self.buffer) > HEAD_LIMIT:
            self.transport.pause_reading()
        self.proceed()

    def eof_received(self) -> bool:
        return self.timer is not None  # a client may close its side and still read

    def connection_lost(self, error: Exception | None) -> None:
        if self.timer:
            self.timer.cancel()

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self.proceed()

    def proceed(self) -> None:
        while not self.busy and not self.full:
            try:
                found = next(self.requests)
            except ApiError as error:
                return self.send(error_reply(error), keep=False)
            if isinstance(found, bytes):
                return self.transport.write(found)
            reply = self.answer(found)
            self.busy = True
            if not reply.status:
                return None
            if reply.delay:
                self.timer = asyncio.get_running_loop().call_later(reply.delay, self.late, reply, found.keep)
            else:
                self.send(reply, found.keep)
        return None

    def late(self, reply: Reply, keep: bool) -> None:
        self.timer = None
        self.send(reply, keep)
        self.transport.resume_reading()
        self.proceed()

    def send(self, reply: Reply, keep: bool) -> None:
        body = reply.body
        head = f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}\r\n"
        fields = {"Content-Type": body.kind, "Content-Length": len(body.data), **reply.headers}
        if not keep:
            fields["Connection"] = "close"
        head += "".join([f"{name}: {value}\r\n" for name, value in fields.items()])
        self.transport.write(b"%b\r\n%b" % (head.encode("latin-1"), body.data[: body.cut]))
        self.busy = not keep or body.cut is not None
        if self.busy:
            self.transport.close()
