"""The books of a run, and the line that sums them up."""

from __future__ import annotations

import pytest

from llmstream import events
from llmstream.values import BadLine, Failure, Outcome


@pytest.mark.parametrize(
    ("counts", "usable", "line"),
    [
        ({"read": 2, "out": 2, "calls": 2, "tries": 2}, None, "read 2, out 2, failed 0, replayed 0, calls 2, "),
        ({"calls": 2, "tries": 5}, None, "read 0, out 0, failed 0, replayed 0, calls 2 in 5 tries, "),
        ({"replayed": 3}, 7, "read 0, out 0, failed 0, replayed 3 (of 7 in the file), calls 0, "),
        ({"kept": 1, "unasked": 2}, 0, "read 0, out 0, failed 0, kept 1, unasked 2, replayed 0, calls 0, "),
        ({"failed": 1, "names": ["a:1"]}, None, "read 0, out 0, failed 1 (a:1), replayed 0, calls 0, "),
        (
            {"failed": 4, "names": ["1", "2", "3"]},
            None,
            "read 0, out 0, failed 4 (1, 2, 3, ...), replayed 0, calls 0, ",
        ),
    ],
)
def test_summary(counts: dict, usable: int | None, line: str) -> None:
    assert events.Counts(**counts).summary(usable).startswith(line)


def test_the_first_failures_are_told_and_the_first_three_named(capfd: pytest.CaptureFixture[str]) -> None:
    counts = events.Counts()
    for n in range(20):
        failed = Outcome(BadLine(b"", f"in:{n}", ""), of=2)
        counts.failure(failed, Failure("http", "no", 400), talkative=False, kept_in="bad.jsonl")
    told = capfd.readouterr().err.splitlines()
    assert counts.failed == 40
    assert counts.names == ["in:0", "in:1", "in:2"]
    assert len(told) == events.SHOWN + 1
    assert told[0].endswith("in:0: no (HTTP 400)")
    assert "bad.jsonl" in told[-1]
