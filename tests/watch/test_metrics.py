"""Metrics that Prometheus' own parser reads as they were meant."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from llmstream.books import histogram
from llmstream.records.values import Spent
from llmstream.watch import metrics
from llmstream.watch.stages import Stage

EMPTY = Stage(
    name="tag.done",
    done=0,
    rejected=0,
    failed=None,
    left=None,
    running=None,
    rate=None,
    overall=None,
    eta=None,
    models={},
    first=None,
    last=None,
    minutes={},
    latencies={},
    failures={},
    labels={},
    slowest=(),
    dearest=(),
)
FULL = EMPTY._replace(
    done=12_345_678,
    rejected=12,
    failed=3,
    left=0,
    running=4711,
    models={"sim": Spent(12, 10**12, 5, 4, 3, 0.1 + 0.2), "free": Spent(1, 2, 3, 0, 0, None)},
    last=1_795_521_600.0,
    latencies=Counter(histogram.bucket(seconds) for seconds in (0.001, 0.2, 0.2, 3, 4, 90, 1000)),
)

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(*stages: Stage) -> Series:
    """What Prometheus makes of it: every series once."""
    text = metrics.text(stages)
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples)
    return found


def value(series: Series, name: str, **labels: str) -> float | None:
    return series.get((f"llmstream_{name}", frozenset({"stage": "tag.done", **labels}.items())))


def test_what_is_known() -> None:
    found = parsed(FULL)
    assert value(found, "answers_total") == 12_345_678
    assert value(found, "rejected_total") == 12
    assert value(found, "failed_records") == 3
    assert value(found, "left_records") == 0
    assert value(found, "running") == 1
    assert value(found, "last_answer_timestamp_seconds") == 1_795_521_600
    assert value(found, "calls_total", model="sim") == 12
    assert value(found, "tokens_total", model="sim", kind="input") == 10**12
    assert value(found, "tokens_total", model="sim", kind="reasoning") == 3
    assert value(found, "cost_usd_total", model="sim") == 0.1 + 0.2


def test_what_is_not_known_is_left_out() -> None:
    found = parsed(EMPTY)
    assert value(found, "running") == 0
    for name in ("failed_records", "left_records", "last_answer_timestamp_seconds"):
        assert value(found, name) is None
    assert value(parsed(FULL), "cost_usd_total", model="free") is None
    assert "NaN" not in metrics.text([FULL, EMPTY])


def test_the_histogram() -> None:
    found = parsed(FULL)
    within = [(float(dict(labels)["le"]), count) for (name, labels), count in found.items() if name.endswith("_bucket")]
    within.sort()
    assert [bound for bound, _ in within] == [*metrics.BOUNDS, math.inf]
    counts = dict(within)
    assert [counts[bound] for bound in (0.05, 0.1, 0.25, 2.5, 5, 60, 120, math.inf)] == [1, 1, 3, 3, 5, 5, 6, 7]
    assert value(found, "latency_seconds_count") == 7
    assert value(found, "latency_seconds_sum") == pytest.approx(1097.4, rel=0.01)


def test_help_and_type_once_and_before_the_samples() -> None:
    text = metrics.text([FULL, FULL._replace(name="other")])
    assert text.endswith("\n")
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names)) == 10
    kinds = {line.split()[2]: line.split()[3] for line in text.splitlines() if line.startswith("# TYPE")}
    assert {kind for name, kind in kinds.items() if name.endswith("_total")} == {"counter"}
    current = ""
    for line in text.splitlines():
        if line.startswith("# HELP"):
            current = line.split()[2]
        assert current in line
        assert line.isprintable()


def test_nothing_of_nothing() -> None:
    assert metrics.text([]) == ""


def test_stages_of_one_name_do_not_spoil_the_file() -> None:
    found = parsed(EMPTY, FULL, EMPTY._replace(name="tag.done (2)"))
    names = [dict(labels)["stage"] for name, labels in found if name == "llmstream_running"]
    assert sorted(names) == ["tag.done", "tag.done (2)", "tag.done (2) (2)"]


NAMES = st.text(st.characters(exclude_characters="\r"), max_size=12) | st.sampled_from(
    ["", '"', "\\", "\n", "\\n", '\\"', "a{b}", "\udcff", "\x00\x1b[2J", "\u2028", "\x85", "é", "le", "# TYPE x"]
)
COUNTS = st.integers(0, 10**15)
STAGES = st.builds(
    EMPTY._replace,
    name=NAMES,
    done=COUNTS,
    rejected=COUNTS,
    failed=st.none() | COUNTS,
    left=st.none() | COUNTS,
    running=st.none() | st.integers(0, 99),
    last=st.none() | st.floats(0, 1e10),
    models=st.dictionaries(
        NAMES, st.builds(Spent, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, st.none() | st.floats(0, 1e9)), max_size=3
    ),
    latencies=st.dictionaries(st.integers(-465, 600), st.integers(1, 10**6), max_size=9),
)


@given(st.lists(STAGES, max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_stages(stages: list[Stage]) -> None:
    found = parsed(*stages)
    running = [labels for name, labels in found if name == "llmstream_running"]
    assert len(running) == len(stages)
    known = sum(spent.cost is not None for stage in stages for spent in stage.models.values())
    assert sum(name == "llmstream_cost_usd_total" for name, _ in found) == known
    for stage in stages:
        if sum(other.name == stage.name for other in stages) == 1 and stage.name.isascii():
            (answers,) = [
                n
                for (name, labels), n in found.items()
                if name == "llmstream_answers_total" and ("stage", stage.name) in labels
            ]
            assert answers == stage.done


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_agrees() -> None:
    text = metrics.text([FULL, EMPTY._replace(name='a"b\\c\nd')])
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
