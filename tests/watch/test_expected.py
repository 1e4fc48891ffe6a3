"""How many records are expected."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from llmstream.watch.expected import Expected, count_records


def test_a_number_that_was_given() -> None:
    assert [Expected(size, None).records() for size in (None, 0, 7)] == [None, 0, 7]


BYTES = st.lists(st.sampled_from([b"\n", b"\n\n", b" ", b"\t", b"\r", b"\v", b"a", b"bc", b"\0", b"\xff"]), max_size=40)


@settings(max_examples=500, deadline=None)
@given(BYTES, st.integers(1, 9))
def test_lines_that_hold_something(parts: list[bytes], size: int) -> None:
    data = b"".join(parts)
    chunks = [data[at : at + size] for at in range(0, len(data), size)]
    assert count_records(iter(chunks)) == sum(bool(line.strip()) for line in data.split(b"\n"))
