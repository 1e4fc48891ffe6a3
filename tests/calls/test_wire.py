"""One HTTP call: which bytes arrive, whom they never reach, and what becomes of a bad reply."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
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
from importlib.util import find_spec
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from unittest.mock import patch

import httpx2
import openai
import orjson
import pytest
import yarl
from endpoint import Call, Endpoint, Reply, chat, error, says
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tool import BIN, environment, jsonl, lines, run, start

from llmstream.calls import wire

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
    "a variable that nobody here knows": (
        "/v1/chat/completions",
        {"OPENAI_BASE_URL": "ROOT/v1", "OPENAI_NEW_THING": "1", "OPENAI_ORG_ID": ""},
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
INTRODUCTION = re.compile(r"(OpenAI|AsyncOpenAI|AsyncAzureOpenAI)/Python [\d.]+|llmstream/[\d.]+")


def heard(call: Call, endpoint: Endpoint) -> tuple[Any, ...]:
    """What an endpoint hears of a call, but for what only we or only the package say, and who says it."""
    told = {name: value for name, value in call.headers.items() if not name.startswith(("x-stainless-", *OURS))}
    told["host"] = told["host"].replace(str(endpoint.port), "PORT")
    told["user-agent"] = INTRODUCTION.sub("AGENT", told.get("user-agent", "none"))
    return call.method, call.path, call.body and call.json, told


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


# -- the environment of the openai package ------------------------------------------------------

READ = {
    # every variable that it reads, and why it means here what it means there
    "OPENAI_API_KEY": "wire.account",
    "OPENAI_BASE_URL": "wire.account",
    "OPENAI_API_TYPE": "wire.account",
    "OPENAI_API_VERSION": "wire.account; Azure goes through the package",
    "AZURE_OPENAI_ENDPOINT": "wire.account; Azure goes through the package",
    "AZURE_OPENAI_API_KEY": "wire.account; Azure goes through the package",
    "AZURE_OPENAI_AD_TOKEN": "wire.account; Azure goes through the package",
    "OPENAI_ORG_ID": "a header",
    "OPENAI_PROJECT_ID": "a header",
    "OPENAI_CUSTOM_HEADERS": "headers",
    "OPENAI_ADMIN_KEY": "no part of a call to a model",
    "OPENAI_WEBHOOK_SECRET": "no part of a call to a model",
    "OPENAI_LOG": "not understood: the call goes through the package",
    "AWS_BEARER_TOKEN_BEDROCK": "of a client that a program has to name",
    "AWS_BEDROCK_BASE_URL": "of a client that a program has to name",
    "AWS_DEFAULT_REGION": "of a client that a program has to name",
    "AWS_REGION": "of a client that a program has to name",
    "GOOGLE_CLOUD_LOCATION": "of a client that a program has to name",
    "GOOGLE_CLOUD_PROJECT": "of a client that a program has to name",
    "DEFER_PYDANTIC_BUILD": "when the package builds its models, not what it sends",
    "SSL_CERT_DIR": "wire._certificates",
    "SSL_CERT_FILE": "wire._certificates",
}
HERE = wire.Account("http://h/v1", "k")


def read_by(package: str) -> Iterator[tuple[str, str]]:
    """The environment variables that a package reads, and where; for a read without a name, its words."""
    origin = find_spec(package).origin  # type: ignore[union-attr]
    folder = Path(str(origin)).parent
    for path in folder.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for found in re.finditer(r"\b_?os\.(?:environb?|getenvb?)\b|\bos import .*(?:environ|getenv)", text):
            name = re.match(r"_?os\.(?:environ\.get\(|environ\[|getenv\()\s*[\"'](\w+)[\"']", text[found.start() :])
            yield name[1] if name else found[0], str(path.relative_to(folder.parent))


def test_no_variable_of_the_package_is_overlooked() -> None:
    found = {name: place for package in ("openai", "httpx2", "httpcore2") for name, place in read_by(package)}
    for name, place in found.items():
        if name not in READ:
            pytest.fail(
                f"{place} reads {name}: is its meaning kept? wire._plain has to reproduce it, or to return None"
            )
    assert [name for name in READ if name not in found] == [], "not read any more"
    for name, why in READ.items():
        if name.startswith("OPENAI_"):
            assert (wire._plain(HERE, {name: "x"}) is None) == why.startswith("not understood"), name


def test_what_is_not_understood_goes_through_the_package() -> None:
    assert wire._plain(HERE, {"OPENAI_NEW_THING": ""}) is None
    assert wire._plain(HERE, {"OPENAI_MODEL": "read by many programs, and not by the package"}) is not None
    for header in ("content-type: multipart/form-data", "Host:h", "Cookie: a=b", "TE: x", "Expect: 100-continue"):
        assert wire._plain(HERE, {"OPENAI_CUSTOM_HEADERS": f"a: b\n {header}"}) is None, header


def mostly(usual: st.SearchStrategy[str], odd: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.integers(1, 12).flatmap(lambda n: odd if n == 7 else usual)


def joined(*parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map("".join)


WORD = st.text("aZ0-_.:;,=/\"'%{}", max_size=6)
BLANKS = st.sampled_from(["", " ", "\t", "  "])
FOREIGN = st.sampled_from(["\x01", "\x7f", "\r", "é", "\u2028", "\x85", "a  b", "a\tb", "\udcff"])
VALUE = mostly(WORD, joined(BLANKS, WORD | FOREIGN, BLANKS))
NAME = st.sampled_from(
    ["Authorization", "authorization", "AUTHORIZATION", "OpenAI-Organization", "openai-organization", "OPENAI-PROJECT",
     "OpenAI-Project", "Accept", "accept", "User-Agent", "user-agent", "X-One", "x-one", "Idempotency-Key",
     "X-Stainless-Lang", "api-key"]
)  # fmt: skip
OBEYED = st.sampled_from(["Cookie", "Content-Type", "Content-Length", "Accept-Encoding", "Host", "Connection"])
LINE = joined(BLANKS, mostly(NAME, OBEYED | WORD | FOREIGN), BLANKS, mostly(st.just(":"), st.just("")), BLANKS, VALUE)
LINES = st.builds(str.join, st.sampled_from(["\n", "\n", "\r\n", "\n\n"]), st.lists(LINE, max_size=5))
PART = st.sampled_from(["/", "//", "/v1", "/V1", "/a.b", "/a:b@c;d=e", "/~$&'()*+,!", "/..."])
ODD_PART = st.sampled_from(["/.", "/..", "/%2f", "/%7E", "/%zz", "/é", "/[|]"])
PATH = st.lists(mostly(PART, ODD_PART), max_size=4).map("".join)
ROOT = st.sampled_from(["http://127.0.0.1:PORT", "http://LocalHost:PORT", "HTTP://localhost:PORT", "http://127.1:PORT"])
ODD_ENVIRONMENTS = st.fixed_dictionaries(
    {"OPENAI_BASE_URL": joined(ROOT, PATH)},
    optional={
        "OPENAI_ORG_ID": VALUE,
        "OPENAI_PROJECT_ID": VALUE,
        "OPENAI_CUSTOM_HEADERS": LINES,
        "OPENAI_ADMIN_KEY": VALUE,
        "OPENAI_WEBHOOK_SECRET": VALUE,
        "OPENAI_MODEL": VALUE,
    },
)


def given_headers(*lines: str, path: str = "/v1", **more: str) -> dict[str, str]:
    return {"OPENAI_BASE_URL": f"http://127.0.0.1:PORT{path}", "OPENAI_CUSTOM_HEADERS": "\n".join(lines), **more}


async def as_we_call() -> None:
    way = wire.connect(wire.account(None, None, os.environ), 5)
    try:
        assert isinstance(await way.post(b'{"model":"sim","messages":[]}', "the-key-of-this-call"), wire.Sent)
        assert isinstance(await way.get("models"), wire.Sent)
    finally:
        await way.close()


async def as_the_package_calls() -> None:
    async with openai.AsyncOpenAI(max_retries=0) as client:
        own = {"Idempotency-Key": "the-key-of-this-call"}
        await client.chat.completions.create(model="sim", messages=[], extra_headers=own)
        await client.models.list()


def what_is_heard(ask: Callable[[], Any], endpoint: Endpoint) -> list[Any] | BaseException:
    endpoint.calls.clear()
    try:
        asyncio.run(ask())
    except (Exception, wire.Stop) as error:  # noqa: BLE001  the package lets pass what its parts raise
        return error
    return [heard(call, endpoint) for call in endpoint.calls]


@pytest.fixture(scope="module")
def listens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Endpoint, dict[str, str]]]:
    """An endpoint, and an environment without surprises to call it from; certificates take long to load."""
    with Endpoint(Reply(chat() | {"data": []})) as endpoint:
        yield endpoint, environment(SSL_CERT_FILE="", SSL_CERT_DIR=str(tmp_path_factory.mktemp("none")))


@settings(max_examples=60, deadline=None)
@given(ODD_ENVIRONMENTS)
@example(given_headers("openai-organization: a", "OpenAI-Project: b"))  # without OPENAI_ORG_ID the first is lost
@example(given_headers("openai-organization: a", OPENAI_ORG_ID="b", OPENAI_PROJECT_ID=""))
@example(given_headers("authorization: a", "Authorization: b"))
@example(given_headers("Accept: a", "accept: b", "Accept: c", "user-agent: d", "X-One: e:f", "X-One : g", "h"))
@example(given_headers("Host: a", "Cookie: b=c", "Accept-Encoding: gzip"))
@example(given_headers("x-one: a ", "x-two:\tb\tc\r", "x-three: é"))
@example(given_headers(OPENAI_ORG_ID=" a"))
@example(given_headers(OPENAI_PROJECT_ID="a\t"))
@example(given_headers(path="//v1//"))
@example(given_headers(path="/a/../%2f/."))
def test_any_environment_means_what_it_means_to_the_package(
    listens: tuple[Endpoint, dict[str, str]], odd: dict[str, str]
) -> None:
    endpoint, ordinary = listens
    given = {name: value.replace("PORT", str(endpoint.port)) for name, value in odd.items()}
    with patch.dict(os.environ, ordinary | given, clear=True):
        ours, theirs = what_is_heard(as_we_call, endpoint), what_is_heard(as_the_package_calls, endpoint)
    if isinstance(theirs, Exception):  # what it cannot send, we do not
        assert isinstance(ours, (Exception, wire.Stop))
    elif not re.search(r"[^ -~\t\n\r]", "".join(given.values())):  # it would send control characters
        assert ours == theirs


PLAIN = [
    "https://api.openai.com/v1",
    "https://api.openai.com/v1/",
    "HTTPS://API.OpenAI.com:443/v1",
    "https://generativelanguage.googleapis.com/v1beta/openai/",
    "https://openrouter.ai/api/v1",
    "https://api.cloudflare.com/client/v4/accounts/0a1b/ai/v1",
    "https://xn--mller-kva.example/~me/v1;a=b,c:d@e",
    "http://localhost:8000",
    "http://llama_server:8080//v1//",
    "http://127.0.0.1:80/v1",
    "http://[::1]:8000/v1",
]
HOST = st.sampled_from(["h", "H.Example", "a_b", "-a", "1a", "1.2.3.4a", "1.2.3.4", "0.0.0.0", "[::1]"])
ODD_HOST = st.sampled_from(
    ["müller.example", "1.2.3.04", "1.2.3.256", "1.2", "h.", "[::A]", "[0:0::1]", "[::ffff:1.2.3.4]", "[1.2.3.4]",
     "[::1%25lo]", "a%2eb", "a,b", "me:secret@h"]
)  # fmt: skip
PORT = mostly(st.sampled_from(["", ":80", ":443", ":8000", ":65535"]), st.sampled_from([":", ":0", ":080", ":٣", ":x"]))
URL = joined(st.sampled_from(["http://", "https://", "Http://", "HTTPS://"]), HOST | ODD_HOST, PORT, PATH)


def as_aiohttp_asks(url: str) -> tuple[Any, ...]:
    parsed = yarl.URL(url)
    return parsed.scheme, parsed.raw_host, parsed.port, parsed.host_port_subcomponent, parsed.raw_path_qs


def as_the_package_asks(url: str) -> tuple[Any, ...]:
    asked = []
    with httpx2.Client(transport=httpx2.MockTransport(lambda got: asked.append(got) or httpx2.Response(200))) as http:
        openai.OpenAI(base_url=url, api_key="k", http_client=http).post("chat/completions", cast_to=str)
    got, usual = asked[0], {"http": 80, "https": 443}
    host, path = got.url.raw_host.decode(), got.url.raw_path.decode()
    return got.url.scheme, host, got.url.port or usual[got.url.scheme], got.headers["host"], path


@pytest.mark.parametrize("url", PLAIN)
def test_an_ordinary_url_is_understood(url: str) -> None:
    base = wire._base(url)
    assert base
    assert as_aiohttp_asks(f"{base}chat/completions") == as_the_package_asks(url)


@settings(max_examples=300, deadline=None)
@given(URL | joined(URL, WORD | FOREIGN))
def test_a_url_is_understood_or_left_to_the_package(url: str) -> None:
    if base := wire._base(url):
        assert as_aiohttp_asks(f"{base}chat/completions") == as_the_package_asks(url)


def test_a_url_that_the_package_refuses() -> None:
    with pytest.raises(wire.Stop, match="not a URL"):
        wire.connect(wire.Account("http://1.2.3.256/v1", "k"), 1)


SPARED = st.sampled_from(["", " ", "*", "api.example.com", ".api.example.com", "example.com", ".example.com", "*.com",
                          "ample.com", "COM", "com", "api.example.com:80", "10.0.0.1", "0.1", "10.0.0.0/8", "localhost",
                          "http://api.example.com", "[::1]", "::1", "::/8", "x"])  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["http://api.example.com/v1", "http://example.com", "http://10.0.0.1:8000", "http://[::1]/"]),
    st.lists(SPARED, max_size=4).map(",".join),
    st.sampled_from(["http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"]),
)
def test_whom_the_package_asks_through_a_proxy_we_do_not_ask_without(url: str, spared: str, name: str) -> None:
    with patch.dict(os.environ, environment(**{name: "http://proxy.invalid", "no_proxy": spared}), clear=True):
        if not wire._proxied(url):
            with httpx2.Client(verify=False) as http:
                assert http._transport_for_url(httpx2.URL(url)) is http._transport


def test_a_host_that_needs_no_proxy_is_asked_directly() -> None:
    with patch.dict(os.environ, environment(HTTP_PROXY="http://p", NO_PROXY="localhost, .corp.example,10.0.0.1")):
        assert not any(map(wire._proxied, ["http://localhost:1/v1", "http://llm.corp.example/v1", "http://10.0.0.1"]))
        assert wire._proxied("http://corp.example/v1")


def seen(context: Callable[[], ssl.SSLContext]) -> Any:
    """Whom a context trusts, and how."""
    try:
        made = context()
    except OSError as error:
        return type(error), error.errno
    settings = made.verify_mode, made.verify_flags, made.check_hostname, made.options, made.minimum_version
    return settings, made.cert_store_stats(), sorted(map(str, made.get_ca_certs()))


NAMED = {
    "nothing": {},
    "a file": {"SSL_CERT_FILE": "FILE"},
    "a folder": {"SSL_CERT_DIR": "FOLDER"},
    "both": {"SSL_CERT_FILE": "FILE", "SSL_CERT_DIR": "FOLDER"},
    "no file": {"SSL_CERT_FILE": "nosuch"},
    "no folder": {"SSL_CERT_DIR": "nosuch"},
    "no certificate": {"SSL_CERT_FILE": "FOLDER", "SSL_CERT_DIR": "FOLDER"},
}


@pytest.mark.parametrize("what", NAMED)
def test_whom_the_package_trusts(what: str, certificate: Path, tmp_path: Path) -> None:
    swap = {"FILE": f"{certificate}.crt", "FOLDER": str(tmp_path)}
    named = {name: swap.get(value, value) for name, value in NAMED[what].items()}
    with patch.dict(os.environ, environment(**{"SSL_CERT_FILE": "", "SSL_CERT_DIR": ""} | named)):
        assert seen(wire._certificates) == seen(httpx2.create_ssl_context)


@pytest.mark.parametrize("file", [True, False])
@pytest.mark.parametrize("folder", ["none", "empty", "rehashed"])
def test_whom_the_package_trusts_on_another_machine(
    file: bool, folder: str, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if folder != "none":
        (tmp_path / "certs").mkdir()
    if folder == "rehashed":
        (tmp_path / "certs/0a1b2c3d.0").write_bytes(certificate.read_bytes())
    usual = ssl.get_default_verify_paths()._replace(
        openssl_cafile=f"{certificate}.crt" if file else "nosuch", openssl_capath=str(tmp_path / "certs")
    )
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: usual)
    with patch.dict(os.environ, environment(SSL_CERT_FILE="", SSL_CERT_DIR="")):
        assert seen(wire._certificates) == seen(httpx2.create_ssl_context)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_plain_endpoint_needs_no_package(scheme: str, certificate: Path) -> None:
    """Half a second, and the memory of as much again."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    words = [sys.executable, "-X", "importtime", str(BIN / "llm-map"), PROMPT]
    with Endpoint(says(), tls=tls if scheme == "https" else None) as endpoint:
        env = environment(OPENAI_BASE_URL=endpoint.url, OPENAI_ORG_ID="o", OPENAI_CUSTOM_HEADERS="a: b")
        done = subprocess.run(
            words, env=env, input=records("hi").encode(), capture_output=True, timeout=60, check=False
        )
    assert done.returncode == (2 if scheme == "https" else 0)  # nobody trusts it; whom to trust was looked up
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.decode().splitlines()}
    assert "aiohttp" in loaded
    assert not loaded & {"openai", "httpx2", "httpcore2", "pydantic", "anyio"}


IMPORTED = """
import ssl
from llmstream import wire
wire.load(wire.Account("https://example.com/v1", "key"))
from aiohttp import connector
context = ssl.create_default_context(cafile={file!r})
context.set_default_verify_paths()
print(connector._SSL_CONTEXT_VERIFIED.verify_mode.name, len(connector._SSL_CONTEXT_VERIFIED.get_ca_certs()))
print(len(context.get_ca_certs()))
"""


def test_certificates_that_nobody_uses_are_not_read(certificate: Path) -> None:
    """While aiohttp is imported: whom it would trust by itself is nobody. Afterwards they are read as ever."""
    script = IMPORTED.format(file=f"{certificate}.crt")
    env = environment(SSL_CERT_FILE=f"{certificate}.crt")
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["CERT_REQUIRED", "0", "1"]


async def timed(deadline: wire._Deadline, begin: float, end: float) -> tuple[str, float]:
    """How a call of so many seconds ended, and when."""
    await asyncio.sleep(begin)
    began = time.monotonic()
    try:
        with deadline:
            await asyncio.sleep(end)
    except TimeoutError:
        return "late", time.monotonic() - began
    return "done", time.monotonic() - began


async def many_calls(deadline: wire._Deadline) -> list[Any]:
    """Calls that begin together and apart; every third is in time, and the last is cancelled."""
    tasks = [asyncio.ensure_future(timed(deadline, n % 10 * 0.05, 9 if n % 3 else 0.1)) for n in range(62)]
    await asyncio.sleep(0.2)
    tasks[-1].cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_one_timer_for_every_deadline() -> None:
    async def main() -> list[list[Any]]:
        deadline = wire._Deadline(0.4)
        return [await many_calls(deadline), await many_calls(deadline)]  # the timer starts anew

    for *found, cancelled in asyncio.run(main()):
        assert isinstance(cancelled, asyncio.CancelledError)
        assert [how for how, _ in found] == ["late" if n % 3 else "done" for n in range(61)]
        took = sorted(seconds for how, seconds in found if how == "late")
        assert took[0] >= 0.39
        assert took[len(took) // 2] < 1  # of a busy machine


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
