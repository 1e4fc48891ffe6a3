"""The log of llm-sim."""

import json
import os
import re

import pytest
from sim_client import body, eventually, lines, raw, run, send, serving, talking


def test_a_log_that_cannot_be_opened(tmp_path):
    done = run("--log", str(tmp_path / "no" / "log"))
    assert (done.returncode, done.stdout) == (74, "")
    assert done.stderr.endswith("no/log: No such file or directory\n")


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
