"""Stages drawn as one page that needs nothing but a browser: values in, text out."""

from __future__ import annotations

import html as markup
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain, count
from typing import TYPE_CHECKING, NamedTuple

from llmstream.books import histogram
from llmstream.books.summary import dollars
from llmstream.records import words

if TYPE_CHECKING:
    from llmstream.records.values import Spent
    from llmstream.watch.stages import Call, Stage

MOST = 20  # bars below one another, and tables of labels; of bars, the rest is added up
MOST_CALLS = 10  # in a table
MOST_BINS = 200  # of the time that a run took
FEWEST_BINS = 12  # a run of a minute is no wall
HUES = 4  # after so many stages the colours begin anew: each stage is named where it is drawn
UNKNOWN = "–"

# -- markup -------------------------------------------------------------------------------------


class Html(str):
    """Text that is markup already. Any other is escaped where it is put in, so nothing can be forgotten."""

    __slots__ = ()


def _safe(text: str) -> str:
    return text if isinstance(text, Html) else markup.escape(words.escape(text))


def _el(tag: str, *inside: str, **attributes: str | float | None) -> Html:
    """An element: class_ is class, aria_label is aria-label, and None is left out."""
    told = ((name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items() if value is not None)
    shown = (f' {name}="{_safe(value if isinstance(value, str) else f"{value:.5g}")}"' for name, value in told)
    return Html(f"<{tag}{''.join(shown)}>{''.join(map(_safe, inside))}</{tag}>")


def _section(title: str, note: str, *inside: str) -> Html:
    return _el("section", _el("h2", title), *[_el("p", note, class_="note")] * bool(note), *inside)


def _heads(*names: str) -> Html:
    return _el("thead", _el("tr", *(_el("th", name, scope="col") for name in names)))


def _short(text: str, most: int) -> str:
    """Beginning and end of a name: a path tells most there."""
    end = most * 2 // 5
    return text if len(text) <= most else f"{text[: most - end - 1]}…{text[-end:]}"


def _name(text: str, most: int = 60) -> Html:
    """A name out of data. It cannot turn the text around it, whatever it is written in."""
    shown = _short(text, most)
    return _el("bdi", shown or "(empty)", title=None if shown == text else _short(text, 400))


# -- figures ------------------------------------------------------------------------------------


def _duration(seconds: float) -> str:
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 59.5:
        return f"{seconds:.2g} s"
    if (whole := round(seconds)) < 3600:
        return _two(whole, 60, "min", "s")
    minutes = round(seconds / 60)
    return _two(minutes, 60, "h", "min") if minutes < 1440 else _two(round(seconds / 3600), 24, "d", "h")


def _two(number: int, of: int, large: str, small: str) -> str:
    whole, rest = divmod(number, of)
    return f"{whole:,} {large}" + (f" {rest} {small}" if rest else "")


def _rate(a_second: float) -> str:
    rates = ((a_second, "s"), (60 * a_second, "min"), (3600 * a_second, "h"))
    rate, unit = next((pair for pair in rates if pair[0] >= 1), rates[-1])
    return f"{rate:,.0f}/{unit}" if rate >= 100 else f"{rate:.3g}/{unit}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _many(number: int, one: str) -> str:
    return f"{number:,} {one}" + ("" if number == 1 else "s")


def _large(number: int) -> str:
    """Nobody reads ten digits, and a telephone has no room for them."""
    size, unit = next((pair for pair in ((1e12, "T"), (1e9, "G"), (1e6, "M")) if number >= 10 * pair[0]), (1, ""))
    return f"{number / size:,.1f} {unit}" if unit else f"{number:,}"


def _known(number: int | None) -> str | None:
    return None if number is None else f"{number:,}"


def _added(numbers: Iterable[int | None]) -> int | None:
    """Those that are known; None where none is."""
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


class _Sum(NamedTuple):
    """What several took together; the cost is that of those whose cost is known."""

    calls: int
    input: int
    output: int
    cached: int
    reasoning: int
    cost: float
    known: bool  # is that all of it?

    @property
    def tokens(self) -> int:
        return self.input + self.output

    @property
    def money(self) -> str:
        return dollars(self.cost) if self.known else f"≥ {dollars(self.cost)}" if self.cost else UNKNOWN

    @property
    def figures(self) -> tuple[str, str]:
        return _large(self.tokens), self.money


def _sum(spents: Iterable[Spent]) -> _Sum:
    each = list(spents)
    known = [one.cost for one in each if one.cost is not None]
    return _Sum(
        sum(one.calls for one in each),
        sum(one.input for one in each),
        sum(one.output for one in each),
        sum(one.cached for one in each),
        sum(one.reasoning for one in each),
        math.fsum(known),
        len(known) == len(each),
    )


def _moment(seconds: float) -> datetime:
    first, last = -62135596800.0, 253402300799.0  # what a date can be
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=min(max(seconds, first), last))


def _day(moment: datetime) -> str:
    return f"{moment.day} {moment:%b} {moment.year}"


# -- head ---------------------------------------------------------------------------------------


def _head(stages: Sequence[Stage], at: float) -> Html:
    now = _moment(at)
    names = [part for stage in stages[:3] for part in (", ", _name(stage.name, 32))][1:]
    more = [f" and {len(stages) - 3} more"] * (len(stages) > 3)
    stamp = _el("time", f"{_day(now)}, {now:%H:%M:%S} UTC", datetime=f"{now:%Y-%m-%dT%H:%M:%SZ}")
    return _el(
        "header",
        _el("p", "llm-progress", class_="tool"),
        _el("h1", *(names or ["Nothing was read"]), *more),
        _el("p", "As of ", stamp, ". ", _span(stages), class_="note"),
        *[_el("dl", *_figures(stages), class_="figures")] * bool(stages),
    )


def _span(stages: Sequence[Stage]) -> str:
    firsts = [stage.first for stage in stages if stage.first is not None]
    lasts = [stage.last for stage in stages if stage.last is not None]
    if not firsts or not lasts:
        return ""
    first, last, took = _moment(min(firsts)), _moment(max(lasts)), max(lasts) - min(firsts)
    until = f"{last:%H:%M}" if last.date() == first.date() else f"{_day(last)}, {last:%H:%M}"
    lasted = f" ({_duration(took)})" if took >= 1 else ""
    return f"Answers from {_day(first)}, {first:%H:%M} to {until} UTC{lasted}."


def _figures(stages: Sequence[Stage]) -> Iterator[Html]:
    """The totals. Those of several stages are answers, not records: a record has one from each."""
    done, rejected = sum(stage.done for stage in stages), sum(stage.rejected for stage in stages)
    failed, left = _added(stage.failed for stage in stages), _added(stage.left for stage in stages)
    whole = done + (failed or 0) + (left or 0)
    yield _figure("Done", _large(done), f"{_percent(done / whole)} of {whole:,}" if left else "")
    if failed is not None:
        yield _figure("Failed", _large(failed), f"{_many(rejected, 'answer')} rejected" if rejected else "")
    elif rejected:
        yield _figure("Rejected", _large(rejected), "")
    if left is not None:
        etas = [stage.eta for stage in stages if stage.eta is not None]
        yield _figure("Left", _large(left), f"about {_duration(max(etas))}" if etas and left else "")
    rates = [stage.rate for stage in stages if stage.rate is not None]
    if rates:
        yield _figure("Rate", _rate(sum(rates)), "in the last minute")
    elif len(stages) == 1 and stages[0].overall:  # those of several may be of different days
        yield _figure("Rate", _rate(stages[0].overall), "while it ran")
    yield from _taken(_sum(one for stage in stages for one in stage.models.values()), done)


def _taken(spent: _Sum, done: int) -> Iterator[Html]:
    if not spent.calls:
        return
    each = f"{dollars(1000 * spent.cost / done)} per 1,000 answers" if spent.known and spent.cost and done else ""
    yield _figure("Cost", spent.money, each if spent.known else "not all of it is known" if spent.cost else "not known")
    yield _figure("Tokens in", _large(spent.input), f"{spent.cached:,} cached" if spent.cached else "")
    yield _figure("Tokens out", _large(spent.output), f"{spent.reasoning:,} reasoning" if spent.reasoning else "")


def _figure(label: str, figure: str, more: str) -> Html:
    return _el("div", _el("dt", label), _el("dd", figure), *[_el("dd", more, class_="more")] * bool(more))


def _table(stages: Sequence[Stage]) -> Html:
    spent = [_sum(stage.models.values()) for stage in stages]
    columns: list[tuple[str, list[str | None]]] = [
        ("Done", [f"{stage.done:,}" for stage in stages]),
        ("Rejected", [f"{stage.rejected:,}" if stage.rejected else None for stage in stages]),
        ("Failed", [_known(stage.failed) for stage in stages]),
        ("Left", [_known(stage.left) for stage in stages]),
        ("Time left", [None if stage.eta is None else _duration(stage.eta) for stage in stages]),
        ("Rate", [_rate(rate) if (rate := stage.rate or stage.overall) else None for stage in stages]),
        ("Tokens in", [_large(one.input) if one.calls else None for one in spent]),
        ("Tokens out", [_large(one.output) if one.calls else None for one in spent]),
        ("Cost", [one.money if one.calls else None for one in spent]),
    ]
    shown = [(head, cells) for head, cells in columns if any(cells)]
    rows = (
        _el("tr", _stage_cell(stage, hue), *(_el("td", cells[hue] or UNKNOWN, data_head=head) for head, cells in shown))
        for hue, stage in enumerate(stages)
    )
    dashes = any(cell in (None, UNKNOWN) for _, cells in shown for cell in cells)
    table = _el("table", _heads("Stage", *(head for head, _ in shown)), _el("tbody", *rows), class_="stages")
    return _section("Stages", f"{UNKNOWN}: none, or not known." if dashes else "", table)


def _stage_cell(stage: Stage, hue: int) -> Html:
    running = [_el("small", f"running, process {stage.running}")] * (stage.running is not None)
    whole = stage.done + (stage.failed or 0) + (stage.left or 0)
    bar = [_bar((stage.done, stage.failed or 0), whole)] if stage.left is not None and whole else []
    return _el("th", _stage_name(stage, hue), *running, *bar, scope="row", class_=_hue(hue))


def _hue(stage: int) -> str:
    return f"hue{stage % HUES}"


def _stage_name(stage: Stage, hue: int) -> Html:
    dot = _el("svg", _el("circle", cx="50%", cy="50%", r="50%"), class_=f"dot {_hue(hue)}", aria_hidden="true")
    return _el("span", dot, _name(stage.name), class_="stage")


def _caption(stages: Sequence[Stage], hue: int) -> list[Html]:
    """Whose a table is, where that is a question."""
    return [_el("caption", _stage_name(stages[hue], hue))] * (len(stages) > 1)


def _panel(stages: Sequence[Stage], hue: int, plot: Html) -> Html:
    return _el("figure", *[_el("figcaption", _stage_name(stages[hue], hue))] * (len(stages) > 1), plot)


def _bar(parts: Sequence[float], whole: float) -> Html:
    """Decoration: the figures beside it say the same. SVG, because printers leave out backgrounds."""
    widths = [100 * part / whole if whole else 0.0 for part in parts]
    rects = (
        _el("rect", x=f"{sum(widths[:number]):.4g}%", width=f"{width:.4g}%", height="100%", class_=f"part{number}")
        for number, width in enumerate(widths)
        if width
    )
    rail = _el("rect", width="100%", height="100%", class_="rail")
    return _el("svg", rail, *rects, class_="bar", aria_hidden="true")


# -- plots --------------------------------------------------------------------------------------


class _Bin(NamedTuple):
    """One bar of a plot, and what it says when it is pointed at."""

    height: float
    told: str
    open: bool = False  # it may still grow


class _Tick(NamedTuple):
    """A label beside an axis."""

    place: float  # 0 to 1
    text: str


def _plot(bins: Sequence[_Bin], xs: Sequence[_Tick], told: str, hue: int, gutter: int, *marks: str) -> Html:
    """Bars stretch with the page, text does not, so that it is as large on a telephone.

    Everything stands at a share of the box, and only the bars have units of their own.
    """
    top, levels = _levels(bins)
    rects = (_rect(number, one, top, len(bins)) for number, one in enumerate(bins) if one.height)
    view = {"viewBox": f"0 0 {len(bins)} 1000", "preserveAspectRatio": "none", "width": "100%", "height": "100%"}
    inside = (*map(_beside, levels), _el("svg", *rects, **view), *map(_below, xs), *marks)
    style = f"--gutter: {gutter}ch"
    return _el("svg", *inside, class_=f"plot {_hue(hue)}", role="img", aria_label=told, style=style)


def _rect(number: int, one: _Bin, top: float, of: int) -> Html:
    width = 0.84 if of <= 4 * FEWEST_BINS else 1
    high = max(round(1000 * one.height / top, 1), 4)  # one answer is seen beside thousands
    place = {"x": number + (1 - width) / 2, "y": 1000 - high, "width": width, "height": high}
    return _el("rect", _el("title", one.told), **place, class_="open" if one.open else None)


def _levels(bins: Sequence[_Bin]) -> tuple[float, list[_Tick]]:
    """Where a plot ends, and its lines: in steps of 1, 2 or 5 of some power of ten."""
    most = max(bins).height
    power = 10.0 ** math.floor(math.log10(most))
    step = next(step for step in (power / 5, power / 2, power, 2 * power, 5 * power) if most / step <= 4)
    step = max(step, 1) if most == int(most) else step  # there is no half an answer
    steps = math.ceil(most / step - 1e-9)
    return steps * step, [_Tick(number / steps, _level(number * step)) for number in range(steps + 1)]


def _level(value: float) -> str:
    return _large(int(value)) if value == int(value) else f"{value:.10g}"


def _gutter(*plots: Sequence[_Bin]) -> int:
    """How wide the labels on the left are: plots over one time begin at one place."""
    return max(len(tick.text) for bins in plots for tick in _levels(bins)[1])


def _beside(tick: _Tick) -> Html:
    y = f"{100 - 100 * tick.place:.2f}%"
    line = _el("line", x1="0", x2="100%", y1=y, y2=y, class_="grid" if tick.place else "axis")
    return Html(line + _el("text", tick.text, x="-8", y=y, dy=".35em", class_="y"))


def _below(tick: _Tick) -> Html:
    return _el("text", tick.text, x=f"{100 * tick.place:.2f}%", y="100%", dy="1.6em", class_="x")


# -- throughput ---------------------------------------------------------------------------------


class _Axis(NamedTuple):
    """The time that all stages are drawn over, in minutes since 1970."""

    first: int
    last: int
    bin: int


def _minutes(span: float, most: int) -> int:
    """A number of minutes that people count in, so long that at most so many of them cover the span."""
    usual = chain((1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720), (1440 << doubled for doubled in count()))
    return next(minutes for minutes in usual if span / minutes <= most)


def _axis(stages: Sequence[Stage]) -> _Axis:
    """Whole bins. A short run gets some empty time before it: nothing was answered then."""
    first = min(minute for stage in stages for minute in stage.minutes)
    last = max(minute for stage in stages for minute in stage.minutes) + 1
    width = _minutes(last - first, MOST_BINS - 2)
    first, last = first // width * width, -(-last // width) * width
    return _Axis(min(first, last - FEWEST_BINS * width), last, width)


def _throughput(stages: Sequence[Stage], at: float) -> Html:
    shown = {hue: stage for hue, stage in enumerate(stages) if any(stage.minutes.values())}
    axis = _axis(list(shown.values()))
    counts = {hue: _counts(stage, axis) for hue, stage in shown.items()}
    most = max(max(each.values()) for each in counts.values()) / axis.bin
    unit, per = next((pair for pair in _UNITS if most * pair[0] >= 1), _UNITS[-1])
    bins = {hue: _rates(each, axis, unit, at) for hue, each in counts.items()}
    gutter, times, figures = _gutter(*bins.values()), _times(axis), []
    for hue, each in bins.items():
        told = f"Answers {per} of {_short(shown[hue].name, 60)}: up to {max(each).height:,.3g}. {_span([shown[hue]])}"
        figures.append(_panel(stages, hue, _plot(each, times, told, hue, gutter)))
    averaged = "" if axis.bin == 1 else f", averaged over {_duration(60 * axis.bin)}"
    note = f"Answers {per}{averaged}, from {_day(_moment(60 * axis.first))} on. Times are in UTC."
    return _section("Throughput", note, _el("div", *figures, class_="rows"))


_UNITS = ((1, "a minute"), (60, "an hour"), (1440, "a day"))


def _counts(stage: Stage, axis: _Axis) -> Counter[int]:
    """Answers by the minute that their bin begins with."""
    counts: Counter[int] = Counter()
    for minute, answers in stage.minutes.items():
        counts[minute // axis.bin * axis.bin] += answers
    return counts


def _rates(counts: Mapping[int, int], axis: _Axis, unit: int, at: float) -> list[_Bin]:
    bins = []
    for start in range(axis.first, axis.last, axis.bin):
        moment, answers = _moment(60 * start), counts.get(start, 0)
        told = f"{moment.day} {moment:%b %H:%M}: {_many(answers, 'answer')}"
        bins.append(_Bin(answers / axis.bin * unit, told, open=at < 60 * (start + axis.bin)))
    return bins


def _times(axis: _Axis) -> list[_Tick]:
    span = axis.last - axis.first
    step = _minutes(span, 5)
    ticks = range(-(-axis.first // step) * step, axis.last + 1, step)
    return [_Tick((minute - axis.first) / span, _time(_moment(60 * minute), step)) for minute in ticks]


def _time(moment: datetime, step: int) -> str:
    if step > 60 * 1440:
        return f"{moment:%Y-%m}"
    midnight = step >= 1440 or (moment.hour, moment.minute) == (0, 0)
    return f"{moment.day} {moment:%b}" if midnight else f"{moment:%H:%M}"


# -- latency ------------------------------------------------------------------------------------

_LOG_STEP = math.log(histogram.STEP)
_LEAST = round(math.log(4) / _LOG_STEP)  # buckets: the axis covers a factor of four or more
_ROOM = 0.24  # of the axis, before the line of p50: its name stands there
_ROUND = [one * 10.0**power for power in range(-4, 1) for one in (1, 2, 5)]  # seconds to write below the axis
_ROUND += [10, 20, 60, 120, 300, 600, 1200, 3600, 7200, 18000, 36000, 86400]


def _latencies(stages: Sequence[Stage]) -> Html:
    counted = [(hue, stage) for hue, stage in enumerate(stages) if any(stage.latencies.values())]
    figures = (_panel(stages, hue, _latency(stage, hue)) for hue, stage in counted)
    note = "How many answers took how long. Half are no slower than p50, 95 in a hundred no slower than p95."
    return _section("Latency", note, _el("div", *figures, class_="pairs latency"))


def _latency(stage: Stage, hue: int) -> Html:
    counts = stage.latencies
    marks = [(f"p{share}", histogram.percentile(counts, share / 100) or 0.0) for share in (50, 95, 99)]
    pad = max(0, _LEAST - (max(counts) - min(counts))) // 2
    last = max(counts) + pad + 1
    half = histogram.bucket(marks[0][1])
    first = min(min(counts) - pad, math.floor((half - _ROOM * last) / (1 - _ROOM)))
    width = math.ceil((last - first) / 48)  # buckets in a bin
    starts = range(first, last, width)

    def place(seconds: float) -> float:
        return (math.log(seconds) / _LOG_STEP + 0.5 - first) / (len(starts) * width)

    bins = [_latency_bin(counts, start, width) for start in starts]
    ticks = [_Tick(place(seconds), _duration(seconds)) for seconds in _ROUND if 0 <= place(seconds) <= 1]
    some = ticks[:: math.ceil(len(ticks) / 4) or 1]
    names = [f"{name} {_duration(seconds)}" for name, seconds in marks]
    lines = [_mark(row, place(seconds), names[row]) for row, (_, seconds) in enumerate(marks)]
    told = f"Latency of {_short(stage.name, 60)}: {', '.join(names)}"
    return _plot(bins, some, told, hue, _gutter(bins), *lines)


def _latency_bin(counts: Mapping[int, int], start: int, width: int) -> _Bin:
    number, total = sum(counts.get(start + i, 0) for i in range(width)), sum(counts.values())
    about = _duration(histogram.middle(start + width // 2))
    return _Bin(number, f"about {about}: {_many(number, 'answer')} ({_percent(number / total)})")


def _mark(row: int, place: float, name: str) -> Html:
    """A line down to the axis, its name to the left. The rightmost begins highest, so no line meets a name."""
    x, y = f"{100 * place:.2f}%", -14 - 15 * row
    line = _el("line", x1=x, x2=x, y1=y - 6, y2="100%", class_="mark")
    return Html(line + _el("text", name, x=x, y=y + 4, dx=-5, class_="mark"))


# -- bars ---------------------------------------------------------------------------------------


class _Row(NamedTuple):
    """A bar with its name and its figures."""

    name: Html
    detail: str
    size: float
    figures: tuple[str, str]


def _bars(heads: tuple[str, str, str], rows: Sequence[_Row], hue: str = "", caption: Sequence[str] = ()) -> Html:
    most = max(row.size for row in rows)
    body = []
    for row in rows:
        detail = [_el("small", row.detail)] * bool(row.detail)
        head = _el("th", row.name, _bar([row.size], most), *detail, scope="row")
        body.append(_el("tr", head, *(_el("td", figure) for figure in row.figures)))
    return _el("table", *caption, _heads(*heads), _el("tbody", *body), class_=f"bars {hue}")


def _shown(number: int) -> int:
    """How many rows are drawn: a last row that says "1 other" tells less than that one."""
    return number if number <= MOST + 1 else MOST


def _counted(counts: Mapping[str, int], details: Mapping[str, str] | None = None) -> list[_Row]:
    """The most frequent first."""
    total = sum(counts.values())
    found = [(name, number) for name, number in counts.items() if number]
    ordered = sorted(found, key=lambda one: (-one[1], one[0]))
    shown, rest = ordered[: _shown(len(ordered))], ordered[_shown(len(ordered)) :]
    rows = [(_name(name), (details or {}).get(name, ""), number) for name, number in shown]
    rows += [(_el("i", f"{len(rest):,} others"), "", sum(number for _, number in rest))] * bool(rest)
    return [_Row(name, more, number, (f"{number:,}", _percent(number / total))) for name, more, number in rows]


def _models(stages: Sequence[Stage]) -> Html:
    spents: dict[str, list[Spent]] = {}
    for model, spent in chain.from_iterable(stage.models.items() for stage in stages):
        spents.setdefault(model, []).append(spent)
    sums = {model: _sum(each) for model, each in spents.items()}
    ordered = sorted(sums, key=lambda model: (-sums[model].cost, -sums[model].tokens, model))
    shown, rest = ordered[: _shown(len(ordered))], ordered[_shown(len(ordered)) :]
    rows = [(_name(model), sums[model]) for model in shown]
    rows += [(_el("i", f"{len(rest):,} others"), _sum(one for model in rest for one in spents[model]))] * bool(rest)
    paid = any(one.cost for one in sums.values())
    drawn = [_Row(name, _took(one), one.cost if paid else one.tokens, one.figures) for name, one in rows]
    unknown = "" if all(one.known for one in sums.values()) else f" {UNKNOWN} or ≥: not all of the cost is known."
    note = ("Bars show the cost, in US dollars." if paid else "Bars show the tokens, in and out.") + unknown
    return _section("Cost by model" if paid else "Tokens by model", note, _bars(("Model", "Tokens", "Cost"), drawn))


def _took(spent: _Sum) -> str:
    cached = f" ({spent.cached:,} cached)" if spent.cached else ""
    reasoning = f" ({spent.reasoning:,} reasoning)" if spent.reasoning else ""
    return f"{_many(spent.calls, 'call')}, {spent.input:,} in{cached}, {spent.output:,} out{reasoning}"


def _failures(stages: Sequence[Stage]) -> Html:
    counts: Counter[str] = Counter()
    where: dict[str, list[str]] = {}
    for stage in stages:
        counts.update(stage.failures)
        for kind, number in stage.failures.items():
            where.setdefault(kind, []).append(f"{_short(stage.name, 24)} {number:,}")
    details = {kind: ", ".join(told) for kind, told in where.items()} if len(stages) > 1 else {}
    note = "Calls that brought no answer, and answers that were not accepted."
    return _section("Failures", note, _bars(("Kind", "Count", "Share"), _counted(counts, details)))


def _labels(stages: Sequence[Stage]) -> Html:
    fields = [
        (hue, field, counts)
        for hue, stage in enumerate(stages)
        for field, counts in stage.labels.items()
        if any(counts.values())
    ]
    tables = (
        _bars((_short(field, 40) or "Answer", "Count", "Share"), _counted(counts), _hue(hue), _caption(stages, hue))
        for hue, field, counts in fields[:MOST]
    )
    more = f" {len(fields) - MOST} further fields are not shown." if len(fields) > MOST else ""
    return _section("Labels", f"How often each label was given.{more}", _el("div", *tables, class_="pairs"))


# -- answers that stand out ---------------------------------------------------------------------


def _standing_out(stages: Sequence[Stage]) -> Html:
    slow = [(call, hue) for hue, stage in enumerate(stages) for call in stage.slowest]
    dear = [(call, hue) for hue, stage in enumerate(stages) for call in stage.dearest]
    slow.sort(key=lambda pair: -pair[0].latency)
    dear.sort(key=lambda pair: (-(pair[0].cost or 0), -(pair[0].input + pair[0].output)))
    costly = "Dearest" if any(call.cost for call, _ in dear) else "Most tokens"
    tables = (_calls(title, calls, stages) for title, calls in (("Slowest", slow), (costly, dear)) if calls)
    note = "By id, or by key where there is none."
    return _section("Answers that stand out", note, _el("div", *tables, class_="pairs"))


def _calls(title: str, calls: Sequence[tuple[Call, int]], stages: Sequence[Stage]) -> Html:
    rows = []
    for call, hue in calls[:MOST_CALLS]:
        of = [", ", _name(stages[hue].name, 24)] * (len(stages) > 1)
        more = _el("small", _name(call.model, 32), f", {call.input:,} in, {call.output:,} out", *of)
        cost = UNKNOWN if call.cost is None else dollars(call.cost)
        head = _el("th", _name(call.id or call.key, 24), more, scope="row")
        rows.append(_el("tr", head, _el("td", _duration(call.latency)), _el("td", cost)))
    return _el("table", _el("caption", title), _heads("Answer", "Latency", "Cost"), _el("tbody", *rows))


# -- the page -----------------------------------------------------------------------------------


def html(stages: Sequence[Stage], at: float) -> str:
    """The whole page. at: when the stages were read, in seconds since 1970."""
    sections = (
        (_table, bool(stages)),
        (partial(_throughput, at=at), any(any(stage.minutes.values()) for stage in stages)),
        (_latencies, any(any(stage.latencies.values()) for stage in stages)),
        (_money, any(stage.models or any(stage.failures.values()) for stage in stages)),
        (_labels, any(any(counts.values()) for stage in stages for counts in stage.labels.values())),
        (_standing_out, any(stage.slowest or stage.dearest for stage in stages)),
    )
    body = _el("main", _head(stages, at), *(draw(stages) for draw, wanted in sections if wanted))
    title = _el("title", "llm-progress: " + (", ".join(_short(stage.name, 40) for stage in stages[:3]) or "nothing"))
    head = f"<head>\n{_META}{title}\n<style>{_STYLE}</style>\n</head>"
    return f'<!DOCTYPE html>\n<html lang="en">\n{head}\n<body>\n{body}\n</body>\n</html>\n'


def _money(stages: Sequence[Stage]) -> Html:
    """Beside one another where there is room."""
    models = [_models(stages)] if any(stage.models for stage in stages) else []
    failures = [_failures(stages)] if any(any(stage.failures.values()) for stage in stages) else []
    return _el("div", *models, *failures, class_="pairs sections")


# Nothing is loaded and nothing runs, whatever stands in the data.
_META = """\
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
"""

_STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfb; --ink: #1d1f21; --soft: #5b6066; --line: #e2e1dc; --rail: #ecebe6;
  --hue0: #2867a5; --hue1: #b4540a; --hue2: #1b7a5c; --hue3: #8f4a86; --plain: #66707a }
@media screen and (prefers-color-scheme: dark) {
  :root { --paper: #17191b; --ink: #e7e5e1; --soft: #a2a6aa; --line: #303336; --rail: #2a2d30;
    --hue0: #5f9fdb; --hue1: #d9924a; --hue2: #46ab88; --hue3: #c184b8; --plain: #8d979f }
}
* { box-sizing: border-box; margin: 0; padding: 0 }
html { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; text-size-adjust: 100% }
body { font-variant-numeric: tabular-nums; overflow-wrap: anywhere }
main { max-width: 62rem; margin: auto; padding: clamp(1.25rem, 5vw, 3.5rem) clamp(1rem, 5vw, 2.5rem) 4rem }
.hue0 { --hue: var(--hue0) } .hue1 { --hue: var(--hue1) } .hue2 { --hue: var(--hue2) } .hue3 { --hue: var(--hue3) }
.tool, .note, small, dt, .more, thead th { color: var(--soft) }
.tool { font-size: .85rem; letter-spacing: .02em }
h1 { font-size: clamp(1.3rem, 4vw, 1.6rem); line-height: 1.25; font-weight: 600; margin: .1rem 0 .4rem }
h2 { font-size: 1.15rem; font-weight: 600 }
section { margin-top: 3.25rem }
.note { max-width: 50rem; text-wrap: pretty; font-size: .9rem }
small, .more { display: block; font-size: .8rem; line-height: 1.4; font-weight: 400 }
.figures, .pairs { display: grid; gap: 1.5rem 1.25rem; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)) }
.figures { margin-top: 2rem }
.pairs { gap: 2rem 3rem; margin-top: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)) }
.pairs table { margin: 0; align-self: start }
.sections { gap: 0 3rem; margin: 0 }
.sections table { margin-top: .6rem }
dt { font-size: .85rem }
dd:nth-child(2) { font-size: 1.6rem; line-height: 1.3; font-weight: 500; letter-spacing: -.01em }
table { width: 100%; border-collapse: collapse; font-size: .9rem; margin-top: 1rem }
tr, figure { break-inside: avoid }
h2, caption, figcaption { break-after: avoid }
caption, figcaption { text-align: left; font-size: .9rem; font-weight: 600 }
th, td { padding: .5rem 0 .5rem .9rem; vertical-align: top; text-align: right; font-weight: 400; white-space: nowrap }
th:first-child { padding-left: 0; text-align: left; width: 100%; white-space: normal }
thead th { font-size: .8rem; padding-block: .25rem; vertical-align: bottom }
tbody tr { border-top: 1px solid var(--line) }
.stage { font-weight: 600 }
.dot { width: .6rem; height: .6rem; margin-right: .45rem }
.dot circle { fill: var(--hue) }
.bar { display: block; width: 100%; height: 6px; margin: .35rem 0 .3rem }
.rail { fill: var(--rail) } .part0 { fill: var(--hue, var(--plain)) } .part1 { fill: var(--ink) }
.rows > * { margin-top: 1.25rem }
.plot { display: block; width: 100%; height: 142px; overflow: visible; font-size: 12px;
  padding: 9px 24px 25px calc(var(--gutter) + 9px) }
.latency .plot { height: 202px; padding-top: 58px }
.plot rect { fill: var(--hue); shape-rendering: crispEdges }
.plot rect:hover { fill: var(--ink) }
.plot .open { fill-opacity: .4; stroke: var(--hue); vector-effect: non-scaling-stroke }
.plot text { fill: var(--soft) } .x { text-anchor: middle } .y, .mark { text-anchor: end }
.plot line { stroke: var(--line); shape-rendering: crispEdges } .plot .axis { stroke: var(--soft) }
.plot line.mark { stroke: var(--ink) } .plot text.mark { fill: var(--ink) }
@media (max-width: 40rem) {
  .stages thead { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden }
  .stages, .stages tbody { display: block }
  .stages tr { display: grid; grid-template-columns: 1fr 1fr; column-gap: 1.75rem; padding: .6rem 0 }
  .stages th { grid-column: 1 / -1 }
  .stages td { display: flex; justify-content: space-between; padding: .15rem 0 }
  .stages td::before { content: attr(data-head); color: var(--soft) }
}
@media print { html { font-size: 11px } main { max-width: none; padding: 0 } section { margin-top: 2rem } }
"""
