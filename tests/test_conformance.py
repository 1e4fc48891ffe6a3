"""What every executable owes to its caller: one table, run over all that stands in bin/."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tty
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from endpoint import Call, Endpoint, Reply, says
from tool import BIN, TOOLS, command, environment, jsonl, lines, run, start

from llmstream import __version__
from llmstream.shell.options import Option

SOON = 5.0  # what is promised within a second, on a machine that is busy with other tests
AT_LAST = 15.0  # what hangs is a failure, not an evening


class Work(NamedTuple):
    """How a tool is put to work, and which of these tests concern it."""

    words: tuple[str, ...] = ("say {{ text }}",)
    reads: bool = True  # stdin, or FILEs behind the words
    records: bool = True  # what it reads is JSON Lines, and a bad line is a failed record
    calls: bool = True  # it asks the endpoint that the environment names


# A tool that is not named here is a filter with a prompt.
WORK = {
    "llm-merge": Work((), calls=False),  # without a prompt
    "llm-progress": Work((), records=False, calls=False),  # in a pipe
    "llm-sim": Work((), reads=False, records=False, calls=False),  # prints its address and serves
}
SERVERS = [tool for tool in TOOLS if not WORK.get(tool, Work()).reads]


def work(tool: str) -> Work:
    return WORK.get(tool, Work())


def table(tool: str) -> tuple[Option, ...]:
    found: tuple[Option, ...] = import_module(f"llmstream.{tool.removeprefix('llm-')}").TABLE
    return found


every_tool = pytest.mark.parametrize("tool", TOOLS)
every_filter = pytest.mark.parametrize("tool", [tool for tool in TOOLS if work(tool).reads])
every_reader = pytest.mark.parametrize("tool", [tool for tool in TOOLS if work(tool).records])
every_caller = pytest.mark.parametrize("tool", [tool for tool in TOOLS if work(tool).calls])
every_server = pytest.mark.parametrize("tool", SERVERS)

RECORD = b'{"text":"a"}\n'
QUIET = {"LLMSTREAM_QUIET": "1"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    """It says what it is asked."""
    with Endpoint(lambda call: says(call.prompt)) as here:
        yield here


def judged(tool: str, stderr: bytes) -> list[str]:
    """The lines of stderr: each a message of the tool, none of them Python's."""
    told = stderr.decode().splitlines()
    assert [line for line in told if not line.startswith(f"{tool}: ")] == []
    assert not re.search(rb"Traceback|Exception ignored|a bug", stderr), stderr
    assert all(line.isprintable() for line in told)
    return told


def ends(tool: str, done: subprocess.CompletedProcess[bytes], status: int, said: int | None = None) -> list[str]:
    """How a tool ended, and in how many lines it said so."""
    told = judged(tool, done.stderr)
    assert done.returncode == status, told
    assert said is None or len(told) == said, told
    return told


def under_shell(tool: str, redirections: str, *words: str | Path, **more: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a tool with redirections that only a shell knows, as `>&-`."""
    env = environment(**more.pop("env", {}))
    script = ["sh", "-c", f'exec "$@" {redirections}', "sh", *command(tool, *words)]
    given = {"input": b"", "capture_output": True, "timeout": AT_LAST, **more}
    return subprocess.run(script, env=env, check=False, **given)


def first_line(process: subprocess.Popen[bytes], seconds: float = AT_LAST) -> bytes:
    assert process.stdout
    assert select.select([process.stdout], [], [], seconds)[0], "nothing comes out"
    return process.stdout.readline()


@contextlib.contextmanager
def started(tool: str, *words: str | Path, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A tool that does not outlive its test."""
    with start(tool, *words, **more) as process:
        try:
            yield process
        finally:
            process.kill()


# -- --help and --version ---------------------------------------------------------------------------


@every_tool
def test_help_needs_no_package(tool: str) -> None:
    """Whoever runs a tool with another Python gets help all the same, and one line that says what to install."""
    bare = [sys.executable, "-S", "-I", str(BIN / tool)]
    done = subprocess.run([*bare, "--help"], capture_output=True, timeout=AT_LAST, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"usage: ")
    done = subprocess.run([*bare, "hi"], input=RECORD, capture_output=True, timeout=AT_LAST, check=False)
    (told,) = ends(tool, done, 2, said=1)
    assert told.endswith("; install llmstream with pip or make install")


@every_tool
@pytest.mark.parametrize("name", ["python2.7", "python3.6", "python3.8", "python3.10"])
def test_a_python_that_is_too_old(tool: str, name: str) -> None:
    python = shutil.which(name)
    version = subprocess.run([python, "-V"], capture_output=True, check=False) if python else None
    if not version or version.returncode:
        pytest.skip("there is none")
    done = subprocess.run([python, str(BIN / tool), "--help"], capture_output=True, timeout=AT_LAST, check=False)
    (told,) = ends(tool, done, 2, said=1)
    assert told.endswith("and 3.11 or newer is needed")


@every_tool
def test_help(tool: str) -> None:
    done = run(tool, "--help")
    assert ends(tool, done, 0) == []
    text = done.stdout.decode()
    assert text.startswith(f"usage: {tool} ")
    assert text.endswith("\n")
    assert [line for line in text.splitlines() if len(line) > 80 or line != line.rstrip()] == []
    for option in table(tool):
        flag = f"-{option.short}, --{option.long}" if option.short else f"    --{option.long}"
        assert re.search(rf"^  {re.escape(f'{flag} {option.value}'.rstrip())}(  |$)", text, re.MULTILINE), option.long


@every_tool
def test_help_loads_nothing_heavy(tool: str) -> None:
    words = [sys.executable, "-X", "importtime", str(BIN / tool), "--help"]
    done = subprocess.run(words, env=environment(), capture_output=True, timeout=AT_LAST, check=True)
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.decode().splitlines()}
    assert "llmstream" in loaded
    assert not loaded & {"openai", "pypeln", "aiohttp", "httpx2", "jinja2", "tenacity", "jsonschema_rs"}


@every_tool
def test_version(tool: str) -> None:
    done = run(tool, "--version")
    assert ends(tool, done, 0) == []
    assert done.stdout.decode() == f"{tool} {__version__}\n"


@every_tool
@pytest.mark.parametrize("option", ["--help", "--version"])
@pytest.mark.parametrize("where", [">/dev/full", ">&-", "1</dev/null", "<&- >&-"])
def test_help_that_cannot_be_written(tool: str, option: str, where: str) -> None:
    ends(tool, under_shell(tool, where, option), 74, said=1)


@every_tool
def test_help_when_nobody_listens(tool: str) -> None:
    ends(tool, under_shell(tool, "<&- >&- 2>&-", "--help"), 74, said=0)
    ends(tool, under_shell(tool, "2>&-", "--help"), 0, said=0)


@every_tool
def test_help_to_a_reader_that_left(tool: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        done = subprocess.run(command(tool, "--help"), env=environment(), stdout=gone, stderr=-1, check=False)
    assert done.returncode in (0, -signal.SIGPIPE)
    assert done.stderr == b""


@every_tool
def test_a_link_is_as_good_as_the_tool(tool: str, tmp_path: Path) -> None:
    link = tmp_path / tool
    link.symlink_to(BIN / tool)
    done = subprocess.run([sys.executable, link, "--version"], env=environment(), capture_output=True, check=True)
    assert done.stdout.decode() == f"{tool} {__version__}\n"


# -- a wrong command line ---------------------------------------------------------------------------


def all_refused(tool: str, *wrong: list[str | bytes], **env: str) -> list[str]:
    """What is said of wrong command lines: one line each, status 2, stdin not waited for."""

    def one(words: list[str | bytes]) -> str:
        whole = [*command(tool), *words]
        done = subprocess.run(
            whole, stdin=idle, env=environment(**env), capture_output=True, timeout=AT_LAST, check=False
        )
        assert done.stdout == b""
        return ends(tool, done, 2, said=1)[0]

    idle, writer = os.pipe()
    try:
        with ThreadPoolExecutor(3) as pool:
            return list(pool.map(one, wrong))
    finally:
        os.close(idle)
        os.close(writer)


@every_tool
def test_unknown_options(tool: str) -> None:
    for told in all_refused(tool, ["--no-such"], ["--no-such=3"], ["-%"], ["--"[:2] + "=3"], [b"--\xff"], ["--a\nb"]):
        assert told.startswith(f"{tool}: no such option -")


@every_tool
def test_long_options_are_never_abbreviated(tool: str) -> None:
    names = [option.long for option in table(tool)]

    def unambiguous(name: str) -> list[str]:
        short = [name[:end] for end in range(1, len(name))]
        return [part for part in short if [other.startswith(part) for other in names].count(True) == 1]

    prefixes = [f"--{part}" for name in names for part in {*unambiguous(name)[:1], *unambiguous(name)[-1:]}]
    told = all_refused(tool, *([word, "1"] for word in prefixes))
    assert [line for line, word in zip(told, prefixes, strict=True) if f"no such option {word}:" not in line] == []


@every_tool
def test_option_without_its_value(tool: str) -> None:
    wanting = [option for option in table(tool) if option.value]
    flags = [[f"--{option.long}"] for option in wanting] + [[f"-{option.short}"] for option in wanting if option.short]
    for line, (flag,) in zip(all_refused(tool, *flags), flags, strict=True):
        assert line.startswith(f"{tool}: cannot use {flag}: it needs ")


@every_tool
def test_value_of_a_flag(tool: str) -> None:
    flags = [f"--{option.long}" for option in table(tool) if not option.value]
    for line, flag in zip(all_refused(tool, *([f"{flag}=yes"] for flag in flags)), flags, strict=True):
        assert line == f"{tool}: cannot use {flag}=yes: {flag} takes no value"


def wrong_value(option: Option, among: tuple[str, ...] = ("no such thing", "-1", "=")) -> str | None:
    """A value that an option does not take, if there is such a one."""
    for text in among:
        try:
            option.read(text)
        except ValueError:
            return text
    return None


@every_tool
def test_wrong_values(tool: str) -> None:
    wrong = [(option.long, text) for option in table(tool) if (text := wrong_value(option))]
    wrong += [(option.long, "") for option in table(tool) if wrong_value(option, ("",)) is not None]
    told = all_refused(tool, *([f"--{long}={text}"] for long, text in wrong))
    for line, (long, text) in zip(told, wrong, strict=True):
        assert line.startswith(f"{tool}: cannot use --{long} {text}: it needs ")


SHARED = [(tool, option) for tool in TOOLS for option in table(tool) if option.shared and wrong_value(option)]


@pytest.mark.parametrize(("tool", "option"), SHARED, ids=[f"{tool} {option.variable}" for tool, option in SHARED])
def test_wrong_variables(tool: str, option: Option) -> None:
    text = wrong_value(option) or ""
    (told,) = all_refused(tool, list(work(tool).words), **{option.variable: text})
    assert told.startswith(f"{tool}: cannot use {option.variable}={text}: it needs ")


# -- the environment --------------------------------------------------------------------------------

SURROUNDINGS = [
    {"LC_ALL": "C"},
    {"LANG": "C", "LC_CTYPE": "POSIX"},
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONUNBUFFERED": "1"},
    {"COLUMNS": "20", "TERM": "dumb", "HOME": "/nonexistent"},
]


STRANGE = "đ € 😀 \u2028"


@functools.cache
def at_work(tool: str, url: str, **env: str) -> bytes:
    """What a tool makes of text that is not ASCII; of a server, what it says of itself."""
    words = (*work(tool).words, *["-s", "số dư"] * work(tool).calls) if work(tool).reads else ("--help",)
    done = run(tool, *words, stdin=jsonl({"text": STRANGE}), url=url, env={**QUIET, **env})
    ends(tool, done, 0, said=0)
    return done.stdout


@pytest.mark.parametrize("env", SURROUNDINGS, ids=lambda env: " ".join(f"{k}={v}" for k, v in env.items()))
@every_tool
def test_surroundings_change_no_byte(tool: str, env: dict[str, str], endpoint: Endpoint) -> None:
    plain = at_work(tool, endpoint.url, LC_ALL="C.UTF-8")
    assert at_work(tool, endpoint.url, **env) == plain != b""


@every_caller
def test_text_goes_out_and_comes_back(tool: str, endpoint: Endpoint) -> None:
    assert lines(at_work(tool, endpoint.url, LC_ALL="C"))[0]["output"] == f"say {STRANGE}"
    system, user = endpoint.asked[-1].json["messages"]
    assert (system["content"], user["content"]) == ("số dư", f"say {STRANGE}")


@every_caller
def test_arguments_that_are_no_text(tool: str) -> None:
    told = all_refused(tool, [*work(tool).words, "-m", b"\xff"], [b"say \xff"], [*work(tool).words, "-s", b"\xff"])
    assert all("UTF-8" in line for line in told)


@every_caller
def test_no_key(tool: str, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(RECORD)
    with open(tmp_path / "in", "rb") as file:
        done = run(tool, *work(tool).words, stdin_from=file, env={"OPENAI_API_KEY": ""}, cwd=tmp_path)
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 0
    (told,) = ends(tool, done, 2, said=1)
    assert "no key" in told
    assert "OPENAI_API_KEY" in told


# -- stdin ------------------------------------------------------------------------------------------


def a_pipe(_: Path) -> tuple[int, int]:
    return os.pipe()


def a_pipe_made_non_blocking(_: Path) -> tuple[int, int]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    return reader, writer


def a_fifo(folder: Path) -> tuple[int, int]:
    os.mkfifo(folder / "fifo")
    reader = os.open(folder / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(folder / "fifo", os.O_WRONLY)
    os.set_blocking(reader, True)
    return reader, writer


def a_socket(_: Path) -> tuple[int, int]:
    reader, writer = socket.socketpair()
    return reader.detach(), writer.detach()


def a_terminal(_: Path) -> tuple[int, int]:
    writer, reader = os.openpty()
    return reader, writer


Channel = Callable[[Path], tuple[int, int]]
CHANNELS: list[Channel] = [a_pipe, a_pipe_made_non_blocking, a_fifo, a_socket, a_terminal]
every_channel = pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.__name__)


@pytest.mark.parametrize("data", [b"", RECORD], ids=["empty", "one record"])
@every_channel
@every_filter
def test_stdin_of_any_kind(tool: str, channel: Channel, data: bytes, endpoint: Endpoint, tmp_path: Path) -> None:
    reader, writer = channel(tmp_path)
    os.write(writer, data + (b"\x04" if os.isatty(writer) else b""))
    if not os.isatty(writer):
        os.close(writer)
    try:
        done = run(tool, *work(tool).words, stdin_from=reader, url=endpoint.url, env=QUIET, timeout=AT_LAST)
    finally:
        os.close(reader)
        if channel is a_terminal:
            os.close(writer)
    assert ends(tool, done, 0) == []
    assert done.stdout.count(b"\n") == bool(data)


@pytest.mark.parametrize("where", ["</dev/null", "<&-", "</dev/null 2>&-"])
@every_filter
def test_no_input_is_no_output(tool: str, where: str, endpoint: Endpoint) -> None:
    env = {"OPENAI_BASE_URL": endpoint.url, **QUIET}
    done = under_shell(tool, where, *work(tool).words, env=env)
    assert ends(tool, done, 0) == []
    assert done.stdout == b""


@every_filter
def test_input_that_is_a_file(tool: str, endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(RECORD * 2)
    with open(tmp_path / "in", "rb") as file:
        done = run(tool, *work(tool).words, stdin_from=file, url=endpoint.url, env=QUIET)
    ends(tool, done, 0, said=0)
    assert len(lines(done.stdout)) == 2


@every_channel
@every_filter
def test_interrupted_while_idle(tool: str, channel: Channel, endpoint: Endpoint, tmp_path: Path) -> None:
    reader, writer = channel(tmp_path)
    if os.isatty(reader):
        tty.setcbreak(reader)  # what it is told goes through at once
    with started(tool, *work(tool).words, stdin=reader, url=endpoint.url) as process:
        os.write(writer, RECORD)
        assert first_line(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(SOON) == -signal.SIGINT
        assert process.stderr
        judged(tool, process.stderr.read())
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@every_server
def test_server_ends_when_told(tool: str, number: signal.Signals) -> None:
    with started(tool, *work(tool).words) as process:
        assert first_line(process)
        process.send_signal(number)
        assert process.wait(SOON) == -number
        assert process.stderr
        assert judged(tool, process.stderr.read()) == []


# -- records ----------------------------------------------------------------------------------------

BAD = [b"{", b"[1]", b"nonsense", b'{"text":"\xff"}', b'{"text":NaN}', b"\x00", b"\x1b[2J", b'{"text":"a"}{"text":"b"}']


@pytest.mark.parametrize("bad", BAD, ids=repr)
@every_reader
def test_bad_line_among_good_ones(tool: str, bad: bytes, endpoint: Endpoint) -> None:
    done = run(tool, *work(tool).words, stdin=RECORD + bad + b"\n" + RECORD, url=endpoint.url, env=QUIET)
    (told,) = ends(tool, done, 1, said=1)
    assert told.startswith(f"{tool}: <stdin>:2: ")
    assert len(lines(done.stdout)) == 2


@every_reader
def test_bad_line_of_a_file(tool: str, endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(RECORD)
    (tmp_path / "b").write_bytes(b"\n" + RECORD + b"}\n")
    done = run(tool, *work(tool).words, "a", "b", url=endpoint.url, env=QUIET, cwd=tmp_path)
    (told,) = ends(tool, done, 1, said=1)
    assert told.startswith(f"{tool}: b:3: ")
    assert len(lines(done.stdout)) == 2


def a_missing_file(_: Path) -> None: ...


def a_directory(path: Path) -> None:
    path.mkdir()


def a_link_to_nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


def a_name_of_a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.path.relpath(path))


def a_secret(path: Path) -> None:
    path.touch(0)


def a_file_that_fails(path: Path) -> None:
    path.symlink_to("/proc/self/mem")


UNREADABLE = [a_missing_file, a_directory, a_link_to_nowhere, a_name_of_a_socket]
UNREADABLE += [a_secret] if os.geteuid() else []
UNREADABLE += [a_file_that_fails] if os.path.exists("/proc/self/mem") else []


@pytest.mark.parametrize("make", UNREADABLE, ids=lambda make: make.__name__)
@every_filter
def test_file_that_cannot_be_read(
    tool: str, make: Callable[[Path], None], endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("it"))
    before = len(endpoint.calls)
    done = run(tool, *work(tool).words, "it", url=endpoint.url, env=QUIET, timeout=AT_LAST)
    (told,) = ends(tool, done, 2, said=1)
    assert told.startswith(f"{tool}: cannot read it: ")
    assert len(endpoint.calls) == before


@every_reader
def test_file_that_is_a_fifo(tool: str, endpoint: Endpoint, tmp_path: Path) -> None:
    """Its writer must not lose what it wrote to a reader that only had a look."""
    os.mkfifo(tmp_path / "fifo")
    with subprocess.Popen(["sh", "-c", f"echo '{RECORD.decode().strip()}' > {tmp_path / 'fifo'}"]) as writer:
        try:
            done = run(tool, *work(tool).words, tmp_path / "fifo", url=endpoint.url, env=QUIET, timeout=SOON)
            assert writer.wait(SOON) == 0
        finally:
            writer.kill()
    ends(tool, done, 0, said=0)
    assert len(lines(done.stdout)) == 1


@every_reader
def test_interrupted_while_a_fifo_has_no_writer(tool: str, endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(RECORD)
    os.mkfifo(tmp_path / "fifo")
    with started(tool, *work(tool).words, tmp_path / "in", tmp_path / "fifo", url=endpoint.url) as process:
        assert first_line(process)  # so it does not keep back what it has while it waits
        process.send_signal(signal.SIGINT)
        assert process.wait(SOON) == -signal.SIGINT


# -- stdout -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [">/dev/full", ">&-", "1</dev/null"])
@every_tool
def test_stdout_that_cannot_be_written(tool: str, where: str, endpoint: Endpoint) -> None:
    before = len(endpoint.calls)
    env = {"OPENAI_BASE_URL": endpoint.url, **QUIET}
    done = under_shell(tool, where, *work(tool).words, input=RECORD * 3, env=env)
    (told,) = ends(tool, done, 74, said=1)
    assert told.startswith(f"{tool}: cannot write stdout: ")
    assert where == ">/dev/full" or len(endpoint.calls) == before


@every_filter
def test_reader_of_stdout_that_left_after_a_line(tool: str, endpoint: Endpoint) -> None:
    with (
        subprocess.Popen(["yes", RECORD.decode().strip()], stdout=subprocess.PIPE) as endless,
        started(tool, *work(tool).words, stdin=endless.stdout, url=endpoint.url, env=QUIET) as process,
    ):
        assert endless.stdout and process.stdout and process.stderr
        endless.stdout.close()
        assert first_line(process)
        process.stdout.close()
        assert process.wait(AT_LAST) == -signal.SIGPIPE
        assert process.stderr.read() == b""
        assert endless.wait(SOON) == -signal.SIGPIPE  # nobody keeps its end open


# -- descriptors that are closed at the start -------------------------------------------------------

KEEPERS = [tool for tool in TOOLS if work(tool).calls and {"done", "errors"} <= {one.long for one in table(tool)}]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="nobody tells which file a descriptor is")
@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
@pytest.mark.parametrize("tool", KEEPERS)
def test_no_file_becomes_a_standard_stream(tool: str, closed: str, tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def look(_: Call) -> Reply:
        seen.append([os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in (0, 1, 2)])
        return says()

    (tmp_path / "in").write_bytes(RECORD)
    words = [*work(tool).words, "in", "-d", "done", "-e", "errors"]
    script = ["sh", "-c", f'exec "$@" {closed}', "sh", *command(tool, *words)]
    with Endpoint(look) as endpoint:
        env = environment(OPENAI_BASE_URL=endpoint.url)
        process = subprocess.Popen(
            script, env=env, cwd=tmp_path, stdin=-1, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, _ = process.communicate(timeout=AT_LAST)
    assert process.returncode == 0
    assert len(lines(out)) == 1
    assert len(lines((tmp_path / "done").read_bytes())) == len(seen)
    assert [name for name in seen[0] if name.startswith(str(tmp_path))] == []


@pytest.mark.parametrize("tool", KEEPERS)
def test_all_streams_closed(tool: str, endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(RECORD)
    before = len(endpoint.calls)
    words = [*work(tool).words, "in", "-d", "done", "-e", "errors"]
    env = {"OPENAI_BASE_URL": endpoint.url}
    ends(tool, under_shell(tool, "<&- >&- 2>&-", *words, env=env, cwd=tmp_path), 74, said=0)
    assert len(endpoint.calls) == before
    assert [path.name for path in tmp_path.iterdir() if path.name != "in" and path.stat().st_size] == []
