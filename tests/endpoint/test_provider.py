"""The routes and models of llm-sim, and what they refuse."""

import json

import pytest
from sim_client import body, send, serving


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
