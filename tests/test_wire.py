"""One HTTP call: which bytes arrive, whom they never reach, and what becomes of a bad reply."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import orjson
import pytest
from endpoint import Call, Endpoint, Reply, chat, error, says
from tool import environment, jsonl, lines, run, start

CANARY = "sk-canary-0123456789"
PROMPT = "{{ q }}"
Ran = tuple[CompletedProcess[bytes], Endpoint]
Slow = Callable[[str], Any]
SLOW: dict[str, Callable[[], Any]] = {}  # runs that wait more than they work, one beside another


@pytest.fixture(scope="module", autouse=True)
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slow]:
    """What came of a run in SLOW; all of them are started before the first test."""
    with ThreadPoolExecutor(4) as pool:
        running = {name: pool.submit(go, tmp_path_factory.mktemp("slow")) for name, go in SLOW.items()}
        yield lambda name: running[name].result()


def azure(root: str) -> dict[str, str]:
    return {
        "OPENAI_API_TYPE": "azure",
        "AZURE_OPENAI_ENDPOINT": root,
        "AZURE_OPENAI_API_KEY": CANARY,
        "OPENAI_API_VERSION": "2026-01-01",
    }


# The ways to an endpoint: our own, and the package's for what is more than a plain POST.
WAYS: dict[str, Callable[[str], dict[str, str]]] = {
    "plain": lambda root: {"OPENAI_BASE_URL": f"{root}/v1", "OPENAI_API_KEY": CANARY},
    "proxy": lambda root: {"OPENAI_BASE_URL": "http://far.invalid/v1", "HTTP_PROXY": root, "OPENAI_API_KEY": CANARY},
    "azure": azure,
}


def root(endpoint: Endpoint) -> str:
    return endpoint.url.removesuffix("/v1")


def records(*names: str) -> str:
    return jsonl(*({"q": name} for name in names))


def ask(way: str, endpoint: Endpoint, *words: str | Path, stdin: str = records("hi"), **env: str) -> Any:
    return run("llm-map", *words, PROMPT, stdin=stdin, env=WAYS[way](root(endpoint)) | env)


def failures(path: Path) -> dict[str, tuple[str, str]]:
    return {line["q"]: (line["error"]["type"], line["error"]["message"]) for line in lines(path.read_bytes())}


# -- which bytes arrive -------------------------------------------------------------------------

PACKAGE = """
import asyncio, json, openai, os, sys
async def main():
    kept = dict(os.environ)
    for variables in json.loads(sys.argv[1]):
        os.environ.clear()
        os.environ.update(kept | variables)
        client = (openai.AsyncAzureOpenAI if "OPENAI_API_TYPE" in variables else openai.AsyncOpenAI)(max_retries=0)
        await client.chat.completions.create(model="sim", messages=[{"role": "user", "content": "hi"}], temperature=0)
asyncio.run(main())
"""
ENVIRONMENTS: dict[str, tuple[str, dict[str, str]]] = {
    # where the call goes, and what the environment says; ROOT stands for the endpoint
    "a path": ("/a/b/chat/completions", {"OPENAI_BASE_URL": "ROOT/a/b"}),
    "a slash": ("/v1/chat/completions", {"OPENAI_BASE_URL": "ROOT/v1/"}),
    "no path": ("/chat/completions", {"OPENAI_BASE_URL": "ROOT"}),
    "headers": (
        "/v1/chat/completions",
        {
            "OPENAI_BASE_URL": "ROOT/v1",
            "OPENAI_ORG_ID": "org-1",
            "OPENAI_PROJECT_ID": "proj-1",
            "OPENAI_CUSTOM_HEADERS": "X-One: 1\nauthorization: Bearer another\nx-two:  b: c \nuser-agent: me",
        },
    ),
    "a password": ("/v1/chat/completions", {"OPENAI_BASE_URL": "http://me:secret@HOST/v1"}),
    "a proxy": (
        "http://far.invalid/v1/chat/completions",
        {"OPENAI_BASE_URL": "http://far.invalid/v1", "http_proxy": "ROOT"},
    ),
    "a proxy's password": (
        "http://far.invalid/v1/chat/completions",
        {"OPENAI_BASE_URL": "http://far.invalid/v1", "ALL_PROXY": "http://me:secret@HOST"},
    ),
    "a proxy for others": (
        "/v1/chat/completions",
        {"OPENAI_BASE_URL": "ROOT/v1", "HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "localhost,127.0.0.1"},
    ),
    "Azure": ("/openai/deployments/sim/chat/completions?api-version=2026-01-01", azure("ROOT/")),
    "Azure with a token": (
        "/openai/deployments/sim/chat/completions?api-version=2026-01-01",
        azure("ROOT") | {"AZURE_OPENAI_AD_TOKEN": "token-1"},
    ),
    "Azure, and a URL for OpenAI's": (
        "/openai/deployments/sim/chat/completions?api-version=2026-01-01",
        azure("ROOT") | {"OPENAI_BASE_URL": "http://never.invalid/v1"},
    ),
}
OURS = ("idempotency-key", "connection", "accept-encoding", "content-length")


def heard(call: Call, endpoint: Endpoint) -> tuple[Any, ...]:
    """What an endpoint hears of a call, but for what only we or only the package say."""
    told = {name: value for name, value in call.headers.items() if not name.startswith(("x-stainless-", *OURS))}
    told["host"] = told["host"].replace(str(endpoint.port), "PORT")
    return call.method, call.path, call.json, told


def variables(what: str, endpoint: Endpoint) -> dict[str, str]:
    host = root(endpoint).removeprefix("http://")
    _, given = ENVIRONMENTS[what]
    return {name: value.replace("ROOT", f"http://{host}").replace("HOST", host) for name, value in given.items()}


def theirs(_: Path) -> dict[str, tuple[Any, ...]]:
    with Endpoint(says()) as endpoint:
        each = json.dumps([variables(what, endpoint) for what in ENVIRONMENTS])
        subprocess.run([sys.executable, "-c", PACKAGE, each], env=environment(), timeout=60, check=True)
    return dict(zip(ENVIRONMENTS, [heard(call, endpoint) for call in endpoint.calls], strict=True))


def ours(what: str, _: Path) -> tuple[CompletedProcess[bytes], Endpoint]:
    with Endpoint(says()) as endpoint:
        env = variables(what, endpoint)
        return run("llm-map", "-P", "temperature=0", PROMPT, stdin=records("hi"), env=env), endpoint


SLOW |= {"theirs": theirs} | {f"ours {what}": partial(ours, what) for what in ENVIRONMENTS}


@pytest.mark.parametrize("what", ENVIRONMENTS)
def test_heard_as_from_the_package(what: str, slow: Slow) -> None:
    got, endpoint = slow(f"ours {what}")
    assert (got.returncode, len(endpoint.calls)) == (0, 1)
    (call,) = endpoint.calls
    assert heard(call, endpoint) == slow("theirs")[what]
    assert call.path == ENVIRONMENTS[what][0]
    assert call.headers["content-type"] == "application/json"
    assert len(call.key) >= 32


@pytest.mark.parametrize("how", ["environment", "file", "pipe"])
def test_a_key_is_stripped(how: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    if how == "pipe":
        os.mkfifo(file, 0o600)
        threading.Thread(target=lambda: file.write_text(f"{CANARY}\n"), daemon=True).start()
    else:
        file.touch(0o600)
        file.write_text(f" {CANARY}\r\n")
    words = ("--key-file", file) if how != "environment" else ()
    with Endpoint(says()) as endpoint:
        got = ask("plain", endpoint, *words, OPENAI_API_KEY="sk-wrong" if words else f"{CANARY}\n")
    assert got.returncode == 0
    assert endpoint.calls[0].headers["authorization"] == f"Bearer {CANARY}"


@pytest.mark.parametrize("way", ["plain", "proxy"])
def test_a_server_of_ones_own_wants_no_key(way: str) -> None:
    with Endpoint(says()) as endpoint:
        got = ask(way, endpoint, OPENAI_API_KEY="")
    assert (got.returncode, len(endpoint.calls)) == (0, 1)


# -- bad days, on every way ---------------------------------------------------------------------

ODD = "a\ud800b\x00c\x1b[31md\u2028e\udfff\ud83d\ude00f\x7fg"
CUT, NOT = "the reply was cut short", "the endpoint's answer"
BAD: dict[str, tuple[Reply, str, int, str]] = {
    # the reply, and what it comes to: a type of failure, calls, the message
    "HTML": (Reply(b"<html>Sign in</html>", headers={"Content-Type": "text/html"}), "reply", 2, "not JSON: <html>Sign"),
    "nothing": (Reply(b""), "reply", 2, "the reply is empty"),
    "a list": (Reply([]), "reply", 2, f"{NOT} is not a JSON object"),
    "no choices": (Reply({"choices": []}), "reply", 2, f"{NOT} has no choices"),
    "an error": (Reply({"error": {"message": "so sorry"}}), "reply", 2, "so sorry"),
    "half of it": (Reply(json.dumps(chat()).encode()[:60]), "cut", 2, f"{CUT}: not whole JSON"),
    "half the body": (Reply(chat(), promise=5000), "cut", 2, CUT),
    "no gzip": (Reply(chat(), headers={"Content-Encoding": "gzip"}), "cut", 2, CUT),
    "a drip": (Reply(chat(), drip=0.1), "timeout", 2, "no whole answer within 3 s"),
    "never": (Reply(hang=True), "timeout", 2, "no whole answer within 3 s"),
}
GOOD: dict[str, tuple[list[Reply], str]] = {
    # replies, one after another, that come to an answer
    "gzip": ([Reply(gzip.compress(json.dumps(chat()).encode()), headers={"Content-Encoding": "gzip"})], "ok"),
    "odd": ([says(ODD)], "a\ufffdb\x00c\x1b[31md\u2028e\ufffd😀f\x7fg"),
    "bare": ([Reply({"choices": [{"message": {"content": "ok"}}]})], "ok"),
    "reset once": ([Reply(reset=True), says()], "ok"),
    "closed once": ([Reply(close=True), says()], "ok"),
}


def bad_days(way: str, here: Path) -> tuple[CompletedProcess[bytes], Endpoint, Path]:
    seen: Counter[str] = Counter()

    def answer(call: Call) -> Reply:
        seen[call.prompt] += 1
        if call.prompt in GOOD:
            replies, _ = GOOD[call.prompt]
            return replies[min(seen[call.prompt], len(replies)) - 1]
        return BAD[call.prompt][0]

    with Endpoint(answer) as endpoint:
        words = ("-j20", "--timeout", "3", "-e", here / "errors", "-d", here / "done")
        return ask(way, endpoint, *words, stdin=records(*GOOD, *BAD)), endpoint, here


SLOW |= {f"bad {way}": partial(bad_days, way) for way in WAYS}


@pytest.mark.parametrize("way", WAYS)
def test_bad_days(way: str, slow: Slow) -> None:
    got, endpoint, here = slow(f"bad {way}")
    assert got.returncode == 1
    assert b"Traceback" not in got.stderr
    assert b"bug" not in got.stderr
    found = failures(here / "errors")
    assert {name: kind for name, (kind, _) in found.items()} == {name: kind for name, (_, kind, _, _) in BAD.items()}
    for name, (_, _, _, told) in BAD.items():
        assert told in found[name][1]
    calls = Counter(call.prompt for call in endpoint.calls)
    assert calls == {name: len(replies) for name, (replies, _) in GOOD.items()} | {n: bad[2] for n, bad in BAD.items()}
    for data in (got.stdout, (here / "done").read_bytes(), (here / "errors").read_bytes()):
        assert [json.loads(line) for line in data.splitlines()] == [orjson.loads(line) for line in data.splitlines()]
        if shutil.which("jq"):
            assert subprocess.run(["jq", "-e", "."], input=data, capture_output=True, check=False).returncode == 0
    assert {line["q"]: line["output"] for line in lines(got.stdout)} == {name: said for name, (_, said) in GOOD.items()}
    assert got.stderr.count(b"\x1b") == 0


def test_odd_text_within_an_answer_of_a_schema() -> None:
    with Endpoint(says(json.dumps({"a": ODD}))) as endpoint:
        got = ask("plain", endpoint, "-S", "a")
    assert orjson.loads(got.stdout)["output"] == {"a": GOOD["odd"][1]}
    assert json.loads(got.stdout) == orjson.loads(got.stdout)


def slot_is_free(_: Path) -> Ran:
    with Endpoint(lambda call: Reply(hang=True) if call.prompt == "never" else says()) as endpoint:
        return ask("plain", endpoint, "-j1", "--timeout", "2", stdin=records("never", "a", "b", "c")), endpoint


SLOW["slot"] = slot_is_free


def test_the_slot_is_free_while_a_record_waits_for_its_second_try(slow: Slow) -> None:
    got, endpoint = slow("slot")
    assert (got.returncode, len(got.stdout.splitlines())) == (1, 3)
    assert [call.prompt for call in endpoint.calls] == ["never", "a", "b", "c", "never"]


# -- whom they never reach ----------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_redirects_are_not_followed(way: str, tmp_path: Path) -> None:
    codes = ("301", "302", "303", "307", "308")
    with Endpoint(says()) as elsewhere:
        to = {"Location": f"{elsewhere.url}/chat/completions"}
        with Endpoint(lambda call: Reply(b"", int(call.prompt), to)) as endpoint:
            got = ask(way, endpoint, "-e", tmp_path / "errors", stdin=records(*codes))
    assert (got.returncode, elsewhere.calls, len(endpoint.calls)) == (1, [], len(codes))
    for code in codes:
        assert (
            failures(tmp_path / "errors")[code][1]
            == f"the endpoint redirects to {to['Location']}, which is not followed"
        )


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of 127.0.0.1, signed by nobody that anybody knows."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl")
    file = tmp_path_factory.mktemp("tls") / "pem"
    words = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(["openssl", *words.split(), "-keyout", file, "-out", f"{file}.crt"], check=True, capture_output=True)
    with file.open("ab") as both_in_one:
        both_in_one.write(Path(f"{file}.crt").read_bytes())
    return file


@pytest.mark.parametrize("way", ["plain", "azure"])
def test_certificates(way: str, certificate: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with Endpoint(says(), tls=tls) as endpoint:
        got = ask(way, endpoint, stdin=records(*"abcdefgh"))
        told, summary = got.stderr.decode().splitlines()
        assert (got.returncode, got.stdout, endpoint.calls) == (2, b"", [])
        assert f"cannot trust 127.0.0.1:{endpoint.port}: " in told
        assert "SSL_CERT_FILE" in told
        assert "unasked 8" in summary
        trusted = ask(way, endpoint, SSL_CERT_FILE=f"{certificate}.crt")
        assert (trusted.returncode, len(endpoint.calls)) == (0, 1)
        name = {"OPENAI_BASE_URL": f"https://localhost:{endpoint.port}/v1", "OPENAI_API_TYPE": ""}
        other = ask("plain", endpoint, **name, SSL_CERT_FILE=f"{certificate}.crt")
        assert (other.returncode, len(endpoint.calls)) == (2, 1)


# -- the key is told to nobody ------------------------------------------------------------------

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
