"""Retry-After: seconds, milliseconds and dates; whatever makes no sense counts as absent."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from endpoint import Endpoint, error, says
from hypothesis import given
from hypothesis import strategies as st
from tool import run

from llmstream.calls.retry_after import LONGEST_SENSIBLE, retry_after

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": " 20 "}, 20.0),
        ({"retry-after": "3600"}, 3600.0),
        ({"retry-after": "1e9"}, 1e9),
        ({"retry-after-ms": "1200"}, 1.2),
        ({"retry-after-ms": "1200", "retry-after": "60"}, 1.2),
        ({"retry-after-ms": "soon", "retry-after": "60"}, 60.0),
        ({"retry-after": formatdate(NOW + 30, usegmt=True)}, 30.0),
        ({"retry-after": formatdate(NOW + 30)}, 30.0),
        ({"retry-after": formatdate(NOW - 30, usegmt=True)}, 0.0),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "soon",
        "-5",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "1e10",
        str(int(NOW)),  # a moment, not a duration
        "9" * 400,
        "9" * 5000,
        "Fri, 01 Jan 9999 00:00:00 GMT",
        "Fri, 01 Jan 99999 00:00:00 GMT",
        "Fri, 01 Jan 9999999999999999999999 00:00:00 GMT",
        "Fri, 01 Jan 2027 00:00:00 +99999999999",
        "Fri, 99 Jan 2027 00:00:00 GMT",
    ],
)
def test_what_makes_no_sense_counts_as_absent(text: str) -> None:
    assert retry_after({"retry-after": text}, NOW) is None


@pytest.mark.parametrize("text", ["", "soon", "-5", "nan", "inf", "1e13", "9" * 400, "Fri, 01 Jan 99999 00:00:00 GMT"])
def test_milliseconds_that_make_no_sense_count_as_absent(text: str) -> None:
    assert retry_after({"retry-after-ms": text}, NOW) is None
    assert retry_after({"retry-after-ms": text, "retry-after": "7"}, NOW) == 7.0


@given(st.text() | st.floats().map(str) | st.integers().map("Fri, 01 Jan {} 00:00:00".format))
def test_any_text_is_a_wait_or_none(text: str) -> None:
    seconds = retry_after({"retry-after": text}, NOW)
    assert seconds is None or 0 <= seconds <= LONGEST_SENSIBLE


@pytest.mark.parametrize("status", [429, 503])
def test_a_date_that_no_calendar_has_stops_no_run(status: int) -> None:
    date = "Fri, 01 Jan 9999999999999999999999 00:00:00 GMT"
    with Endpoint(lambda call: says() if call.number else error(status, Retry_After=date)) as endpoint:
        got = run("llm-map", "hi", stdin="{}\n", url=endpoint.url)
    assert (got.returncode, len(endpoint.calls)) == (0, 2)
    assert b"bug" not in got.stderr
