"""Stages as metrics in Prometheus' text format, for the textfile collector of its node exporter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from llmstream.books import histogram

if TYPE_CHECKING:
    from llmstream.watch.stages import Stage

BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0)  # seconds, of latencies
TOKENS = ("input", "output", "cached", "reasoning")

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Labels = tuple[tuple[str, str], ...]
Sample = tuple[str, Labels, float | None]  # what stands behind the metric's name; None: not known, and left out


def text(stages: Sequence[Stage]) -> str:
    """All metrics of all stages. What is not known is not there."""
    named = list(zip(_names(stages), stages, strict=True))
    return "".join(
        _metric(name, kind, about, [sample for label, stage in named for sample in samples(("stage", label), stage)])
        for name, kind, about, samples in _METRICS
    )


def _names(stages: Iterable[Stage]) -> Iterator[str]:
    """A name for each stage: two series of the same name would spoil the whole file."""
    used: set[str] = set()
    for stage in stages:
        name, again = _clean(stage.name), 1
        while name in used:
            again += 1
            name = f"{_clean(stage.name)} ({again})"
        used.add(name)
        yield name


def _clean(name: str) -> str:
    """Text as UTF-8 has it, also where it came from bytes that are none."""
    return name.encode(errors="backslashreplace").decode()


def _metric(name: str, kind: str, about: str, samples: Iterable[Sample]) -> str:
    lines = [_line(name + behind, labels, value) for behind, labels, value in samples if value is not None]
    return "".join([f"# HELP {name} {about}\n# TYPE {name} {kind}\n", *lines]) if lines else ""


def _line(name: str, labels: Labels, value: float) -> str:
    shown = ",".join(f'{label}="{_clean(text).translate(_ESCAPES)}"' for label, text in labels)
    return f"{name}{{{shown}}} {value!r}\n"


# -- the metrics --------------------------------------------------------------------------------

Label = tuple[str, str]


def _answers(stage: Label, it: Stage) -> list[Sample]:
    return [("", (stage,), it.done)]


def _rejected(stage: Label, it: Stage) -> list[Sample]:
    return [("", (stage,), it.rejected)]


def _failed(stage: Label, it: Stage) -> list[Sample]:
    return [("", (stage,), it.failed)]


def _left(stage: Label, it: Stage) -> list[Sample]:
    return [("", (stage,), it.left)]


def _calls(stage: Label, it: Stage) -> list[Sample]:
    return [("", (stage, ("model", model)), spent.calls) for model, spent in it.models.items()]


def _tokens(stage: Label, it: Stage) -> list[Sample]:
    return [
        ("", (stage, ("model", model), ("kind", kind)), getattr(spent, kind))
        for model, spent in it.models.items()
        for kind in TOKENS
    ]


def _cost(stage: Label, it: Stage) -> list[Sample]:
    return [("", (stage, ("model", model)), spent.cost) for model, spent in it.models.items()]


def _running(stage: Label, it: Stage) -> list[Sample]:
    return [("", (stage,), int(it.running is not None))]


def _last(stage: Label, it: Stage) -> list[Sample]:
    return [("", (stage,), it.last)]


def _latency(stage: Label, it: Stage) -> Iterator[Sample]:
    taken = [(histogram.middle(bucket), answers) for bucket, answers in it.latencies.items()]
    answers = sum(times for _, times in taken)
    for bound in BOUNDS:
        within = sum(times for seconds, times in taken if seconds <= bound)
        yield "_bucket", (stage, ("le", f"{bound:g}")), within
    yield "_bucket", (stage, ("le", "+Inf")), answers
    yield "_sum", (stage,), sum(seconds * times for seconds, times in taken)
    yield "_count", (stage,), answers


_METRICS = (
    ("llmstream_answers_total", "counter", "Requests with an accepted answer.", _answers),
    ("llmstream_rejected_total", "counter", "Answers that were paid for and not accepted.", _rejected),
    ("llmstream_failed_records", "gauge", "Records that failed in the last run.", _failed),
    ("llmstream_left_records", "gauge", "Records that are not done.", _left),
    ("llmstream_calls_total", "counter", "Calls that are paid for.", _calls),
    (
        "llmstream_tokens_total",
        "counter",
        "Tokens; cached ones are part of the input, reasoning ones of the output.",
        _tokens,
    ),
    ("llmstream_cost_usd_total", "counter", "What the calls cost, in USD, where all of it is known.", _cost),
    ("llmstream_running", "gauge", "Is a process at work on it?", _running),
    ("llmstream_last_answer_timestamp_seconds", "gauge", "When the last answer came.", _last),
    ("llmstream_latency_seconds", "histogram", "How long the answers took, to one part in a hundred.", _latency),
)
