"""From a request to an accepted answer: asking again, what is kept of it, and what is never asked twice."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from endpoint import Call, Endpoint, Reply, chat, error, says
from tool import jsonl, lines, run, start

STREAMS = ("stdin", "stdout", "stderr")
NUMBER = ("-S", "n int", "{{ q }}")


def records(*names: Any) -> str:
    return jsonl(*({"q": str(name)} for name in names))


def kept(done: Path) -> list[dict[str, Any]]:
    return lines(done.read_bytes())


def prompts(endpoint: Endpoint) -> list[str]:
    """What was asked, without the words that ask again."""
    return [call.json["messages"][0]["content"] for call in endpoint.asked]


def failures(path: Path) -> dict[str, str]:
    return {line["q"]: line["error"]["type"] for line in lines(path.read_bytes())}


# -- asking again -------------------------------------------------------------------------------


def test_asks_again_with_what_was_wrong(tmp_path: Path) -> None:
    half = Reply(chat(), promise=5000)  # one further try, for each asking
    replies = [half, says("no JSON"), half, says('{"n": "x"}'), says('{"n": 3}')]
    done = tmp_path / "done"
    with Endpoint(lambda call: replies[call.number]) as endpoint:
        got = run("llm-map", "-s", "be brief", *NUMBER, "-d", done, "-M", "meta", stdin=records("a"), url=endpoint.url)
    assert (got.returncode, lines(got.stdout)[0]["output"]) == (0, {"n": 3})
    assert lines(got.stdout)[0]["meta"]["attempts"] == 5
    first, again, second, same, third = [call.json["messages"] for call in endpoint.calls]
    assert first == again == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "a"}]
    assert second == same
    for messages, answer in ((second, "no JSON"), (third, '{"n": "x"}')):
        assert messages[:2] == first
        assert messages[2] == {"role": "assistant", "content": answer}
        assert len(messages) == 4
    assert "not JSON" in second[3]["content"]
    assert "integer" in third[3]["content"]
    key = kept(done)[0]["key"]
    assert [call.key for call in endpoint.calls] == [key, key, f"{key}+1", f"{key}+1", f"{key}+2"]
    assert [(line["key"], line.get("asked"), line["answer"]) for line in kept(done)] == [
        (key, 1, "no JSON"),
        (key, 2, '{"n": "x"}'),
        (key, None, '{"n": 3}'),
    ]
    assert [line.get("rejected", "accepted").split(":")[0] for line in kept(done)] == ["schema", "schema", "accepted"]
    assert "calls 1 in 5 tries" in got.stderr.decode()


@pytest.mark.parametrize(("words", "calls"), [(("--reask", "0"), 1), ((), 3)])
def test_as_often_as_it_may(words: tuple[str, ...], calls: int, tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    with Endpoint(says("no")) as endpoint:
        got = run("llm-map", *NUMBER, *words, "-e", errors, stdin=records("a"), url=endpoint.url)
    assert (got.returncode, got.stdout, len(endpoint.calls)) == (1, b"", calls)
    assert lines(errors.read_bytes())[0]["error"]["attempts"] == calls
    assert failures(errors) == {"a": "schema"}


def test_a_kill_between_askings(tmp_path: Path) -> None:
    """The asking goes on with the tries that are left; a later run asks anew, and not with --once."""
    done = tmp_path / "done"
    words = (*NUMBER, "--reask", "2", "-d", done)
    with Endpoint(lambda call: Reply(hang=True) if call.key.endswith("+1") else says("no")) as endpoint:
        (tmp_path / "in").write_text(records("a"))
        killed = start(
            "llm-map", *words, tmp_path / "in", url=endpoint.url, **dict.fromkeys(STREAMS, subprocess.DEVNULL)
        )
        while len(endpoint.calls) < 2:
            time.sleep(0.01)
        killed.kill()
        killed.wait()
    (line,) = kept(done)
    key = line["key"]
    with Endpoint(says("still no")) as endpoint:
        run("llm-map", *words, stdin=records("a"), url=endpoint.url)
        assert [call.key for call in endpoint.calls] == [f"{key}+1", f"{key}+2"]
        assert endpoint.calls[0].json["messages"][1] == {"role": "assistant", "content": "no"}
        assert [line["asked"] for line in kept(done)] == [1, 2, 3]
        once = run("llm-map", *words, "--once", stdin=records("a"), url=endpoint.url)
        assert (once.returncode, len(endpoint.calls)) == (1, 2)
        assert b"in an earlier run" in once.stderr
        run("llm-map", *words, stdin=records("a"), url=endpoint.url)
        assert [call.key for call in endpoint.calls[2:]] == [key, f"{key}+1", f"{key}+2"]
        mended = kept(done)[-1] | {"answer": '{"n": 7}'}
        del mended["crc"]
        done.write_text(json.dumps(mended) + "\n")
        by_hand = run("llm-map", *words, stdin=records("a"), url=endpoint.url)
        assert (by_hand.returncode, len(endpoint.calls)) == (0, 5)
    assert lines(by_hand.stdout)[0]["output"] == {"n": 7}


NAMED = {
    "length": says('{"n": 1}', finish="length"),
    "refusal": says(None, refusal="I will not"),
    "content_filter": says('{"n": 1}', finish="content_filter"),
    "tool_calls": says(None, finish="tool_calls", tool_calls=[{"id": "1"}]),
    "empty": says(" "),
}


def test_named_failures(tmp_path: Path) -> None:
    """Not asked again in this run, but in the next, unless that says --once."""
    done, errors = tmp_path / "done", tmp_path / "errors"
    words = (*NUMBER, "-d", done, "-e", errors)
    with Endpoint(lambda call: NAMED[call.prompt]) as endpoint:
        first = run("llm-map", *words, stdin=records(*NAMED), url=endpoint.url)
        assert failures(errors) == {name: name for name in NAMED}
        assert Counter(prompts(endpoint)) == Counter(list(NAMED))
        assert {line["rejected"].split(":")[0] for line in kept(done)} == set(NAMED)
        once = run("llm-map", *words, "--once", stdin=records(*NAMED), url=endpoint.url)
        assert failures(errors) == {name: name for name in NAMED}
        assert len(endpoint.calls) == 5
        offline = run("llm-map", *words, "--offline", stdin=records(*NAMED), url=endpoint.url)
        assert set(failures(errors).values()) == {"offline"}
        again = run("llm-map", *words, stdin=records(*NAMED), url=endpoint.url)
    assert [got.returncode for got in (first, once, offline, again)] == [1] * 4
    assert Counter(prompts(endpoint)) == Counter([*NAMED, *NAMED])


# -- what is the same request, and what is not --------------------------------------------------


def test_equal_records(tmp_path: Path) -> None:
    done, shared = tmp_path / "done", tmp_path / "shared"
    with Endpoint(lambda call: Reply(chat(f"answer {call.number}"), delay=0.1)) as endpoint:

        def again(*words: Any) -> tuple[list[str], int]:
            before = len(endpoint.calls)
            got = run("llm-map", *words, "{{ q }}", stdin=records(*"aaaaa"), url=endpoint.url)
            return [line["output"] for line in lines(got.stdout)], len(endpoint.calls) - before

        answers, calls = again("-d", done)
        assert (len(set(answers)), calls, len({call.key for call in endpoint.calls})) == (5, 5, 5)
        assert again("-d", done) == (answers, 0)
        answers, calls = again("-d", shared, "--share")
        assert (len(answers), len(set(answers)), calls) == (5, 1, 1)
        assert again("-d", shared, "--share") == (answers, 0)


def test_a_shared_call_that_fails(tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    with Endpoint(Reply(error(400, "too long").body, 400, delay=0.2)) as endpoint:
        words = ("--share", "-d", tmp_path / "done", "-e", errors, "{{ q }}")
        got = run("llm-map", *words, stdin=records(*"aaaaa"), url=endpoint.url)
    assert (got.returncode, got.stdout, len(endpoint.calls)) == (1, b"", 1)
    assert [line["error"]["message"] for line in lines(errors.read_bytes())] == ["too long"] * 5


def test_only_new_requests_are_called(tmp_path: Path) -> None:
    done = tmp_path / "done"
    with Endpoint(lambda call: says(call.prompt.upper())) as endpoint:

        def asked(names: str, *words: str, prompt: str = "{{ q }}") -> str:
            """The answers, and behind the bar what had to be asked for them."""
            before = len(endpoint.calls)
            got = run("llm-map", "-rd", done, *words, prompt, stdin=records(*names), url=endpoint.url)
            assert got.returncode == (1 if "--offline" in words and "z" in names else 0)
            return got.stdout.decode().replace("\n", "") + "|" + "".join(sorted(prompts(endpoint)[before:]))

        assert asked("abcdef") == "ABCDEF|abcdef"
        assert asked("fbxda") == "FBXDA|x"  # shuffled, cut and extended in the middle
        assert asked("abcx", prompt="{{ q }}!") == "A!B!C!X!|a!b!c!x!"
        assert asked("ab", "-m", "other") == "AB|ab"
        assert asked("ab", "-P", "temperature=0") == "AB|ab"
        assert asked("xfedcba") == "XFEDCBA|"  # changed back
        assert asked("abz", "--offline") == "AB|"
        assert asked("a", "-m", "other", "--offline") == "A|"


# -- response_format ----------------------------------------------------------------------------


def form(call: Call) -> str:
    given = call.json.get("response_format")
    return "prompt" if given is None else given["type"] + "+" * ("schema" in given)


FORMS = ("json_schema", "json_object+", "json_object", "prompt")


@pytest.mark.parametrize(
    ("status", "message", "takes"),
    [
        (400, "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.", 2),
        (422, [{"loc": ["body", "response_format", "type"], "msg": "unexpected value", "type": "enum"}], 3),
        (500, "[{'loc': ('body', 'response_format', 'type'), 'msg': 'Input should be 'text' or 'json_object''}]", 1),
    ],
)
def test_a_form_of_response_format_that_is_taken(status: int, message: Any, takes: int, tmp_path: Path) -> None:
    def answer(call: Call) -> Reply:
        time.sleep(0.002)
        if FORMS.index(form(call)) < takes:
            return Reply({"error": {"message": message}} if isinstance(message, str) else {"detail": message}, status)
        return says('{"n": 1}')

    done = tmp_path / "done"
    with Endpoint(answer) as endpoint:
        words = (*NUMBER, "-d", done, "-j", "64")
        got = run("llm-map", *words, stdin=records(*range(200)), url=endpoint.url)
        assert (got.returncode, len(lines(got.stdout))) == (0, 200)
        assert Counter(map(form, endpoint.calls)) == dict.fromkeys(FORMS[:takes], 1) | {FORMS[takes]: 200}
        told = [line for line in got.stderr.decode().splitlines() if "response_format" in line]
        assert len(told) == 1
        assert ('"properties"' in endpoint.calls[-1].prompt) == (takes > 1)
    with Endpoint(says("never")) as endpoint:  # the key is that of the request as first built
        again = run("llm-map", *words, stdin=records(*range(200)), url=endpoint.url)
    assert (sorted(again.stdout.splitlines()), endpoint.calls) == (sorted(got.stdout.splitlines()), [])


def test_another_400_says_nothing_about_the_form() -> None:
    with Endpoint(lambda call: error(400, "too long") if call.prompt == "0" else says('{"n": 1}')) as endpoint:
        got = run("llm-map", *NUMBER, "-j", "8", stdin=records(*range(20)), url=endpoint.url)
    assert (got.returncode, len(lines(got.stdout))) == (1, 19)
    assert Counter(map(form, endpoint.calls)) == {"json_schema": 20}
    assert b"response_format" not in got.stderr


# -- a word -------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), ("-d", "done")])
def test_a_hundred_calls_without_a_done_file(words: tuple[str, ...], tmp_path: Path) -> None:
    with Endpoint(says()) as endpoint:
        got = run("llm-map", *words, "-j32", "{{ q }}", stdin=records(*range(150)), url=endpoint.url, cwd=tmp_path)
    assert got.stderr.count(b"no done-file") == (0 if words else 1)
    assert (got.returncode, len(endpoint.calls)) == (0, 150)
