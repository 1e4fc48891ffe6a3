"""Done-files, good and bad, and what is found in them."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tool import TOP

from llmstream.done.done_file import DoneFile
from llmstream.done.line import Line, seal
from llmstream.shell.messages import Stop


def fields(number: int, **more: Any) -> dict[str, Any]:
    told = {
        "key": f"{number:032x}",
        "answer": f'say "{number}" é\n',
        "model": "sim",
        "usage": {"input": 8, "output": 2},
    }
    return {**told, "latency": 0.12, "attempts": 1, "at": "2026-11-20T10:30:00Z", "id": f"DS_{number}", **more}


FIVE = [fields(number) for number in range(5)]
KEY = FIVE[0]["key"]
LINES = [seal(line) for line in FIVE]
ONE, TWO = LINES[:2]
WHOLE = b"".join(LINES)
NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[DoneFile]:
    it = DoneFile(str(path))
    try:
        yield it
    finally:
        os.close(it.fd)


def written(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


def found(it: DoneFile, lines: list[dict[str, Any]] = FIVE) -> list[Line | None]:
    return [it.find(line["key"]) for line in lines]


def answers(it: DoneFile) -> list[str | None]:
    return [line.answer if line else None for line in found(it)]


def plain(line: Line | None) -> dict[str, Any] | None:
    """The fields of a line that say something."""
    return line and {name: value for name, value in line.as_fields().items() if value is not None}


def refusal(path: Path) -> Stop:
    with pytest.raises(Stop) as told, opened(path):
        pass
    return told.value


def other(tmp_path: Path, script: str, *words: str | Path) -> subprocess.Popen[bytes]:
    """A process that runs a script of ours."""
    program = tmp_path / "llm-other"
    program.write_text(script)
    return subprocess.Popen(
        [sys.executable, program, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(TOP)},
    )


def fails(error: BaseException) -> Callable[..., Any]:
    def call(*_: Any, **__: Any) -> Any:
        raise error

    return call
