"""Run the real executables, as a user does, in an environment without surprises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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


def lines(data: bytes) -> list[Any]:
    """JSON Lines as values."""
    return [json.loads(line) for line in data.splitlines()]


def jsonl(*records: Any) -> str:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
