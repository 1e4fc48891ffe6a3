"""An endpoint that costs next to nothing: nginx with its echo module, or llm-sim where that is not installed."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tool import command, environment  # after the path is set

LATENCIES = (0, 100)  # ms
ANSWER = "Yes."
PATIENCE = 10.0  # seconds that a server may take to start or to end
MODULE = "ngx_http_echo_module.so"
FURTHER_MODULES = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/nginx/modules")

COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "sim",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": ANSWER, "refusal": None}}
    ],
    "usage": {"prompt_tokens": 40, "completion_tokens": 2, "total_tokens": 42},
}
MODELS = {"object": "list", "data": [{"id": "sim", "object": "model", "created": 1, "owned_by": "bench"}]}

# One process: what it takes is easily told, and it is not what the others wait for. echo_exec hands over to
# `return` because that gives a Content-Length, as inference servers do; echo itself sends chunks.
NGINX = """\
{load}
daemon off;
master_process off;
pid nginx.pid;
error_log error.log;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    default_type application/json;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    client_max_body_size 0;
    client_body_buffer_size 256k;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location @answer {{ return 200 '{answer}'; }}
{locations}
    }}
}}
"""
LOCATION = """\
        location = /{ms}/v1/models {{ return 200 '{models}'; }}
        location = /{ms}/v1/chat/completions {{ echo_read_request_body; {sleep} echo_exec @answer; }}"""


class Server(NamedTuple):
    """Processes that answer at a URL for each latency in ms."""

    name: str
    urls: Mapping[int, str]
    processes: tuple[int, ...]

    def cpu(self) -> float:
        """Seconds of CPU that it took so far."""
        return sum(map(_cpu, self.processes))


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Start the endpoint, and end it."""
    started: list[subprocess.Popen[str]] = []
    try:
        yield _nginx(folder, started) or _sims(started)
    finally:
        for process in started:
            process.terminate()
        for process in started:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _cpu(process: int) -> float:
    """utime and stime, after the name in brackets, which may hold anything."""
    told = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


def _die_with_parent() -> None:
    """Also when the benchmark is killed, nothing stays behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


# -- nginx ------------------------------------------------------------------------------------------


def _nginx(folder: Path, started: list[subprocess.Popen[str]]) -> Server | None:
    """nginx, if it is there, knows echo and starts."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        return None
    told = subprocess.run([program, "-V"], capture_output=True, text=True, check=False).stderr
    load = _echo(told)
    if load is None:
        return None
    port = _free_port()
    (folder / "nginx.conf").write_text(configuration(load, port))
    process = subprocess.Popen(
        [program, "-p", str(folder), "-c", str(folder / "nginx.conf")],
        stdin=subprocess.DEVNULL,
        stderr=(folder / "nginx.err").open("w"),
        preexec_fn=_die_with_parent,  # noqa: PLW1509 - there are no threads yet
        text=True,
    )
    started.append(process)
    if not _listens(process, port):
        return None
    urls = {ms: f"http://127.0.0.1:{port}/{ms}/v1" for ms in LATENCIES}
    version = re.search(r"nginx/([\w.]+)", told)
    return Server(f"nginx {version[1] if version else ''} with echo, one process", urls, (process.pid,))


def configuration(load: str, port: int) -> str:
    models = json.dumps(MODELS)
    locations = (
        LOCATION.format(ms=ms, models=models, sleep=f"echo_sleep {ms / 1000};" if ms else "") for ms in LATENCIES
    )
    return NGINX.format(load=load, port=port, answer=json.dumps(COMPLETION), locations="\n".join(locations))


def _echo(told: str) -> str | None:
    """The line that loads the echo module, empty if it is built in; told: what nginx -V says."""
    if re.search(r"--add-module=\S*echo", told):
        return ""
    folders = (*re.findall(r"--modules-path=(\S+)", told), *FURTHER_MODULES)
    found = next((path for path in (Path(folder) / MODULE for folder in folders) if path.exists()), None)
    return f"load_module {found};" if found else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _listens(process: subprocess.Popen[str], port: int) -> bool:
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.01)
    return False


# -- llm-sim ----------------------------------------------------------------------------------------


def _sims(started: list[subprocess.Popen[str]]) -> Server:
    """One llm-sim for each latency."""
    sims = [_sim(ms, started) for ms in LATENCIES]
    urls = dict(zip(LATENCIES, (url for url, _ in sims), strict=True))
    return Server("llm-sim: it may be what the others wait for, see its share", urls, tuple(pid for _, pid in sims))


def _sim(ms: int, started: list[subprocess.Popen[str]]) -> tuple[str, int]:
    process = subprocess.Popen(
        command("llm-sim", "--latency", f"{ms}ms"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment(),
        preexec_fn=_die_with_parent,  # noqa: PLW1509 - there are no threads yet
        text=True,
    )
    started.append(process)
    assert process.stdout
    return process.stdout.readline().strip(), process.pid
