"""Stages as the lines of a table."""

from __future__ import annotations

from typing import Any

import pytest

from llmstream.records.values import Spent
from llmstream.watch.stages import Seen, Stage
from llmstream.watch.table import state, table, width

STAGE = Stage("x", 0, 0, None, None, None, None, None, None, {}, None, None, {}, {}, {}, {}, (), ())


def seen(name: str = "tag.done", kind: str = "done-file", complete: bool = False, **more: Any) -> Seen:
    return Seen(STAGE._replace(name=name, **more), kind, complete, 0)


def test_columns_stand_below_one_another() -> None:
    one = seen(
        "名前.done",
        done=5,
        left=1_234_567,
        rate=41.23,
        eta=4000,
        running=7,
        models={"m": Spent(1, 5, 5, 0, 0, 0.00012)},
    )
    other = seen("số.done", done=12_345_678, failed=3, overall=0.5, models={"m": Spent(1, 1, 1, 0, 0, None)})
    assert table([one, other]) == [
        "STAGE            DONE  FAILED       LEFT    RATE  INPUT  OUTPUT       COST      ETA  STATE",
        "名前.done           5       -  1,234,567  41.2/s      5       5   $0.00012  1:06:40  running",
        "số.done    12,345,678       3          -  30/min      1       1          -        -  stopped",
        "total      12,345,683       -          -  41.2/s      6       6  $0.00012+        -",
    ]


def test_the_time_that_is_left_of_all_stages() -> None:
    two = [seen(eta=60.0, running=1, left=1), seen(eta=3600.0, running=2, left=9)]
    assert table(two)[-1].split() == ["total", "0", "-", "10", "-", "-", "-", "-", "1:00:00"]
    assert table([*two, seen(complete=True, left=0)])[-1].split()[-1] == "1:00:00"
    assert table([*two, seen(left=5)])[-1].split()[-1] == "-"


@pytest.mark.parametrize("most", [5, 20, 40, 60, 79, 80, 100])
def test_a_narrow_terminal(most: int) -> None:
    names = ["a/long/way/to/a/stage/of/the/pipe/tag.done", "名" * 40, "b.done"]
    drawn = table([seen(name, done=10**6, left=5) for name in names], most)
    assert [line for line in drawn if width(line) > most] == []
    if most >= 40:
        assert "LEFT" in drawn[0]
        assert drawn[1].endswith("stopped")
        assert "tag.done  " in drawn[1]
    assert ("OUTPUT" in drawn[0], "DONE" in drawn[0]) == (most >= 100, most >= 60)
    assert table([seen("b.done")], 70)[0].count("OUTPUT") == 1  # a short name leaves room


def test_what_goes_on() -> None:
    words = [
        seen(running=1),
        seen(kind="nothing"),
        seen(complete=True),
        seen(left=0, failed=2),
        seen(left=1, failed=2),
        seen(),
    ]
    assert [state(one) for one in words] == ["running", "waiting", "done", "failed", "stopped", "stopped"]


@pytest.mark.parametrize(("seconds", "shown"), [(None, "-"), (0.0, "0:00"), (0.4, "0:01"), (90_000.0, "1d 01h")])
def test_time_left(seconds: float | None, shown: str) -> None:
    assert table([seen(eta=seconds)])[1].split("  ")[-2].strip() == shown
