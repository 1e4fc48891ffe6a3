"""A bad day: which calls meet which fault."""

import contextlib
import http.client
import json
import re
from collections import Counter

import jsonschema_rs
import pytest
from sim_client import body, lines, send, serving, thing

from llmstream.endpoint import faults
from llmstream.endpoint.call import Call
from llmstream.endpoint.faults import Faults, Tries


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


@pytest.mark.parametrize(
    ("chance", "fault"),
    [(0.0, "error"), (0.24, "error"), (0.25, "garble"), (0.74, "garble"), (0.75, "refuse"), (0.88, None), (0.99, None)],
)
def test_the_shares_lie_side_by_side(chance, fault):
    assert Faults(error=0.25, hang=0.0, garble=0.5, refuse=0.125).at(chance) == fault


def test_a_good_day_has_no_faults():
    assert Faults().at(0.0) is None


def test_tries_of_a_call_are_counted_and_the_oldest_forgotten(monkeypatch):
    monkeypatch.setattr(faults, "REMEMBERED", 2)
    one, two, three = (Call(b"", own, "", "", None) for own in (b"1", b"2", b"3"))
    tries = Tries()
    assert [tries.number_of(call) for call in (one, two, one, two, one)] == [b"0", b"0", b"1", b"1", b"2"]
    assert [tries.number_of(call) for call in (three, one, two)] == [b"0", b"3", b"0"]
