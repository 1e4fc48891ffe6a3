"""llm-vote from end to end: the real executable, and an endpoint that votes as a test says."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from endpoint import Call, Endpoint, Reply, error, says
from tool import jsonl, killed_until_done, lines, run, start

RECORDS = [{"id": n, "text": f"bài {n}"} for n in range(6)]


def sample(call: Call) -> int:
    """The number of the vote among those of its model."""
    found = re.search(r"-v(\d+)", call.key)
    return int(found[1]) if found else 0


def votes(*answers: Any) -> Callable[[Call], Reply]:
    """An endpoint whose votes are these, by the number of the sample. An int is an HTTP status."""

    def answer(call: Call) -> Reply:
        vote = answers[sample(call) % len(answers)]
        if isinstance(vote, int):
            return error(vote, "no such luck")
        return says(vote if isinstance(vote, str) else json.dumps(vote))

    return answer


def one(endpoint: Endpoint, *words: str | Path, record: dict | None = None, status: int = 0) -> Any:
    """The one record that comes out."""
    done = run("llm-vote", "-q", *words, stdin=jsonl(record or {"text": "a"}), url=endpoint.url)
    assert done.returncode == status, done.stderr
    (line,) = lines(done.stdout)
    return line


# -- the verdict, and how it is told ------------------------------------------------------------


def test_the_majority_and_its_report() -> None:
    with Endpoint(votes("yes", "No", "YES ", "yes", "no")) as endpoint:
        line = one(endpoint, "-n", "5", "--all-votes", "Is it? {{ text }}")
    assert line == {
        "text": "a",
        "output": "yes",
        "vote": {"votes": 5, "failed": 0, "agreement": 0.6, "counts": {"yes": 3, "No": 2}},
    }


def test_fields_by_themselves() -> None:
    ballots = [{"tone": "good", "n": 1, "tags": ["a", "b"]}, {"tone": "bad", "n": 2, "tags": ["b"]},
               {"tone": "good", "n": 6, "tags": ["B", "c"]}]  # fmt: skip
    with Endpoint(votes(*ballots)) as endpoint:
        line = one(endpoint, "--ballots", "-S", "tone good|bad, n int, tags [str]", "Say")
    assert line["output"] == {"tone": "good", "n": 3, "tags": ["b"]}
    assert line["vote"]["ballots"] == ballots
    assert line["vote"]["fields"]["tone"] == {"agreement": 0.6667, "counts": {"good": 2, "bad": 1}}
    assert line["vote"]["fields"]["n"]["spread"] == pytest.approx(2.160247)


def test_each_entity_once() -> None:
    people = [[{"name": "Ann", "role": "host"}, {"name": "Bo", "role": None}], [{"name": "ann ", "role": "guest"}],
              [{"name": "Eve", "role": None}, {"name": "ANN", "role": "host"}]]  # fmt: skip
    with Endpoint(votes(*({"people": vote} for vote in people))) as endpoint:
        line = one(endpoint, "--match", "name", "-S", "people [{name, role str?}]", "Who?")
    assert line["output"] == {"people": [{"name": "Ann", "role": "host"}]}


@pytest.mark.parametrize(("how", "output"), [("mean", 4), ("median", 2), ("trimmed", 2)])
def test_numbers(how: str, output: float) -> None:
    with Endpoint(votes({"n": 1}, {"n": 2}, {"n": 9})) as endpoint:
        assert one(endpoint, "--number", how, "-S", "n int", "Say")["output"] == {"n": output}


def test_a_tie_goes_to_the_lowest_number() -> None:
    with Endpoint(votes("b", "a", "b", "a")) as endpoint:
        line = one(endpoint, "-n", "4", "Say")
    assert line["output"] == "b"
    assert line["vote"]["tie"] is True


def test_unanimous_votes_come_back_as_they_are() -> None:
    with Endpoint(says('{"a":[1.5,12345678901234567890123," x ",null,[],[1,1]]}')) as endpoint:
        done = run("llm-vote", "-q", "-S", '{"type":"object"}', "Say", stdin="{}", url=endpoint.url)
    assert done.stdout.startswith(b'{"output":{"a":[1.5,12345678901234567890123," x ",null,[],[1,1]]},"vote":{')


def test_where_it_goes() -> None:
    with Endpoint(votes({"a": 1})) as endpoint:
        line = one(endpoint, "-S", "a int", "-o", ".", "-M", "meta", "--votes-field", "how.fell", "Say")
        alone = run("llm-vote", "-qr", "Say", stdin="{}\n{}", url=endpoint.url)
    assert (line["a"], line["how"]["fell"]["votes"], line["meta"]["attempts"]) == (1, 3, 3)
    assert line["meta"]["usage"] == {"input": 30, "output": 6}
    assert alone.stdout == b'{"a": 1}\n' * 2


def test_the_order_of_arrival_changes_nothing() -> None:
    """Late votes are waited for: the same bytes, whichever comes first."""
    outs = []
    for slow in range(3):

        def answer(call: Call, slow: int = slow) -> Reply:
            return Reply(says("abc"[sample(call) % 3]).body, delay=0.3 * (sample(call) == slow))

        with Endpoint(answer) as endpoint:
            outs.append(run("llm-vote", "-q", "-n", "5", "Say", stdin="{}", url=endpoint.url).stdout)
    assert len(set(outs)) == 1


# -- no more votes than it takes ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "ballots", "calls"),
    [
        (["-n", "3"], ["a"], 2),
        (["-n", "3"], ["a", "b"], 3),
        (["-n", "5"], ["a"], 3),
        (["-n", "5"], ["a", "a", "b", "a", "c"], 4),
        (["-n", "4"], ["a"], 3),
        (["-n", "5", "--all-votes"], ["a"], 5),
        (["-n", "5", "--min-votes", "4"], ["a"], 4),
        (["-n", "5", "--quorum", "5"], ["a"], 5),
        (["-n", "2"], ["a"], 2),
        (["-n", "1"], ["a"], 1),
        (["-n", "5", "-S", "n int"], [{"n": 3}], 5),  # a mean changes with every vote
        (["-n", "5", "-S", "n int", "--number", "median"], [{"n": 3}], 3),
        (["-n", "5", "-S", "a bool, b bool"], [{"a": True, "b": False}, {"a": True, "b": True}], 5),
    ],
)
def test_votes_that_are_asked_for(words: list[str], ballots: list[Any], calls: int) -> None:
    with Endpoint(votes(*ballots)) as endpoint:
        one(endpoint, *words, "Say")
        assert len(endpoint.asked) == calls
        assert len({call.key for call in endpoint.asked}) == calls


def test_labels_as_pydantic_writes_them_take_as_few_votes_as_others() -> None:
    """An enum in a class of its own, and null beside it."""
    tones = ["good", "bad", "mixed"]
    inline = {"type": ["string", "null"], "enum": [*tones, None]}
    schemas = [
        {"type": "object", "properties": {"tone": inline}},
        {
            "$defs": {"Tone": {"enum": tones, "title": "Tone", "type": "string"}},
            "properties": {"tone": {"anyOf": [{"$ref": "#/$defs/Tone"}, {"type": "null"}], "default": None}},
            "title": "Answer",
            "type": "object",
        },
    ]
    asked = []
    for schema in schemas:
        with Endpoint(votes(*[{"tone": "good"}] * 3, {"tone": "bad"})) as endpoint:
            one(endpoint, "-n", "40", "--confidence", "0.95", "-S", json.dumps(schema), "Say")
            asked.append(len(endpoint.asked))
    assert asked == [3, 3]  # six, if nothing were known of the answer


def test_confidence_saves_votes_of_voters_that_agree() -> None:
    with Endpoint(votes("a")) as endpoint:
        done = run("llm-vote", "-n", "40", "--confidence", "0.95", "Say", stdin="{}\n{}\n", url=endpoint.url)
        assert done.returncode == 0
        assert 2 * 2 <= len(endpoint.asked) <= 2 * 10
        saved = 80 - len(endpoint.asked)
    assert f"votes {80 - saved} ({saved} saved), agreement 1.00" in done.stderr.decode()


def test_votes_of_a_record_run_side_by_side() -> None:
    with Endpoint(lambda call: Reply(says("a").body, delay=0.2)) as endpoint:
        began = time.monotonic()
        one(endpoint, "-n", "8", "-j", "8", "--all-votes", "Say")
        assert endpoint.most_at_once == 8
        assert time.monotonic() - began < 10


# -- the done-file ------------------------------------------------------------------------------


def test_more_votes_ask_for_the_new_ones_alone(tmp_path: Path) -> None:
    with Endpoint(votes("a", "b", "b", "a", "a")) as endpoint:
        for number, calls in (("3", 18), ("5", 30), ("5", 30), ("3", 30)):
            words = ("-n", number, "--all-votes", "-d", tmp_path / "x", "Say {{ text }}")
            done = run("llm-vote", "-q", *words, stdin=jsonl(*RECORDS), url=endpoint.url)
            assert {line["output"] for line in lines(done.stdout)} == {"b" if number == "3" else "a"}
            assert len(endpoint.asked) == calls


def test_a_sample_is_part_of_the_key(tmp_path: Path) -> None:
    """The first vote is what llm-map would have asked."""
    with Endpoint(votes("a", "b")) as endpoint:
        run("llm-map", "-q", "-d", tmp_path / "x", "Say {{ text }}", stdin=jsonl(*RECORDS), url=endpoint.url)
        twice = [*RECORDS, RECORDS[0]]
        done = run("llm-vote", "-n", "2", "-d", tmp_path / "x", "Say {{ text }}", stdin=jsonl(*twice), url=endpoint.url)
        assert done.returncode == 0
        assert len(endpoint.asked) == 6 + 6 + 2
    keys = [line["key"] for line in lines((tmp_path / "x").read_bytes())]
    assert sorted(key[32:] for key in keys) == [""] * 6 + ["-1", "-1-v1"] + ["-v1"] * 6


def test_a_vote_that_failed_is_not_asked_again(tmp_path: Path) -> None:
    """Once the quorum was there; and the replay prints the same bytes."""
    words = ("-n", "4", "-d", tmp_path / "x", "Say {{ text }}")
    with Endpoint(votes("a", 400, "b", "a")) as endpoint:
        first = run("llm-vote", *words, stdin=jsonl(RECORDS[0]), url=endpoint.url)
        assert first.returncode == 0
        assert b"<stdin>:1: vote 2: no such luck\n" in first.stderr
        assert len(endpoint.asked) == 4
        again = run("llm-vote", *words, stdin=jsonl(RECORDS[0]), url=endpoint.url)
        assert again.stdout == first.stdout
        assert len(endpoint.asked) == 4
    assert lines(first.stdout)[0]["vote"] == {
        "votes": 3, "failed": 1, "agreement": 0.6667, "counts": {"a": 2, "b": 1}, "failures": {"http": 1},
    }  # fmt: skip


def test_a_quorum_that_is_missed(tmp_path: Path) -> None:
    """The record fails; the next run asks for what failed, and keeps what it has."""
    bad = {1: 400, 2: 400}
    words = ("-n", "3", "-d", tmp_path / "x", "-e", tmp_path / "bad", "Say {{ text }}")
    with Endpoint(lambda call: votes("a")(call) if sample(call) not in bad else error(400, "too long")) as endpoint:
        done = run("llm-vote", *words, stdin=jsonl(RECORDS[0]), url=endpoint.url)
        assert (done.returncode, done.stdout) == (1, b"")
        (failed,) = lines((tmp_path / "bad").read_bytes())
        assert failed["error"]["type"] == "quorum"
        assert failed["error"]["message"] == "1 of 3 votes are valid: too long"
        assert len(endpoint.asked) == 3
        bad.clear()
        again = run("llm-vote", *words, stdin=jsonl(RECORDS[0]), url=endpoint.url)
        assert lines(again.stdout)[0]["vote"] == {"votes": 2, "failed": 0, "agreement": 1.0, "counts": {"a": 2}}
        assert len(endpoint.asked) == 4


def test_votes_that_were_rejected(tmp_path: Path) -> None:
    """A rejected vote is left alone while the others are enough, and asked again when they are not."""
    with Endpoint(votes({"a": True}, "nonsense", {"a": True})) as endpoint:
        words = ("-q", "--reask", "1", "-S", "a bool", "-d", tmp_path / "x", "Say")
        first = run("llm-vote", *words, stdin="{}", url=endpoint.url)
        calls = len(endpoint.asked)
        assert calls == 2 + 1 + 1  # a vote, a vote that is asked again, and the third
        assert run("llm-vote", *words, stdin="{}", url=endpoint.url).stdout == first.stdout
        assert len(endpoint.asked) == calls
        run("llm-vote", *words, "--quorum", "3", stdin="{}", url=endpoint.url)
        assert len(endpoint.asked) == calls + 2
        run("llm-vote", *words, "--quorum", "3", "--once", stdin="{}", url=endpoint.url)
        assert len(endpoint.asked) == calls + 2


def test_when_no_vote_is_valid_the_reason_is_that_of_the_votes() -> None:
    with Endpoint(lambda call: error(400, "too long") if "bài 3" in call.prompt else says("a")) as endpoint:
        done = run("llm-vote", "-e", "/dev/stdout", "Say {{ text }}", stdin=jsonl(*RECORDS), url=endpoint.url)
    assert done.returncode == 1
    (failed,) = [line for line in lines(done.stdout) if "error" in line]
    assert (failed["error"]["type"], failed["error"]["status"]) == ("http", 400)


def test_offline_wants_every_vote(tmp_path: Path) -> None:
    words = ("-q", "--all-votes", "-d", tmp_path / "x", "Say")
    with Endpoint(votes("a")) as endpoint:
        run("llm-vote", *words, stdin="{}", url=endpoint.url)
    assert run("llm-vote", *words, "--offline", "-m", "sim", stdin="{}").returncode == 0
    more = run("llm-vote", *words, "--offline", "-m", "sim", "-n", "5", stdin="{}")
    assert more.returncode == 1
    assert b"not in the done-file" in more.stderr


def test_killed_between_its_votes(tmp_path: Path) -> None:
    """kill -9 again and again: the verdicts of a run that nobody killed, and no vote paid for twice but C a kill."""
    records = jsonl(*({"id": n, "text": f"bài {n}"} for n in range(30)))

    def answer(call: Call) -> Reply:
        return Reply(says("abc"[hash(call.key) % 3]).body, delay=0.03)

    words = ("-q", "-j", "6", "-n", "5", "Say {{ text }}", "-d")
    with Endpoint(answer) as endpoint:
        quiet = run("llm-vote", *words, tmp_path / "quiet", stdin=records, url=endpoint.url)
        needed = {call.key for call in endpoint.asked}
        del endpoint.calls[:]
        given = {"stdin": records, "url": endpoint.url, "asked": lambda: len(endpoint.asked), "step": 5}
        out, kills = killed_until_done("llm-vote", *words, tmp_path / "killed", **given)
        assert out == quiet.stdout
        assert kills >= 3
        assert {call.key for call in endpoint.asked} == needed
        assert len(endpoint.asked) <= len(needed) + 6 * kills


def test_interrupted(tmp_path: Path) -> None:
    """What is in flight is kept; a record that lacks votes is not printed, and nothing is paid twice."""
    with Endpoint(lambda call: Reply(says("a").body, delay=0.4)) as endpoint:
        words = ("-j", "4", "-n", "3", "--all-votes", "-d", tmp_path / "x", "Say {{ text }}")
        process = start("llm-vote", *words, url=endpoint.url)
        assert process.stdin
        process.stdin.write(jsonl(*RECORDS).encode())
        process.stdin.flush()
        while len(endpoint.asked) < 5:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, told = process.communicate(timeout=30)
        assert process.returncode == -signal.SIGINT
        again = run("llm-vote", *words, stdin=jsonl(*RECORDS), url=endpoint.url)
        assert sorted(line["id"] for line in lines(again.stdout)) == list(range(6))
        assert len(endpoint.asked) == 18
    assert re.search(rb"read 6, out (\d), failed 0, unasked", told), told
    assert all(line["vote"]["votes"] == 3 for line in lines(out))


# -- a jury -------------------------------------------------------------------------------------


def test_a_jury() -> None:
    def answer(call: Call) -> Reply:
        return says("yes" if call.json["model"] == "b" else call.prompt)

    with Endpoint(answer) as endpoint:
        line = one(endpoint, "-m", "a", "-m", "b", "-m", "c", "-n", "5", "--all-votes", "I am {{ model }}")
        assert sorted(call.json["model"] for call in endpoint.asked) == ["a", "a", "b", "b", "c"]
    assert line["output"].startswith("I am a")
    assert line["vote"]["tie"] is True
    told = line["vote"]["models"]
    assert list(told) == ["a", "b", "c"]
    assert told["b"] == {"votes": 2, "failed": 0, "agreement": 1.0, "counts": {"yes": 2}}


def test_a_juror_more_keeps_the_votes_of_the_others(tmp_path: Path) -> None:
    words = ("-q", "--all-votes", "-d", tmp_path / "x", "Say {{ text }}")
    with Endpoint(votes("a")) as endpoint:
        run("llm-vote", *words, "-m", "a", "-n", "2", stdin=jsonl(*RECORDS), url=endpoint.url)
        run("llm-vote", *words, "-m", "a", "-m", "b", "-n", "4", stdin=jsonl(*RECORDS), url=endpoint.url)
        assert len(endpoint.asked) == 6 * 4


def test_the_field_of_a_record_that_is_called_model() -> None:
    with Endpoint(lambda call: says(call.prompt)) as endpoint:
        record = {"model": "T"}
        assert one(endpoint, "Ford {{ model }}", record=record)["output"] == "Ford T"
        jury = one(endpoint, "-m", "a", "-m", "b", "{{ record.model }} {{ model }}", record=record)
    assert jury["output"] == "T a"


# -- criteria -----------------------------------------------------------------------------------

CRITERIA = {"clarity": {"description": "Is it clear?", "weight": 3}, "style": {"scale": [1, 5]}}


def test_criteria(tmp_path: Path) -> None:
    file = tmp_path / "criteria.json"
    file.write_text(json.dumps(CRITERIA))
    ballots = [{"clarity": 8, "style": 2}, {"clarity": 9, "style": 4}, {"clarity": 10, "style": 3}]
    with Endpoint(votes(*ballots)) as endpoint:
        done = run("llm-vote", "--criteria", file, "By {{ criteria }}:", stdin='{"text":"a"}', url=endpoint.url)
        call = endpoint.asked[0].json
    (line,) = lines(done.stdout)
    assert line["output"] == {"clarity": 9, "style": 3, "overall_score": 7.5}
    assert call["messages"][0]["content"].startswith('By {"clarity":{"description":"Is it clear?","weight":3,"scale"')
    assert call["messages"][0]["content"].endswith('\n\n{"text":"a"}')  # it uses no field of the record
    asked = call["response_format"]["json_schema"]
    assert asked["strict"] is True
    assert asked["schema"]["properties"]["style"] == {"type": "integer", "minimum": 1, "maximum": 5}
    told = done.stderr.decode()
    assert "llm-vote: clarity: 9 to 9, mean 9.00 (1-2.8: 0, 2.8-4.6: 0, 4.6-6.4: 0, 6.4-8.2: 0, 8.2-10: 1)" in told
    assert "llm-vote: overall_score: 7.5 to 7.5" in told


@pytest.mark.parametrize("wrong", [{"clarity": 8}, {"clarity": 8, "style": 2, "wit": 3}, {"clarity": 11, "style": 2}])
def test_a_vote_that_lacks_a_criterion_fails_alone(tmp_path: Path, wrong: dict) -> None:
    file = tmp_path / "criteria.json"
    file.write_text(json.dumps(CRITERIA))
    good = {"clarity": 8, "style": 2}
    with Endpoint(votes(good, wrong, good)) as endpoint:
        done = run("llm-vote", "--reask", "0", "--criteria", file, "Score", stdin="{}", url=endpoint.url)
    assert done.returncode == 0
    (line,) = lines(done.stdout)
    assert line["output"] == {**good, "overall_score": 6.5}
    assert line["vote"]["failures"] == {"schema": 1}
    assert re.search(rb"<stdin>:1: vote 2: .*(style|wit|clarity)", done.stderr)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not JSON"),
        ("[]", "needs an object"),
        ("{}", "needs an object"),
        ('{"a":3}', "a: needs an object"),
        ('{"a":{"wieght":1}}', "a: wieght: a criterion has description, scale, weight"),
        ('{"a":{"weight":-1}}', "a: weight is not a number"),
        ('{"a":{"weight":0}}', "every weight is 0"),
        ('{"a":{"scale":[5,1]}}', "a: scale is not [LOWEST, HIGHEST]"),
        ('{"a":{"description":1}}', "a: description is not a string"),
        ('{"overall_score":{}}', "overall_score is the weighted mean"),
    ],
)
def test_criteria_that_are_wrong(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "c.json").write_text(text)
    done = run("llm-vote", "--criteria", tmp_path / "c.json", "Score", stdin="{}")
    assert done.returncode == 2
    assert why in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


# -- what does not go together ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["-n", "2", "-m", "a", "-m", "b", "-m", "c", "Say"], "cannot use -n 2 with 3 models"),
        (["--quorum", "4", "Say"], "cannot use --quorum 4 with 3 votes"),
        (["--min-votes", "4", "Say"], "cannot use --min-votes 4 with 3 votes"),
        (["--all-votes", "--confidence", "0.9", "Say"], "cannot use --all-votes and --confidence together"),
        (["--confidence", "0.3", "Say"], "cannot use --confidence 0.3"),
        (["--number", "mode", "Say"], "it needs mean, median or trimmed"),
        (["-r", "--ballots", "Say"], "cannot use --ballots and -r together: -r prints the verdict alone"),
        (["-g", "id", "Say"], "cannot use -g alone: it needs --count FIELD"),
        (["--sorted", "Say"], "cannot use --sorted alone"),
        (["--criteria", "/dev/null", "-S", "a", "Say"], "cannot use --criteria and -S together"),
        (["--criteria", "nowhere", "Say"], "cannot read criteria nowhere"),
        (["--votes-field", "output.x", "Say"], "cannot use --votes-field output.x and -o output: one is within"),
        (["-o", ".", "Say"], "-o . alone"),
        (["--count", "x", "-d", "y"], "cannot use --count and -d together: nobody is asked"),
        (["--count", "x", "--sorted"], "cannot use --sorted alone: it needs -g FIELD"),
        (["--count", "x", "-o", "."], "cannot use -o . with --count"),
    ],
)
def test_options_that_cannot_work(words: list[str], why: str) -> None:
    done = run("llm-vote", *words, stdin="{}", url="http://127.0.0.1:9/v1")
    assert done.returncode == 2
    assert why in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


# -- counting without a model -------------------------------------------------------------------


def count(*words: str, stdin: str, status: int = 0) -> subprocess.CompletedProcess[bytes]:
    done = run("llm-vote", *words, stdin=stdin, env={"OPENAI_API_KEY": ""})
    assert done.returncode == status, done.stderr
    return done


def test_votes_that_stand_in_a_list() -> None:
    done = count("--count", "by.people", stdin='{"id":1,"by":{"people":["Yes","no","yes"]}}\n{"by":{"people":[1,2]}}')
    assert lines(done.stdout) == [
        {"id": 1, "by": {"people": ["Yes", "no", "yes"]}, "output": "Yes",
         "vote": {"votes": 3, "failed": 0, "agreement": 0.6667, "counts": {"Yes": 2, "no": 1}}},
        {"by": {"people": [1, 2]}, "output": 1.5,
         "vote": {"votes": 2, "failed": 0, "agreement": 0.5, "counts": {"1": 1, "2": 1}, "spread": 0.5}},
    ]  # fmt: skip
    assert b"read 2, out 2, failed 0" in done.stderr


GROUPED = '{"p":1,"v":"a"}\n{"p":2,"v":"b"}\n{"p":1,"v":"a"}\n{"p":"1","v":"c"}\n{"p":null,"v":null}\n'


def test_votes_that_stand_in_records_of_a_group() -> None:
    done = count("--count", "v", "-g", "p", stdin=GROUPED)
    assert [(line["p"], line["output"], line["vote"]["votes"]) for line in lines(done.stdout)] == [
        (1, "a", 2), (2, "b", 1), ("1", "c", 1), (None, None, 1),
    ]  # fmt: skip


def test_groups_that_follow_one_another_come_out_at_once() -> None:
    process = start("llm-vote", "-q", "--count", "v", "-g", "a.p", "--sorted")
    assert process.stdin
    assert process.stdout
    process.stdin.write(b'{"a":{"p":1},"v":2}\n{"a":{"p":1},"v":4}\n{"a":{"p":2},"v":5}\n')
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["output"] == 3
    out, _ = process.communicate(timeout=30)
    assert json.loads(out) == {
        "a": {"p": 2},
        "output": 5,
        "vote": {"votes": 1, "failed": 0, "agreement": 1.0, "counts": {"5": 1}, "spread": 0},
    }


def test_records_without_votes_fail_by_name(tmp_path: Path) -> None:
    stdin = '{"v":[]}\n{"w":1}\n{"v":"a"}\n[]\n{"v":["a"]}\n'
    done = count("--count", "v", "-e", str(tmp_path / "bad"), stdin=stdin, status=1)
    assert len(lines(done.stdout)) == 1
    told = done.stderr.decode()
    for line, why in ((1, "0 votes in v, 1 needed"), (2, "no field 'v'"), (3, "v: not a list"), (4, "not a JSON obj")):
        assert f"llm-vote: <stdin>:{line}: {why}" in told
    assert [line.get("error", {}).get("type") for line in lines((tmp_path / "bad").read_bytes())] == [
        "quorum", "votes", "votes", "input",
    ]  # fmt: skip
    grouped = count("--count", "v", "-g", "p", "--quorum", "2", stdin=GROUPED + '{"v":1}\n', status=1)
    assert len(lines(grouped.stdout)) == 1
    assert b"<stdin>:6: no field 'p'" in grouped.stderr
    assert b"<stdin>:2: 1 votes in v, 2 needed" in grouped.stderr


def test_ballots_can_be_counted_again() -> None:
    """The verdict of the model's votes is that of the same votes counted."""
    with Endpoint(votes({"a": 1, "b": "x"}, {"a": 2, "b": "y"}, {"a": 2, "b": "x"})) as endpoint:
        line = one(endpoint, "-S", "a int, b", "--ballots", "Say")
    (again,) = lines(count("-q", "--count", "vote.ballots", "-o", "again", stdin=jsonl(line)).stdout)
    assert again["again"] == line["output"]


def test_agreement_beyond_chance_is_told() -> None:
    """Ten records, two raters: the example of 2011 with its nominal alpha of 0.095."""
    pairs = zip("0100000000", "1111100000", strict=True)
    rated = [{"r": [int(one), int(other)]} for one, other in [(0, 1), (1, 0)]] + [
        {"r": [int(a), int(b)]} for a, b in pairs
    ]
    done = count("--count", "r", stdin=jsonl(*rated))
    assert re.search(r"alpha", done.stderr.decode())


def test_a_mistake_in_the_file_name_is_told() -> None:
    done = count("--count", "v", "nowhere.jsonl", stdin="", status=2)
    assert done.stderr == b"llm-vote: cannot read nowhere.jsonl: No such file or directory\n"
