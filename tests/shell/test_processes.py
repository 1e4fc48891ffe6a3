"""What the system tells about processes, of real ones; and nothing where it tells nothing."""

from __future__ import annotations

import builtins
import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from written_lines import needs_locks

from llmstream.shell import processes
from llmstream.shell.processes import Lock

needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="no /proc")


WAITS = "import sys; print(flush=True); sys.stdin.read()"


@contextlib.contextmanager
def running(*words: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


@pytest.fixture
def child(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a name that is hard to read past."""
    program = tmp_path / "llm-other (1) R 2"
    program.write_text(WAITS)
    with running(program, "word") as process:
        yield process


@pytest.fixture
def no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.open

    def missing(name: Any, *words: Any, **more: Any) -> Any:
        if str(name).startswith("/proc/"):
            raise FileNotFoundError(name)
        return real(name, *words, **more)

    monkeypatch.setattr(builtins, "open", missing)


@needs_locks
def test_who_holds_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert processes.holder(path.stat(), processes.locks()) is None  # others may have that too
        fcntl.flock(file, fcntl.LOCK_EX)
        assert processes.holder(path.stat(), processes.locks()) == os.getpid()
    assert processes.holder(path.stat(), processes.locks()) is None


@pytest.mark.parametrize("device", ["00:1f", "fe:00", "ff:01"])
def test_a_lock_on_a_file_system_of_layers(device: str) -> None:
    """Its device has another number for stat(2) than for the kernel; a true device has the same."""
    layered = os.stat_result((0o100600, 77, os.makedev(0, 31), 1, 0, 0, 0, 0, 0, 0))
    disk = os.stat_result((0o100600, 77, os.makedev(0xFE, 0), 1, 0, 0, 0, 0, 0, 0))
    held = [Lock("fe:00", 1, 5), Lock(device, 77, 7)]
    assert processes.holder(layered, held) == 7
    assert processes.holder(disk, held) == (7 if device == "fe:00" else None)
    assert processes.holder(layered, held[:1]) is None


@needs_proc
def test_the_name_of_a_process(child: subprocess.Popen[bytes]) -> None:
    assert processes.name(child.pid) == "llm-other (1) R 2"
    with running("-c", WAITS) as other:
        assert processes.name(other.pid) == os.path.basename(sys.executable)


@needs_proc
def test_when_a_process_began(child: subprocess.Popen[bytes]) -> None:
    began = processes.start_time(child.pid)
    assert began is not None
    assert time.time() - 60 < began < time.time() + 1
    mine, its = processes.start_ticks(os.getpid()), processes.start_ticks(child.pid)
    assert mine is not None and its is not None
    assert mine <= its


@needs_proc
def test_whether_it_is_still_the_same_process(child: subprocess.Popen[bytes]) -> None:
    ticks = processes.start_ticks(child.pid)
    assert ticks is not None
    assert processes.still_runs(child.pid, ticks) is True
    assert processes.still_runs(child.pid, ticks - 1) is False  # it has the number of one that has ended
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert processes.still_runs(child.pid, ticks) is False  # nobody has waited for it yet
    child.wait()
    assert processes.still_runs(child.pid, ticks) is False
    assert (processes.name(child.pid), processes.start_ticks(child.pid), processes.start_time(child.pid)) == (None,) * 3


@pytest.mark.usefixtures("no_proc")
def test_a_system_that_tells_nothing(tmp_path: Path) -> None:
    assert processes.locks() is None
    assert processes.holder(tmp_path.stat(), None) is None
    process = os.getpid()
    assert (processes.name(process), processes.start_ticks(process), processes.start_time(process)) == (None,) * 3
    assert processes.still_runs(process, 1) is None
