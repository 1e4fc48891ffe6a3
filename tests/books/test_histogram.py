"""Percentiles out of buckets, beside those of the sorted values themselves."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from llmstream.books import histogram


def test_nothing_has_no_percentile() -> None:
    assert histogram.percentile({}, 0.5) is None


@given(st.lists(st.floats(1e-4, 1e5), min_size=1), st.floats(0.01, 1))
def test_a_percentile_is_right_within_a_hundredth(seconds: list[float], share: float) -> None:
    exact = sorted(seconds)[math.ceil(share * len(seconds) - 1e-9) - 1]
    found = histogram.percentile(Counter(map(histogram.bucket, seconds)), share)
    assert found is not None
    assert abs(found / exact - 1) <= 0.0101


def test_a_million_durations_take_a_few_hundred_buckets() -> None:
    assert len({histogram.bucket(0.05 + n / 1e6) for n in range(1_000_000)}) < 200


def test_what_is_shorter_than_can_be_told_apart() -> None:
    assert histogram.bucket(0) == histogram.bucket(histogram.SHORTEST)
