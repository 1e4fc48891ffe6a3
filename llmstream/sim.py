"""llm-sim: a simulated endpoint on loopback, to rehearse a pipeline without a key or a bill."""

from __future__ import annotations

import os
import re
import signal
from typing import NoReturn

from llmstream.shell import messages, options
from llmstream.shell.messages import FIX_FIRST, Stop, why
from llmstream.shell.named_files import WRITTEN
from llmstream.shell.options import ABOUT_ITSELF, Option

NOT_EXECUTABLE, NOT_FOUND = 126, 127  # as env(1) and nohup(1) have it
ELSEWHERE = ("LLMSTREAM_BASE_URL", "LLMSTREAM_KEY_FILE")  # would send a rehearsal to the real endpoint

# -- options ----------------------------------------------------------------------------------

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s)?")


def read_latency(text: str) -> tuple[float, float]:
    """MEAN[:P99] in seconds; without a P99 all answers take as long."""
    found = [_DURATION.fullmatch(part) for part in text.split(":")]
    seconds = [float(part[1]) * (1 if part[2] == "s" else 0.001) for part in found if part]
    if len(seconds) < len(found) or len(found) > 2:
        raise ValueError("MEAN or MEAN:P99, each like 50, 50ms or 1.5s")
    mean, p99 = seconds[0], seconds[-1]
    if len(seconds) == 2 and not 0 < mean <= p99 <= 14 * mean:
        raise ValueError("a P99 between once and 14 times MEAN")
    return mean, p99


def read_share(text: str) -> float:
    part = text.removesuffix("%")
    whole = 1 if part == text else 100
    try:
        return options.number(0, whole)(part) / whole
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
    Option("any-model", help="answer for any model, not only for sim"),
    *ABOUT_ITSELF,
)
FORMS = ("llm-sim [option]... [-- COMMAND [ARG]...]",)
ABOUT = "A simulated OpenAI-compatible endpoint, for COMMAND or until told to stop."


# -- main -------------------------------------------------------------------------------------


def main(argv: list[str]) -> int:
    o, words = options.command_line("llm-sim", FORMS, ABOUT, TABLE, argv, mixed=False)
    if o.error_rate + o.hang + o.garble + o.refuse > 1:
        raise Stop(FIX_FIRST, "cannot use --error-rate, --hang, --garble and --refuse: together they are more than 1")

    from llmstream.endpoint import server  # --help needs no package
    from llmstream.endpoint.faults import Faults
    from llmstream.endpoint.latency import Latency
    from llmstream.endpoint.log import open_log
    from llmstream.endpoint.provider import MODEL, Day, Provider

    faults = Faults(error=o.error_rate, hang=o.hang, garble=o.garble, refuse=o.refuse)
    latency = Latency.of(*o.latency) if o.latency else Latency(0.0)
    day = Day(latency, faults, rpm=o.rpm, tpm=o.tpm, seed=o.seed, any_model=o.any_model)
    provider = Provider(day, open_log(o.log) if o.log else None)
    listening = server.listen(o.port)
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    if not words:
        messages.print_out(f"{url}\n", o.closed)
        return server.serve(listening, provider.reply)
    owner = server.Owner.this_process()
    if server.fork_server():
        return server.serve(listening, provider.reply, owner)
    endpoint = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "sim", "LLMSTREAM_MODEL": MODEL}
    return become(words, endpoint, o.closed)


def become(command: list[str], endpoint: dict[str, str], closed: frozenset[int]) -> NoReturn:
    """Turn into COMMAND, which finds everything as we found it but for the variables that name an endpoint.

    endpoint: those variables; closed: the standard streams that we found closed.
    """
    environ = {name: value for name, value in os.environ.items() if name not in ELSEWHERE} | endpoint
    for fd in closed:
        os.set_inheritable(fd, False)
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # by Python, at its start
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, environ)  # noqa: S606 - this is what it is for
    except OSError as error:
        status = NOT_FOUND if isinstance(error, (FileNotFoundError, NotADirectoryError)) else NOT_EXECUTABLE
        raise Stop(status, f"cannot run {command[0]}: {why(error)}") from None
