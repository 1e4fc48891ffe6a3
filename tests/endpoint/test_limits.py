"""Requests and tokens a minute."""

import json
import re
import time

import pytest
from sim_client import body, send, serving

from llmstream.endpoint.errors import ApiError
from llmstream.endpoint.limits import Limits


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
        assert send(port, big)[0] == 200  # larger than the bucket: it needs all of it
        status, headers, answer = send(port, body("Hi."))
        assert (status, json.loads(answer)["error"]["type"]) == (429, "tokens")
        assert int(headers["Retry-After"]) > 100
    with serving("--rpm", "600") as port:
        while send(port, body("Hi."))[0] == 200:
            pass
        time.sleep(0.3)
        assert send(port, body("Hi."))[0] == 200


class Clock:
    """Time passes when a test says so."""

    def __init__(self):
        self.seconds = 100.0

    def __call__(self):
        return self.seconds


def test_what_was_taken_comes_back_continuously():
    clock = Clock()
    limits = Limits(rpm=60, tpm=None, now=clock)
    for left in range(59, -1, -1):
        assert limits.take(7)["x-ratelimit-remaining-requests"] == str(left)
    with pytest.raises(ApiError, match=r"Limit 60, Left 0, Requested 1\. Please try again in 1s\."):
        limits.take(7)
    clock.seconds += 1.5
    assert limits.take(7)["x-ratelimit-remaining-requests"] == "0"
    clock.seconds += 3600
    assert limits.take(7)["x-ratelimit-remaining-requests"] == "59"  # no more than a minute's are saved up


def test_a_call_is_taken_out_of_every_bucket_or_out_of_none():
    limits = Limits(rpm=10, tpm=100, now=Clock())
    assert limits.take(60)["x-ratelimit-remaining-tokens"] == "40"
    with pytest.raises(ApiError) as refused:
        limits.take(50)
    assert (refused.value.status, refused.value.body["error"]["type"]) == (429, "tokens")
    headers = refused.value.headers
    assert (headers["Retry-After"], headers["retry-after-ms"]) == ("6", "6000")
    assert headers["x-ratelimit-remaining-requests"] == "9"
    assert limits.take(40)["x-ratelimit-remaining-requests"] == "8"


@pytest.mark.parametrize(
    ("rpm", "taken", "reset"), [(6000, 1, "10ms"), (600, 25, "2.5s"), (2, 2, "1m0s"), (7, 1, "8.58s"), (1, 1, "1m0s")]
)
def test_durations_are_written_as_openai_writes_them(rpm, taken, reset):
    limits = Limits(rpm, None, Clock())
    headers = [limits.take(1) for _ in range(taken)]
    assert headers[-1]["x-ratelimit-reset-requests"] == reset


def test_without_limits_there_are_no_headers():
    assert Limits(None, None).take(10**9) == {}
