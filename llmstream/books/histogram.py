"""Durations counted in buckets: memory for as many as differ by a fiftieth, whatever their number."""

from __future__ import annotations

import math
from collections.abc import Mapping

STEP = 1.02  # from one bucket to the next: a percentile is right within one part in a hundred
SHORTEST = 1e-4  # seconds; what is shorter is counted as this
_LOG_STEP = math.log(STEP)


def bucket(seconds: float) -> int:
    """The number of the bucket that a duration falls into."""
    return round(math.log(max(seconds, SHORTEST)) / _LOG_STEP)


def middle(number: int) -> float:
    """The duration that a bucket stands for, in seconds."""
    return STEP**number


def percentile(counts: Mapping[int, int], share: float) -> float | None:
    """The duration that so many of those counted (0.95: 95 in a hundred) do not exceed. None: nothing was counted."""
    wanted = share * sum(counts.values())
    seen = 0
    for number in sorted(counts):
        seen += counts[number]
        if seen >= wanted and seen:
            return middle(number)
    return None
