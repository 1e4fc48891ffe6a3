"""llm-sim, driven as a user drives it: the real executable, over real sockets."""

import contextlib
import http.client
import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LLM_SIM = [sys.executable, str(ROOT / "bin/llm-sim")]
TEXT = "Hồ Chí Minh was born in Nghệ An in 1890. He lived in Paris, and came back to Hà Nội; the mood was positive."
PATIENCE = 15  # seconds that a slow machine may need


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
