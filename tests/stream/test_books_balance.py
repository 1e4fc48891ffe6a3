"""Whatever the options, the signals and the reader of stdout: every record is in the books once, and no line twice."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest
from endpoint import Call, Endpoint, Reply, chat, error
from tool import jsonl, lines, start

ROUNDS = int(os.environ.get("BOOKS_ROUNDS", "16"))  # 300 for a long one
AT_LAST = 60.0
PRICES = '{"sim": {"input": 1, "output": 1}}'


def read_slowly(fd: int, dice: random.Random, until: float) -> bytes:
    """Nothing for a while, a little now and then, and all that is left at the end; or the reader leaves."""
    if dice.random() < 0.15:
        os.close(fd)
        return b""
    data = b""
    time.sleep(dice.choice((0, 0, 0.5, 2)))
    size, pause = dice.choice((1 << 16, 1 << 16, 4096, 300)), dice.choice((0, 0.001, 0.02))
    while select.select([fd], [], [], AT_LAST)[0]:
        if time.monotonic() > until:
            size, pause = 1 << 16, 0
        chunk = os.read(fd, size)
        if not chunk:
            os.close(fd)
            return data
        data += chunk
        time.sleep(pause)
    raise AssertionError("it hangs")


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_the_books_balance(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    count, size = dice.choice(((1, 10), (60, 10), (400, 200), (400, 10), (150, 6000)))
    delays = [dice.choice((0, 0, 0.01, 0.05, 1.0)) for _ in range(7)]

    def answer(call: Call) -> Reply:
        if dice.random() < 0.02:
            return error(400, "no")
        return Reply(chat("x" * dice.choice((1, 200))), delay=delays[call.number % 7])

    (tmp_path / "prices").write_text(PRICES)
    (tmp_path / "in").write_text(jsonl(*({"n": n, "pad": "p" * size} for n in range(count))) + "{\n" * (seed % 3))
    tool = dice.choice(("llm-map", "llm-map", "llm-vote"))
    words = ["-j", dice.choice(["1", "4", "16"]), "--drain", dice.choice(("0", "0.3", "2")), "--summary", "summary"]
    for some in (["-U"], ["-d", "done"], ["--max-errors", "2"], ["--max-cost", "0.0005", "--prices", "prices"]):
        if dice.random() < 0.4:
            words += some
    with Endpoint(answer) as endpoint:
        began = time.monotonic()
        process = start(
            tool, *words, "{{ n }} {{ pad }}", "in", url=endpoint.url, cwd=tmp_path, stderr=subprocess.DEVNULL
        )
        assert process.stdout
        reader = os.dup(process.stdout.fileno())
        process.stdout.close()
        pid = os.fork() if dice.random() < 0.6 else None
        if pid == 0:  # sends the signal while we read
            time.sleep(dice.uniform(0.3, 2.5))
            process.send_signal(dice.choice((signal.SIGTERM, signal.SIGINT, signal.SIGHUP)))
            os._exit(0)
        data = read_slowly(reader, dice, began + 8)
        process.wait(AT_LAST)
        if pid:
            os.waitpid(pid, 0)
    assert data == b"" or data.endswith(b"\n"), "a line is torn"
    printed = [record["n"] for record in lines(data)]
    assert len(printed) == len(set(printed)), "a line is there twice"
    if not (tmp_path / "summary").exists():  # the signal came before the start, or came twice
        return
    books = json.loads((tmp_path / "summary").read_text())
    parts = [books[name] for name in ("out", "failed", "kept", "unasked", "lost")]
    assert books["read"] == sum(parts), books
    assert min(parts) >= 0, books
    assert not data or books["out"] == len(printed), books
    if "-U" not in words:
        assert printed == sorted(printed) or process.returncode != 0
