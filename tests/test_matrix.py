"""Every way to run a filter, against every state its streams can be in.

Help, normal work, and a replay from the done-file have to behave alike: the same status, one
line that says why, nothing paid that is not kept, and never a traceback.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from endpoint import Endpoint, says
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tool import TOOLS, command, environment, jsonl, lines, run

FILTERS = [tool for tool in TOOLS if tool != "llm-sim"]  # what reads records
WAYS = ("help", "work", "replay")
ASKING = ("-d", "x.done", "Say {{ text }}")
WORK = {"llm-merge": (), "llm-progress": ()}  # without a prompt, and in a pipe: they have nothing to replay
RECORDS = jsonl(*({"id": n, "text": f"bài {n}"} for n in range(40)))


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with Endpoint(lambda call: says(call.prompt.upper())) as made:
        yield made


class Desk:
    """A folder with an input, and the words that run a tool in one of the ways."""

    def __init__(self, folder: Path, endpoint: Endpoint, tool: str, way: str) -> None:
        self.folder, self.endpoint, self.tool, self.way = folder, endpoint, tool, way
        (folder / "in").write_text(RECORDS)
        self.words = command(tool, *(["--help"] if way == "help" else WORK.get(tool, ASKING)))
        self.env = environment(OPENAI_BASE_URL=endpoint.url)
        if way == "replay":
            assert self.shell('"$@" <in >first').returncode == 0
        self.paid = len(endpoint.asked)

    def shell(self, script: str, **more: object) -> subprocess.CompletedProcess[bytes]:
        """Run a shell script in which "$@" is the tool."""
        words = ["bash", "-c", script, "bash", *self.words]
        return subprocess.run(
            words, cwd=self.folder, env=self.env, capture_output=True, timeout=60, check=False, **more
        )  # type: ignore[call-overload]

    def check(self, result: subprocess.CompletedProcess[bytes]) -> None:
        """What holds whatever happens."""
        told = result.stderr.decode()
        assert "Traceback" not in told
        assert all(line.startswith(f"{self.tool}: ") for line in told.splitlines()), told
        if self.way == "replay":
            assert len(self.endpoint.asked) == self.paid  # nothing is paid again
        if self.way != "help" and (self.folder / "x.done").exists():
            kept = (self.folder / "x.done").read_bytes()
            assert all(json.loads(line)["crc"] for line in kept.splitlines())

    def complete(self) -> None:
        """The same command again prints all of it, and pays for the rest alone."""
        if self.way == "help":
            return
        result = self.shell('"$@" <in')
        assert result.returncode == 0, result.stderr
        assert len(lines(result.stdout)) == 40
        keys = [call.key for call in self.endpoint.asked[self.paid :]]
        assert len(keys) == len(set(keys))


@pytest.fixture(
    params=[(tool, way) for tool in FILTERS for way in WAYS if way != "replay" or tool not in WORK], ids="-".join
)
def desk(request: pytest.FixtureRequest, tmp_path: Path, endpoint: Endpoint) -> Desk:
    return Desk(tmp_path, endpoint, *request.param)


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ('"$@" <in >/dev/full', 74),
        ('"$@" <in >&-', 74),
        ('"$@" <in 1<in', 74),  # open, but only for reading
    ],
)
def test_stdout_that_cannot_be_written(desk: Desk, script: str, status: int) -> None:
    result = desk.shell(script)
    desk.check(result)
    assert result.returncode == status
    assert b"cannot write stdout" in result.stderr
    desk.complete()


def test_a_reader_that_wants_one_line(desk: Desk) -> None:
    """Death by SIGPIPE, without a word; or the end, where all was written before the reader left."""
    result = desk.shell('"$@" <in | head -1; exit ${PIPESTATUS[0]}')
    desk.check(result)
    assert result.stdout.count(b"\n") == 1
    assert result.returncode in (0, 128 + 13)
    assert result.returncode == 0 or not result.stderr
    desk.complete()


def test_a_reader_that_left_before(desk: Desk) -> None:
    result = desk.shell('"$@" <in | true; exit ${PIPESTATUS[0]}')
    desk.check(result)
    assert result.returncode in (0, 128 + 13)
    desk.complete()


def test_sigpipe_ignored(desk: Desk) -> None:
    """Where a shell ignores SIGPIPE, a reader that has left is an error like any other."""
    result = desk.shell("""trap '' PIPE; { sleep 0.3; "$@" <in; echo $? >status; } | true; exit $(cat status)""")
    desk.check(result)
    assert result.returncode == 74
    assert b"cannot write stdout: Broken pipe" in result.stderr
    desk.complete()


@pytest.mark.parametrize(
    ("script", "records"),
    [
        ('"$@" <&-', 0),
        ('"$@" </dev/null', 0),
        ('"$@" <in', 40),
        ('cat in | "$@"', 40),
        ('mkfifo f; cat in >f & "$@" <f', 40),
        ('{ head -c 100 in; sleep 0.5; tail -c +101 in; } | "$@"', 40),
    ],
)
def test_stdin_of_every_kind(desk: Desk, script: str, records: int) -> None:
    result = desk.shell(script)
    desk.check(result)
    assert result.returncode == 0
    if desk.way != "help":
        assert len(lines(result.stdout)) == records
        desk.complete()


@pytest.mark.parametrize("closed", ["0", "1", "2", "0 1", "0 2", "1 2", "0 1 2"])
def test_descriptors_that_are_closed(desk: Desk, closed: str) -> None:
    """No file of ours becomes a standard stream."""
    exec_ = " ".join(f"{fd}<&-" if fd == "0" else f"{fd}>&-" for fd in closed.split())
    result = desk.shell(f'"$@" {"<in" if "0" not in closed else ""} {exec_}')
    desk.check(result)
    assert result.returncode == (74 if "1" in closed else 0)
    desk.complete()


def test_a_slow_reader_of_a_non_blocking_pipe(desk: Desk) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    process = subprocess.Popen(
        desk.words, cwd=desk.folder, env=desk.env, stdin=(desk.folder / "in").open("rb"), stdout=writer,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(writer)
    got = b""
    while chunk := os.read(reader, 97):
        got += chunk
    os.close(reader)
    _, told = process.communicate(timeout=60)
    desk.check(subprocess.CompletedProcess(desk.words, process.returncode, got, told))
    assert process.returncode == 0
    if desk.way != "help":
        assert sorted(line["id"] for line in lines(got)) == list(range(40))


def test_stopped_by_timeout_as_from_cron(desk: Desk) -> None:
    """timeout(1) sends TERM: what is in flight is kept, and the next run goes on."""
    if desk.way == "help":
        pytest.skip("help is over before")
    result = desk.shell('{ cat in; sleep 4; } | timeout 3 "$@"')
    desk.check(result)
    assert result.returncode == 124
    assert len(lines(result.stdout)) == 40
    desk.complete()


# -- anything that may stand on a line ----------------------------------------------------------

numbers = st.integers() | st.integers(10**18, 10**40) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=12,
)
objects = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), values, max_size=5)
few = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@few
@given(st.lists(st.tuples(objects, st.booleans()), min_size=1, max_size=60))
def test_any_object_goes_through_byte_for_byte(endpoint: Endpoint, rows_: list[tuple[dict, bool]]) -> None:
    """But for the field that the answer goes to, which comes last."""
    rows = [
        json.dumps({name: value for name, value in row.items() if name not in ("answer", "error")}, ensure_ascii=plain)
        for row, plain in rows_
    ]
    result = run("llm-map", "-q", "-o", "answer", "Say", stdin="\n".join(rows), url=endpoint.url)
    assert result.returncode == 0, result.stderr
    for row, out in zip(rows, result.stdout.decode().split("\n"), strict=False):
        assert out.startswith(row[:-1] + ("" if row == "{}" else ",") + '"answer":"')
    assert result.stdout.count(b"\n") == len(rows)


@few
@given(
    st.lists(st.binary(max_size=40) | st.sampled_from([b"{}", b'{"a":1}', b"{", b"\xff", b'{"a":1e999}']), max_size=60)
)
def test_any_bytes_are_a_record_or_a_named_failure(endpoint: Endpoint, rows: list[bytes]) -> None:
    data = b"\n".join(rows)
    result = run("llm-map", "-v", "Say", stdin=data, url=endpoint.url)
    told = result.stderr.decode().splitlines()
    read = sum(bool(line) and not line.isspace() for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"))
    out, failed = result.stdout.count(b"\n"), sum(line.startswith("llm-map: <stdin>:") for line in told)
    assert read == out + failed
    assert result.returncode == (1 if failed else 0)
    assert [line for line in told if f"read {read}, out {out}, failed {failed}" in line]
