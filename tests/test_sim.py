"""llm-sim, driven as a user drives it: the real executable, over real sockets."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import NormalDist

import jsonschema_rs
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from llmstream import sim  # noqa: E402

LLM_SIM = [sys.executable, str(ROOT / "bin/llm-sim")]
PYTHON = [sys.executable, "-c"]
TEXT = "Hồ Chí Minh was born in Nghệ An in 1890. He lived in Paris, and came back to Hà Nội; the mood was positive."
PATIENCE = 15  # seconds that a slow machine may need


# -- helpers ----------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(*options, **popen):
    """The port of a server that lives as long as the block."""
    with subprocess.Popen([*LLM_SIM, *map(str, options)], stdout=subprocess.PIPE, text=True, **popen) as process:
        try:
            url = process.stdout.readline()
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1\n", url)
            yield int(url.split(":")[2].split("/")[0])
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def plain():
    with serving() as port:
        yield port


def run(*argv, **more):
    return shell([*LLM_SIM, *argv], stdout=subprocess.PIPE, **more)


def shell(argv, **more):
    return subprocess.run(argv, check=False, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, **more)


def body(content=TEXT, schema=None, **more):
    made = {"model": "sim", "messages": [{"role": "user", "content": content}], **more}
    if schema is not None:
        made["response_format"] = {"type": "json_schema", "json_schema": {"name": "it", "schema": schema}}
    return made


def send(port, data, method="POST", path="/v1/chat/completions", key=None, timeout=PATIENCE, headers=None):
    """Status, headers and bytes of one answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    sent = {"Authorization": "Bearer any", **({"Idempotency-Key": key} if key else {}), **(headers or {})}
    data = json.dumps(data) if isinstance(data, dict) else data
    with contextlib.closing(connection):
        connection.request(method, path, data, sent)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def content(port, data, key=None):
    status, _, found = send(port, data, key=key)
    assert status == 200, found
    return json.loads(found)["choices"][0]["message"]["content"]


def lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def eventually(check):
    until = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)


def refuses(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


def raw(path="/v1/chat/completions", data=None, head="", version="1.1"):
    payload = json.dumps(data or body()).encode()
    first = f"POST {path} HTTP/{version}\r\nhost: x\r\nAUTHORIZATION: Bearer any\r\n{head}"
    return f"{first}Content-Length: {len(payload)}\r\n\r\n".encode() + payload


def read_answer(stream):
    status = int(stream.readline().split()[1])
    headers = http.client.parse_headers(stream)
    return status, json.loads(stream.read(int(headers["Content-Length"])))


@contextlib.contextmanager
def talking(port):
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client, client.makefile("rb") as stream:
        yield client, stream


def thing(**properties):
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


# -- as a command -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["--latency", "soon"], "it wants MEAN or MEAN:P99"),
        (["--latency", "1s:1ms"], "it wants a P99 between once and 14 times MEAN"),
        (["--latency", "0:5"], "it wants a P99 between once and 14 times MEAN"),
        (["--error-rate", "2"], "it wants a share from 0 to 1"),
        (["--error-rate", "200%"], "it wants a share from 0 to 1"),
        (["--hang", "60%", "--garble", "0.5"], "together they are more than 1"),
        (["--rpm", "0"], "it wants a whole number, 1 or more"),
        (["--port", "70000"], "it wants a whole number from 0 to 65535"),
        (["--sed", "1"], "did you mean --seed?"),
    ],
)
def test_wrong_options_are_one_line_and_status_2(argv, reason):
    done = run(*argv)
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr
    assert re.fullmatch(r"llm-sim: .*\n", done.stderr)


def test_help_and_version():
    told = run("--help")
    assert told.returncode == 0
    assert all(f"--{option.long}" in told.stdout for option in sim.TABLE)
    assert run("--version").stdout == "llm-sim 0.1.0\n"


def test_the_manual_has_an_entry_for_every_option():
    page = (ROOT / "man/llm-sim.1").read_text()
    entries = re.findall(r"^\.It (?:Fl (\w) , )?Fl -([\w-]+)", page, re.MULTILINE)
    assert sorted(entries) == sorted((option.short, option.long) for option in sim.TABLE)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_stdout_that_cannot_be_written():
    with open("/dev/full", "w") as full:
        done = shell(LLM_SIM, stdout=full)
    assert (done.returncode, done.stderr) == (74, "llm-sim: cannot write stdout: No space left on device\n")
    done = shell(["sh", "-c", '"$@" >&-', "sh", *LLM_SIM])
    assert (done.returncode, done.stderr) == (74, "llm-sim: cannot write stdout: it is closed\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_dies_quietly_of_the_signal(number):
    with subprocess.Popen(LLM_SIM, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(number)
        assert process.wait(PATIENCE) == -number
        assert process.stderr.read() == b""


def test_a_port_that_is_taken(plain):
    done = run("-p", str(plain))
    assert done.returncode == 2
    assert done.stderr == f"llm-sim: cannot listen on 127.0.0.1:{plain}: Address already in use\n"


def test_a_log_that_cannot_be_opened(tmp_path):
    done = run("--log", str(tmp_path / "no" / "log"))
    assert (done.returncode, done.stdout) == (74, "")
    assert done.stderr.endswith("no/log: No such file or directory\n")


# -- COMMAND ----------------------------------------------------------------------------------


def test_command_gets_its_environment_and_gives_its_status():
    done = run("--", "sh", "-c", "echo $OPENAI_BASE_URL $OPENAI_API_KEY $LLMSTREAM_MODEL; echo no >&2; exit 7")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1 sim sim\n", done.stdout)
    assert (done.returncode, done.stderr) == (7, "no\n")
    assert run("sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM  # -- is not needed
    assert run("--", "cat", input="as it came").stdout == "as it came"


def test_command_that_cannot_be_run(tmp_path):
    done = run("--", "./nonesuch", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (127, "llm-sim: cannot run ./nonesuch: No such file or directory\n")
    (tmp_path / "script").write_text("#!/bin/sh\n")
    done = run("--", "./script", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (126, "llm-sim: cannot run ./script: Permission denied\n")


def test_command_can_call_at_once():
    call = "import os, urllib.request as u; r = u.Request(os.environ['OPENAI_BASE_URL'] + '/models')"
    call += "; r.add_header('Authorization', 'Bearer any'); print(u.urlopen(r).status)"
    assert run("--", *PYTHON, call).stdout == "200\n"


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="there is no /proc")
def test_command_inherits_nothing_of_ours():
    look = ["sh", "-c", "ls /proc/self/fd; grep SigIgn /proc/self/status"]
    alone = subprocess.run(look, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert run("--", *look).stdout == alone.stdout
    assert run("--", *PYTHON, "import os; os.wait()").stderr.endswith(
        "ChildProcessError: [Errno 10] No child processes\n"
    )
    closed = shell(["sh", "-c", '"$@" >&-', "sh", *LLM_SIM, "--", "sh", "-c", "echo x || echo closed >&2"])
    assert closed.stderr.endswith("closed\n")


def test_the_server_ends_with_command_even_by_kill_9():
    argv = [*LLM_SIM, "--hang", "1", "--", "sh", "-c", "echo $OPENAI_BASE_URL; exec sleep 60"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        port = int(re.search(r":(\d+)/", process.stdout.readline())[1])
        with talking(port) as (client, stream):
            client.sendall(raw())
            process.kill()
            assert process.wait(PATIENCE) == -signal.SIGKILL
            with contextlib.suppress(ConnectionError):
                assert stream.read() == b""
        eventually(lambda: refuses(port))
        assert process.stdout.read() == ""  # nobody holds it any more


def test_without_pidfd_the_server_ends_too(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import os\nif hasattr(os, 'pidfd_open'): del os.pidfd_open\n")
    done = run("--", "sh", "-c", "echo $OPENAI_BASE_URL", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    port = int(re.search(r":(\d+)/", done.stdout)[1])
    eventually(lambda: refuses(port))


def test_interrupting_the_group_leaves_the_server_to_command():
    code = """if True:
        import os, signal, sys, urllib.request
        def drain(*_):
            request = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/models", headers={"api-key": "any"})
            print(urllib.request.urlopen(request).status, flush=True)
            sys.exit(5)
        signal.signal(signal.SIGINT, drain)
        print("ready", flush=True)
        signal.pause()
    """
    argv = [*LLM_SIM, "--", *PYTHON, code]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.read() == "200\n"
        assert process.wait(PATIENCE) == 5


# -- HTTP -------------------------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_order():
    wanted = [f"Number {turn}." for turn in range(20)]
    with serving("--latency", "5:20") as port, talking(port) as (client, stream):
        data = b"".join(raw(data=body(text)) for text in wanted)
        for start in range(0, len(data), 777):
            client.sendall(data[start : start + 777])
        assert [read_answer(stream)[1]["choices"][0]["message"]["content"] for _ in wanted] == wanted


def test_chunked_requests(plain):
    payload = json.dumps(body("Sent in pieces.")).encode()
    pieces = b"".join(b"%x;x=y\r\n%b\r\n" % (1, payload[at : at + 1]) for at in range(len(payload)))
    head = b"POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with talking(plain) as (client, stream):
        client.sendall(head + pieces + b"0\r\nTrailer: x\r\n\r\n" + raw(data=body("Not so.")))
        assert read_answer(stream)[1]["choices"][0]["message"]["content"] == "Sent in pieces."
        assert read_answer(stream)[1]["choices"][0]["message"]["content"] == "Not so."


def test_a_client_that_waits_for_100_continue(plain):
    head, payload = raw(head="Expect: 100-continue\r\n").split(b"\r\n\r\n")
    with talking(plain) as (client, stream):
        client.sendall(head + b"\r\n\r\n")
        assert stream.readline() + stream.readline() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(payload)
        assert read_answer(stream)[0] == 200


def test_when_connections_are_closed(plain):
    for request in (raw(head="Connection: close\r\n"), raw(version="1.0")):
        with talking(plain) as (client, stream):
            client.sendall(request)
            assert read_answer(stream)[0] == 200
            assert stream.read() == b""


def test_a_client_that_closes_its_side_still_gets_its_answer():
    with serving("--latency", "100ms") as port, talking(port) as (client, stream):
        client.sendall(raw())
        client.shutdown(socket.SHUT_WR)
        assert read_answer(stream)[0] == 200


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1_0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n", 413),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000, 431),
    ],
)
def test_what_is_not_http_is_answered_and_closed(plain, request_bytes, status):
    with talking(plain) as (client, stream):
        client.sendall(request_bytes)
        assert read_answer(stream)[0] == status
        assert stream.read() == b""


@pytest.mark.parametrize(
    ("method", "path", "data", "headers", "status", "code"),
    [
        ("POST", "/v1/chat/completions", body(), {"Authorization": ""}, 401, "invalid_api_key"),
        ("POST", "/v1/chat/completions", body(), {"Authorization": "Bearer "}, 401, "invalid_api_key"),
        ("POST", "/v1/chat/completions", body(), {"Authorization": "", "api-key": "any"}, 200, None),
        ("GET", "/v1/chat/completions", "", {}, 405, "method_not_supported"),
        ("POST", "/v1/files", "", {}, 404, "unknown_url"),
        ("POST", "/v1/chat/completions", "{", {}, 400, None),
        ("POST", "/v1/chat/completions", "[]", {}, 400, None),
        ("POST", "/v1/chat/completions", '{"model":"sim"}', {}, 400, None),
        ("POST", "/v1/chat/completions", '{"messages":[{}]}', {}, 400, None),
        ("POST", "/v1/chat/completions", body(stream=True), {}, 400, "unsupported_value"),
        ("POST", "/v1/chat/completions", body(n=2), {}, 400, "unsupported_value"),
        ("POST", "/v1/chat/completions", body(max_tokens=0), {}, 400, None),
        ("POST", "/v1/chat/completions", body(model="gpt-5.4-mini"), {}, 404, "model_not_found"),
        (
            "POST",
            "/openai/deployments/other/chat/completions?api-version=1",
            body(model=None),
            {},
            404,
            "model_not_found",
        ),
        ("POST", "/openai/deployments/sim/chat/completions?api-version=1", body(model=None), {}, 200, None),
        ("GET", "/v1/models", "", {}, 200, None),
        ("GET", "/v1/models/sim", "", {}, 200, None),
        ("GET", "/v1/models/a/b", "", {}, 404, "model_not_found"),
    ],
)
def test_routes_and_refusals(plain, method, path, data, headers, status, code):
    got, _, answer = send(plain, data, method, path, headers=headers)
    assert got == status, answer
    error = json.loads(answer).get("error", {"code": None})
    assert error["code"] == code
    assert status == 200 or set(error) == {"message", "type", "param", "code"}


def test_any_model():
    with serving("--any-model") as port:
        assert json.loads(send(port, body(model="gpt-5.4-mini"))[2])["model"] == "gpt-5.4-mini"


def test_the_openai_sdk_takes_it_for_openai(plain):
    import openai

    client = openai.OpenAI(base_url=f"http://127.0.0.1:{plain}/v1", api_key="any", max_retries=0)
    answer = client.chat.completions.create(**body())
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.refusal is None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id.startswith("req_")
    assert [model.id for model in client.models.list()] == ["sim"]
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.chat.completions.create(**body(model="gpt-5.4-mini"))
    azure = openai.AzureOpenAI(azure_endpoint=f"http://127.0.0.1:{plain}", api_key="any", api_version="2024-10-21")
    assert azure.chat.completions.create(**body()).choices[0].message.content == answer.choices[0].message.content


# -- answers ----------------------------------------------------------------------------------

NODE = thing(name={"type": "string"}, children={"type": "array", "items": {"$ref": "#/$defs/node"}})
LINK = thing(value={"type": "string"}, next={"anyOf": [{"$ref": "#/$defs/link"}, {"type": "null"}]})
SUM = thing(left={"$ref": "#/$defs/term"}, right={"$ref": "#/$defs/term"})
SCHEMAS = [
    thing(name={"type": "string"}, age={"type": "integer"}, year={"type": "integer"}, score={"type": "number"}),
    thing(one={"type": "integer", "minimum": 5, "maximum": 5}, half={"type": "number", "minimum": 0.5, "maximum": 0.5}),
    thing(
        small={"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.01}, low={"type": "number", "maximum": -7}
    ),
    thing(tenth={"type": "number", "multipleOf": 0.1, "minimum": 0.15}, three={"type": "integer", "multipleOf": 1.5}),
    thing(
        eight={"type": "integer", "exclusiveMinimum": 7, "exclusiveMaximum": 9},
        big={"type": "integer", "minimum": 10**15},
    ),
    thing(mood={"enum": ["positive", "negative"]}, odd={"enum": [1, None, "x", [2]]}, fixed={"const": {"k": [1]}}),
    thing(maybe={"type": ["string", "null"]}, either={"type": ["integer", "string"]}, no={"type": "null"}),
    thing(yes={"type": "boolean"}, free={}, also=True),
    thing(long={"type": "string", "minLength": 200}, short={"type": "string", "maxLength": 3}),
    thing(five={"type": "string", "minLength": 5, "maxLength": 5}),
    thing(a={"type": "string", "format": "date"}, b={"type": "string", "format": "date-time"}),
    thing(
        a={"type": "string", "format": "email"},
        b={"type": "string", "format": "uri"},
        c={"type": "string", "format": "uuid"},
    ),
    thing(six={"type": "array", "items": {"type": "string"}, "minItems": 6, "maxItems": 6, "uniqueItems": True}),
    thing(all={"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True, "minItems": 3}),
    thing(five={"type": "array", "items": {"type": "boolean"}, "minItems": 5}, none={"type": "array", "maxItems": 0}),
    thing(
        pair={"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False, "minItems": 2}
    ),
    thing(
        rows={"type": "array", "items": {"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 3}}
    ),
    {"$defs": {"node": NODE}, "$ref": "#/$defs/node"},
    {"$defs": {"link": LINK}, "allOf": [{"$ref": "#/$defs/link"}]},
    {"$defs": {"term": {"anyOf": [{"$ref": "#/$defs/sum"}, {"type": "number"}]}, "sum": SUM}, "$ref": "#/$defs/sum"},
    {"definitions": {"a/b": {"type": "integer"}}, **thing(x={"$ref": "#/definitions/a~1b", "minimum": 7})},
    {"allOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"a": {"maxLength": 4}}, "required": ["a"]}]},
    thing(pet={"oneOf": [thing(kind={"const": "cat"}, lives={"type": "integer"}), thing(kind={"const": "dog"})]}),
    {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 5},
    {"type": "object", "propertyNames": {"enum": ["u", "v"]}, "additionalProperties": {"type": "integer"}},
    {"type": "object", "required": ["a", "b"]},
    {"type": "object", "properties": {"never": False}},
    {"type": "object"},
    {},
    {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 40}, "uniqueItems": True, "minItems": 40},
    {"anyOf": [thing(a={"type": "string"}), {"type": "array", "items": {"type": "null"}}]},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: json.dumps(schema)[:60])
def test_answers_fit_the_schema(plain, schema):
    validator = jsonschema_rs.validator_for(schema, validate_formats=True)
    for turn in range(12):
        validator.validate(json.loads(content(plain, body(f"Look.\n\n{TEXT}", schema), key=str(turn))))


@pytest.mark.parametrize(
    "schema",
    [
        thing(never=False),
        {"$ref": "#/nowhere"},
        {"$ref": "#"},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
        {"type": "object", "properties": []},
        {"type": "nonsense"},
        {"enum": []},
        {"type": "integer", "minimum": 1e40},
    ],
    ids=json.dumps,
)
def test_schemas_that_nothing_fits_are_refused(plain, schema):
    status, _, answer = send(plain, body(schema=schema))
    assert status == 400
    assert json.loads(answer)["error"]["param"] == "response_format"


def test_a_strict_schema_wants_an_object(plain):
    form = {"type": "json_schema", "json_schema": {"name": "it", "strict": True, "schema": {"type": "array"}}}
    assert send(plain, body(response_format=form))[0] == 400


@pytest.mark.parametrize("form", [None, {"type": "json_object"}, {"type": "text"}])
def test_a_schema_in_a_message_counts(plain, form):
    schema = thing(people={"type": "array", "items": {"type": "string"}})
    data = body(
        f"Who?\n\n{TEXT}\n\nFit this JSON Schema:\n{json.dumps(schema)}", **({"response_format": form} if form else {})
    )
    jsonschema_rs.validator_for(schema).validate(json.loads(content(plain, data)))
    data["messages"] += [{"role": "assistant", "content": "?"}, {"role": "user", "content": "That does not fit."}]
    jsonschema_rs.validator_for(schema).validate(json.loads(content(plain, data)))


def test_json_object_with_a_schema_or_with_none(plain):
    form = {"type": "json_object", "schema": thing(year={"type": "integer"})}
    assert 1900 <= json.loads(content(plain, body(response_format=form)))["year"] <= 2025
    assert isinstance(json.loads(content(plain, body(response_format={"type": "json_object"}))), dict)


def test_names_come_from_the_text(plain):
    schema = thing(people={"type": "array", "items": {"type": "string"}, "minItems": 4})
    found = json.loads(content(plain, body(f"Who is in it? {TEXT}", schema)))["people"]
    assert set(found) <= {"Hồ Chí Minh", "Nghệ An", "Paris", "Hà Nội"}
    assert len(set(found)) == len(found)
    name = json.loads(content(plain, body("名前は何ですか。東京に住んでいます。", thing(name={"type": "string"}))))[
        "name"
    ]
    assert name in "名前は何ですか。東京に住んでいます。"


def test_text_comes_from_the_text_after_its_instructions(plain):
    assert content(plain, body(f"Summarise this: {TEXT}")) == "Hồ Chí Minh was born in Nghệ An in 1890."
    assert content(plain, body(f'Summarise\n\n{{"id": 7, "text": {json.dumps(TEXT)}}}')).startswith("Hồ Chí Minh")
    parts = [{"type": "text", "text": "Summarise."}, {"type": "text", "text": TEXT}]
    assert content(plain, body(parts)).startswith("Hồ Chí Minh")
    assert content(plain, body("")) != ""


def test_things_with_an_id_get_the_ids_of_the_prompt(plain):
    prompt = (
        'Answer each.\n\n{"id": "r1", "text": "One."}\n\n{"id": "r2", "text": "Two."}\n\n{"id": "r3", "text": "Three."}'
    )
    by_name = thing(results={"type": "array", "items": thing(id={"type": "string"}, label={"type": "string"})})
    assert [each["id"] for each in json.loads(content(plain, body(prompt, by_name)))["results"]] == ["r1", "r2", "r3"]
    by_enum = thing(results={"type": "array", "items": thing(id={"enum": [7, 8, 9, 10, 11, 12]})})
    assert [each["id"] for each in json.loads(content(plain, body(schema=by_enum)))["results"]] == [7, 8, 9, 10, 11, 12]


def test_votes_mostly_agree(plain):
    schema = thing(mood={"enum": ["negative", "positive", "mixed"]})
    votes = Counter(json.loads(content(plain, body(schema=schema), key=str(turn)))["mood"] for turn in range(60))
    assert votes["positive"] > 35  # it stands in the text
    assert len(votes) > 1


def test_max_tokens_cuts_off(plain):
    for limit in ({"max_tokens": 3}, {"max_completion_tokens": 3}):
        answer = json.loads(send(plain, body(**limit))[2])
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["usage"]["completion_tokens"] <= 3
        assert TEXT.startswith(answer["choices"][0]["message"]["content"])


def test_usage_is_a_quarter_of_the_bytes(plain):
    answer = json.loads(send(plain, body("Đà Nẵng"))[2])
    assert answer["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 3,
        "total_tokens": 6,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


# -- a bad day --------------------------------------------------------------------------------


def day(log, *options, calls=40):
    """Every call twice: statuses and contents, and the log of it."""
    found = []
    with serving("--log", log, "--error-rate", "0.2", "--garble", "20%", "--refuse", "0.2", *options) as port:
        for turn in range(calls):
            for _ in range(2):
                with contextlib.suppress(http.client.IncompleteRead):
                    status, _, answer = send(port, body(f"Number {turn}.", thing(name={"type": "string"})), key="k")
                    found.append((status, re.sub(rb'"created":\d+', b"", answer)))
    return found, [(line["status"], line["fault"]) for line in lines(log)]


def test_the_same_seed_is_the_same_day(tmp_path):
    first, again, other = (day(tmp_path / name, "--seed", seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert first == again
    assert first[1] != other[1]
    faults = [fault for _, fault in first[1]]
    assert faults[::2] != faults[1::2]  # a further try of a call draws anew
    assert 12 < faults.count(None) < 52  # of 80 two fifths meet none


def test_errors_are_not_billed(tmp_path):
    with serving("--error-rate", "1", "--log", tmp_path / "log") as port:
        seen = [send(port, body(f"Number {turn}."))[0] for turn in range(30)]
    assert set(seen) == {500, 502, 503}
    assert [line["status"] for line in lines(tmp_path / "log")] == seen
    assert not any(line["billed"] or line["usage"] for line in lines(tmp_path / "log"))


def test_refusals(tmp_path):
    with serving("--refuse", "100%", "--log", tmp_path / "log") as port:
        choice = json.loads(send(port, body())[2])["choices"][0]
    assert choice["message"]["refusal"] and choice["message"]["content"] is None
    assert lines(tmp_path / "log")[0]["billed"]


def test_every_way_of_garbling(tmp_path):
    schema = thing(name={"type": "string"})
    with serving("--garble", "1", "--log", tmp_path / "log") as port:
        for turn in range(80):
            with contextlib.suppress(http.client.IncompleteRead):
                status, headers, answer = send(port, body(f"Number {turn}.", schema))
                assert status == 200
                assert not _good(headers, answer, schema), answer
    found = Counter(line["fault"] for line in lines(tmp_path / "log"))
    ways = ["cut", "filtered", "html", "nothing", "half", "error", "choiceless", "misfit", "prose", "empty"]
    assert set(found) == {f"garble:{way}" for way in ways}
    assert all(line["billed"] for line in lines(tmp_path / "log"))


def _good(headers, answer, schema):
    """Would a client that checks everything take this?"""
    try:
        choice = json.loads(answer)["choices"][0]
        value = json.loads(choice["message"]["content"])
    except (LookupError, TypeError, ValueError):
        return False
    return choice["finish_reason"] == "stop" and jsonschema_rs.validator_for(schema).is_valid(value)


def test_calls_that_are_never_answered(tmp_path):
    with serving("--hang", "1", "--log", tmp_path / "log") as port:
        with pytest.raises(TimeoutError):
            send(port, body(), timeout=0.3)
        assert send(port, "", "GET", "/v1/models")[0] == 200  # only calls hang
    assert (lines(tmp_path / "log")[0]["status"], lines(tmp_path / "log")[0]["fault"]) == (None, "hang")


def test_a_call_counts_when_the_client_has_left(tmp_path):
    with serving("--latency", "30s", "--log", tmp_path / "log") as port:
        with talking(port) as (client, _):
            client.sendall(raw(head="Idempotency-Key: 5f1d-0\r\n"))
        eventually((tmp_path / "log").read_text)
    line = lines(tmp_path / "log")[0]
    assert (line["status"], line["billed"], line["idempotency_key"]) == (200, True, "5f1d-0")
    assert (line["path"], line["model"], line["fault"]) == ("/v1/chat/completions", "sim", None)
    assert line["usage"]["total_tokens"] > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["time"])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_call_that_cannot_be_logged_is_not_answered():
    with serving("--log", "/dev/full") as port:
        status, _, answer = send(port, body())
    assert status == 500
    assert "cannot write its log: No space left on device" in json.loads(answer)["error"]["message"]


def test_requests_a_minute():
    with serving("--rpm", "2") as port:
        seen = [send(port, body()) for _ in range(3)]
    assert [status for status, _, _ in seen] == [200, 200, 429]
    assert [headers["x-ratelimit-remaining-requests"] for _, headers, _ in seen] == ["1", "0", "0"]
    headers, answer = seen[2][1], json.loads(seen[2][2])
    assert headers["x-ratelimit-limit-requests"] == "2"
    assert 1 <= int(headers["Retry-After"]) <= 30
    assert int(headers["retry-after-ms"]) <= 1000 * int(headers["Retry-After"])
    assert re.fullmatch(r"(\d+m)?\d+(\.\d+)?s", headers["x-ratelimit-reset-requests"])
    assert (answer["error"]["code"], answer["error"]["type"]) == ("rate_limit_exceeded", "requests")


def test_tokens_a_minute_come_back():
    with serving("--tpm", "600") as port:  # ten a second
        big = body("word " * 3000)
        assert send(port, big)[0] == 200  # larger than the bucket: it wants all of it
        status, headers, answer = send(port, body("Hi."))
        assert (status, json.loads(answer)["error"]["type"]) == (429, "tokens")
        assert int(headers["Retry-After"]) > 100
    with serving("--rpm", "600") as port:
        while send(port, body("Hi."))[0] == 200:
            pass
        time.sleep(0.3)
        assert send(port, body("Hi."))[0] == 200


def test_latency():
    with serving("--latency", "200ms") as port:
        start = time.monotonic()
        assert send(port, body())[0] == 200
        assert time.monotonic() - start > 0.19


def test_the_lognormal_has_the_mean_and_the_percentile():
    latency = sim.read_latency("0.5s:2s")
    assert latency.at(0.99) == pytest.approx(2)
    steps = 100_000
    assert sum(latency.at((step + 0.5) / steps) for step in range(steps)) / steps == pytest.approx(0.5, rel=0.01)
    assert sim.read_latency("50").at(0.7) == sim.read_latency("50ms").at(0.1) == 0.05
    assert sim.read_latency("3:3").at(NormalDist().cdf(1)) == pytest.approx(0.003)
