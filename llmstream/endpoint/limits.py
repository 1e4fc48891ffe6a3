"""Requests and tokens a minute: whoever is too fast gets status 429, and is told when there is room."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from llmstream.endpoint.errors import ApiError


class Bucket(NamedTuple):
    """So much a minute: what is left at a time, filled up continuously."""

    what: str  # requests or tokens
    size: int
    left: float
    at: float

    def later(self, now: float) -> Bucket:
        return self._replace(left=min(self.size, self.left + (now - self.at) * self.size / 60), at=now)

    def without(self, cost: int) -> Bucket:
        return self._replace(left=self.left - cost)

    def wait(self, cost: int) -> float:
        """Seconds until there is room; what is larger than the bucket needs all of it."""
        return max(0.0, min(cost, self.size) - self.left) * 60 / self.size

    def headers(self) -> dict[str, str]:
        return {
            f"x-ratelimit-limit-{self.what}": str(self.size),
            f"x-ratelimit-remaining-{self.what}": str(max(0, int(self.left))),
            f"x-ratelimit-reset-{self.what}": _duration((self.size - self.left) * 60 / self.size),
        }


class Limits:
    """The limits of one account."""

    def __init__(self, rpm: int | None, tpm: int | None, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.buckets = [Bucket(what, size, size, now()) for what, size in (("requests", rpm), ("tokens", tpm)) if size]

    def take(self, tokens: int) -> dict[str, str]:
        """Take a call out of every bucket, or out of none. The headers say what is left."""
        costs = {"requests": 1, "tokens": tokens}
        now = self.now()
        self.buckets = [bucket.later(now) for bucket in self.buckets]
        for bucket in self.buckets:
            wait = bucket.wait(costs[bucket.what])
            if wait:
                raise _too_many(bucket, costs[bucket.what], wait, self._headers())
        self.buckets = [bucket.without(costs[bucket.what]) for bucket in self.buckets]
        return self._headers()

    def _headers(self) -> dict[str, str]:
        return {name: value for bucket in self.buckets for name, value in bucket.headers().items()}


def _too_many(bucket: Bucket, cost: int, wait: float, headers: dict[str, str]) -> ApiError:
    when = {
        "Retry-After": str(max(1, math.ceil(wait))),
        "retry-after-ms": str(max(1, math.ceil(wait * 1000))),
    }
    return ApiError(
        429,
        f"Rate limit reached for {bucket.what} per min: Limit {bucket.size}, Left {max(0, int(bucket.left))}, "
        f"Requested {cost}. Please try again in {_duration(wait)}.",
        kind=bucket.what,
        code="rate_limit_exceeded",
        headers={**headers, **when},
    )


def _duration(seconds: float) -> str:
    """As OpenAI writes one: 120ms, 7.66s, 6m0s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds * 100) / 100, 60)
    return f"{minutes:.0f}m{rest:g}s" if minutes else f"{rest:g}s"
