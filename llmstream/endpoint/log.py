"""The log: a line for each request, at the moment when its reply is decided."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import orjson

from llmstream.endpoint.http import Request
from llmstream.endpoint.replies import Reply
from llmstream.shell.messages import CANNOT_WRITE, Stop, why


def open_log(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    except OSError as error:
        raise Stop(CANNOT_WRITE, f"cannot open {path}: {why(error)}") from None


def log_request(log: int, request: Request, reply: Reply) -> None:
    """One line, one write, so that several processes may share a log."""
    line = {
        "time": datetime.now(UTC),
        "path": request.path,
        "idempotency_key": request.headers.get("idempotency-key"),
        "model": reply.model,
        "status": reply.status or None,
        "billed": reply.usage is not None,
        "usage": reply.usage.as_dict() if reply.usage else None,
        "fault": reply.fault,
    }
    data = orjson.dumps(line, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)
    if os.write(log, data) < len(data):
        raise OSError(0, "there is no room")
