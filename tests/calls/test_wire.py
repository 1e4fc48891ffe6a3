"""One HTTP call, on every way: bad days, and whom it never reaches."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import orjson
import pytest
from endpoint import Call, Endpoint, Reply, chat, says
from tool import lines
from ways import WAYS, ask, failures, records

Ran = tuple[CompletedProcess[bytes], Endpoint]
Slow = Callable[[str], Any]
SLOW: dict[str, Callable[[Path], Any]] = {}


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
    "half of it": (Reply(json.dumps(chat()).encode()[:60]), "cut", 2, f"{CUT}: its JSON is incomplete"),
    "half the body": (Reply(chat(), promise=5000), "cut", 2, CUT),
    "no gzip": (Reply(chat(), headers={"Content-Encoding": "gzip"}), "cut", 2, CUT),
    "a drip": (Reply(chat(), drip=0.1), "timeout", 2, "no complete answer within 3 s"),
    "never": (Reply(hang=True), "timeout", 2, "no complete answer within 3 s"),
}
GOOD: dict[str, tuple[list[Reply], str]] = {
    # replies, one after another, that come to an answer
    "gzip": ([Reply(gzip.compress(json.dumps(chat()).encode()), headers={"Content-Encoding": "gzip"})], "ok"),
    "marked": ([Reply(b"\xef\xbb\xbf" + json.dumps(chat()).encode())], "ok"),
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
