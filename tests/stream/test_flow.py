"""From stdin to stdout through the real llm-map: order, back-pressure, signals, and books that balance."""

from __future__ import annotations

import contextlib
import os
import pty
import random
import re
import select
import shlex
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from endpoint import Call, Endpoint, Reply, chat, error, says
from tool import command, environment, jsonl, lines, run, start, until

SOON = 5.0  # what is promised within a second, on a machine that is busy with other tests
AT_LAST = 20.0  # what hangs is a failure, not an evening
PROMPT = "{{ n }}"


def numbers(*span: int, **more: Any) -> bytes:
    """Records {"n": …}, one for each number of a range."""
    return jsonl(*({"n": n, **more} for n in range(*span))).encode()


def numbers_in(data: bytes) -> list[int]:
    return [record["n"] for record in lines(data)]


def after(delay: Callable[[int], float] | float) -> Callable[[Call], Reply]:
    """Answers that take their time: so long for record n."""
    return lambda call: Reply(chat(), delay=delay(int(call.prompt)) if callable(delay) else delay)


def asked(endpoint: Endpoint) -> Counter[int]:
    """How often each record was paid for."""
    return Counter(int(call.prompt) for call in endpoint.asked)


def read_some(fd: int, seconds: float = AT_LAST) -> bytes:
    assert select.select([fd], [], [], seconds)[0], "nothing comes out"
    return os.read(fd, 1 << 16)


def read_lines(fd: int, count: int) -> bytes:
    data = b""
    while data.count(b"\n") < count:
        data += read_some(fd)
    return data


def read_rest(fd: int) -> bytes:
    parts = []
    while part := read_some(fd):
        parts.append(part)
    return b"".join(parts)


def books(told: str | bytes) -> dict[str, int]:
    """The numbers of the summary, which have to balance."""
    text = told if isinstance(told, str) else told.decode()
    found = re.findall(r"^llm-map: (read \d.*)$", text, re.MULTILINE)
    assert found, f"no summary: {text}"
    counts = {
        name: int(count)
        for name, count in re.findall(r"\b(read|out|failed|kept|unasked|replayed|calls) (\d+)", found[-1])
    }
    assert counts["read"] == sum(counts.get(name, 0) for name in ("out", "failed", "kept", "unasked"))
    return counts


class Job:
    """A running llm-map whose stderr can be read at any time."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, stdin: int) -> None:
        self.process = process
        self.folder = folder
        self._stdin = stdin
        self.out = process.stdout.fileno() if process.stdout else -1

    @property
    def taken(self) -> int:
        """How much of its input file it has read: the place in it is shared."""
        return os.lseek(self._stdin, 0, os.SEEK_CUR)

    @property
    def told(self) -> str:
        return (self.folder / "told").read_text()

    @property
    def done(self) -> list[Any]:
        file = self.folder / "done"
        return lines(file.read_bytes()) if file.exists() else []

    def signal(self, number: signal.Signals) -> None:
        """Send a signal that begins a drain, and wait until it has."""
        self.process.send_signal(number)
        until(lambda: f"{number.name}: finishing what is in flight" in self.told)

    def leave(self) -> None:
        """The reader of stdout goes away."""
        assert self.process.stdout
        self.process.stdout.close()

    def ends(self, status: int, seconds: float = AT_LAST) -> None:
        assert self.process.wait(seconds) == status, self.told
        assert "a bug" not in self.told
        assert [line for line in self.told.splitlines() if not line.startswith("llm-map: ")] == []


@contextlib.contextmanager
def working(
    folder: Path, endpoint: Endpoint, *words: str | Path, stdin: bytes | int | None = b"", **more: Any
) -> Iterator[Job]:
    """llm-map at work in a folder. stdin: the input, or a descriptor to read it from."""
    (folder / "in").write_bytes(stdin if isinstance(stdin, bytes) else b"")
    with (
        open(folder / "in", "rb") as file,
        open(folder / "told", "wb") as told,
        start(
            "llm-map",
            PROMPT,
            *words,
            url=endpoint.url,
            stdin=file if isinstance(stdin, bytes) else stdin,
            stderr=told,
            cwd=folder,
            **more,
        ) as process,
    ):
        try:
            yield Job(process, folder, file.fileno())
        finally:
            process.kill()


def settled(count: Callable[[], int], seconds: float = 1.0) -> int:
    """A number that has stopped growing."""
    last, since = count(), time.monotonic()
    while time.monotonic() < since + seconds:
        time.sleep(0.02)
        if count() != last:
            last, since = count(), time.monotonic()
    return last


# -- order --------------------------------------------------------------------------------------------


def test_input_order_whatever_the_delays(tmp_path: Path) -> None:
    rng = random.Random(7)
    delays = [rng.random() * 0.1 for _ in range(60)]
    data = numbers(60)
    with Endpoint(after(lambda n: delays[n])) as endpoint:
        first = run("llm-map", PROMPT, "-d", tmp_path / "d", stdin=numbers(0, 60, 3), url=endpoint.url)
        done = run("llm-map", PROMPT, "-d", tmp_path / "d", stdin=data + b"{\n" + data, url=endpoint.url)
    assert (first.returncode, done.returncode) == (0, 1)
    assert numbers_in(done.stdout) == [*range(60), *range(60)]
    assert books(done.stderr) | {"calls": 100} == {
        "read": 121, "out": 120, "failed": 1, "replayed": 20, "calls": 100
    }  # fmt: skip


def test_order_of_completion_without(tmp_path: Path) -> None:
    with (
        Endpoint(after(lambda n: 0.5 if n == 0 else 0.0)) as endpoint,
        working(tmp_path, endpoint, "-U", stdin=numbers(9)) as job,
    ):
        assert numbers_in(read_some(job.out))[0] != 0
        job.ends(0)
        rest = read_rest(job.out)
    assert numbers_in(rest)[-1] == 0
    assert set(asked(endpoint).values()) == {1}


def test_window_of_kept_order(tmp_path: Path) -> None:
    """32 MB wait for the slowest, then reading waits too; and all goes on when it is there."""
    taken: list[int] = []

    def answer(call: Call) -> Reply:
        if call.prompt == "0":
            taken.append(job.taken)
        return Reply(hang=True) if call.prompt == "0" and len(taken) == 1 else says()

    with (
        Endpoint(answer) as endpoint,
        working(tmp_path, endpoint, "-j2", "--timeout=1.5", stdin=numbers(230, pad="x" * 200_000)) as job,
    ):
        data = read_rest(job.out)
        job.ends(0)
    assert numbers_in(data) == [*range(230)]
    assert len(taken) == 2
    assert taken[1] < 40 << 20


# -- back-pressure ------------------------------------------------------------------------------------


def test_slow_reader_of_stdout(tmp_path: Path) -> None:
    """It reads nothing for three seconds: bounded reading, no call times out, all comes out after."""
    with (
        Endpoint(after(0.01)) as endpoint,
        working(tmp_path, endpoint, "--timeout=1", "-d", "done", stdin=numbers(300, pad="x" * 20_000)) as job,
    ):
        until(lambda: job.taken > 1 << 20)
        assert settled(lambda: job.taken, 3.0) < 4 << 20
        assert len(job.done) == len(endpoint.asked) < 200  # what was paid is on disk
        data = read_rest(job.out)
        job.ends(0)
    assert sorted(numbers_in(data)) == [*range(300)]
    assert asked(endpoint) == Counter(range(300))
    assert books(job.told)["calls"] == 300


def test_slow_endpoint_is_not_read_ahead_for(tmp_path: Path) -> None:
    with (
        Endpoint(Reply(hang=True)) as endpoint,
        working(tmp_path, endpoint, "--drain=0", stdin=numbers(10_000, pad="x" * 1000)) as job,
    ):
        until(lambda: len(endpoint.asked) == 8)
        assert settled(lambda: job.taken, 0.5) < 1 << 20
        assert len(endpoint.asked) == endpoint.most_at_once == 8
        job.signal(signal.SIGINT)
        job.ends(-signal.SIGINT, SOON)
    assert books(job.told)["unasked"] < 500


def test_stdout_made_non_blocking_by_a_neighbour(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with (
        Endpoint(says()) as endpoint,
        working(tmp_path, endpoint, stdin=numbers(300, pad="ő" * 5000), stdout=writer) as job,
    ):
        os.close(writer)
        parts = []
        while part := os.read(reader, 7777):
            parts.append(part)
            time.sleep(0.0005)
        os.close(reader)
        job.ends(0)
    assert sorted(numbers_in(b"".join(parts))) == [*range(300)]
    assert books(job.told)["out"] == 300


# -- the first signal ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "words"),
    [(signal.SIGINT, ()), (signal.SIGHUP, ("-d", "done")), (signal.SIGTERM, ("-U", "-d", "done"))],
    ids=["SIGINT", "SIGHUP -d", "SIGTERM -U -d"],
)
def test_what_is_in_flight_is_finished(tmp_path: Path, number: signal.Signals, words: tuple[str, ...]) -> None:
    with Endpoint(after(lambda n: 0.7 if n < 8 else 0.0)) as endpoint:
        with working(tmp_path, endpoint, *words, stdin=numbers(50)) as job:
            until(lambda: len(endpoint.asked) == 8)
            job.signal(number)
            data = read_rest(job.out)
            job.ends(-number)
        assert sorted(numbers_in(data)) == sorted(asked(endpoint)) == [*range(8)]
        found = books(job.told)
        assert (found["out"], found["calls"]) == (8, 8)
        if not words:
            return
        assert len(job.done) == 8
        with working(tmp_path, endpoint, *words, stdin=numbers(50)) as job:
            data = read_rest(job.out)
            job.ends(0)
    assert sorted(numbers_in(data)) == [*range(50)]
    assert asked(endpoint) == Counter(range(50))
    assert books(job.told)["replayed"] == 8


@pytest.mark.parametrize("again", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_second_signal_ends_at_once(tmp_path: Path, again: signal.Signals) -> None:
    with (
        Endpoint(lambda call: Reply(hang=True) if int(call.prompt) else says()) as endpoint,
        working(tmp_path, endpoint, "-d", "done", stdin=numbers(50)) as job,
    ):
        assert numbers_in(read_some(job.out)) == [0]
        until(lambda: len(endpoint.asked) == 9)
        job.signal(signal.SIGINT)
        time.sleep(0.35)
        began = time.monotonic()
        job.process.send_signal(again)
        job.ends(-again, SOON)
        assert time.monotonic() - began < 2  # 0.2 s are promised, to a machine with nothing else to do
        assert read_rest(job.out) == b""
    assert len(job.done) == 1


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("between", [0.0, 0.001, 0.1])
def test_the_same_signal_twice_is_one(tmp_path: Path, number: signal.Signals, between: float) -> None:
    """The kernel and the shell both tell of a terminal that closes."""
    with (
        Endpoint(after(lambda _: 0.7)) as endpoint,
        working(tmp_path, endpoint, "-d", "done", stdin=numbers(50)) as job,
    ):
        until(lambda: len(endpoint.asked) == 8)
        job.signal(number)
        time.sleep(between)
        job.process.send_signal(number)
        job.ends(-number)
    assert len(job.done) == len(endpoint.asked) == 8


def test_the_process_and_then_its_group(tmp_path: Path) -> None:
    """As timeout(1) signals."""
    with Endpoint(after(lambda _: 0.7)) as endpoint:
        (tmp_path / "in").write_bytes(numbers(500))
        words, quiet = ["-d", "done", "{{ n }}", "in"], subprocess.DEVNULL
        process = start("llm-map", *words, url=endpoint.url, cwd=tmp_path, stdout=quiet, start_new_session=True)
        until(lambda: len(endpoint.asked) >= 8, process)
        process.send_signal(signal.SIGTERM)
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(AT_LAST) == -signal.SIGTERM
        assert (tmp_path / "done").read_bytes().count(b"\n") == len(endpoint.asked)


def test_a_terminal_that_closes(tmp_path: Path) -> None:
    """As an interactive shell does: it sends on the SIGHUP that it gets from the kernel."""
    with Endpoint(after(lambda _: 0.7)) as endpoint:
        (tmp_path / "in").write_bytes(numbers(500))
        line = shlex.join(command("llm-map", "-d", "done", "{{ n }}", "in"))
        env = environment(OPENAI_BASE_URL=endpoint.url, TERM="xterm")
        pid, terminal = pty.fork()
        if not pid:
            os.chdir(tmp_path)
            os.execvpe("bash", ["bash", "--norc", "-i"], env)
        os.write(terminal, f"{line} >out\n".encode())
        until(lambda: len(endpoint.asked) >= 8)
        os.close(terminal)
        os.waitpid(pid, 0)
        until(lambda: (tmp_path / "done").read_bytes().count(b"\n") == len(endpoint.asked))


@pytest.mark.parametrize("words", [("--drain=0", "-U"), ("--drain=1",)], ids=" ".join)
def test_drain_ends(tmp_path: Path, words: tuple[str, ...]) -> None:
    """The first record never comes back. What had been answered comes out, also what was held back for it."""
    with (
        Endpoint(lambda call: Reply(hang=True) if call.prompt == "0" or int(call.prompt) > 20 else says()) as endpoint,
        working(tmp_path, endpoint, *words, "-d", "done", stdin=numbers(50)) as job,
    ):
        data = b"" if "-U" not in words else read_lines(job.out, 20)
        until(lambda: len(endpoint.asked) == 28 and len(job.done) == 20)
        job.signal(signal.SIGTERM)
        job.ends(-signal.SIGTERM, SOON)
        data += read_rest(job.out)
    assert sorted(numbers_in(data)) == [*range(1, 21)]
    assert "-U" in words or numbers_in(data) == [*range(1, 21)]
    assert len(endpoint.asked) == 28
    assert books(job.told)["unasked"] >= 8


def test_drain_ends_though_nobody_reads(tmp_path: Path) -> None:
    with (
        Endpoint(says()) as endpoint,
        working(tmp_path, endpoint, "--drain=0.1", "-d", "done", stdin=numbers(200, pad="x" * 50_000)) as job,
    ):
        until(lambda: len(endpoint.asked) > 20)
        settled(lambda: len(endpoint.asked), 0.3)
        job.signal(signal.SIGINT)
        job.ends(-signal.SIGINT, SOON)
        found = books(job.told)
        assert found["kept"]
        assert len(job.done) == found["out"] + found["kept"]


def test_drain_ends_though_nobody_reads_what_was_held_back(tmp_path: Path) -> None:
    with (
        Endpoint(lambda call: Reply(hang=True) if call.prompt == "0" else says()) as endpoint,
        working(tmp_path, endpoint, "--drain=0.1", "-d", "done", stdin=numbers(100, pad="x" * 50_000)) as job,
    ):
        until(lambda: len(job.done) == 99)
        job.signal(signal.SIGINT)
        job.ends(-signal.SIGINT, SOON)


def test_signal_while_waiting_for_a_further_try(tmp_path: Path) -> None:
    with (
        Endpoint(error(503, retry_after="60")) as endpoint,
        working(tmp_path, endpoint, stdin=numbers(3)) as job,
    ):
        until(lambda: len(endpoint.asked) >= 3)
        job.signal(signal.SIGTERM)
        calls = len(endpoint.asked)
        job.ends(-signal.SIGTERM, SOON)
        assert len(endpoint.asked) == calls
    assert books(job.told)["out"] == 0


def test_ignored_signals_stay_ignored(tmp_path: Path) -> None:
    """nohup ignores SIGHUP, and a shell SIGINT for what it runs in the background."""
    (tmp_path / "in").write_bytes(numbers(20))
    script = ["sh", "-c", "trap '' HUP INT; exec \"$@\" < in", "sh", *command("llm-map", PROMPT)]
    with Endpoint(after(lambda n: 0.5 if n < 8 else 0.0)) as endpoint:
        env = environment(OPENAI_BASE_URL=endpoint.url)
        with subprocess.Popen(script, cwd=tmp_path, env=env, stdout=-1, stderr=-1) as process:
            until(lambda: len(endpoint.asked) == 8)
            process.send_signal(signal.SIGHUP)
            process.send_signal(signal.SIGINT)
            out, told = process.communicate(timeout=AT_LAST)
    assert (process.returncode, len(lines(out))) == (0, 20)
    assert books(told)["out"] == 20


def test_status_line_on_demand(tmp_path: Path) -> None:
    with (
        Endpoint(after(lambda n: 1.5 if n else 0.0)) as endpoint,
        working(tmp_path, endpoint, "-q", stdin=numbers(12)) as job,
    ):
        first = read_some(job.out)
        until(lambda: len(endpoint.asked) == 9)
        for _ in range(20):  # the line may be read before the tool knows that it was written
            before = job.told
            job.process.send_signal(signal.SIGUSR1)
            until(lambda: job.told != before and job.told.endswith("\n"))  # noqa: B023
            if "out 1," in job.told:
                break
        assert re.search(
            r"(?m)^llm-map: read \d+, out 1, failed 0, .*calls \d+, [\d.]+ s.*\nllm-map: tokens .*\n\Z", job.told
        )
        data = read_rest(job.out)
        job.ends(0)
    assert len(lines(first + data)) == 12


# -- the reader of stdout leaves ----------------------------------------------------------------------


def a_pipe() -> tuple[int, int]:
    return os.pipe()


def a_socket() -> tuple[int, int]:
    """What some shells and other programs have for a pipe."""
    reader, writer = socket.socketpair()
    return reader.detach(), writer.detach()


@pytest.mark.parametrize("make", [a_pipe, a_socket], ids=lambda make: make.__name__)
def test_reader_leaves_while_nothing_is_written(tmp_path: Path, make: Callable[[], tuple[int, int]]) -> None:
    """stdin idle, every call hanging: it is noticed all the same, and nothing is waited for."""
    feed = os.pipe()
    reader, writer = make()
    with (
        Endpoint(lambda call: Reply(hang=True) if int(call.prompt) else says()) as endpoint,
        working(tmp_path, endpoint, stdin=feed[0], stdout=writer) as job,
    ):
        os.close(writer)
        os.write(feed[1], numbers(50))
        assert numbers_in(read_some(reader)) == [0]
        until(lambda: len(endpoint.asked) == 9)
        os.close(reader)
        job.ends(-signal.SIGPIPE, SOON)
    os.close(feed[0])
    os.close(feed[1])
    assert job.told == ""
    assert len(endpoint.asked) == 9


def test_reader_leaves_and_what_is_in_flight_is_kept(tmp_path: Path) -> None:
    with Endpoint(after(lambda n: 0.7 if 0 < n < 9 else 0.0)) as endpoint:
        with working(tmp_path, endpoint, "-d", "done", stdin=numbers(50)) as job:
            assert numbers_in(read_some(job.out)) == [0]
            until(lambda: len(endpoint.asked) == 9)
            job.leave()
            job.ends(-signal.SIGPIPE)
        assert job.told == ""
        assert len(job.done) == len(endpoint.asked) == 9
        with working(tmp_path, endpoint, "-d", "done", stdin=numbers(50)) as job:
            data = read_rest(job.out)
            job.ends(0)
    assert sorted(numbers_in(data)) == [*range(50)]
    assert asked(endpoint) == Counter(range(50))


def test_reader_leaves_before_the_signal_comes(tmp_path: Path) -> None:
    """Ctrl-C goes to all stages: one whose reader was quicker to die has still had its first signal only."""
    with (
        Endpoint(after(lambda n: 1.0 if n else 0.0)) as endpoint,
        working(tmp_path, endpoint, "-d", "done", stdin=numbers(50)) as job,
    ):
        assert numbers_in(read_some(job.out)) == [0]
        until(lambda: len(endpoint.asked) == 9)
        job.leave()
        time.sleep(0.3)  # so that it has noticed; if it has not, this test has seen nothing and passes
        job.process.send_signal(signal.SIGINT)
        assert job.process.wait(AT_LAST) in (-signal.SIGINT, -signal.SIGPIPE)
        assert len(job.done) == 9


def test_interrupted_pipe(tmp_path: Path) -> None:
    """SIGINT to the whole process group of two stages: nothing is paid twice, and nothing gets lost."""
    (tmp_path / "in").write_bytes(numbers(80))

    @contextlib.contextmanager
    def both() -> Iterator[list[subprocess.Popen[bytes]]]:
        with (
            open(tmp_path / "in", "rb") as source,
            start("llm-map", PROMPT, "-d", "a", url=one.url, stdin=source, cwd=tmp_path, process_group=0) as first,
            start(
                "llm-map", PROMPT, "-d", "b", url=two.url, stdin=first.stdout, cwd=tmp_path, process_group=first.pid
            ) as second,
        ):
            assert first.stdout
            first.stdout.close()
            try:
                yield [first, second]
            finally:
                first.kill()
                second.kill()

    slow = [0.5]
    with Endpoint(after(lambda n: slow[0] if n > 9 else 0.0)) as one, Endpoint(after(lambda _: slow[0])) as two:
        with both() as stages:
            until(lambda: len(one.asked) > 10 and len(two.asked) > 4)
            os.killpg(stages[0].pid, signal.SIGINT)
            assert [stage.wait(AT_LAST) for stage in stages] == [-signal.SIGINT] * 2
        paid = [len(one.asked), len(two.asked)]
        assert [len(lines((tmp_path / name).read_bytes())) for name in "ab"] == paid
        assert paid[0] < 80
        slow[0] = 0.0
        with both() as stages:
            out, told = stages[1].communicate(timeout=AT_LAST)
            assert [stage.wait(AT_LAST) for stage in stages] == [0, 0]
    assert sorted(numbers_in(out)) == [*range(80)]
    assert asked(one) == asked(two) == Counter(range(80))
    assert books(told)["replayed"] == paid[1]


def test_full_disk_under_stdout(tmp_path: Path) -> None:
    with Endpoint(after(0.05)) as endpoint:
        with (
            open("/dev/full", "wb") as full,
            working(tmp_path, endpoint, "-d", "done", stdin=numbers(99), stdout=full) as job,
        ):
            job.ends(74)
        found = books(job.told)
        assert found["out"] == 0
        assert found["kept"] == len(job.done) == len(endpoint.asked) < 99
        done = run("llm-map", PROMPT, "-d", tmp_path / "done", stdin=numbers(99), url=endpoint.url)
    assert len(lines(done.stdout)) == 99
    assert asked(endpoint) == Counter(range(99))


# -- input --------------------------------------------------------------------------------------------


def test_files_in_their_order(tmp_path: Path) -> None:
    texts = {
        "nothing": b"",
        "bom": b"\xef\xbb\xbf" + numbers(0, 2).replace(b"\n", b"\r\n") + b'{"n": 2}',
        "blank": b"\n  \n\r\n\t\n",
        "after blank": b"\n\n" + numbers(5, 7),
        "only bom": b"\xef\xbb\xbf",
        "no newline": b' \t{"n": 7} ',
    }
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
    files = ["nothing", "bom", "blank", "-", "after blank", "only bom", "no newline", "-"]
    with Endpoint(says()) as endpoint:
        done = run(
            "llm-map", PROMPT, *files, "-r", "-P", "a=1", stdin=numbers(3, 5)[:-1], url=endpoint.url, cwd=tmp_path
        )
        again = run("llm-map", PROMPT, *files, stdin=numbers(3, 5), url=endpoint.url, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"ok\n" * 8)
    assert numbers_in(again.stdout) == [*range(8)]
    assert again.stdout.count(b"\r") == 0
    assert books(again.stderr)["read"] == 8


def test_bad_lines_are_named_by_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf\n\n{\r\n" + numbers(1))
    (tmp_path / "b").write_bytes(numbers(1, 2) + b"}")
    with Endpoint(says()) as endpoint:
        done = run("llm-map", PROMPT, "a", "-", "b", stdin=b"\xef\xbb\xbf[]\nnull", url=endpoint.url, cwd=tmp_path)
    told = done.stderr.decode()
    assert [line.split(" ")[1] for line in told.splitlines()[:4]] == ["a:3:", "<stdin>:1:", "<stdin>:2:", "b:2:"]
    assert (done.returncode, sorted(numbers_in(done.stdout))) == (1, [0, 1])
    assert books(told) | {"calls": 2} == {"read": 6, "out": 2, "failed": 4, "replayed": 0, "calls": 2}


def test_file_that_vanishes(tmp_path: Path) -> None:
    """It was there when the run began: what was read before comes out, and the status tells."""
    (tmp_path / "b").write_bytes(numbers(2, 3))
    reader, writer = os.pipe()
    with Endpoint(says()) as endpoint, working(tmp_path, endpoint, "-", "b", stdin=reader) as job:
        os.write(writer, numbers(2))
        data = read_some(job.out)
        (tmp_path / "b").unlink()
        os.close(writer)
        data += read_rest(job.out)
        job.ends(2)
    os.close(reader)
    assert sorted(numbers_in(data)) == [0, 1]
    assert "llm-map: cannot read b: No such file or directory\n" in job.told
    assert books(job.told)["out"] == 2


# -- --max-errors -------------------------------------------------------------------------------------


def refuses(call: Call) -> Reply:
    return error(400, "too long") if int(call.prompt) % 2 else says()


def test_stop_after_so_many_errors() -> None:
    with Endpoint(refuses) as endpoint:
        done = run("llm-map", PROMPT, "-j1", "--max-errors=3", stdin=numbers(100), url=endpoint.url)
    told = done.stderr.decode()
    assert done.returncode == 1
    assert re.search(r"^llm-map: stopped: 3 of \d records failed \(--max-errors 3\)$", told, re.MULTILINE)
    found = books(told)
    assert 3 <= found["failed"] <= 5  # those that were in flight come back too
    assert found["out"] == len(lines(done.stdout))
    assert len(endpoint.asked) <= 10


def test_fewer_errors_than_that_stop_nothing() -> None:
    with Endpoint(refuses) as endpoint:
        done = run("llm-map", PROMPT, "--max-errors=3", stdin=numbers(5), url=endpoint.url)
    assert (done.returncode, sorted(numbers_in(done.stdout))) == (1, [0, 2, 4])
    assert books(done.stderr) | {"calls": 5} == {"read": 5, "out": 3, "failed": 2, "replayed": 0, "calls": 5}


def test_stop_at_a_share_of_errors() -> None:
    with Endpoint(says()) as endpoint:
        most = run("llm-map", PROMPT, "--max-errors=50%", stdin=numbers(20) + b"{\n" * 300, url=endpoint.url)
        few = run("llm-map", PROMPT, "--max-errors=50%", stdin=numbers(200) + b"{\n" * 60, url=endpoint.url)
        soon = run("llm-map", PROMPT, "--max-errors=50%", stdin=b"{\n" * 99, url=endpoint.url)
    assert (most.returncode, few.returncode, soon.returncode) == (1, 1, 1)
    assert b"records failed (--max-errors 50%)\n" in most.stderr
    assert 80 <= books(most.stderr)["failed"] <= 100
    assert (books(few.stderr)["failed"], books(few.stderr)["out"]) == (60, 200)
    assert books(soon.stderr)["failed"] == 99  # a share of so few says nothing
    assert b"stopped:" not in few.stderr + soon.stderr
