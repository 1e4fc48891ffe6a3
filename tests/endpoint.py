"""A real HTTP server on loopback that does to its callers whatever a test says.

A test hands over a function from a Call to a Reply (or several, by the number of the call).
Everything goes over sockets; every call that arrives is written down, also when the caller
has left before the answer.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Call:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    number: int  # from 0, in the order of arrival
    at: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def prompt(self) -> str:
        return self.json["messages"][-1]["content"]

    @property
    def key(self) -> str:
        return self.headers.get("idempotency-key", "")


@dataclass(frozen=True)
class Reply:
    body: Any = None  # bytes as they are, else JSON
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    promise: int | None = None  # a Content-Length that does not hold
    drip: float = 0.0  # seconds between one byte and the next
    hang: bool = False  # no answer, ever
    reset: bool = False  # RST instead of an answer
    close: bool = False  # the end of the connection instead of an answer


def chat(content: str | None = "ok", *, finish: str = "stop", refusal: str | None = None, **message: Any) -> dict:
    """The body of an ordinary answer."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "sim",
        "choices": [
            {
                "index": 0,
                "finish_reason": finish,
                "message": {"role": "assistant", "content": content, "refusal": refusal, **message},
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
    }


def says(content: str | None = "ok", **more: Any) -> Reply:
    return Reply(chat(content, **more))


def error(status: int, message: str = "no", code: str = "", **headers: str) -> Reply:
    return Reply(
        {"error": {"message": message, "code": code}}, status, {k.replace("_", "-"): v for k, v in headers.items()}
    )


class Endpoint:
    """Serves on 127.0.0.1 in a thread of its own; a context manager."""

    def __init__(self, answer: Callable[[Call], Reply] | Reply, *, tls: ssl.SSLContext | None = None, port: int = 0):
        self._answer = answer if callable(answer) else lambda _: answer
        self._tls = tls
        self.calls: list[Call] = []
        self.most_at_once = 0
        self._under_way = 0
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port = self._socket.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/v1"
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._socket.close()

    @property
    def asked(self) -> list[Call]:
        """The calls that ask a model something."""
        return [call for call in self.calls if call.method == "POST"]

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(lambda *_: None)
        self._loop.run_until_complete(asyncio.start_server(self._connection, sock=self._socket, ssl=self._tls))
        self._ready.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while call := await self._read(reader):
                self._under_way += 1
                self.most_at_once = max(self.most_at_once, self._under_way)
                try:
                    await self._reply(self._answer(call), writer)
                finally:
                    self._under_way -= 1
        except (ConnectionError, asyncio.IncompleteReadError, EOFError):
            pass
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Call | None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.strip().split("\r\n")
        method, path, _ = first.split()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        call = Call(method, path, headers, body, len(self.calls), self._loop.time())
        self.calls.append(call)
        return call

    async def _reply(self, reply: Reply, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(reply.delay)
        if reply.hang:
            await asyncio.sleep(3600)
        if reply.reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if reply.reset or reply.close:
            raise EOFError
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        length = len(body) if reply.promise is None else reply.promise
        headers = {"Content-Type": "application/json", "Content-Length": str(length), **reply.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {reply.status} X\r\n{head}\r\n".encode())
        for part in [body[n : n + 1] for n in range(len(body))] if reply.drip else [body]:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(reply.drip)
        if reply.promise is not None:
            raise EOFError
