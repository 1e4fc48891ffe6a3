"""The HTTP that llm-sim speaks, and what it makes of what is none."""

import json
import socket

import pytest
from sim_client import body, raw, read_answer, serving, talking


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
