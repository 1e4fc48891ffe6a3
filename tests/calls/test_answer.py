"""Replies: anything may come with a 200, and only what can be trusted becomes an answer."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmstream.calls.answer import error_of, judge, paid, read, refuses_format, value
from llmstream.records import exact
from llmstream.records.values import Failure, Rejected, Reply, Usage

HYPOTHESIS = settings(deadline=None, max_examples=150)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def body(message: Any = None, *, finish: Any = "stop", **more: Any) -> bytes:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": "ok"}}
    choice["message"] = choice["message"] if message is None else message
    return json.dumps({"model": "sim", "choices": [choice], **more}).encode()


def reply(content: str | None = "ok", **more: Any) -> Reply:
    return Reply(
        **{"content": content, "finish": "stop", "refusal": None, "tools": False, "model": "m", "usage": None, **more}
    )


# -- read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "kind", "said"),
    [
        (b"", "reply", "the reply is empty"),
        (b" \n", "reply", "the reply is empty"),
        (b"<html><body>\x1b[31m Bad\n gateway</body></html>", "reply", "<html><body>"),
        (b"\xff\xfe", "reply", "not JSON"),
        (b'{"choices":[{"mess', "cut", "cut short"),
        (b"[1,", "cut", "cut short"),
        (b"[" * 100_000, "cut", "cut short"),
        (b"[]", "reply", "not a JSON object"),
        (b"null", "reply", "not a JSON object"),
        (b'"ok"', "reply", "not a JSON object"),
        (b"{}", "reply", "no choices"),
        (b'{"error":{"message":"over\\ncapacity","code":1}}', "reply", "over capacity"),
        (b'{"error":"busy","choices":null}', "reply", "busy"),
        (b'{"choices":null}', "reply", "no choices"),
        (b'{"choices":[]}', "reply", "no choices"),
        (b'{"choices":{}}', "reply", "no choices"),
        (b'{"choices":"text"}', "reply", "no choices"),
        (b'{"choices":[null]}', "reply", "no choices"),
        (b'{"choices":[[]]}', "reply", "no choices"),
        (b'{"choices":[{}]}', "reply", "no choices"),
        (b'{"choices":[{"message":null}]}', "reply", "no choices"),
        (b'{"choices":[{"message":"ok"}]}', "reply", "no choices"),
        (b'{"choices":[{"message":["ok"]}]}', "reply", "no choices"),
    ],
)
def test_what_is_no_reply(raw: bytes, kind: str, said: str) -> None:
    found = read(raw)
    assert isinstance(found, Failure)
    assert (found.type, found.status) == (kind, 200)
    assert said in found.message
    assert len(found.message) < 300


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"content": "ok"}, reply()),
        ({"content": ""}, reply("")),
        ({"content": None}, reply(None)),
        ({}, reply(None)),
        ({"content": 7}, reply(None)),
        ({"content": {"a": 1}}, reply(None)),
        ({"content": []}, reply(None)),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": []},
                    {"type": "text", "text": "o"},
                    {"type": "text", "text": "k"},
                ]
            },
            reply(),
        ),
        ({"content": [{"type": "text"}, "x", None]}, reply("")),
        ({"content": "a\ud800b\0"}, reply("a\ufffdb\0")),
        ({"content": None, "refusal": "no"}, reply(None, refusal="no")),
        ({"content": "ok", "refusal": ""}, reply()),
        ({"content": "ok", "refusal": {"x": 1}}, reply()),
        ({"content": None, "tool_calls": [{}]}, reply(None, tools=True)),
        ({"content": None, "function_call": {"name": "f"}}, reply(None, tools=True)),
        ({"content": "ok", "tool_calls": [], "reasoning_content": "hm"}, reply()),
    ],
)
def test_a_message(message: dict[str, Any], expected: Reply) -> None:
    assert read(body(message)) == expected._replace(model="sim")


MARK = b"\xef\xbb\xbf"


def test_a_byte_order_mark_before_the_json() -> None:
    assert read(MARK + body()) == read(body())
    assert paid(MARK + b'{"usage": {"prompt_tokens": 7}}') == reply(None, finish="", model="", usage=Usage(7, 0))
    assert error_of(MARK + b'{"error": {"message": "no", "code": "c"}}') == ("no", "c")
    assert error_of(MARK + b"Bad gateway") == ("Bad gateway", "")
    for raw, said in ((b'{"choices": [', "its JSON is incomplete"), (b"", "the reply is empty"), (b"<p>", "JSON: <p>")):
        found = read(MARK + raw)
        assert isinstance(found, Failure)
        assert found.message.endswith(said)


@pytest.mark.parametrize(("told", "finish"), [("length", "length"), (None, ""), (1, "1"), ("", "")])
def test_a_finish_reason(told: Any, finish: str) -> None:
    found = read(body(finish=told, model=None))
    assert isinstance(found, Reply)
    assert (found.finish, found.model) == (finish, "")


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        (None, None),
        ([], None),
        ("many", None),
        ({}, Usage(0, 0)),
        ({"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}, Usage(10, 2)),
        ({"prompt_tokens": None, "completion_tokens": "2"}, Usage(0, 0)),
        ({"prompt_tokens": True, "completion_tokens": -2}, Usage(0, 0)),
        ({"prompt_tokens": 10**30, "completion_tokens": 1.5}, Usage(0, 0)),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 8},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            Usage(10, 5, 8, 3),
        ),
        ({"prompt_tokens": 1, "prompt_tokens_details": None, "completion_tokens_details": [1]}, Usage(1, 0)),
    ],
)
def test_usage(told: Any, usage: Usage | None) -> None:
    found = read(body(usage=told))
    assert isinstance(found, Reply)
    assert found.usage == usage


@HYPOTHESIS
@given(st.binary() | JSON.map(lambda told: json.dumps(told).encode()))
def test_any_bytes_are_a_reply_or_a_failure(raw: bytes) -> None:
    assert isinstance(read(raw), Reply | Failure)
    assert all(isinstance(told, str) for told in error_of(raw))


@HYPOTHESIS
@given(JSON, JSON, JSON)
def test_any_json_in_its_place_is_a_reply_or_a_failure(message: Any, usage: Any, finish: Any) -> None:
    found = read(body(message, usage=usage, finish=finish))
    if isinstance(found, Reply):
        judged = judge(found, None)
        assert isinstance(judged, Rejected) or isinstance(json.loads(judged), str)


@HYPOTHESIS
@given(st.integers(0, 200), st.integers(0, 255))
def test_a_reply_that_was_cut_or_changed_is_a_reply_or_a_failure(place: int, byte: int) -> None:
    raw = body(usage={"prompt_tokens": 1})
    changed = raw[:place] + bytes([byte]) + raw[place + 1 :]
    assert isinstance(read(changed), Reply | Failure)
    assert isinstance(read(raw[: min(place, len(raw) - 1)]), Failure)


# -- judge ---------------------------------------------------------------------------------------------


def fits(found: Any) -> str | None:
    return None if isinstance(found, dict) else f"it is a {type(found).__name__}, not an object"


@pytest.mark.parametrize("check", [None, fits])
@pytest.mark.parametrize(
    ("told", "kind"),
    [
        (reply("{}", refusal="I cannot"), "refusal"),
        (reply("{", finish="length"), "length"),
        (reply("{}", finish="length"), "length"),
        (reply("{}", finish="MAX_TOKENS"), "length"),
        (reply("{}", finish="model_length"), "length"),
        (reply("{}", finish="abort"), "length"),
        (reply("{}", finish="content_filter"), "content_filter"),
        (reply(None, finish="content_filter"), "content_filter"),
        (reply(None, finish="tool_calls", tools=True), "tool_calls"),
        (reply(None), "empty"),
    ],
)
def test_an_answer_that_is_never_data(told: Reply, kind: str, check: Any) -> None:
    found = judge(told, check)
    assert isinstance(found, Rejected)
    assert found.type == kind
    assert not found.worth_asking_again


@pytest.mark.parametrize("finish", ["stop", "", "eos", "tool_calls", "end_turn"])
def test_an_answer_that_is_whole(finish: str) -> None:
    assert judge(reply("{}", finish=finish), fits) == b"{}"
    assert judge(reply("ok", finish=finish), None) == b'"ok"'


def test_nothing_is_an_answer_unless_a_schema_was_asked() -> None:
    assert judge(reply(""), None) == b'""'
    for content in ("", " \n\t"):
        found = judge(reply(content), fits)
        assert isinstance(found, Rejected)
        assert found.type == "empty"


# -- the value of an answer ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("ok\n", b'"ok\\n"'),
        ("\0\x1b[31m\x7f", b'"\\u0000\\u001b[31m\x7f"'),
        ("a\ud800b\udfff", '"a\ufffdb\ufffd"'.encode()),
        ("\ud83d\ude00", '"\U0001f600"'.encode()),
        ('{"a":1}', b'"{\\"a\\":1}"'),
    ],
)
def test_a_text(content: str, expected: bytes) -> None:
    assert value(content, None) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"a":1}', b'{"a":1}'),
        (' \n{ "a" : 1 }\n\n', b'{"a":1}'),
        ('```json\n{"a":1}\n```', b'{"a":1}'),
        ('```JSON \r\n\r\n{"a":1}\r\n\r\n```\n', b'{"a":1}'),
        ('  ```\n{"a":1}```  ', b'{"a":1}'),
        ('{"a":"```json\\n```"}', b'{"a":"```json\\n```"}'),
        ('```\n{"a":"```"}\n```', b'{"a":"```"}'),
        ('{"n":12345678901234567890123,"d":1.10000000000000000001}', None),
        (r'{"a":"\ud800\u0000"}', '{"a":"\ufffd\\u0000"}'.encode()),
        ('{"a":"\ud800"}', '{"a":"\ufffd\ufffd\ufffd"}'.encode()),
        ('{"a":1,"a":2}', b'{"a":2}'),
        ('{"é":"\U0001f600"}', '{"é":"\U0001f600"}'.encode()),
    ],
)
def test_a_json_answer(content: str, expected: bytes | None) -> None:
    assert value(content, fits) == (content.encode() if expected is None else expected)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("Sure!", "not JSON"),
        ('{"a":1', "not JSON"),
        ('{"a":1} I hope this helps', "not JSON"),
        ('Here it is: {"a":1}', "not JSON"),
        ('{"a":1}\n{"a":2}', "not JSON"),
        ('{"a":NaN}', "NaN"),
        ('{"a":Infinity}', "Infinity"),
        ('{"a":1e400}', "out of range"),
        ("{'a':1}", "not JSON"),
        ('{"a":1,}', "not JSON"),
        ("```", "not JSON"),
        ("``````", "not JSON"),
        ("```json```", "not JSON"),
        ('```python\n{"a":1}\n```', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"a":' * 300 + "1" + "}" * 300, "too deep"),
        ("[1]", "it is a list, not an object"),
        ("null", "not an object"),
    ],
)
def test_an_answer_that_does_not_fit_is_worth_asking_again(content: str, said: str) -> None:
    found = value(content, fits)
    assert isinstance(found, Rejected)
    assert found.worth_asking_again
    assert said in found.why
    assert len(found.why) < 200


def test_a_model_that_never_ends_its_fence_takes_no_time() -> None:
    began = time.monotonic()
    for content in ("```" + "\n" * 200_000, "```json" + " " * 200_000 + "x", "```\n" * 100_000):
        assert isinstance(value(content, fits), Rejected)
    assert time.monotonic() - began < 2


@HYPOTHESIS
@given(st.text(st.characters() | st.sampled_from('{}[]":,`\n\ud800')), st.sampled_from([None, lambda _: None]))
def test_any_answer_is_a_value_or_rejected(content: str, check: Any) -> None:
    found = value(content, check)
    assert isinstance(found, Rejected) or exact.loads(found) is not ...


# -- errors ------------------------------------------------------------------------------------------------

FASTAPI = [
    {
        "type": "literal_error",
        "loc": ["body", "response_format", "type"],
        "msg": "Input should be 'text'",
        "input": "q",
    },
    {"type": "missing", "loc": ["body", "model"], "msg": "Field required", "input": {"text": "a secret"}},
]


@pytest.mark.parametrize(
    ("raw", "message", "code"),
    [
        (b"", "", ""),
        (b"Bad  gateway\n", "Bad gateway", ""),
        (b"<html>" + b"x" * 1000, "<html>" + "x" * 191 + "...", ""),
        ({"error": {"message": "no", "type": "t", "param": None, "code": "c"}}, "no", "c"),
        ({"error": {"message": "no", "type": "insufficient_quota", "code": None}}, "no", "insufficient_quota"),
        ({"error": {"message": "no", "code": 400}}, "no", "400"),
        ({"error": {"code": 400}}, '{"code":400}', "400"),
        ({"error": "model not found"}, "model not found", ""),
        ({"error": {"error": {"message": "inner"}}}, "inner", ""),
        ({"object": "error", "message": "too long", "code": 400}, "too long", ""),
        ({"detail": "Not Found"}, "Not Found", ""),
        ({"detail": FASTAPI}, "body.response_format.type: Input should be 'text'; body.model: Field required", ""),
        ({"detail": ["x", {"a": 1}]}, '"x"; {"a":1}', ""),
        ([{"error": 1}], '{"error":1}', ""),
        ({"error": None, "message": None}, "", ""),
        ({"error": 7}, "7", ""),
        ("text", "text", ""),
        (None, "", ""),
        (b'{"error":{"message":"a\\ud800\\u001bb"}}', "a\ufffd\x1bb", ""),
        (b'{"error":' * 500 + b"1" + b"}" * 500, ('{"error":' * 22)[:197] + "...", ""),
    ],
)
def test_what_an_error_says(raw: Any, message: str, code: str) -> None:
    assert error_of(raw if isinstance(raw, bytes) else json.dumps(raw).encode()) == (message, code)


REFUSED = [
    # OpenAI and Azure
    (400, "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."),
    (400, "Invalid schema for response_format 'answer': In context=(), 'additionalProperties' is required"),
    (400, "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."),
    (400, "Unknown parameter: 'response_format.schema'."),
    (400, "response_format value as json_schema is enabled only for api versions 2024-08-01-preview and later"),
    # vLLM
    (400, "[{'type': 'literal_error', 'loc': ('body', 'response_format', 'type'), 'msg': \"Input should be 'text'\"}]"),
    (400, "The provided JSON schema contains features not supported by xgrammar."),
    (400, "Grammar error: Unimplemented keys: ['uniqueItems']"),
    (400, "Invalid grammar specification."),
    (501, "guided_json is not supported by this engine"),
    # llama-cpp-python, llama.cpp
    (500, "[{'type': 'literal_error', 'loc': ('body', 'response_format', 'type'), 'msg': \"Input should be 'text' or"),
    (400, "Failed to parse grammar"),
    (400, 'response_format type must be one of "text" or "json_object", but got: json_schema'),
    (500, "JSON schema conversion failed:\nUnrecognized schema"),
    # LiteLLM, Groq, Gemini, Ollama, LM Studio, DeepSeek
    (400, "litellm.UnsupportedParamsError: groq does not support parameters: ['response_format'], for model=x"),
    (400, "This model does not support response format `json_schema`."),
    (400, 'Invalid JSON payload received. Unknown name "response_format": Cannot find field.'),
    (400, "generation_config.response_schema.properties: should be non-empty for OBJECT type"),
    (500, "invalid JSON schema in format"),
    (400, "'response_format.type' must be 'json_schema' or 'text'"),
    (422, "body.response_format.type: Input should be 'text' or 'json_object'"),
]

OTHER = [
    (400, "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens."),
    (400, "Invalid value in messages[0].content: 'Correct the grammar errors in this text; grammar matters'"),
    (400, "the text 'Explain what guided meditation is, and misguided advice' was flagged"),
    (400, "Unsupported value: 'temperature' does not support 0 with this model."),
    (422, "body.messages.0.content: Input should be a valid string"),
    (404, "The model `gpt-9` does not exist or you do not have access to it."),
    (500, "The server had an error while processing your request."),
    (500, ""),
    # the words alone are not enough: other trouble goes its own way
    (401, "response_format"),
    (429, "Rate limit reached for json_schema requests"),
    (503, "structured outputs are overloaded"),
    (200, "response_format"),
]


@pytest.mark.parametrize(("status", "message"), REFUSED)
def test_an_endpoint_that_refuses_the_form(status: int, message: str) -> None:
    assert refuses_format(status, message)


@pytest.mark.parametrize(("status", "message"), OTHER)
def test_an_error_that_is_about_something_else(status: int, message: str) -> None:
    assert not refuses_format(status, message)
