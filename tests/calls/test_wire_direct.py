"""Our own session: a plain endpoint hears from it what it would hear from the openai package."""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from unittest.mock import patch

import httpx2
import openai
import pytest
import yarl
from endpoint import Call, Endpoint, Reply, chat, says
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tool import BIN, environment, run
from ways import PROMPT, azure, records, root

from llmstream.calls import wire, wire_direct
from llmstream.shell.messages import Stop

Slow = Callable[[str], Any]
SLOW: dict[str, Callable[[Path], Any]] = {}


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
    "OPENAI_API_KEY": "wire_account",
    "OPENAI_BASE_URL": "wire_account",
    "OPENAI_API_TYPE": "wire_account",
    "OPENAI_API_VERSION": "wire_account; Azure goes through the package",
    "AZURE_OPENAI_ENDPOINT": "wire_account; Azure goes through the package",
    "AZURE_OPENAI_API_KEY": "wire_account; Azure goes through the package",
    "AZURE_OPENAI_AD_TOKEN": "wire_account; Azure goes through the package",
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
    "SSL_CERT_DIR": "wire_direct._certificates",
    "SSL_CERT_FILE": "wire_direct._certificates",
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
                f"{place} reads {name}: is its meaning kept? wire_direct.target has to reproduce it, or to return None"
            )
    assert [name for name in READ if name not in found] == [], "not read any more"
    for name, why in READ.items():
        if name.startswith("OPENAI_"):
            assert (wire_direct.target(HERE, {name: "x"}) is None) == why.startswith("not understood"), name


def test_what_is_not_understood_goes_through_the_package() -> None:
    assert wire_direct.target(HERE, {"OPENAI_NEW_THING": ""}) is None
    assert wire_direct.target(HERE, {"OPENAI_MODEL": "read by many programs, and not by the package"}) is not None
    for header in ("content-type: multipart/form-data", "Host:h", "Cookie: a=b", "TE: x", "Expect: 100-continue"):
        assert wire_direct.target(HERE, {"OPENAI_CUSTOM_HEADERS": f"a: b\n {header}"}) is None, header


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
    except (Exception, Stop) as error:  # noqa: BLE001  the package lets pass what its parts raise
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
        assert isinstance(ours, (Exception, Stop))
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
    base = wire_direct._base(url)
    assert base
    assert as_aiohttp_asks(f"{base}chat/completions") == as_the_package_asks(url)


@settings(max_examples=300, deadline=None)
@given(URL | joined(URL, WORD | FOREIGN))
def test_a_url_is_understood_or_left_to_the_package(url: str) -> None:
    if base := wire_direct._base(url):
        assert as_aiohttp_asks(f"{base}chat/completions") == as_the_package_asks(url)


def test_a_url_that_the_package_refuses() -> None:
    with pytest.raises(Stop, match="not a URL"):
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
        if not wire_direct._has_proxy(url):
            with httpx2.Client(verify=False) as http:
                assert http._transport_for_url(httpx2.URL(url)) is http._transport


def test_a_host_that_needs_no_proxy_is_asked_directly() -> None:
    with patch.dict(os.environ, environment(HTTP_PROXY="http://p", NO_PROXY="localhost, .corp.example,10.0.0.1")):
        assert not any(
            map(wire_direct._has_proxy, ["http://localhost:1/v1", "http://llm.corp.example/v1", "http://10.0.0.1"])
        )
        assert wire_direct._has_proxy("http://corp.example/v1")


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
