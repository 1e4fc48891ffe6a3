"""Secrets stay where they were given, and nothing foreign moves a cursor: whatever goes wrong."""

from __future__ import annotations

import base64
import json
import os
import pty
import re
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from endpoint import Call, Endpoint, Reply, chat, error, says
from little_room import LITTLE_ROOM
from tool import command, environment

from llmstream.shell import messages

MARK = secrets.token_hex(6)  # what every secret holds, and nothing else on this machine
KEY = f"sk-{MARK}/0123+456789=="
PASSWORD = f"pw-{MARK}"
BASIC = base64.b64encode(f"me:{PASSWORD}".encode()).decode()  # as a header has the password
QUOTE = f"Incorrect API key provided: {KEY}"
HANGS = Reply(hang=True)
NEVER = "http://127.0.0.1:9/v1"
PROC = Path("/proc")
Answer = Reply | Callable[[Call], Reply]


def echo(call: Call) -> Reply:
    """A server that is being debugged tells what it was sent."""
    told = {name: value for name, value in call.headers.items() if "auth" in name or "key" in name or "token" in name}
    return error(400, f"no such user: {json.dumps(told)}")


def refuses_a_schema(call: Call) -> Reply:
    if "json_schema" in call.json.get("response_format", {}).values():
        return error(400, f"no response_format for {KEY}")
    return says('{"a":"b"}')


# -- while it runs -------------------------------------------------------------------------------


def ask_how_it_goes(process: subprocess.Popen[bytes], folder: Path) -> None:
    process.send_signal(signal.SIGUSR1)
    while "read 1" not in (folder / "stderr").read_text() and process.poll() is None:
        time.sleep(0.01)
    process.terminate()


def kill(process: subprocess.Popen[bytes], _: Path) -> None:
    process.kill()


def terminate(process: subprocess.Popen[bytes], _: Path) -> None:
    process.terminate()


# -- what goes wrong -----------------------------------------------------------------------------


class Case(NamedTuple):
    """One way to fail."""

    status: int
    told: str  # on stderr: it was this failure, and not another
    reply: Answer = HANGS
    words: tuple[str, ...] = ()
    env: tuple[str, ...] = ()  # NAME=VALUE; ROOT is the endpoint, HOST is it without http://
    key: str = KEY
    prompt: str = "{{ q }}"
    once_asked: Callable[[subprocess.Popen[bytes], Path], None] | None = None
    tls: bool = False
    room: int | None = None  # bytes that a file may have
    left: str = ""  # in the done-file
    may_show: tuple[str, ...] = ()


WITH_PASSWORD = f"OPENAI_BASE_URL=http://me:{PASSWORD}@HOST/v1"
WITH_PROXY = ("OPENAI_BASE_URL=http://far.invalid/v1", f"HTTP_PROXY=http://me:{PASSWORD}@HOST")
AZURE = ("OPENAI_API_TYPE=azure", "AZURE_OPENAI_ENDPOINT=ROOT", f"AZURE_OPENAI_API_KEY={KEY}", "OPENAI_API_VERSION=1")
ESCAPED = json.dumps(QUOTE)[1:-1].replace("/", r"\/").replace("+", r"\u002B")
FOREIGN = "it holds a character that no key has"

CASES: dict[str, Case] = {
    # an endpoint that quotes it
    "401": Case(2, "the endpoint refuses the key (HTTP 401): Incorrect", error(401, QUOTE)),
    "400 with the headers": Case(1, "no such user: ", echo),
    "500": Case(1, "Incorrect API key provided: [key] (HTTP 500)", error(500, QUOTE), ("--retries", "0")),
    "HTML": Case(1, "not JSON: <p>Incorrect", Reply(f"<p>{QUOTE}</p>".encode())),
    "at the edge of what is shown": Case(1, "xxx", error(400, f"{'x' * 280} {KEY}")),
    "in the escapes of another JSON": Case(
        1, "Incorrect", Reply(b'{"error":{"message":"%b"}}' % ESCAPED.encode(), 400)
    ),
    "in an error beside no choices": Case(
        1, "an error, with status 200", Reply({"choices": [], "error": {"message": QUOTE}})
    ),
    "in a redirect": Case(1, "which is not followed", Reply(b"", 307, {"Location": f"http://127.0.0.1:9/?key={KEY}"})),
    "a refused schema": Case(0, "response_format, now using json_object", refuses_a_schema, ("-S", "a")),
    "no list of models": Case(2, "HTTP 401", error(401, QUOTE), env=("LLMSTREAM_MODEL=",)),
    "an answer": Case(0, "out 1", says(QUOTE), may_show=("stdout", "x.done")),
    # no answer
    "nobody listens": Case(75, "cannot reach the endpoint", env=("OPENAI_BASE_URL=" + NEVER,)),
    "a reset": Case(1, "closed the connection without an answer", Reply(reset=True), ("--retries", "0")),
    "a timeout": Case(1, "no complete answer within 0.2 s", HANGS, ("--timeout", "0.2")),
    "half a body": Case(1, "the reply was cut short", Reply(chat(), promise=5000)),
    "a certificate of nobody's": Case(2, "cannot trust 127.0.0.1", says(), tls=True),
    "a wrong path": Case(2, "knows no such model or path (HTTP 404)", error(404, f"no /v2 for {KEY}")),
    # other secrets than the key
    "a password and a reset": Case(1, "the connection failed", Reply(reset=True), ("--retries", "0"), (WITH_PASSWORD,)),
    "a password and a library's log": Case(0, "DEBUG", says(), env=(WITH_PASSWORD, "OPENAI_LOG=debug")),
    "a password and nobody listens": Case(
        75, "cannot reach the endpoint", env=(f"OPENAI_BASE_URL=http://me:{PASSWORD}@127.0.0.1:9/v1",)
    ),
    "a password that is echoed": Case(1, "no such user: ", echo, env=(WITH_PASSWORD,)),
    "a proxy's password that is echoed": Case(1, "no such user: ", echo, env=WITH_PROXY),
    "a header of one's own that is echoed": Case(
        1, "no such user: ", echo, env=(f"OPENAI_CUSTOM_HEADERS=Authorization: Bearer tk-{MARK}",)
    ),
    "Azure's token that is echoed": Case(1, "no such user: ", echo, env=(*AZURE, f"AZURE_OPENAI_AD_TOKEN={KEY}")),
    "a password and no port": Case(2, "not a URL", env=(f"OPENAI_BASE_URL=http://me:{PASSWORD}@h:port/v1",)),
    "a password and no scheme": Case(2, "it must begin with http", env=(f"OPENAI_BASE_URL=me:{PASSWORD}@h/v1",)),
    "a password with a line break": Case(2, "not a URL", env=(f"OPENAI_BASE_URL=http://me:a\n{PASSWORD}@h/v1",)),
    "a key in a query": Case(2, "leave off what", env=(f"OPENAI_BASE_URL=http://h/v1?key={KEY}",)),
    # a key that is none
    "a line break": Case(2, FOREIGN, key=f"sk-{MARK}\n0123"),
    "an escape sequence": Case(2, FOREIGN, key=f"sk-{MARK}\x1b[31m"),
    "another alphabet": Case(2, FOREIGN, key=f"sk-{MARK}-ключ"),
    "a dash of Word's": Case(2, FOREIGN, key=f"sk–{MARK}"),
    # trouble of our own
    "a bug": Case(1, "a bug in llm-map: RuntimeError at openai.py:2", env=("PYTHONPATH=BROKEN", "OPENAI_LOG=debug")),
    "a full disk": Case(74, "File too large", says("x" * 1000), room=500),
    "a torn line": Case(1, "it is set aside in", error(400, QUOTE), left='{"key":"'),
    "a field that is missing": Case(1, "no field 'nosuch'", prompt="{{ nosuch }}"),
    "a template that fails": Case(1, "division by zero", prompt="{{ 1 / q }}"),
    "a template that is none": Case(2, "cannot use the template", prompt="{{ q"),
    # from outside
    "a word in between": Case(-signal.SIGTERM, "read 1, out 0", once_asked=ask_how_it_goes, words=("--drain", "0")),
    "a signal": Case(-signal.SIGTERM, "SIGTERM: finishing", once_asked=terminate, words=("--drain", "0.1")),
    "a kill": Case(-signal.SIGKILL, "", once_asked=kill),
}
BUG = """
import os
raise RuntimeError(f"in {dict(os.environ)}, {[open(word).read() for word in os.sys.argv if word.endswith('.key')]}")
"""
# The key is in the environment; where the environment has nothing else of interest, also in a file.
PLAYS = [
    (name, how) for name, case in CASES.items() for how in ("environment", "file") if how != "file" or not case.env
]


class Ran(NamedTuple):
    status: int
    written: dict[str, bytes]  # stdout, stderr, and every file that the run left


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext | None:
    """A certificate signed by nobody that anybody knows."""
    if not shutil.which("openssl"):
        return None
    pem = tmp_path_factory.mktemp("tls") / "pem"
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(["openssl", *words.split(), "-keyout", pem, "-out", f"{pem}.crt"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{pem}.crt", pem)
    return context


def variables(case: Case, endpoint: Endpoint, folder: Path, *, in_file: bool) -> dict[str, str]:
    root = endpoint.url.removesuffix("/v1")
    swap = {"ROOT": root, "HOST": root.removeprefix("http://"), "BROKEN": str(folder.parent)}
    given = [re.sub("ROOT|HOST|BROKEN", lambda found: swap[found[0]], word).split("=", 1) for word in case.env]
    return environment(
        **{"OPENAI_BASE_URL": endpoint.url, "OPENAI_API_KEY": "" if in_file else case.key, **dict(given)}
    )


def play(case: Case, folder: Path, tls: ssl.SSLContext | None, *, in_file: bool) -> Ran:
    folder.mkdir()
    words = [*case.words, "-v", "-d", folder / "x.done", "-e", folder / "bad"]
    if in_file:
        key = folder.with_suffix(".key")
        key.touch(0o600)
        key.write_text(case.key)
        words += ["--key-file", key]
    if case.left:
        (folder / "x.done").touch(0o600)
        (folder / "x.done").write_text(case.left)
    wrap = [sys.executable, "-c", LITTLE_ROOM, str(case.room)] if case.room else []
    with Endpoint(case.reply, tls=tls if case.tls else None) as endpoint:
        with (
            (folder.parent / "in").open("rb") as given,
            (folder / "stdout").open("wb") as out,
            (folder / "stderr").open("wb") as err,
        ):
            process = subprocess.Popen(
                [*wrap, *command("llm-map", *words, case.prompt)], stdin=given, stdout=out, stderr=err,
                env=variables(case, endpoint, folder, in_file=in_file),
            )  # fmt: skip
        while case.once_asked and not endpoint.asked and process.poll() is None:
            time.sleep(0.01)
        if case.once_asked:
            case.once_asked(process, folder)
        status = process.wait(120)
    return Ran(status, {path.name: path.read_bytes() for path in folder.iterdir()})


class Watch:
    """Looks at the command lines of all processes, as ps does, again and again."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while PROC.exists() and not self._over.wait(0.05):
            for name in filter(str.isdigit, os.listdir(PROC)):
                try:
                    self.seen.add((PROC / name / "cmdline").read_bytes())
                except OSError:  # it has ended
                    pass


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    watching = Watch()
    yield watching
    watching.stop()


@pytest.fixture(scope="module")
def ran(
    tmp_path_factory: pytest.TempPathFactory, tls: ssl.SSLContext | None, watch: Watch
) -> Iterator[Callable[[str, str], Ran]]:
    """What came of a case; all are begun before the first is looked at, those that wait most first."""
    here = tmp_path_factory.mktemp("here")
    (here / "openai.py").write_text(BUG.lstrip())
    (here / "in").write_text('{"q":0}\n')
    with ThreadPoolExecutor(6) as pool:
        running = {
            (name, how): pool.submit(play, CASES[name], here / str(n), tls, in_file=how == "file")
            for n, (name, how) in enumerate(sorted(PLAYS, key=lambda play: CASES[play[0]].status != 75))
        }
        yield lambda name, how: running[name, how].result()


@pytest.mark.parametrize(
    ("name", "how"),
    [pytest.param(name, how, id=f"{name}, {how}") for name, how in PLAYS],
)
def test_no_secret_is_told(name: str, how: str, ran: Callable[[str, str], Ran], tls: ssl.SSLContext | None) -> None:
    case = CASES[name]
    if case.tls and not tls:
        pytest.skip("no openssl")
    got = ran(name, how)
    told = got.written["stderr"].decode()
    if got.status != case.status or case.told not in told:
        pytest.fail(f"not the failure that was meant: {got.status} {told}", pytrace=False)
    assert "Traceback" not in told
    leaks = [place for place, data in got.written.items() if MARK.encode() in data or BASIC.encode() in data]
    assert sorted(leaks) == sorted(case.may_show)


@pytest.mark.skipif(not PROC.exists(), reason="no /proc")
def test_no_secret_is_in_a_command_line(ran: Callable[[str, str], Ran], watch: Watch) -> None:
    for name, how in PLAYS:
        ran(name, how)
    assert sum(b"llm-map\0" in seen for seen in watch.seen) > len(PLAYS) / 2  # some are over too soon
    assert [seen for seen in watch.seen if MARK.encode() in seen or BASIC.encode() in seen] == []


def test_no_secret_is_in_a_log_of_the_simulated_endpoint(tmp_path: Path) -> None:
    log = tmp_path / "log"
    words = command("llm-sim", "--log", log, "--", *command("llm-map", "{{ q }}"))
    told = subprocess.run(
        words, input=b'{"q":0}\n', capture_output=True, env=environment(OPENAI_API_KEY=KEY), check=True
    )
    assert log.stat().st_size
    assert MARK.encode() not in told.stdout + told.stderr + log.read_bytes()


# -- what a terminal would obey -------------------------------------------------------------------

# Colour; the screen cleared, in one byte; a line written over; a bell; a line turned round; DEL; another title.
HOSTILE = "a\x1b[31mb\x9b2Jc\rd\x07e\u202ef\x7fg\x1b]0;h\x07"
SEEN = HOSTILE.encode("unicode_escape").decode()
SEEN_IN_BRIEF = SEEN.replace(r"\r", " ")
SEEN_AS_JSON = r"a\u001b[31mb\u009b2Jc\rd\u0007e"  # behind it a sign that JSON leaves alone
RAW = re.compile(rb"[\x00-\x09\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|(?<![\x80-\xff])[\x80-\x9f]")  # all but the ends of lines
TURNED = "\u202e".encode()


class Show(NamedTuple):
    """A run on a terminal that somebody tries to play with."""

    shown: str
    reply: Answer = HANGS
    words: tuple[str, ...] = ("{{ q }}",)
    env: tuple[str, ...] = ()
    stdin: bytes = b'{"q":0}\n'


NOT_UTF8 = "a\x1b\udc9b\udcff"
RECORD = json.dumps({"q": HOSTILE, HOSTILE: 1})
RAW_RECORD = json.dumps({"q": "a\x9b2J\x7f\u202e"}, ensure_ascii=False)
SHOWS: dict[str, Show] = {
    # from the endpoint
    "an error": Show(SEEN_IN_BRIEF, error(400, HOSTILE)),
    "an error that is no JSON": Show(SEEN_IN_BRIEF, Reply(HOSTILE.encode() + b"\x9b", 400)),
    "a page": Show(SEEN_IN_BRIEF, Reply(HOSTILE.encode())),
    "a redirect": Show(r"a\x1b[31m\x9b2J\u202eb", Reply(b"", 302, {"Location": "a\x1b[31m\x9b2J\u202eb"})),
    "a refusal": Show(SEEN_IN_BRIEF, says(refusal=HOSTILE)),
    "an answer": Show(SEEN_AS_JSON, says(HOSTILE)),
    "an answer alone": Show(r"a\u001b[31mb\u009b2Jc", says(HOSTILE), ("-r", "{{ q }}")),
    "an answer's object": Show(SEEN_AS_JSON, says(json.dumps({"a": HOSTILE})), ("-S", "a", "{{ q }}")),
    "a wrong answer": Show(
        r'a: "a\u001b[31mb\x9b2Jc', says(json.dumps({"a": HOSTILE})), ("-S", "a int", "--reask", "0", "{{ q }}")
    ),
    "the model's name": Show(SEEN_AS_JSON, Reply(chat() | {"model": HOSTILE}), ("-M", "m", "{{ q }}")),
    "the name of the only model": Show(
        f"using the model {SEEN}", Reply({"data": [{"id": HOSTILE}], **chat()}), env=("LLMSTREAM_MODEL=",)
    ),
    "the names of models": Show(SEEN, Reply({"data": [{"id": HOSTILE}, {"id": "b"}]}), env=("LLMSTREAM_MODEL=",)),
    # from the input
    "a record": Show(r"a\u001b[31mb", says(), stdin=RECORD.encode()),
    "a record's own bytes": Show(r"a\u009b2J\u007f", says(), stdin=RAW_RECORD.encode()),
    "a text": Show(SEEN_AS_JSON, says(), ("-R", "{{ text }}"), stdin=HOSTILE.encode()),
    "a line that is no object": Show(r"a\u001b[31mb\x9b2Jc", stdin=json.dumps(HOSTILE, ensure_ascii=False).encode()),
    "an errors file that is the terminal": Show(
        "HTTP 400", error(400, HOSTILE), ("-e", "/dev/stderr", "{{ q }}"), stdin=RAW_RECORD.encode()
    ),
    # from the command line and the environment
    "a file's name": Show(f"{SEEN}:1: not valid JSON", words=("{{ q }}", HOSTILE)),
    "a file that is not there": Show(f"cannot read no{SEEN}", words=("{{ q }}", f"no{HOSTILE}")),
    "a name that is not UTF-8": Show(r"cannot read a\x1b\udc9b\udcff", words=("{{ q }}", NOT_UTF8)),
    "a done-file": Show(f"no/{SEEN}", words=("-d", f"no/{HOSTILE}", "{{ q }}")),
    "an option": Show(f"--{SEEN}", words=(f"--{HOSTILE}", "{{ q }}")),
    "a template": Show(r"unexpected char '\x1b' at 5", words=("{{ q" + HOSTILE,)),
    "a field": Show(r"no field 'a\x1b[31m'", words=("{{ record['a\x1b[31m'] }}",)),
    "an endpoint": Show(f"the endpoint http://h{SEEN_IN_BRIEF}", words=("-u", f"http://h{HOSTILE}", "{{ q }}")),
    "a variable": Show(f"LLMSTREAM_JOBS={SEEN}", env=(f"LLMSTREAM_JOBS={HOSTILE}",)),
}


def show(case: Show, folder: Path) -> tuple[bytes, bytes]:
    """What the terminal gets: in bytes, the part of it that stdout has, and the part of stderr."""
    folder.mkdir()
    (folder / HOSTILE).write_text("no JSON\n")
    with Endpoint(case.reply) as endpoint:
        terminals = [pty.openpty() for _ in range(2)]
        for _, slave in terminals:
            tty.setraw(slave)  # a line ends as it was written
        out, err = (slave for _, slave in terminals)
        env = environment(OPENAI_BASE_URL=endpoint.url, **dict(word.split("=", 1) for word in case.env))
        process = subprocess.Popen(
            command("llm-map", *case.words), stdin=subprocess.PIPE, stdout=out, stderr=err, env=env, cwd=folder
        )
        process.communicate(case.stdin, timeout=60)
    seen = []
    for master, slave in terminals:  # far less than a terminal holds
        os.set_blocking(master, False)
        try:
            seen.append(os.read(master, 65536))
        except BlockingIOError:
            seen.append(b"")
        os.close(slave)
        os.close(master)
    return seen[0], seen[1]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], tuple[bytes, bytes]]]:
    here = tmp_path_factory.mktemp("shown")
    with ThreadPoolExecutor(4) as pool:
        running = {name: pool.submit(show, case, here / str(n)) for n, (name, case) in enumerate(SHOWS.items())}
        yield lambda name: running[name].result()


@pytest.mark.parametrize(
    "name",
    list(SHOWS),
)
def test_a_terminal_obeys_nobody_else(name: str, shown: Callable[[str], tuple[bytes, bytes]]) -> None:
    case = SHOWS[name]
    out, told = shown(name)
    if case.shown not in (out + told).decode(errors="replace"):
        pytest.fail(f"not what was meant: {out!r} {told!r}", pytrace=False)
    told = re.sub(rb"(?m)^" + re.escape(messages.CLEAR.encode()), b"", told)  # ours: of a progress line below
    assert RAW.findall(out + told) == []
    assert TURNED not in out + told
