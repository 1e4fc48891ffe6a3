"""Causes: what each is called, whether it may be billed, and whom it blames."""

from __future__ import annotations

import pytest

from llmstream.calls.causes import Cause

TABLE = {
    # what users see, whether it may be billed, whether no single request can be to blame
    Cause.UNREACHED: ("connection", False, True),
    Cause.DROPPED: ("connection", False, False),
    Cause.LATE: ("timeout", True, False),
    Cause.CUT: ("cut", True, False),
    Cause.OVERLOADED: ("http", False, True),
    Cause.SERVER_ERROR: ("http", False, False),
    Cause.LIMITED: ("http", False, False),
    Cause.UNUSABLE: ("reply", True, False),
    Cause.FORM_REFUSED: ("http", False, False),
}


@pytest.mark.parametrize("cause", Cause)
def test_what_follows_from_a_cause(cause: Cause) -> None:
    assert (cause.failure_type, cause.may_be_billed, cause.blames_endpoint) == TABLE[cause]


@pytest.mark.parametrize(
    ("statuses", "cause"),
    [
        ((502, 503), Cause.OVERLOADED),
        ((500, 501, 504, 520, 529, 599, 999, 408, 409), Cause.SERVER_ERROR),
        ((429,), Cause.LIMITED),
        ((200, 204, 301, 308, 400, 401, 403, 404, 422), None),
    ],
)
def test_the_cause_that_a_status_stands_for(statuses: tuple[int, ...], cause: Cause | None) -> None:
    assert {Cause.of_status(status) for status in statuses} == {cause}
