"""Run llm-merge, and read what came of it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from tool import lines, run

AT_LAST = 30.0  # what hangs is a failure


def merge(*words: str | Path, status: int = 0, **more: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the tool; it ends with this status, and nothing that it says is a fault of its own."""
    done = run("llm-merge", *words, timeout=AT_LAST, **more)
    assert b" a bug " not in done.stderr, done.stderr
    assert done.returncode == status, done.stderr
    assert all(line.startswith(b"llm-merge: ") for line in done.stderr.splitlines())
    return done


def out(*words: str | Path, **more: Any) -> list[Any]:
    return lines(merge("-q", *words, **more).stdout)


def failures(file: Path) -> list[tuple[str, str]]:
    """What the errors file says: the type and the message of each record's failure."""
    return [(line["error"]["type"], line["error"]["message"]) for line in lines(file.read_bytes())]
