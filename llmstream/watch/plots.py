"""Charts as SVG: how many answers came when, and how long they took."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain, count
from typing import TYPE_CHECKING, NamedTuple

from llmstream.books import histogram
from llmstream.records.figures import duration, number_of, percent, short
from llmstream.watch.elements import NOTHING, Html, caption, element, hue, section, shortened

if TYPE_CHECKING:
    from llmstream.watch.stages import Stage

MOST_BINS = 200  # of the time that a run took
FEWEST_BINS = 12  # a run of a minute is no wall


class Bin(NamedTuple):
    """One bar of a plot, and what it says when it is pointed at."""

    height: float
    title: str
    open: bool = False  # it may still grow


class Tick(NamedTuple):
    """A label beside an axis."""

    place: float  # 0 to 1
    text: str


def plot(bins: Sequence[Bin], ticks: Sequence[Tick], label: str, number: int, gutter: int, *marks: str) -> Html:
    """Bars stretch with the page, text does not, so that it is as large on a telephone.

    Everything stands at a share of the box, and only the bars have units of their own.
    """
    top, levels = _levels(bins)
    width = 0.84 if len(bins) <= 4 * FEWEST_BINS else 1
    bars = []
    for place, one in enumerate(bins):
        if one.height:
            high = max(round(1000 * one.height / top, 1), 4)  # one answer is seen beside thousands
            box = {"x": place + (1 - width) / 2, "y": 1000 - high, "width": width, "height": high}
            bars.append(element("rect", element("title", one.title), **box, class_="open" if one.open else None))
    view = {"viewBox": f"0 0 {len(bins)} 1000", "preserveAspectRatio": "none", "width": "100%", "height": "100%"}
    inside = (*map(_beside, levels), element("svg", *bars, **view), *map(_below, ticks), *marks)
    style = f"--gutter: {gutter}ch"
    return element("svg", *inside, class_=f"plot {hue(number)}", role="img", aria_label=label, style=style)


def _levels(bins: Sequence[Bin]) -> tuple[float, list[Tick]]:
    """Where a plot ends, and its lines: in steps of 1, 2 or 5 of some power of ten."""
    most = max(bins).height
    power = 10.0 ** math.floor(math.log10(most))
    step = next(step for step in (power / 5, power / 2, power, 2 * power, 5 * power) if most / step <= 4)
    step = max(step, 1) if most == int(most) else step  # there is no half an answer
    steps = math.ceil(most / step - 1e-9)
    return steps * step, [Tick(number / steps, _level(number * step)) for number in range(steps + 1)]


def _level(value: float) -> str:
    return short(int(value), exact_below=10_000_000) if value == int(value) else f"{value:.10g}"


def _gutter(*plots: Sequence[Bin]) -> int:
    """How wide the labels on the left are: plots over one time begin at one place."""
    return max(len(tick.text) for bins in plots for tick in _levels(bins)[1])


def _beside(tick: Tick) -> Html:
    y = f"{100 - 100 * tick.place:.2f}%"
    line = element("line", x1="0", x2="100%", y1=y, y2=y, class_="grid" if tick.place else "axis")
    return Html(line + element("text", tick.text, x="-8", y=y, dy=".35em", class_="y"))


def _below(tick: Tick) -> Html:
    return element("text", tick.text, x=f"{100 * tick.place:.2f}%", y="100%", dy="1.6em", class_="x")


# -- moments --------------------------------------------------------------------------------------


def moment_of(seconds: float) -> datetime:
    first, last = -62135596800.0, 253402300799.0  # what a date can be
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=min(max(seconds, first), last))


def day(moment: datetime) -> str:
    return f"{moment.day} {moment:%b} {moment.year}"


def span(stages: Sequence[Stage]) -> str:
    """When the answers came."""
    firsts = [stage.first for stage in stages if stage.first is not None]
    lasts = [stage.last for stage in stages if stage.last is not None]
    if not firsts or not lasts:
        return ""
    first, last, took = moment_of(min(firsts)), moment_of(max(lasts)), max(lasts) - min(firsts)
    until = f"{last:%H:%M}" if last.date() == first.date() else f"{day(last)}, {last:%H:%M}"
    lasted = f" ({duration(took)})" if took >= 1 else ""
    return f"Answers from {day(first)}, {first:%H:%M} to {until} UTC{lasted}."


# -- throughput -----------------------------------------------------------------------------------


class _Axis(NamedTuple):
    """The time that all stages are drawn over, in minutes since 1970."""

    first: int
    last: int
    bin: int

    def starts(self) -> range:
        """The minutes that bins begin with."""
        return range(self.first, self.last, self.bin)


_UNITS = ((1, "a minute"), (60, "an hour"), (1440, "a day"))


def throughput(stages: Sequence[Stage], at: float) -> Html:
    """How many answers came when. at: the present."""
    shown = {number: stage for number, stage in enumerate(stages) if any(stage.minutes.values())}
    if not shown:
        return NOTHING
    axis = _axis(list(shown.values()))
    counts = {number: _counts(stage, axis) for number, stage in shown.items()}
    most = max(max(each.values()) for each in counts.values()) / axis.bin
    unit, per = next((pair for pair in _UNITS if most * pair[0] >= 1), _UNITS[-1])
    bins = {number: _rates(each, axis, unit, at) for number, each in counts.items()}
    gutter, times, figures = _gutter(*bins.values()), _times(axis), []
    for number, each in bins.items():
        name = shortened(shown[number].name, 60)
        label = f"Answers {per} of {name}: up to {max(each).height:,.3g}. {span([shown[number]])}"
        figures.append(_figure(stages, number, plot(each, times, label, number, gutter)))
    return section("Throughput", _note(axis, per), element("div", *figures, class_="rows"))


def _note(axis: _Axis, per: str) -> str:
    averaged = "" if axis.bin == 1 else f", averaged over {duration(60 * axis.bin)}"
    return f"Answers {per}{averaged}, from {day(moment_of(60 * axis.first))} on. Times are in UTC."


def _figure(stages: Sequence[Stage], number: int, drawn: Html) -> Html:
    return element("figure", caption("figcaption", list(stages), number), drawn)


def _axis(stages: Sequence[Stage]) -> _Axis:
    """Whole bins. A short run gets some empty time before it: nothing was answered then."""
    first = min(minute for stage in stages for minute in stage.minutes)
    last = max(minute for stage in stages for minute in stage.minutes) + 1
    width = _round_minutes(last - first, MOST_BINS - 2)
    first, last = first // width * width, -(-last // width) * width
    return _Axis(min(first, last - FEWEST_BINS * width), last, width)


def _round_minutes(minutes: float, most: int) -> int:
    """A number of minutes that people count in, so long that at most so many of them cover these minutes."""
    usual = chain((1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720), (1440 << doubled for doubled in count()))
    return next(length for length in usual if minutes / length <= most)


def _counts(stage: Stage, axis: _Axis) -> Counter[int]:
    """Answers by the minute that their bin begins with."""
    counts: Counter[int] = Counter()
    for minute, answers in stage.minutes.items():
        counts[minute // axis.bin * axis.bin] += answers
    return counts


def _rates(counts: Mapping[int, int], axis: _Axis, unit: int, at: float) -> list[Bin]:
    bins = []
    for start in axis.starts():
        moment, answers = moment_of(60 * start), counts.get(start, 0)
        title = f"{moment.day} {moment:%b %H:%M}: {number_of(answers, 'answer')}"
        bins.append(Bin(answers / axis.bin * unit, title, open=at < 60 * (start + axis.bin)))
    return bins


def _times(axis: _Axis) -> list[Tick]:
    minutes = axis.last - axis.first
    step = _round_minutes(minutes, 5)
    ticks = range(-(-axis.first // step) * step, axis.last + 1, step)
    return [Tick((minute - axis.first) / minutes, _time(moment_of(60 * minute), step)) for minute in ticks]


def _time(moment: datetime, step: int) -> str:
    if step > 60 * 1440:
        return f"{moment:%Y-%m}"
    midnight = step >= 1440 or (moment.hour, moment.minute) == (0, 0)
    return f"{moment.day} {moment:%b}" if midnight else f"{moment:%H:%M}"


# -- latency --------------------------------------------------------------------------------------

_LOG_STEP = math.log(histogram.STEP)
_LEAST = round(math.log(4) / _LOG_STEP)  # buckets: the axis covers a factor of four or more
_ROOM = 0.24  # of the axis, before the line of p50: its name stands there
_ROUND = [one * 10.0**power for power in range(-4, 1) for one in (1, 2, 5)]  # seconds to write below the axis
_ROUND += [10, 20, 60, 120, 300, 600, 1200, 3600, 7200, 18000, 36000, 86400]


def latencies(stages: Sequence[Stage]) -> Html:
    """How long the answers of each stage took."""
    figures = [
        _figure(stages, number, _latency(stage, number))
        for number, stage in enumerate(stages)
        if any(stage.latencies.values())
    ]
    if not figures:
        return NOTHING
    note = "How many answers took how long. Half are no slower than p50, 95 in a hundred no slower than p95."
    return section("Latency", note, element("div", *figures, class_="pairs latency"))


class _LogAxis(NamedTuple):
    """An axis of latencies, in buckets of the histogram."""

    first: int
    bins: int
    width: int  # buckets in a bin

    def starts(self) -> range:
        return range(self.first, self.first + self.bins * self.width, self.width)

    def place(self, seconds: float) -> float:
        """Where a latency stands, 0 to 1."""
        return (math.log(seconds) / _LOG_STEP + 0.5 - self.first) / (self.bins * self.width)


def _latency(stage: Stage, number: int) -> Html:
    counts = stage.latencies
    marks = [(f"p{share}", histogram.percentile(counts, share / 100) or 0.0) for share in (50, 95, 99)]
    axis = _log_axis(counts, histogram.bucket(marks[0][1]))
    bins = [_latency_bin(counts, start, axis.width) for start in axis.starts()]
    names = [f"{name} {duration(seconds)}" for name, seconds in marks]
    lines = [_mark(row, axis.place(seconds), names[row]) for row, (_, seconds) in enumerate(marks)]
    label = f"Latency of {shortened(stage.name, 60)}: {', '.join(names)}"
    ticks = [Tick(axis.place(seconds), duration(seconds)) for seconds in _ROUND if 0 <= axis.place(seconds) <= 1]
    ticks = ticks[:: math.ceil(len(ticks) / 4) or 1]
    return plot(bins, ticks, label, number, _gutter(bins), *lines)


def _log_axis(counts: Mapping[int, int], half: int) -> _LogAxis:
    """From the shortest to the longest, with room for the name of p50, which stands at this bucket."""
    pad = max(0, _LEAST - (max(counts) - min(counts))) // 2
    last = max(counts) + pad + 1
    first = min(min(counts) - pad, math.floor((half - _ROOM * last) / (1 - _ROOM)))
    width = math.ceil((last - first) / 48)
    return _LogAxis(first, math.ceil((last - first) / width), width)


def _latency_bin(counts: Mapping[int, int], start: int, width: int) -> Bin:
    number, total = sum(counts.get(start + i, 0) for i in range(width)), sum(counts.values())
    about = duration(histogram.middle(start + width // 2))
    return Bin(number, f"about {about}: {number_of(number, 'answer')} ({percent(number / total)})")


def _mark(row: int, place: float, name: str) -> Html:
    """A line down to the axis, its name to the left. The rightmost begins highest, so no line meets a name."""
    x, y = f"{100 * place:.2f}%", -14 - 15 * row
    line = element("line", x1=x, x2=x, y1=y - 6, y2="100%", class_="mark")
    return Html(line + element("text", name, x=x, y=y + 4, dx=-5, class_="mark"))
