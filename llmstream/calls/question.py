"""A request on its way to an answer: one asking of it, and how often that was tried."""

from __future__ import annotations

from typing import NamedTuple

from llmstream.calls.causes import Cause
from llmstream.records.values import Answer, Failure, Rejected, Reply, Request

Result = Answer | Rejected | Failure


class Question(NamedTuple):
    """One asking of a request."""

    request: Request
    body: bytes  # the request's own, or one that asks again
    asking: int = 1
    tried: int = 0  # how often the request was tried before, in this run


class Again(NamedTuple):
    """Why a further try may bring something better, and when."""

    cause: Cause
    certain: bool = False  # the endpoint is to blame, whatever the request
    wait: float = 0.0  # seconds, at least
    took: float = 0.0  # seconds that this try took
    paid: Reply | None = None  # where even this reply tells what it used
    cost: float | None = None


class Attempt(NamedTuple):
    """What came of one try: a result that stands, unless it may be tried again."""

    result: Result
    again: Again | None = None


class Course:
    """How far one asking has got."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.request = question.request
        self.tries = question.tried
        self._counted = 0
        self._perhaps_billed = 0

    @property
    def first_try(self) -> bool:
        return not self.tries

    def may_go_on(self, cause: Cause, retries: int, *, endpoint_to_blame: bool) -> bool:
        """Is there a further try after one that failed for this cause?"""
        self._counted += cause.counts
        self._perhaps_billed += cause.may_be_billed
        return self._perhaps_billed <= 1 and (self._counted <= retries or endpoint_to_blame)
