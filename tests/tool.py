"""Run the real executables, as a user does, in an environment without surprises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
BIN = TOP / "bin"
TOOLS = sorted(path.name for path in BIN.iterdir())
_FOREIGN = ("OPENAI_", "AZURE_", "LLMSTREAM_", "HTTP_", "HTTPS_", "ALL_PROXY", "NO_PROXY", "PYTHON")


def environment(**more: str) -> dict[str, str]:
    """Ours, without what would configure a tool behind a test's back."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(_FOREIGN)}
    return kept | {"OPENAI_API_KEY": "sk-test", "LLMSTREAM_MODEL": "sim"} | more


def command(tool: str, *words: str | Path) -> list[str]:
    """The command line that runs a tool with this very interpreter."""
    return [sys.executable, str(BIN / tool), *map(str, words)]


def run(
    tool: str, *words: str | Path, stdin: str | bytes = b"", url: str | None = None, timeout: float = 60, **more: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run a tool to its end. url: the endpoint; env: further variables; more: for subprocess.run."""
    env = environment(**({"OPENAI_BASE_URL": url} if url else {}), **more.pop("env", {}))
    data = stdin.encode() if isinstance(stdin, str) else stdin
    given = {} if "stdin_from" not in more else {"stdin": more.pop("stdin_from")}
    return subprocess.run(
        command(tool, *words),
        **(given or {"input": data}),
        capture_output=True,
        env=env,
        timeout=timeout,
        check=False,
        **more,
    )


def start(tool: str, *words: str | Path, url: str | None = None, **more: Any) -> subprocess.Popen[bytes]:
    """Start a tool and leave it running; every stream is a pipe unless told otherwise."""
    env = environment(**({"OPENAI_BASE_URL": url} if url else {}), **more.pop("env", {}))
    streams = {name: more.pop(name, subprocess.PIPE) for name in ("stdin", "stdout", "stderr")}
    return subprocess.Popen(command(tool, *words), env=env, **streams, **more)


def until(condition: Callable[[], object], process: subprocess.Popen[Any] | None = None, seconds: float = 30) -> None:
    """Wait for something that a process does while it runs."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        assert process is None or process.poll() is None, "it has ended"
        time.sleep(0.005)


def killed_until_done(
    tool: str, *words: str | Path, stdin: str, url: str, asked: Callable[[], int], step: int
) -> tuple[bytes, int]:
    """kill -9 a tool when so many calls more have come in, later each time, until a run ends: its output, the kills.

    asked: how many calls the endpoint has had.
    """
    for kills in range(40):
        process = start(tool, *words, url=url)
        assert process.stdin
        assert process.stdout
        process.stdin.write(stdin.encode())
        process.stdin.close()
        goal = asked() + 3 + step * kills
        while asked() < goal and process.poll() is None:
            time.sleep(0.005)
        if process.poll() is not None:
            assert process.returncode == 0
            return process.stdout.read(), kills
        process.kill()
        process.wait()
    raise AssertionError("it never ends")


def lines(data: bytes) -> list[Any]:
    """JSON Lines as values."""
    return [json.loads(line) for line in data.splitlines()]


def jsonl(*records: Any) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
