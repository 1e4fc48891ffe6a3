"""Stages as metrics in Prometheus' text format, for the textfile collector of its node exporter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from llmstream.books import histogram

if TYPE_CHECKING:
    from llmstream.records.values import Spent
    from llmstream.watch.stages import Stage

BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0)  # seconds, of latencies
TOKENS = ("input", "output", "cached", "reasoning")

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Labels = tuple[tuple[str, str], ...]


class Sample(NamedTuple):
    value: float | None  # None: not known, and left out
    labels: Labels = ()  # besides that of the stage
    suffix: str = ""  # behind the metric's name


class Metric(NamedTuple):
    name: str
    kind: str
    help: str
    samples: Callable[[Stage], Iterable[Sample]]


def text(stages: Sequence[Stage]) -> str:
    """All metrics of all stages. What is not known is not there."""
    named = list(zip(_unique_names(stages), stages, strict=True))
    return "".join(_lines(metric, named) for metric in _METRICS)


def _unique_names(stages: Iterable[Stage]) -> Iterator[str]:
    """A name for each stage: two series of the same name would spoil the whole file."""
    used: set[str] = set()
    for stage in stages:
        name, again = _as_utf8(stage.name), 1
        while name in used:
            again += 1
            name = f"{_as_utf8(stage.name)} ({again})"
        used.add(name)
        yield name


def _as_utf8(name: str) -> str:
    """Text that UTF-8 can write, also where it came from bytes that are not UTF-8."""
    return name.encode(errors="backslashreplace").decode()


def _lines(metric: Metric, stages: Iterable[tuple[str, Stage]]) -> str:
    lines = []
    for name, stage in stages:
        for value, labels, suffix in metric.samples(stage):
            if value is not None:
                shown = ",".join(_label(*label) for label in (("stage", name), *labels))
                lines.append(f"{metric.name}{suffix}{{{shown}}} {value!r}\n")
    if not lines:
        return ""
    return "".join([f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} {metric.kind}\n", *lines])


def _label(name: str, value: str) -> str:
    return f'{name}="{_as_utf8(value).translate(_ESCAPES)}"'


# -- the metrics --------------------------------------------------------------------------------


def _plain(value: Callable[[Stage], float | None]) -> Callable[[Stage], list[Sample]]:
    """One sample for each stage."""
    return lambda stage: [Sample(value(stage))]


def _by_model(value: Callable[[Spent], float | None]) -> Callable[[Stage], list[Sample]]:
    """A sample for each model of each stage."""
    return lambda stage: [Sample(value(spent), (("model", model),)) for model, spent in stage.models.items()]


def _latency(stage: Stage) -> Iterator[Sample]:
    taken = [(histogram.middle(bucket), answers) for bucket, answers in stage.latencies.items()]
    answers = sum(times for _, times in taken)
    for bound in BOUNDS:
        within = sum(times for seconds, times in taken if seconds <= bound)
        yield Sample(within, (("le", f"{bound:g}"),), "_bucket")
    yield Sample(answers, (("le", "+Inf"),), "_bucket")
    yield Sample(sum(seconds * times for seconds, times in taken), (), "_sum")
    yield Sample(answers, (), "_count")


# fmt: off
_METRICS = (
    Metric("llmstream_answers_total", "counter", "Requests with an accepted answer.",
           _plain(lambda stage: stage.done)),
    Metric("llmstream_rejected_total", "counter", "Answers that were paid for and not accepted.",
           _plain(lambda stage: stage.rejected)),
    Metric("llmstream_failed_records", "gauge", "Records that failed in the last run.",
           _plain(lambda stage: stage.failed)),
    Metric("llmstream_left_records", "gauge", "Records that are not done.",
           _plain(lambda stage: stage.left)),
    Metric("llmstream_calls_total", "counter", "Calls that are paid for.",
           _by_model(lambda spent: spent.calls)),
    Metric("llmstream_tokens_total", "counter",
           "Tokens; cached ones are part of the input, reasoning ones of the output.",
           lambda stage: [Sample(getattr(spent, kind), (("model", model), ("kind", kind)))
                          for model, spent in stage.models.items() for kind in TOKENS]),
    Metric("llmstream_cost_usd_total", "counter", "What the calls cost, in USD, where all of it is known.",
           _by_model(lambda spent: spent.cost)),
    Metric("llmstream_running", "gauge", "Is a process at work on it?",
           _plain(lambda stage: int(stage.running is not None))),
    Metric("llmstream_last_answer_timestamp_seconds", "gauge", "When the last answer came.",
           _plain(lambda stage: stage.last)),
    Metric("llmstream_latency_seconds", "histogram", "How long the answers took, to one part in a hundred.",
           _latency),
)
# fmt: on
