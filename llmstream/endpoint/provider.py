"""The provider behind the endpoint: its routes, its models, and what it knows from one call to the next."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from llmstream.endpoint.answers import answer, as_completion
from llmstream.endpoint.call import parse_body, read_call
from llmstream.endpoint.chance import number, share
from llmstream.endpoint.errors import ApiError
from llmstream.endpoint.faults import Faults, Tries, reply_to
from llmstream.endpoint.http import Request
from llmstream.endpoint.latency import Latency
from llmstream.endpoint.limits import Limits
from llmstream.endpoint.log import log_request
from llmstream.endpoint.replies import Reply, error_reply, json_reply
from llmstream.shell.messages import why

MODEL = "sim"


class Day(NamedTuple):
    """How good or bad a day the provider has."""

    latency: Latency
    faults: Faults
    rpm: int | None  # requests a minute
    tpm: int | None  # tokens a minute
    seed: int
    any_model: bool


class Provider:
    """What answers the requests of all connections."""

    def __init__(self, day: Day, log: int | None) -> None:
        self.day = day
        self.log = log  # a descriptor
        self.limits = Limits(day.rpm, day.tpm)
        self.tries = Tries()

    def reply(self, request: Request) -> Reply:
        try:
            reply = self.route(request)
        except ApiError as error:
            reply = error_reply(error)
        if self.log is None:
            return reply
        try:
            log_request(self.log, request, reply)
        except OSError as error:  # a call that is in no log must not have been answered
            return error_reply(ApiError(500, f"llm-sim cannot write its log: {why(error)}", kind="server_error"))
        return reply

    def route(self, request: Request) -> Reply:
        key = request.headers.get("authorization", "").removeprefix("Bearer") or request.headers.get("api-key", "")
        if not key.strip():
            raise ApiError(401, "You didn't provide an API key. llm-sim takes any.", code="invalid_api_key")
        match request.path.strip("/").split("/"):
            case ["v1", "chat", "completions"]:
                return self.chat(_only("POST", request))
            case ["openai", "deployments", name, "chat", "completions"]:
                return self.chat(_only("POST", request), name)
            case ["v1", "models"]:
                _only("GET", request)
                return json_reply({"object": "list", "data": [_model(MODEL)]})
            case ["v1", "models", *names]:
                _only("GET", request)
                return json_reply(_model(self.known("/".join(names))))
        raise ApiError(404, f"Unknown request URL: {request.method} {request.path}.", code="unknown_url")

    def chat(self, request: Request, deployment: str | None = None) -> Reply:
        asked = parse_body(request.body)
        model = self.known(asked.get("model") or deployment)
        call = read_call(self.day.seed, request.body, request.headers.get("idempotency-key", ""), asked)
        given = answer(call, asked)
        left = self.limits.take(given.usage.total)
        nth = self.tries.number_of(call)
        completion = as_completion(call, given, model, int(time.time()))
        reply = reply_to(call, nth, self.day.faults, completion, given.usage)
        headers = {"x-request-id": f"req_{number(call.own, b'id', nth):016x}", **left}
        return reply._replace(headers=headers, delay=self.day.latency.at(share(call.own, b"latency", nth)), model=model)

    def known(self, model: Any) -> str:
        if not isinstance(model, str) or not model:
            raise ApiError(400, "you must provide a model parameter", param="model")
        if model != MODEL and not self.day.any_model:
            reason = f"The model `{model}` does not exist: llm-sim knows only `{MODEL}`, unless --any-model says so."
            raise ApiError(404, reason, param="model", code="model_not_found")
        return model


def _only(method: str, request: Request) -> Request:
    if request.method != method:
        reason = f"Not allowed to {request.method} on {request.path}: use {method}."
        raise ApiError(405, reason, code="method_not_supported", headers={"Allow": method})
    return request


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1700000000, "owned_by": "llmstream"}
