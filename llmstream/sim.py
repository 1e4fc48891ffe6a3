"""llm-sim: a simulated endpoint on loopback, to rehearse a pipeline without a key or a bill.

HTTP is simhttp's, what an answer says is simanswer's; here are limits, faults, the log, and the
starting of COMMAND.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import re
import resource
import signal
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from statistics import NormalDist
from typing import Any, NamedTuple, NoReturn

import orjson

from llmstream.endpoint.answers import (
    Bad,
    Call,
    Sent,
    answer,
    call_of,
    completion,
    garbled,
    number,
    parsed,
    refused,
    unit,
)
from llmstream.endpoint.http import Connection, Reply, Request, error_reply
from llmstream.shell import messages, options
from llmstream.shell.messages import CANNOT_WRITE, FIX_FIRST, Stop, why
from llmstream.shell.named_files import WRITTEN
from llmstream.shell.options import ABOUT_ITSELF, Option

MODEL = "sim"
NOT_EXECUTABLE, NOT_FOUND = 126, 127  # as env(1) and nohup(1) have it
ELSEWHERE = ("LLMSTREAM_BASE_URL", "LLMSTREAM_KEY_FILE")  # would send a rehearsal to the real endpoint
BACKLOG = 4096  # connections that may wait while COMMAND starts faster than the server
NORMAL = NormalDist()
REMEMBERED = 100_000  # calls of which is known how often they came; the oldest are forgotten


# -- options ----------------------------------------------------------------------------------


class Latency(NamedTuple):
    mean: float  # seconds
    sigma: float = 0.0

    def at(self, chance: float) -> float:
        """The latency that so large a share of calls stays below."""
        if not self.sigma:
            return self.mean
        middle = math.log(self.mean) - self.sigma**2 / 2
        return math.exp(middle + self.sigma * NORMAL.inv_cdf(chance))


def read_latency(text: str) -> Latency:
    """MEAN[:P99]: the lognormal that has this mean and this 99th percentile."""
    found = [_DURATION.fullmatch(part) for part in text.split(":")]
    seconds = [float(part[1]) * (1 if part[2] == "s" else 0.001) for part in found if part]
    if len(seconds) < len(found) or len(found) > 2:
        raise ValueError("MEAN or MEAN:P99, each like 50, 50ms or 1.5s")
    if len(seconds) == 1:
        return Latency(seconds[0])
    mean, p99 = seconds
    if not 0 < mean <= p99 <= 14 * mean:
        raise ValueError("a P99 between once and 14 times MEAN")
    z = NORMAL.inv_cdf(0.99)
    return Latency(mean, z - math.sqrt(z * z - 2 * math.log(p99 / mean)))


_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s)?")


def read_share(text: str) -> float:
    part = text.removesuffix("%")
    try:
        return options.number(0, 1 if part == text else 100)(part) / (1 if part == text else 100)
    except ValueError:
        raise ValueError("a share from 0 to 1, or from 0% to 100%") from None


TABLE = (
    Option("latency", "", "MEAN[:P99]", "how long answers take: 50, 50ms, 0.5s:4s", read_latency),
    Option("error-rate", "", "P", "share of calls answered 500, 502 or 503", read_share, 0.0),
    Option("hang", "", "P", "share of calls never answered", read_share, 0.0),
    Option("garble", "", "P", "share of answers that are of no use", read_share, 0.0),
    Option("refuse", "", "P", "share of calls that the model refuses", read_share, 0.0),
    Option("rpm", "", "N", "requests a minute, then 429", options.whole(1)),
    Option("tpm", "", "N", "tokens a minute, then 429", options.whole(1)),
    Option("seed", "", "N", "another seed gives other answers and other faults", options.whole(0), 0),
    Option("log", "", "FILE", "append a line for each request", options.some, file=WRITTEN),
    Option("port", "p", "N", "port to listen on; 0: one that is free", options.whole(0, 65535), 0),
    Option("any-model", help=f"answer for any model, not only for {MODEL}"),
    *ABOUT_ITSELF,
)
FORMS = ("llm-sim [option]... [-- COMMAND [ARG]...]",)
ABOUT = "A simulated OpenAI-compatible endpoint, for COMMAND or until told to stop."


class Day(NamedTuple):
    """How good or bad a day the endpoint has."""

    latency: Latency
    faults: tuple[tuple[str, float], ...]  # name and share
    rpm: int | None
    tpm: int | None
    seed: int
    any_model: bool


def day_of(chosen: Any) -> Day:
    faults = (("error", chosen.error_rate), ("hang", chosen.hang), ("garble", chosen.garble), ("refuse", chosen.refuse))
    if sum(share for _, share in faults) > 1:
        raise Stop(FIX_FIRST, "cannot use --error-rate, --hang, --garble and --refuse: together they are more than 1")
    return Day(chosen.latency or Latency(0.0), faults, chosen.rpm, chosen.tpm, chosen.seed, chosen.any_model)


# -- the way of it ----------------------------------------------------------------------------


def main(argv: list[str]) -> int:
    chosen, command = options.command_line("llm-sim", FORMS, ABOUT, TABLE, argv, mixed=False)
    closed = chosen.closed
    endpoint = Endpoint(day_of(chosen), open_log(chosen.log))
    listening = listen(chosen.port)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    if not command:
        messages.print_out(f"{url}\n", closed)
        return asyncio.run(serve(listening, endpoint))
    here = os.getpid()
    ending = watch(here)
    if beside():
        return asyncio.run(serve(listening, endpoint, here, ending))
    return become(command, url, closed)


def open_log(path: str | None) -> int | None:
    if path is None:
        return None
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    except OSError as error:
        raise Stop(CANNOT_WRITE, f"cannot open {path}: {why(error)}") from None


def listen(port: int) -> socket.socket:
    """A socket that takes connections from now on, before anybody serves them."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen(BACKLOG)
    except OSError as error:
        raise Stop(FIX_FIRST, f"cannot listen on 127.0.0.1:{port}: {why(error)}") from None
    return listening


def watch(process: int) -> int | None:
    """A descriptor that tells when the process has ended, where the system has such a thing."""
    try:
        return os.pidfd_open(process)
    except (AttributeError, OSError):
        return None


def beside() -> bool:
    """Go on twice: True in the server, False in the process that becomes COMMAND.

    The server is nobody's child, so that COMMAND may wait for all of its own; it is in a session
    of its own, so that Ctrl-C is for COMMAND, which goes on calling while it drains; and it has let
    go of the standard streams, so that a pipe ends when COMMAND does.
    """
    if child := os.fork():
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


def become(command: list[str], url: str, closed: frozenset[int]) -> NoReturn:
    """Turn into COMMAND, which finds everything as we found it but for the variables that name an endpoint."""
    environ = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    environ |= {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "sim", "LLMSTREAM_MODEL": MODEL}
    for fd in closed:
        os.set_inheritable(fd, False)
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python, at its start
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, environ)  # noqa: S606 - this is what it is for
    except OSError as error:
        status = NOT_FOUND if isinstance(error, (FileNotFoundError, NotADirectoryError)) else NOT_EXECUTABLE
        raise Stop(status, f"cannot run {command[0]}: {why(error)}") from None


async def serve(listening: socket.socket, endpoint: Endpoint, owner: int = 0, ending: int | None = None) -> int:
    """Serve until a signal ends us, or the owner has ended."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_trouble)
    with contextlib.suppress(OSError, ValueError):  # a thousand connections are not many
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    if ending is not None:
        loop.add_reader(ending, os._exit, 0)
    elif owner:
        _leave_after(owner, loop)
    server = await loop.create_server(lambda: Connection(endpoint.reply), sock=listening, backlog=BACKLOG)
    await server.serve_forever()
    return 0


def _trouble(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    messages.say(f"cannot serve a connection: {context.get('exception') or context['message']}")


def _leave_after(owner: int, loop: asyncio.AbstractEventLoop) -> None:
    try:
        os.kill(owner, 0)
    except ProcessLookupError:
        os._exit(0)
    except PermissionError:
        pass  # it lives, as somebody else
    loop.call_later(0.2, _leave_after, owner, loop)


# -- limits -----------------------------------------------------------------------------------


class Bucket(NamedTuple):
    """So much a minute: what is left at a time, filled up continuously."""

    what: str  # requests or tokens
    size: int
    left: float
    at: float

    def later(self, now: float) -> Bucket:
        return self._replace(left=min(self.size, self.left + (now - self.at) * self.size / 60), at=now)

    def without(self, cost: int) -> Bucket:
        return self._replace(left=self.left - cost)

    def wait(self, cost: int) -> float:
        """Seconds until there is room; what is larger than the bucket wants all of it."""
        return max(0.0, min(cost, self.size) - self.left) * 60 / self.size

    def headers(self) -> dict[str, str]:
        return {
            f"x-ratelimit-limit-{self.what}": str(self.size),
            f"x-ratelimit-remaining-{self.what}": str(max(0, int(self.left))),
            f"x-ratelimit-reset-{self.what}": _duration((self.size - self.left) * 60 / self.size),
        }


def _duration(seconds: float) -> str:
    """The way OpenAI writes one: 120ms, 7.66s, 6m0s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds * 100) / 100, 60)
    return f"{minutes:.0f}m{rest:g}s" if minutes else f"{rest:g}s"


def _too_many(bucket: Bucket, cost: int, wait: float, headers: dict[str, str]) -> Bad:
    told = {
        "Retry-After": str(max(1, math.ceil(wait))),
        "retry-after-ms": str(max(1, math.ceil(wait * 1000))),
    }
    return Bad(
        429,
        f"Rate limit reached for {bucket.what} per min: Limit {bucket.size}, Left {max(0, int(bucket.left))}, "
        f"Requested {cost}. Please try again in {_duration(wait)}.",
        kind=bucket.what,
        code="rate_limit_exceeded",
        headers={**headers, **told},
    )


# -- the endpoint -----------------------------------------------------------------------------


class Endpoint:
    """What a provider knows from one call to the next."""

    def __init__(self, day: Day, log: int | None, now: Callable[[], float] = time.monotonic) -> None:
        self.day = day
        self.log = log
        self.now = now
        limits = (("requests", day.rpm), ("tokens", day.tpm))
        self.buckets = [Bucket(what, size, size, now()) for what, size in limits if size]
        self.tries: OrderedDict[bytes, int] = OrderedDict()

    def reply(self, request: Request) -> Reply:
        try:
            reply = self.route(request)
        except Bad as bad:
            reply = error_reply(bad)
        try:
            self.note(request, reply)
        except OSError as error:  # a call that is in no log must not have been answered
            reply = error_reply(Bad(500, f"llm-sim cannot write its log: {why(error)}", kind="server_error"))
        return reply

    def route(self, request: Request) -> Reply:
        key = request.headers.get("authorization", "").removeprefix("Bearer") or request.headers.get("api-key", "")
        if not key.strip():
            raise Bad(401, "You didn't provide an API key. llm-sim takes any.", code="invalid_api_key")
        match request.path.strip("/").split("/"):
            case ["v1", "chat", "completions"]:
                return self.chat(_only("POST", request))
            case ["openai", "deployments", name, "chat", "completions"]:
                return self.chat(_only("POST", request), name)
            case ["v1", "models"]:
                _only("GET", request)
                return _json({"object": "list", "data": [_model(MODEL)]})
            case ["v1", "models", *names]:
                _only("GET", request)
                return _json(_model(self.known("/".join(names))))
        raise Bad(404, f"Unknown request URL: {request.method} {request.path}.", code="unknown_url")

    def chat(self, request: Request, deployment: str | None = None) -> Reply:
        asked = parsed(request.body)
        model = self.known(asked.get("model") or deployment)
        call = call_of(self.day.seed, request.body, request.headers.get("idempotency-key", ""), asked)
        given = answer(call, asked)
        headers = self.spend(given.usage["total_tokens"])
        nth = b"%d" % self.seen(call.own)
        reply = _reply(self.day, call, completion(call, given, model, int(time.time())), nth)
        identity = {"x-request-id": f"req_{number(call.own, b'id', nth):016x}"}
        return reply._replace(headers={**reply.headers, **identity, **headers}, model=model)

    def known(self, model: Any) -> str:
        if not isinstance(model, str) or not model:
            raise Bad(400, "you must provide a model parameter", param="model")
        if model != MODEL and not self.day.any_model:
            told = f"The model `{model}` does not exist: llm-sim knows only `{MODEL}`, unless --any-model says so."
            raise Bad(404, told, param="model", code="model_not_found")
        return model

    def spend(self, tokens: int) -> dict[str, str]:
        """Take a call out of every bucket, or out of none."""
        costs = {"requests": 1, "tokens": tokens}
        self.buckets = [bucket.later(self.now()) for bucket in self.buckets]
        for bucket in self.buckets:
            if wait := bucket.wait(costs[bucket.what]):
                raise _too_many(bucket, costs[bucket.what], wait, self.budget())
        self.buckets = [bucket.without(costs[bucket.what]) for bucket in self.buckets]
        return self.budget()

    def budget(self) -> dict[str, str]:
        return {name: value for bucket in self.buckets for name, value in bucket.headers().items()}

    def seen(self, call: bytes) -> int:
        """How often this call came before: a further try draws anew."""
        before = self.tries.pop(call, 0)
        self.tries[call] = before + 1
        if len(self.tries) > REMEMBERED:
            self.tries.popitem(last=False)
        return before

    def note(self, request: Request, reply: Reply) -> None:
        """One line, one write, so that several processes may share a log."""
        if self.log is None:
            return
        line = {
            "time": datetime.now(UTC),
            "path": request.path,
            "idempotency_key": request.headers.get("idempotency-key"),
            "model": reply.model,
            "status": reply.status or None,
            "billed": reply.usage is not None,
            "usage": reply.usage,
            "fault": reply.fault,
        }
        data = orjson.dumps(line, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)
        if os.write(self.log, data) < len(data):
            raise OSError(0, "there is no room")


def _only(method: str, request: Request) -> Request:
    if request.method != method:
        told = f"Not allowed to {request.method} on {request.path}: use {method}."
        raise Bad(405, told, code="method_not_supported", headers={"Allow": method})
    return request


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1700000000, "owned_by": "llmstream"}


def _json(value: Any) -> Reply:
    return Reply(200, Sent(orjson.dumps(value)))


def _reply(day: Day, call: Call, whole: dict[str, Any], nth: bytes) -> Reply:
    """The whole answer, or the fault that this try of the call meets."""
    delay = day.latency.at(unit(number(call.own, b"latency", nth)))
    fault, drawn = _fault(day, unit(number(call.own, b"fault", nth))), number(call.own, b"which", nth)
    usage = whole["usage"]
    if fault == "error":
        return _outage((500, 502, 503)[drawn % 3], delay)
    if fault == "hang":
        return Reply(0, Sent(b""), usage=usage, fault=fault)
    if fault == "garble":
        way, sent = garbled(call, whole, drawn)
        return Reply(200, sent, delay=delay, usage=usage, fault=f"garble:{way}")
    sent = refused(whole) if fault == "refuse" else Sent(orjson.dumps(whole))
    return Reply(200, sent, delay=delay, usage=usage, fault=fault)


def _fault(day: Day, chance: float) -> str | None:
    for name, share in day.faults:
        if chance < share:
            return name
        chance -= share
    return None


def _outage(status: int, delay: float) -> Reply:
    """What a provider's server says of itself, or its proxy of it."""
    if status == 502:
        sent = Sent(b"<html><head><title>502 Bad Gateway</title></head></html>\n", "text/html")
    else:
        sent = error_reply(
            Bad(status, "The server had an error while processing your request.", kind="server_error")
        ).sent
    return Reply(status, sent, delay=delay, fault="error")
