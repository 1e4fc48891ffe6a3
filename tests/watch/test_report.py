"""llm-progress with files: what is printed and written, once and again and again."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import signal
import stat
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tool import TOP, command, environment, lines, run, until
from tool import start as started
from written_lines import (
    NOON,
    call,
    failed,
    fields,
    given_up,
    iso,
    logged,
    needs_locks,
    rejected,
    start,
    summary,
    written,
)

from llmstream.done.done_file import DoneFile
from llmstream.done.line import seal
from llmstream.watch.stages import Stages

SOON, AT_LAST = 5.0, 20.0


def progress(*words: str | Path, status: int = 0, **more: Any) -> list[str]:
    """The lines that it prints."""
    done = run("llm-progress", *words, **more)
    assert (done.stderr, done.returncode) == (b"", status)
    return done.stdout.decode().splitlines()


def refused(*words: str | Path, status: int = 2, **more: Any) -> str:
    done = run("llm-progress", *words, **more)
    assert (done.stdout, done.returncode) == (b"", status)
    (line,) = done.stderr.decode().splitlines()
    return line.removeprefix("llm-progress: ")


@contextlib.contextmanager
def watching(*words: str | Path, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """One that goes on until it has nothing to wait for, or the test is over."""
    with started("llm-progress", "--watch", *words, **more) as process:
        try:
            yield process
        finally:
            process.kill()


def next_line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout
    assert select.select([process.stdout], [], [], AT_LAST)[0], "nothing comes out"
    return process.stdout.readline().decode()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- the table --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_the_table() -> None:
    usage = {"input": 123_456, "output": 3_000, "cached": 5}
    written(Path("tag.done"), *(fields(n, usage=usage, cost=1.25) for n in range(1200)), rejected(2000))
    written(Path("b.done"), *(fields(n, cost=None, at=iso(NOON + 90 * n)) for n in range(3)))
    written(Path("empty.done"))
    assert progress("tag.done", "b.done", "empty.done", status=1) == [
        "STAGE        DONE  FAILED  LEFT    RATE  INPUT  OUTPUT        COST  ETA  STATE",
        "tag.done    1,200       -     -     1/s   148M    3.6M   $1,500.00    -  stopped",
        "b.done          3       -     -  59.7/h     30       6           -    -  stopped",
        "empty.done      0       -     -       -      -       -           -    -  stopped",
        "total       1,203       -     -       -   148M    3.6M  $1,500.00+    -",
    ]


@pytest.mark.usefixtures("here")
def test_one_stage_needs_no_total() -> None:
    written(Path("tag.done"), fields(1), fields(2))
    assert progress("tag.done", "-s", "2") == [
        "STAGE     DONE  FAILED  LEFT  RATE  INPUT  OUTPUT    COST  ETA  STATE",
        "tag.done     2       -     0   1/s     20       4  $0.002    -  done",
    ]


@pytest.mark.usefixtures("here")
def test_the_status() -> None:
    done = written(Path("x.done"), *map(fields, range(3)))
    other = written(Path("y.done"), *map(fields, range(2)))
    log = logged(Path("run.log"), start(done=done.resolve()), *map(call, range(3)), summary(5, read=3, out=3))
    ill = logged(Path("ill.log"), start(done=done.resolve()), failed(), summary(5, read=4, out=3, failed=1, status=1))
    assert progress(done, "-s3")[-1].endswith("done")
    assert progress(done, log)[-1].endswith("done")
    assert progress(done, status=1)[-1].endswith("stopped")
    assert progress(done, "-s4", status=1)[-1].endswith("stopped")
    assert progress(done, ill, status=1)[-1].endswith("failed")
    assert [line.split()[-1] for line in progress(done, other, "-s3", status=1)[1:3]] == ["done", "stopped"]


@pytest.mark.usefixtures("here")
def test_quiet_is_the_status_alone() -> None:
    written(Path("x.done"), fields(1))
    assert progress("-q", "-s1", "x.done") == []
    assert progress("-q", "-s2", "x.done", status=1) == []
    assert progress("-q", "-s1", "--json", "--watch", "x.done") == []


@pytest.mark.usefixtures("here")
def test_the_size_of_a_file() -> None:
    written(Path("x.done"), fields(1), fields(2))
    Path("in.jsonl").write_text('{"a":1}\n\n  \n{"b":2}\n{"c":3}')
    (line,) = progress("--size-of", "in.jsonl", "--json", "x.done", status=1)
    assert (json.loads(line)["size"], json.loads(line)["left"]) == (3, 1)


@pytest.mark.usefixtures("here")
def test_a_warning_names_the_damage() -> None:
    written(Path("x.done"), fields(1), b"damaged\n", b"damaged too\n")
    done = run("llm-progress", "x.done")
    assert done.stderr == b"llm-progress: x.done: damaged lines are not counted: 2\n"
    assert progress("-q", "x.done", status=1) == []


@pytest.mark.parametrize("name", ["a\nb.done", "\x1b[2J.done", "\u202ex.done", "số dư.done", "名前.done"])
@pytest.mark.usefixtures("here")
def test_names_of_any_kind(name: str) -> None:
    written(Path(name), fields(1, model=name))
    table = progress(name, status=1)
    assert len(table) == 2
    assert all(line.isprintable() for line in table)
    (line,) = progress("--json", name, status=1)
    assert (json.loads(line)["stage"], list(json.loads(line)["models"])) == (name, [name])


# -- for programs -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_json() -> None:
    done = written(Path("x.done"), *(fields(n, latency=1) for n in range(9)), rejected(9, latency=1), given_up(3))
    (line,) = progress("--json", "-s", "10", done, status=1)
    assert json.loads(line) == {
        "stage": "x.done",
        "kind": "done-file",
        "state": "stopped",
        "done": 9,
        "rejected": 1,
        "failed": None,
        "left": 1,
        "size": 10,
        "running": None,
        "rate": {"now": None, "overall": 1.0},
        "eta": None,
        "tokens": {"input": 100, "output": 20, "cached": 0, "reasoning": 0},
        "cost": 0.01,
        "models": {"sim": {"calls": 10, "input": 100, "output": 20, "cached": 0, "reasoning": 0, "cost": 0.01}},
        "latency": {"p50": 1.0, "p95": 1.0, "p99": 1.0},
        "failures": {"schema": 1, "timeout": 1},
        "first": "2026-11-24T12:00:00Z",
        "last": "2026-11-24T12:00:08Z",
        "damaged": 0,
    }


@pytest.mark.usefixtures("here")
def test_json_of_nothing() -> None:
    written(Path("x.done"))
    (line,) = progress("--json", "x.done", status=1)
    stage = json.loads(line)
    assert (stage["latency"], stage["first"], stage["left"]) == ({"p50": None, "p95": None, "p99": None}, None, None)
    assert (stage["tokens"]["input"], stage["cost"], stage["models"]) == (0, 0, {})


@pytest.mark.usefixtures("here")
def test_json_has_a_line_for_each_stage() -> None:
    log = logged(Path("run.log"), start(run="1"), start(run="2", tool="llm-vote"))
    written(Path("x.done"), fields(1))
    stages = lines(run("llm-progress", "--json", "x.done", log).stdout)
    assert [(one["stage"], one["kind"]) for one in stages] == [
        ("x.done", "done-file"),
        ("run.log (llm-map)", "log"),
        ("run.log (llm-vote)", "log"),
    ]


# -- what is wrong ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_files_that_cannot_be_read() -> None:
    written(Path("x.done"), fields(1))
    Path("in.jsonl").write_text('{"text":"a"}\n')
    os.mkfifo("fifo")
    assert refused("nothing") == "cannot read nothing: No such file or directory"
    assert refused("x.done", "x.done/y") == "cannot read x.done/y: Not a directory"
    assert refused(".") == "cannot read .: it is a directory"
    assert refused("x.done", "fifo") == "cannot read fifo: it is not a regular file"
    assert refused("in.jsonl") == "cannot read in.jsonl: it is neither a done-file nor a log"
    assert refused("--watch", "in.jsonl") == "cannot read in.jsonl: it is neither a done-file nor a log"


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("option", ["--prometheus", "--html"])
def test_files_that_cannot_be_written(option: str) -> None:
    written(Path("x.done"), fields(1))
    Path("folder.prom").mkdir()
    os.mkfifo("fifo.prom")
    before = os.stat("/dev/null")
    assert refused(option, "none/x.prom", "x.done").endswith(f"nothing can be written in {os.getcwd()}/none")
    for name in ("folder.prom", "fifo.prom", "/dev/null"):
        assert refused("-q", option, name, "x.done").endswith(f"{name}: it is not a regular file")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert os.stat("/dev/null").st_ino == before.st_ino
    assert f"cannot use x.done for {option}: it is a done-file" in refused(option, "x.done", "x.done")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("words", [[], ["--json"], ["--watch", "-i", "0.1"], ["--watch", "--json"]])
def test_stdout_that_cannot_be_written(words: list[str]) -> None:
    written(Path("x.done"), fields(1))
    for where in (">/dev/full", ">&-", "1</dev/null"):
        script = ["sh", "-c", f'exec "$@" {where}', "sh", *command("llm-progress", *words, "x.done")]
        done = subprocess.run(script, env=environment(), capture_output=True, timeout=AT_LAST, check=False)
        assert done.returncode == 74
        assert re.fullmatch(rb"llm-progress: cannot write stdout: .*\n", done.stderr)


@pytest.mark.usefixtures("here")
def test_a_reader_of_stdout_that_left() -> None:
    written(Path("x.done"), fields(1))
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        done = subprocess.run(command("llm-progress", "x.done"), env=environment(), stdout=gone, stderr=-1, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")


# -- the files that it writes -----------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_metrics_and_a_page() -> None:
    written(Path("x.done"), *(fields(n, answer='{"tone":"calm"}') for n in range(3)))
    assert len(progress("--prometheus", "x.prom", "--html", "x.html", "-s3", "x.done", umask=0o027)) == 2
    found = {family.name: family.samples for family in text_string_to_metric_families(Path("x.prom").read_text())}
    assert found["llmstream_answers"][0].value == 3
    page = Path("x.html").read_text()
    assert "x.done" in page
    assert "tone" in page
    assert [os.stat(name).st_mode & 0o777 for name in ("x.prom", "x.html")] == [0o640, 0o640]
    assert sorted(os.listdir()) == ["x.done", "x.html", "x.prom"]


@pytest.mark.usefixtures("here")
def test_metrics_that_no_collector_reads() -> None:
    written(Path("x.done"), fields(1))
    done = run("llm-progress", "--prometheus", "x.txt", "x.done")
    assert done.stderr == b"llm-progress: x.txt does not end in .prom: a textfile collector does not read it\n"
    assert Path("x.txt").read_text().startswith("# HELP")


@pytest.mark.usefixtures("here")
def test_a_link_stays_a_link() -> None:
    written(Path("x.done"), fields(1))
    Path("folder").mkdir()
    Path("x.prom").symlink_to("folder/x.prom")
    for _ in range(2):
        progress("-q", "-s1", "--prometheus", "x.prom", "x.done")
        assert Path("x.prom").is_symlink()
        assert os.listdir("folder") == ["x.prom"]


@pytest.mark.usefixtures("here")
def test_a_reader_never_sees_half_of_it() -> None:
    written(Path("x.done"), *map(fields, range(50)))
    with watching("-q", "-i", "0.1", "--prometheus", "x.prom", "--html", "x.html", "x.done"):
        until(lambda: Path("x.html").exists())
        seen, pages = set(), set()
        end = time.monotonic() + AT_LAST
        while len(seen) < 5 and time.monotonic() < end:
            with open("x.prom") as metrics, open("x.html") as page:
                assert metrics.read().endswith('llmstream_latency_seconds_count{stage="x.done"} 50\n')
                assert page.read().rstrip().endswith("</html>")
                seen.add(os.fstat(metrics.fileno()).st_ino)
                pages.add(os.fstat(page.fileno()).st_ino)
        assert len(seen) > 1


# -- again and again --------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_watching_until_all_is_done() -> None:
    """A file that is not there is waited for, and one that is replaced is read anew."""
    with watching("--json", "-i", "0.1", "-s", "3", "x.done", "y.done") as process:
        first = [json.loads(next_line(process)) for _ in range(2)]
        assert [(one["state"], one["kind"], one["left"]) for one in first] == [("waiting", "nothing", 3)] * 2
        written(Path("x.done"), *map(fields, range(2)))
        until(lambda: json.loads(next_line(process))["done"] == 2)
        with open("x.done", "ab") as file:
            file.write(seal(fields(7))[:-40])
            file.flush()
            time.sleep(0.3)
            file.write(seal(fields(7))[-40:])
        until(lambda: json.loads(next_line(process))["done"] == 3)
        written(Path("new"), *map(fields, range(3))).rename("y.done")
        assert process.wait(AT_LAST) == 0
        assert process.stdout and process.stderr
        last = lines(process.stdout.read())[-2:]
        assert [one["state"] for one in last] == ["done", "done"]
        assert process.stderr.read() == b""


@pytest.mark.usefixtures("here")
def test_watching_with_tables() -> None:
    written(Path("x.done"), fields(1))
    with watching("-i", "0.1", "-s", "2", "x.done") as process:
        table = [next_line(process) for _ in range(2)]
        assert next_line(process) == "\n"
        assert [next_line(process) for _ in range(2)] == table
        with open("x.done", "ab") as file:
            file.write(seal(fields(2)))
        assert process.wait(AT_LAST) == 0
        assert process.stdout
        assert process.stdout.read().endswith(b"done\n")


@needs_locks
@pytest.mark.usefixtures("here")
def test_what_runs_is_not_done_yet() -> None:
    """It may be about to say what failed."""
    written(Path("x.done"), fields(1)).chmod(0o600)
    held = DoneFile("x.done")
    with watching("-q", "-i", "0.1", "-s", "1", "x.done") as process:
        assert progress("-s", "1", "x.done", status=1)[-1].endswith("running")
        assert process.poll() is None
        os.close(held.fd)
        assert process.wait(AT_LAST) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("here")
def test_watching_until_a_signal(number: signal.Signals) -> None:
    written(Path("x.done"), fields(1))
    with watching("--prometheus", "x.prom", "x.done") as process:
        assert next_line(process)
        process.send_signal(number)
        assert process.wait(SOON) == -number
        assert process.stderr
        assert process.stderr.read() == b""
    assert sorted(os.listdir()) == ["x.done", "x.prom"]


@pytest.mark.usefixtures("here")
def test_watching_for_nobody() -> None:
    """That its reader has left is seen at once, not at the next look an hour later."""
    written(Path("x.done"), fields(1))
    with watching("-i", "3600", "x.done") as process:
        assert next_line(process)
        assert process.stdout and process.stderr
        process.stdout.close()
        assert process.wait(SOON) == -signal.SIGPIPE
        assert process.stderr.read() == b""


@pytest.mark.usefixtures("here")
def test_a_disk_that_is_full_ends_it() -> None:
    written(Path("x.done"), fields(1))
    Path("folder").mkdir()
    with watching("-q", "-i", "0.1", "--prometheus", "folder/x.prom", "x.done") as process:
        until(lambda: os.path.exists("folder/x.prom"))
        os.rename("folder", "gone")
        assert process.wait(AT_LAST) == 74
        assert process.stderr
        assert process.stderr.read() == b"llm-progress: cannot write folder/x.prom: No such file or directory\n"


@pytest.mark.usefixtures("here")
def test_it_reads_what_was_added_and_no_more() -> None:
    done = written(Path("x.done"), *map(fields, range(5000)))
    watched = Stages(["x.done"])
    watched.look(None, NOON)
    read: list[int] = []
    real = os.pread
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pread", lambda *words: read.append(len(data := real(*words))) or data)
        with done.open("ab") as file:
            file.write(seal(fields(9000)))
        assert watched.look(None, NOON)[0].stage.done == 5001
    assert sum(read) < 1000


# -- on a terminal ----------------------------------------------------------------------------------


class Screen:
    """As much of a terminal as is needed to see what stands on it."""

    def __init__(self, columns: int = 100, rows: int = 30) -> None:
        self.master, self.slave = os.openpty()
        self.resize(columns, rows)
        self.raw = b""

    def resize(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self) -> bytes:
        while select.select([self.master], [], [], 0)[0]:
            self.raw += os.read(self.master, 65536)
        return self.raw

    def lines(self) -> list[str]:
        """What stands there; a terminal of endless height, so that nothing is lost."""
        shown, row = [""], 0
        for part in re.split(r"(\x1b\[\d*[A-Z]|\r|\n)", self.read().decode()):
            if found := re.fullmatch(r"\x1b\[(\d+)A", part):
                row = max(0, row - int(found[1]))
            elif part == "\x1b[J":
                shown = [*shown[:row], ""]
            elif part == "\n":
                row += 1
                shown += [""] * (row == len(shown))
            elif part not in ("\r", ""):
                assert "\x1b" not in part
                shown[row] = part
        return [line for line in shown if line]

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def screen() -> Iterator[Screen]:
    it = Screen()
    yield it
    it.close()


@pytest.mark.usefixtures("here")
def test_a_table_is_drawn_over_the_one_before(screen: Screen) -> None:
    written(Path("x.done"), fields(1))
    with watching("-i", "0.1", "-s", "50", "x.done", "y.done", stdout=screen.slave, env={"TERM": "xterm"}) as process:
        until(lambda: screen.read().count(b"STAGE") >= 3)
        assert [line.split()[0] for line in screen.lines()] == ["STAGE", "x.done", "y.done", "total"]
        with open("x.done", "ab") as file:
            file.writelines(seal(fields(n)) for n in range(2, 40))
        until(lambda: "39" in screen.lines()[1])
        process.send_signal(signal.SIGINT)
        assert process.wait(SOON) == -signal.SIGINT
        assert process.stderr
        assert process.stderr.read() == b""
    assert len(screen.lines()) == 4
    assert screen.read().endswith(b"\n")


@pytest.mark.usefixtures("here")
def test_a_terminal_that_changes_its_size(screen: Screen) -> None:
    for number in range(40):
        written(Path(f"stage-with-a-long-name-{number}.done"), fields(1))
    screen.resize(120, 50)
    with watching("-i", "0.1", *sorted(Path().glob("*.done")), stdout=screen.slave, env={"TERM": "xterm"}):
        until(lambda: len(screen.lines()) == 42)
        screen.resize(60, 12)
        until(lambda: "further lines" in screen.read().decode())
        last = screen.read().decode().rpartition("\x1b[J")[2].splitlines()
        until(lambda: screen.read().count(b"further lines") >= 3)
        assert len(last) <= 11
        assert all(len(line) < 60 for line in last)


@pytest.mark.usefixtures("here")
def test_a_terminal_that_cannot_draw(screen: Screen) -> None:
    written(Path("x.done"), fields(1))
    with watching("-i", "0.1", "x.done", stdout=screen.slave, env={"TERM": "dumb"}):
        until(lambda: screen.read().count(b"STAGE") >= 3)
        assert b"\x1b" not in screen.read()


@pytest.mark.usefixtures("here")
def test_a_terminal_gets_no_control_characters_from_data(screen: Screen) -> None:
    written(Path("x\x1b[2J.done"), fields(1, model="\u202e\x9b2J"))
    for words in (["--json"], []):
        done = subprocess.run(
            command("llm-progress", *words, "x\x1b[2J.done"),
            stdout=screen.slave,
            stderr=-1,
            env=environment(),
            check=False,
        )
        assert (done.returncode, done.stderr) == (1, b"")
    shown = screen.read().decode()
    assert "x\\u001b[2J.done" in shown
    assert not re.search(r"[\x1b\x9b\u202e]", shown)


# -- memory -----------------------------------------------------------------------------------------


def test_answers_are_not_kept(tmp_path: Path) -> None:
    """Forty megabytes of answers, and what reading them takes beyond the first of them."""
    path = written(tmp_path / "x.done", *(fields(n, answer="x" * 20_000) for n in range(2000)))
    program = """
import resource, sys
from llmstream.watch.stages import Stages
def used(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
Stages(sys.argv[1:2]).look(None, 0)
before = used()
assert Stages(sys.argv[2:3]).look(None, 0)[0].stage.done == 2000
print(used() - before)
"""
    short = written(tmp_path / "y.done", *map(fields, range(200)))
    words = [sys.executable, "-c", program, str(short), str(path)]
    done = subprocess.run(words, env=environment(), cwd=TOP, capture_output=True, check=True)
    assert int(done.stdout) / (1 if sys.platform == "darwin" else 1024) < (8 if sys.platform != "darwin" else 8 << 20)
