"""Listening on loopback, and serving until a signal, or the end of another process, ends us."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Callable
from typing import Any, NamedTuple, Self

from llmstream.endpoint.http import Connection, Request
from llmstream.endpoint.replies import Reply
from llmstream.shell import messages
from llmstream.shell.messages import FIX_FIRST, Stop, why

BACKLOG = 4096  # connections that may wait while COMMAND starts faster than the server


class Owner(NamedTuple):
    """The process that the server ends with."""

    process: int
    ending: int | None  # a descriptor that is readable when it has ended, where the system has such a thing

    @classmethod
    def this_process(cls) -> Self:
        try:
            return cls(os.getpid(), os.pidfd_open(os.getpid()))
        except (AttributeError, OSError):
            return cls(os.getpid(), None)

    def lives(self) -> bool:
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # it lives, as another user
        return True


def listen(port: int) -> socket.socket:
    """A socket that takes connections from now on, although nothing serves them yet."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen(BACKLOG)
    except OSError as error:
        raise Stop(FIX_FIRST, f"cannot listen on 127.0.0.1:{port}: {why(error)}") from None
    return listening


def fork_server() -> bool:
    """Go on twice: True in the server, False in the process that becomes COMMAND.

    The server is nobody's child, so that COMMAND may wait for all of its own; it is in a session
    of its own, so that Ctrl-C is for COMMAND, which goes on calling while it drains; and it has let
    go of the standard streams, so that a pipe ends when COMMAND does.
    """
    child = os.fork()
    if child:
        with contextlib.suppress(ChildProcessError):  # where SIGCHLD is ignored it is gone already
            os.waitpid(child, 0)
        return False
    os.setsid()
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    return True


def serve(listening: socket.socket, reply: Callable[[Request], Reply], owner: Owner | None = None) -> int:
    """Serve until a signal ends us, or the owner has ended."""
    return asyncio.run(_serve(listening, reply, owner))


async def _serve(listening: socket.socket, reply: Callable[[Request], Reply], owner: Owner | None) -> int:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_trouble)
    with contextlib.suppress(OSError, ValueError):  # a thousand connections are not many
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    if owner is not None:
        _end_with(owner, loop)
    server = await loop.create_server(lambda: Connection(reply), sock=listening, backlog=BACKLOG)
    await server.serve_forever()
    return 0


def _trouble(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    messages.say(f"cannot serve a connection: {context.get('exception') or context['message']}")


def _end_with(owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
    """End, in the midst of whatever we do, when the owner does."""
    if owner.ending is not None:
        loop.add_reader(owner.ending, os._exit, 0)
    elif owner.lives():
        loop.call_later(0.2, _end_with, owner, loop)
    else:
        os._exit(0)
