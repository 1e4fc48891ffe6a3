"""A request that gets an error instead of an answer."""

from __future__ import annotations


class ApiError(Exception):
    """An error in the form that OpenAI gives it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def bad_schema(reason: str) -> ApiError:
    return ApiError(400, f"Invalid schema for response_format: {reason}", param="response_format")
