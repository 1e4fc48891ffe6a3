"""Lines of done-files and logs, as our own writers make them."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tool import jsonl

from llmstream.done.line import seal
from llmstream.watch.stages import Stage

NOON = 1_795_521_600  # 2026-11-24T12:00:00Z


def iso(second: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))


def fields(number: int, vote: int = 0, **more: Any) -> dict[str, Any]:
    """A line as our own writer makes it."""
    line = {
        "key": f"{number:032x}" + (f"-v{vote}" if vote else ""),
        "answer": f'say "{number}" é\n',
        "model": "sim",
        "usage": {"input": 10, "output": 2},
        "cost": 0.001,
        "latency": 0.5,
        "attempts": 1,
        "at": iso(NOON + number),
        "id": f"DS_{number}",
    }
    return {**line, **more}


def rejected(number: int, why: str = "schema: no", **more: Any) -> dict[str, Any]:
    return fields(number, **{"answer": "", "rejected": why, "asked": 1, **more})


def given_up(number: int, why: str = "timeout: no answer", vote: int = 1) -> dict[str, Any]:
    """What llm-vote writes of a vote that failed."""
    return {"key": f"{number:032x}-v{vote}", "answer": "", "attempts": 2, "at": iso(NOON), "id": 1, "rejected": why}


def written(path: Path, *parts: bytes | dict[str, Any]) -> Path:
    path.write_bytes(b"".join(part if isinstance(part, bytes) else seal(part) for part in parts))
    return path


def as_dict(it: Stage) -> dict[str, Any]:
    return {
        "done": it.done,
        "calls": {model: spent.calls for model, spent in it.models.items()},
        "output": {model: spent.output for model, spent in it.models.items() if spent.output},
        "latencies": it.latencies,
    }


def event(kind: str, second: float, run: str = "aaaaaaaa", tool: str = "llm-map", **more: Any) -> dict[str, Any]:
    stamp = iso(NOON + second)[:-1] + ".123Z"
    return {"timestamp": stamp, "level": "INFO", "logger": tool, "message": "m", "event_type": kind, "run": run, **more}


def start(
    second: float = 0, done: Path | None = None, models: Sequence[str] = ("sim",), pid: int = 1, **more: Any
) -> dict[str, Any]:
    path = None if done is None else str(done)
    return event(
        "run_start", second, version="0.1.0", pid=pid, done=path, usable=0, files=[], models=models, options={}, **more
    )


def call(number: int, second: float | None = None, **more: Any) -> dict[str, Any]:
    line = fields(number)
    same = {name: line[name] for name in ("key", "id", "model", "usage", "cost")}
    return event(
        "api_call_complete",
        number if second is None else second,
        **{**same, "duration": 0.5, "attempt": 1, "rejected": None, **more},
    )


def failed(second: float = 1, type: str = "http", status: int | None = 500, **more: Any) -> dict[str, Any]:  # noqa: A002
    return event(
        "record_failed", second, where="<stdin>:1", id=None, type=type, error="no", status=status, attempts=3, **more
    )


def summary(second: float, **more: Any) -> dict[str, Any]:
    books = {
        "read": 0,
        "out": 0,
        "failed": 0,
        "kept": 0,
        "unasked": 0,
        "status": 0,
        "stopped": None,
        "failures": {},
        **more,
    }
    return event("run_summary", second, **books)


def logged(path: Path, *events: dict[str, Any]) -> Path:
    path.write_text(jsonl(*events))
    return path


needs_locks = pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="nobody tells who holds a file")
