"""How far a pipe is, and how that is put into words."""

from __future__ import annotations

import pytest

from llmstream.watch import how_far
from llmstream.watch.how_far import HowFar, Passed, measure


def at(now: float, lines: int, seen: list[tuple[float, int]], size: int | None = None) -> HowFar:
    return measure(seen, size, Passed(lines, 10 * lines, began=0.0), now)


def test_rates_are_of_now_and_of_all() -> None:
    seen = [(float(second), 10 * second) for second in range(20)] + [(20.0, 250)]
    its = at(20.0, 250, seen, 1000)
    assert its.now == pytest.approx(100 / 5)
    assert its.overall == pytest.approx(250 / 20)
    assert its.left == pytest.approx(750 / (250 / 20))
    assert its.elapsed == 20


def test_when_nothing_moves_nobody_knows_what_is_left() -> None:
    seen = [(0.0, 0), *((float(second), 10) for second in range(70, 101))]
    its = at(100.0, 10, seen, 1000)
    assert (its.now, its.left) == (0, None)
    assert how_far.as_message(its) == "10 of 1,000 (1.0 %), 0/s now, 6/min overall, 1:40"


def test_ages_mean_that_nobody_knows() -> None:
    assert at(20.0, 1, [(0.0, 0)], 10**9).left is None


def test_more_than_expected_leaves_nothing() -> None:
    its = at(10.0, 5200, [(5.0, 2600)], 5000)
    assert how_far.as_message(its) == "5,200 of 5,000, 520/s now, 520/s overall, 0:10"
    assert how_far.as_drawn("x", its).share == 1


def test_at_the_very_beginning() -> None:
    its = at(0.0, 0, [(0.0, 0)], 10)
    assert how_far.as_message(its) == "0 of 10 (0.0 %), 0/s now, 0/s overall, 0:00"
