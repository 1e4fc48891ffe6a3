"""What people read, and how a process ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tool import TOP

from llmstream.records import words


@given(st.text())
def test_nothing_that_a_terminal_obeys(text: str) -> None:
    shown = words.escape(text)
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in shown)
    assert len(shown.splitlines()) <= 1
    shown.encode()  # whatever it was, it can be written


def test_letters_stay() -> None:
    assert words.escape("Huế, 20 °C – ☀") == "Huế, 20 °C – ☀"
    assert words.escape("\x1b[2J\n\x9b") == "\\x1b[2J\\n\\x9b"


def test_brief_is_one_line() -> None:
    assert words.brief(" a\n\tb  c ") == "a b c"
    assert len(words.brief("x" * 1000)) == 300


def leaving(tmp_path: Path, body: str, **more: object) -> subprocess.CompletedProcess[bytes]:
    """Leave with a main of our own."""
    script = tmp_path / "tool"
    script.write_text(
        f"import sys, types\nsys.path.insert(0, {str(TOP)!r})\nfrom llmstream.shell import messages\n"
        f"def main(argv):\n    {body}\nsys.modules['llmstream.x'] = types.SimpleNamespace(main=main)\n"
        "messages.leave('llm-x')\n"
    )
    return subprocess.run([sys.executable, script], capture_output=True, check=False, **more)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ("return 3", 3, b""),
        ("raise messages.Stop(75, 'not now')", 75, b"llm-x: not now\n"),
        ("sys.exit(0)", 0, b""),
        ("import nosuchpackage", 2, b"llm-x: cannot load nosuchpackage: "),
        ("raise ZeroDivisionError", 1, b"llm-x: a bug in llm-x: ZeroDivisionError at tool:5"),
        ("raise KeyboardInterrupt", -signal.SIGINT, b""),
        ("messages.die_by(15)", -signal.SIGTERM, b""),
        ("print('lost in a buffer'); return 0", 0, b""),
    ],
)
def test_every_way_to_leave(tmp_path: Path, body: str, status: int, told: bytes) -> None:
    result = leaving(tmp_path, body)
    assert result.returncode == status
    assert result.stderr.startswith(told)
    assert result.stderr.count(b"\n") == bool(told)


def test_a_stderr_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    result = leaving(tmp_path, "raise messages.Stop(75, 'unheard')", preexec_fn=lambda: os.close(2))
    assert result.returncode == 75
