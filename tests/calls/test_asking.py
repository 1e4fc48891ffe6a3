"""Whatever is wrong before the first call: no call, one line that says what to fix, status 2."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from endpoint import Endpoint, Reply, says
from tool import jsonl, run

RECORDS = jsonl({"q": "one"}, {"q": "two"})
AZURE = ["AZURE_OPENAI_API_KEY=azure-key-1", "AZURE_OPENAI_ENDPOINT=https://x.invalid"]


def make_files(here: Path) -> None:
    """What a wrong command line may name."""
    for name, content in {
        "prompt": b"{{ q }}",
        "broken": b"{{ q",
        "latin1": b"\xe9t\xe9",
        "schema.json": b'{"type": "object"',
        "empty": b"",
        "open": b"key-that-others-can-read",
        "in": RECORDS.encode(),
    }.items():
        (here / name).write_bytes(content)
        (here / name).chmod(0o644 if name == "open" else 0o600)
    (here / "directory").mkdir()
    (here / "link").symlink_to("answers")


# What is said, the words behind llm-map; an environment of its own in front of them where one matters.
WRONG: dict[str, tuple[str, list[str]]] = {
    # the prompt
    "no prompt": ("no PROMPT: say what to ask, or -f PROMPTFILE", []),
    "a file as prompt": ("-f prompt reads the prompt from it", ["prompt"]),
    "no such prompt file": ("cannot read prompt file nosuch: No such file", ["-f", "nosuch"]),
    "a directory as prompt file": ("cannot read prompt file directory: Is a directory", ["-f", "directory"]),
    "a prompt file in Latin-1": ("cannot read prompt file latin1: it is not UTF-8", ["-f", "latin1"]),
    "an open variable": ("cannot use the template: unexpected end of template", ["-f", "broken"]),
    "a line of it": ("(line 2)", ["one\n{% if %}"]),
    "an unknown tag": ("unknown tag 'nope'", ["{% nope %}"]),
    "an unknown filter": ("No filter named 'nope'", ["{{ q | nope }}"]),
    # the system message
    "a wrong system message": ("cannot use the template", ["-s", "{{ q", "hi"]),
    "no such system file": ("cannot read system message nosuch: No such file", ["-s", "@nosuch", "hi"]),
    # the schema
    "an unknown type": ("cannot use the schema: unknown type 'number'", ["-S", "age number", "hi"]),
    "an unclosed schema": ("cannot use the schema: ", ["-S", "people [{name", "hi"]),
    "an empty schema": ("cannot use -S", ["-S", "", "hi"]),
    "no such schema file": ("cannot read schema nosuch: No such file", ["-S", "@nosuch", "hi"]),
    "half a JSON Schema": ("cannot use the schema: ", ["-S", "@schema.json", "hi"]),
    "a type that JSON Schema lacks": ("cannot use the schema: ", ["-S", '{"type": "text"}', "hi"]),
    "the same twice": ("cannot use -S and -P response_format together", ["-S", "a", "-P", "response_format={}", "hi"]),
    # options that do not go together
    "share alone": ("cannot use --share alone: it needs -d FILE", ["--share", "hi"]),
    "offline alone": ("cannot use --offline alone: it needs -d FILE", ["--offline", "hi"]),
    "merge without a schema": ("-o . alone: only an object can be merged, so it needs -S", ["-o", ".", "hi"]),
    "one place for two": ("cannot use -o a.b and -M a.b: one is within the other", ["-o", "a.b", "-M", "a.b", "hi"]),
    "a place in another": ("cannot use -o a.b and -M a: one is within the other", ["-o", "a.b", "-M", "a", "hi"]),
    "meta in an answer": ("cannot use -o a and -M a.b: one is within the other", ["-o", "a", "-M", "a.b", "hi"]),
    "meta and no record": ("cannot use -r and -M together", ["-r", "-M", "a", "hi"]),
    "one file for two": ("cannot use answers for both -d and -e", ["-d", "answers", "-e", "answers", "hi"]),
    "one file by a link": ("for both -d and -e", ["-d", "answers", "-e", "link", "hi"]),
    "a link as done-file": ("cannot open done-file link: it is a link", ["-d", "link", "hi"]),
    "the input as done-file": ("cannot use in for both -d and the input", ["-d", "in", "hi", "in"]),
    "the input as errors file": ("cannot use in for both -e and the input", ["-e", "in", "hi", "in"]),
    # the input
    "no such input": ("cannot read nosuch: No such file", ["hi", "in", "nosuch"]),
    "a directory as input": ("cannot read directory: it is a directory", ["hi", "directory"]),
    # the key
    "no such key file": ("cannot read key file nosuch: No such file", ["--key-file", "nosuch", "hi"]),
    "an open key file": ("others can read it; chmod 600 open", ["--key-file", "open", "hi"]),
    "an empty key file": ("cannot use key file empty: it is empty", ["--key-file", "empty", "hi"]),
    "a key file in Latin-1": ("latin1: it holds a character that no key has", ["--key-file", "latin1", "hi"]),
    "no key": ("set OPENAI_API_KEY or give --key-file", ["OPENAI_BASE_URL=", "OPENAI_API_KEY=", "hi"]),
    "a key of blanks": ("set OPENAI_API_KEY or give", ["OPENAI_BASE_URL=", "OPENAI_API_KEY= \n", "hi"]),
    "a foreign key": ("cannot use the key: it holds a character", ["OPENAI_API_KEY=sk-ключ", "hi"]),
    "two keys in one": ("cannot use the key: it holds a character", ["OPENAI_API_KEY=sk-1 sk-2", "hi"]),
    # the endpoint
    "no scheme": ("must begin with http:// or https://", ["-u", "127.0.0.1:8000/v1", "hi"]),
    "another scheme": ("must begin with http:// or https://", ["-u", "ftp://127.0.0.1/v1", "hi"]),
    "no host": ("must begin with http:// or https://", ["-u", "http:///v1", "hi"]),
    "a wrong port": ("http://h:99999/v1: not a URL", ["-u", "http://h:99999/v1", "hi"]),
    "half an address": ("not a URL", ["-u", "http://[::1/v1", "hi"]),
    "a line break behind it": ("not a URL", ["-u", "http://127.0.0.1:1/v1\n", "hi"]),
    "a host with a hole": ("not a URL", ["-u", "http://a..b/v1", "hi"]),
    "too much of it": ("leave /chat/completions off", ["-u", "http://127.0.0.1:1/v1/chat/completions/", "hi"]),
    "a query behind it": ("leave off what comes after the path", ["-u", "http://127.0.0.1:1/v1?a=b", "hi"]),
    "an unknown kind": ("OPENAI_API_TYPE=claude: openai or azure", ["OPENAI_API_TYPE=claude", "hi"]),
    # Azure
    "both kinds": (
        "both OpenAI's and Azure's variables are set: set OPENAI_API_TYPE",
        [*AZURE, "OPENAI_BASE_URL=", "hi"],
    ),
    "no Azure endpoint": ("set AZURE_OPENAI_ENDPOINT", ["OPENAI_API_TYPE=azure", "OPENAI_BASE_URL=", "hi"]),
    "no Azure key": (
        "set AZURE_OPENAI_API_KEY or give --key-file",
        ["OPENAI_API_TYPE=azure", "AZURE_OPENAI_ENDPOINT=https://x.invalid", "hi"],
    ),
    "no Azure version": ("set OPENAI_API_VERSION", ["OPENAI_API_TYPE=azure", *AZURE, "hi"]),
    "no Azure model": (
        "no model: name one with -m",
        ["OPENAI_API_TYPE=azure", *AZURE, "OPENAI_API_VERSION=1", "LLMSTREAM_MODEL=", "hi"],
    ),
    # what the environment adds to a call
    "a header with a line break": ("cannot send the header OpenAI-Organization", ["OPENAI_ORG_ID=a\n", "{{ q }}"]),
    "a header without a name": ("cannot send the header a b", ["OPENAI_CUSTOM_HEADERS=a b: c", "{{ q }}"]),
    "a proxy that is none": ("cannot use the proxy", ["HTTP_PROXY=ftp://u:canary@h", "{{ q }}"]),
    "a SOCKS proxy": ("it needs the package socksio", ["HTTP_PROXY=socks5://127.0.0.1:1", "{{ q }}"]),
    "no such certificates": (
        "that SSL_CERT_FILE or SSL_CERT_DIR names: No such file",
        ["SSL_CERT_FILE=nosuch", "OPENAI_BASE_URL=https://127.0.0.1:1/v1", "{{ q }}"],
    ),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CompletedProcess[bytes]]:
    """All of them, a few at a time."""
    here = tmp_path_factory.mktemp("here")
    make_files(here)

    def one(words: list[str]) -> CompletedProcess[bytes]:
        variables = [word for word in words if "=" in word and word.split("=")[0].isupper()]
        env = {"OPENAI_BASE_URL": endpoint.url} | dict(word.split("=", 1) for word in variables)
        return run("llm-map", *[word for word in words if word not in variables], stdin=RECORDS, env=env, cwd=here)

    with Endpoint(says()) as endpoint, ThreadPoolExecutor(4) as pool:
        found = dict(zip(WRONG, pool.map(one, [words for _, words in WRONG.values()]), strict=True))
        assert endpoint.calls == []
    assert (here / "in").read_text() == RECORDS
    return found


@pytest.mark.parametrize("what", WRONG)
def test_wrong(what: str, outcomes: dict[str, CompletedProcess[bytes]]) -> None:
    got = outcomes[what]
    said = [line for line in got.stderr.decode().splitlines() if not line.startswith("llm-map: read ")]
    assert (got.returncode, got.stdout, len(said)) == (2, b"", 1)
    assert said[0].startswith("llm-map: ")
    assert WRONG[what][0] in said[0]
    assert "canary" not in said[0]


@pytest.mark.parametrize("url", ["http://me:canary@h:bad/v1", "ftp://me:canary@h/v1", "http://me:can@ary/@h/v1?x"])
def test_a_password_in_a_url_is_not_told(url: str) -> None:
    got = run("llm-map", "-u", url, "hi", stdin=RECORDS)
    assert got.returncode == 2
    assert b"cannot use the endpoint" in got.stderr
    assert b"ary" not in got.stderr


@pytest.mark.parametrize(
    ("reply", "status", "told"),
    [
        (Reply({"data": []}), 2, "the endpoint lists none"),
        (Reply({"data": [{"id": "a"}, {"id": "b\x1b[2J"}]}), 2, r"the endpoint serves a, b\x1b[2J"),
        (Reply(b"<html>"), 2, "the endpoint lists none"),
        (Reply({"error": {"message": "who are you"}}, 401), 2, "HTTP 401"),
        (Reply(b"down", 503), 75, "HTTP 503: down"),
        (Reply(close=True), 75, "without an answer"),
    ],
    ids=["none", "several", "not JSON", "refused", "down", "gone"],
)
def test_no_model(reply: Reply, status: int, told: str) -> None:
    with Endpoint(lambda call: reply if call.path == "/v1/models" else says()) as endpoint:
        got = run("llm-map", "{{ q }}", stdin=RECORDS, url=endpoint.url, env={"LLMSTREAM_MODEL": ""})
    assert (got.returncode, got.stdout, endpoint.asked) == (status, b"", [])
    assert told in got.stderr.decode()
    assert b"-m" in got.stderr
    assert got.stderr.count(b"\n") == 1


def test_the_only_model() -> None:
    with Endpoint(lambda call: Reply({"data": [{"id": "the-one"}]}) if call.method == "GET" else says()) as endpoint:
        got = run("llm-map", "{{ q }}", stdin=RECORDS, url=endpoint.url, env={"LLMSTREAM_MODEL": ""})
        assert b"using the model the-one" in got.stderr
        assert {call.json["model"] for call in endpoint.asked} == {"the-one"}
        assert [call.path for call in endpoint.calls].count("/v1/models") == 1
        quiet = run("llm-map", "-m", "mine", "{{ q }}", stdin=RECORDS, url=endpoint.url)
    assert (got.returncode, quiet.returncode, len(endpoint.calls)) == (0, 0, 5)
    assert endpoint.calls[-1].json["model"] == "mine"
