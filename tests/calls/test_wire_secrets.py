"""Nobody is told the key: not in a message, not in a file, not even if an endpoint quotes it."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
from endpoint import Endpoint, Reply, chat, error, says
from tool import start
from ways import CANARY, PROMPT, WAYS, ask, records

from llmstream.calls.wire_secrets import redactor
from llmstream.calls.wire_values import Sent

ECHO = f"Incorrect API key provided: {CANARY}. Bearer {CANARY}"
ECHOES = {
    "an answer without choices": Reply({"error": {"message": ECHO}}),
    "a page": Reply(ECHO.encode()),
    "400": error(400, ECHO),
    "422": Reply({"detail": [{"msg": ECHO, "loc": ["header"]}]}, 422),
    "500": error(500, ECHO),
    "a plain 503": Reply(ECHO.encode(), 503),
}


@pytest.mark.parametrize(
    ("way", "ends"),
    [
        *((way, None) for way in WAYS),
        ("plain", error(401, ECHO)),
        ("plain", error(429, ECHO, "insufficient_quota")),
        ("azure", error(403, ECHO)),
    ],
)
def test_the_key_is_not_told(way: str, ends: Reply | None, tmp_path: Path) -> None:
    """Not even by an endpoint that quotes it."""
    stdin = records("ok", "ok", *ECHOES)
    with Endpoint(lambda call: ends or ECHOES.get(call.prompt) or says()) as endpoint:
        words = ("-v", "--retries", "1", "-d", tmp_path / "done", "-e", tmp_path / "errors")
        got = ask(way, endpoint, *words, stdin=stdin)
    assert got.returncode == (2 if ends else 1)
    assert b"[key]" in got.stderr
    written = [got.stdout, got.stderr, *(path.read_bytes() for path in tmp_path.iterdir())]
    assert [data for data in written if CANARY.encode() in data] == []
    assert any(CANARY in value for value in endpoint.calls[0].headers.values())


def sent(status: int, body: bytes, **headers: str) -> Sent:
    return redactor({CANARY, "pass/word+1"})(Sent(status, headers, body))


SPELLINGS = [CANARY, CANARY.upper(), "pass/word+1", r"pass\/word\u002B1", "pass%2Fword%2b1", "pass&#47;word&#x2b;1"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_error_without_secrets(spelling: str) -> None:
    assert sent(400, f"no such user: {spelling}!".encode()).body == b"no such user: [key]!"
    assert sent(307, b"", Location=f"/?key={spelling}").headers == {"location": "/?key=[key]"}


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_what_a_model_says_is_left_alone(mark: bytes) -> None:
    body = mark + json.dumps(chat(CANARY)).encode()
    assert sent(200, body).body == body
    assert sent(200, mark + json.dumps({"error": CANARY}).encode()).body == mark + b'{"error": "[key]"}'
    assert b"[key]" in sent(500, body).body


def test_the_key_is_not_in_the_command_line(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_text(CANARY)
    with Endpoint(Reply(hang=True)) as endpoint:
        process = start("llm-map", "--key-file", key, PROMPT, "-", url=endpoint.url, stderr=subprocess.DEVNULL)
        assert process.stdin
        process.stdin.write(records("a").encode())
        process.stdin.flush()
        while not endpoint.calls:
            time.sleep(0.01)
        shown = subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(process.pid)], capture_output=True, check=False)
        process.kill()
        process.communicate()
    assert b"llm-map" in shown.stdout
    assert CANARY.encode() not in shown.stdout
