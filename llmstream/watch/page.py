"""Stages drawn as one page that needs nothing but a browser: values in, text out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from llmstream.records.figures import dollars, duration, number_of, percent, rate, short, sum_in_dollars, tokens
from llmstream.watch.elements import (
    NOTHING,
    Html,
    caption,
    data_name,
    element,
    hue,
    optional,
    section,
    shortened,
    stage_name,
    table_head,
)
from llmstream.watch.plots import day, latencies, moment_of, span, throughput

if TYPE_CHECKING:
    from llmstream.records.values import Spent
    from llmstream.watch.stages import Stage
    from llmstream.watch.standing_out import Call

MOST = 20  # bars below one another, and tables of labels; the rest of the bars is added up
MOST_CALLS = 10  # in a table
UNKNOWN = "–"

# Nothing is loaded and nothing runs, whatever stands in the data.
_META = """\
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
"""
_STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def html(stages: Sequence[Stage], at: float) -> str:
    """The whole page. at: when the stages were read, in seconds since 1970."""
    sections = (
        _table(stages),
        throughput(stages, at),
        latencies(stages),
        optional("div", Html(_models(stages) + _failures(stages)), class_="pairs sections"),  # side by side
        _labels(stages),
        _standing_out(stages),
    )
    names = ", ".join(shortened(stage.name, 40) for stage in stages[:3])
    title = element("title", f"llm-progress: {names or 'nothing'}")
    head = f"<head>\n{_META}{title}\n<style>\n{_STYLE}</style>\n</head>"
    body = element("main", _header(stages, at), *sections)
    return f'<!DOCTYPE html>\n<html lang="en">\n{head}\n<body>\n{body}\n</body>\n</html>\n'


# -- figures --------------------------------------------------------------------------------------

Number = TypeVar("Number", int, float)


def _large(number: int) -> str:
    """Nobody reads ten digits, and a telephone has no room for them."""
    return short(number, exact_below=10_000_000)


def _sum_of_known(numbers: Iterable[Number | None]) -> Number | None:
    """None where none is known."""
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


class _Total(NamedTuple):
    """What several took together; the cost is that of those whose cost is known."""

    calls: int
    input: int
    output: int
    cached: int
    reasoning: int
    cost: float
    known: bool  # is that all of it?
    money: str

    @property
    def tokens(self) -> int:
        return self.input + self.output


def _total(spent: Iterable[Spent]) -> _Total:
    each = list(spent)
    calls, read, written, cached, reasoning, costs = zip(*each, strict=True) if each else ((),) * 6
    known = [cost for cost in costs if cost is not None]
    money = sum_in_dollars(costs) if known else UNKNOWN
    return _Total(
        sum(calls),
        sum(read),
        sum(written),
        sum(cached),
        sum(reasoning),
        math.fsum(known),
        len(known) == len(each),
        money,
    )


# -- header ---------------------------------------------------------------------------------------


def _header(stages: Sequence[Stage], at: float) -> Html:
    now = moment_of(at)
    names = Html(", ".join(data_name(stage.name, 32) for stage in stages[:3])) or "Nothing was read"
    more = f" and {len(stages) - 3} more" if len(stages) > 3 else ""
    stamp = element("time", f"{day(now)}, {now:%H:%M:%S} UTC", datetime=f"{now:%Y-%m-%dT%H:%M:%SZ}")
    return element(
        "header",
        element("p", "llm-progress", class_="tool"),
        element("h1", names, more),
        element("p", "As of ", stamp, ". ", span(stages), class_="note"),
        optional("dl", _figures(stages), class_="figures"),
    )


def _figures(stages: Sequence[Stage]) -> Html:
    """The totals. Those of several stages are answers, not records: a record has one from each."""
    if not stages:
        return NOTHING
    spent = _total(one for stage in stages for one in stage.models.values())
    done = sum(stage.done for stage in stages)
    return Html(_records(stages, done) + _rate(stages) + (_spent(spent, done) if spent.calls else ""))


def _records(stages: Sequence[Stage], done: int) -> Html:
    failed, left = _sum_of_known(stage.failed for stage in stages), _sum_of_known(stage.left for stage in stages)
    whole = done + (failed or 0) + (left or 0)
    share = f"{percent(done / whole)} of {whole:,}" if left else ""
    rejected = sum(stage.rejected for stage in stages)
    return Html(_figure("Done", _large(done), share) + _failed(failed, rejected) + _left(left, stages))


def _failed(failed: int | None, rejected: int) -> Html:
    if failed is not None:
        return _figure("Failed", _large(failed), f"{number_of(rejected, 'answer')} rejected" if rejected else "")
    return _figure("Rejected", _large(rejected), "") if rejected else NOTHING


def _left(left: int | None, stages: Sequence[Stage]) -> Html:
    if left is None:
        return NOTHING
    longest = max(stage.eta or 0 for stage in stages)
    return _figure("Left", _large(left), f"about {duration(longest)}" if longest and left else "")


def _rate(stages: Sequence[Stage]) -> Html:
    present = _sum_of_known(stage.rate for stage in stages)
    if present is not None:
        return _figure("Rate", rate(present), "in the last minute")
    if len(stages) == 1 and stages[0].overall:  # those of several may be of different days
        return _figure("Rate", rate(stages[0].overall), "while it ran")
    return NOTHING


def _spent(spent: _Total, done: int) -> Html:
    if not spent.known:
        note = "not all of it is known" if spent.cost else "not known"
    else:
        note = f"{dollars(1000 * spent.cost / done)} per 1,000 answers" if spent.cost and done else ""
    cached = f"{spent.cached:,} cached" if spent.cached else ""
    reasoning = f"{spent.reasoning:,} reasoning" if spent.reasoning else ""
    return Html(
        _figure("Cost", spent.money, note)
        + _figure("Tokens in", _large(spent.input), cached)
        + _figure("Tokens out", _large(spent.output), reasoning)
    )


def _figure(label: str, figure: str, more: str) -> Html:
    return element("div", element("dt", label), element("dd", figure), optional("dd", more, class_="more"))


# -- the table of stages --------------------------------------------------------------------------

_HEADS = ("Done", "Rejected", "Failed", "Left", "Time left", "Rate", "Tokens in", "Tokens out", "Cost")


def _table(stages: Sequence[Stage]) -> Html:
    if not stages:
        return NOTHING
    columns = list(zip(_HEADS, *map(_cells, stages), strict=True))
    heads, *rows = zip(*(column for column in columns if any(column[1:])), strict=True)  # those that hold something
    body = []
    for number, (stage, row) in enumerate(zip(stages, rows, strict=True)):
        figures = (element("td", cell or UNKNOWN, data_head=head) for head, cell in zip(heads, row, strict=True))
        body.append(element("tr", _stage_cell(stage, number), *figures))
    dashes = any(cell in (None, UNKNOWN) for row in rows for cell in row)
    table = element("table", table_head("Stage", *heads), element("tbody", *body), class_="stages")
    return section("Stages", f"{UNKNOWN}: none, or not known." if dashes else "", table)


def _cells(stage: Stage) -> Sequence[str | None]:
    """What stands below the heads; None is nothing, or nothing that is known."""
    spent, speed = _total(stage.models.values()), stage.rate or stage.overall
    took = (_large(spent.input), _large(spent.output), spent.money) if spent.calls else (None, None, None)
    return (
        f"{stage.done:,}",
        f"{stage.rejected:,}" if stage.rejected else None,
        None if stage.failed is None else f"{stage.failed:,}",
        None if stage.left is None else f"{stage.left:,}",
        None if stage.eta is None else duration(stage.eta),
        rate(speed) if speed else None,
        *took,
    )


def _stage_cell(stage: Stage, number: int) -> Html:
    running = "" if stage.running is None else f"running, process {stage.running}"
    whole = stage.done + (stage.failed or 0) + (stage.left or 0)
    bar = _bar((stage.done, stage.failed or 0), whole) if stage.left is not None and whole else NOTHING
    name = stage_name(stage, number)
    return element("th", name, optional("small", running), bar, scope="row", class_=hue(number))


# -- bars -----------------------------------------------------------------------------------------


class _Row(NamedTuple):
    """A bar with its name and its figures."""

    name: Html
    detail: str
    size: float
    figures: tuple[str, str]


def _bars(heads: tuple[str, str, str], rows: Sequence[_Row], class_: str = "", caption: Html = NOTHING) -> Html:
    most = max(row.size for row in rows)
    body = []
    for row in rows:
        head = element("th", row.name, _bar([row.size], most), optional("small", row.detail), scope="row")
        body.append(element("tr", head, *(element("td", figure) for figure in row.figures)))
    return element("table", caption, table_head(*heads), element("tbody", *body), class_=f"bars {class_}")


def _bar(parts: Sequence[float], whole: float) -> Html:
    """Decoration: the figures beside it say the same. SVG, because printers leave out backgrounds."""
    rects, begin = [element("rect", width="100%", height="100%", class_="rail")], 0.0
    for number, part in enumerate(parts):
        width = 100 * part / whole if whole else 0.0
        if width:
            place = {"x": f"{begin:.4g}%", "width": f"{width:.4g}%", "height": "100%"}
            rects.append(element("rect", **place, class_=f"part{number}"))
        begin += width
    return element("svg", *rects, class_="bar", aria_hidden="true")


def _rows_shown(rows: int) -> int:
    """How many rows are drawn: a last row that says "1 other" tells less than that one."""
    return rows if rows <= MOST + 1 else MOST


def _others(number: int) -> Html:
    return element("i", f"{number:,} others")


def _counted(counts: Mapping[str, int], details: Mapping[str, str] | None = None) -> list[_Row]:
    """The most frequent first."""
    total = sum(counts.values())
    found = [(name, number) for name, number in counts.items() if number]
    ordered = sorted(found, key=lambda one: (-one[1], one[0]))
    shown, rest = ordered[: _rows_shown(len(ordered))], ordered[_rows_shown(len(ordered)) :]
    rows = [(data_name(name), (details or {}).get(name, ""), number) for name, number in shown]
    if rest:
        rows.append((_others(len(rest)), "", sum(number for _, number in rest)))
    return [_Row(name, more, number, (f"{number:,}", percent(number / total))) for name, more, number in rows]


# -- models and failures --------------------------------------------------------------------------


def _models(stages: Sequence[Stage]) -> Html:
    by_model: dict[str, list[Spent]] = {}
    for stage in stages:
        for model, spent in stage.models.items():
            by_model.setdefault(model, []).append(spent)
    if not by_model:
        return NOTHING
    totals = {model: _total(spent) for model, spent in by_model.items()}
    ordered = sorted(totals, key=lambda model: (-totals[model].cost, -totals[model].tokens, model))
    shown, rest = ordered[: _rows_shown(len(ordered))], ordered[_rows_shown(len(ordered)) :]
    rows = [(data_name(model), totals[model]) for model in shown]
    if rest:
        rows.append((_others(len(rest)), _total(spent for model in rest for spent in by_model[model])))
    return _models_section(rows, known=all(total.known for total in totals.values()))


def _models_section(rows: Sequence[tuple[Html, _Total]], *, known: bool) -> Html:
    paid = any(total.cost for _, total in rows)
    drawn = []
    for name, total in rows:
        took = tokens(total.input, total.output, total.cached, total.reasoning)
        detail = f"{number_of(total.calls, 'call')}, {took}"
        figures = (_large(total.tokens), total.money)
        drawn.append(_Row(name, detail, total.cost if paid else total.tokens, figures))
    note = "Bars show the cost, in US dollars." if paid else "Bars show the tokens, in and out."
    if not known:
        note += f" {UNKNOWN} or a plus: not all of the cost is known."
    return section("Cost by model" if paid else "Tokens by model", note, _bars(("Model", "Tokens", "Cost"), drawn))


def _failures(stages: Sequence[Stage]) -> Html:
    counts: Counter[str] = Counter()
    where: dict[str, list[str]] = {}
    for stage in stages:
        counts.update(stage.failures)
        for kind, number in stage.failures.items():
            where.setdefault(kind, []).append(f"{shortened(stage.name, 24)} {number:,}")
    if not any(counts.values()):
        return NOTHING
    details = {kind: ", ".join(stages) for kind, stages in where.items()} if len(stages) > 1 else {}
    note = "Calls that brought no answer, and answers that were not accepted."
    return section("Failures", note, _bars(("Kind", "Count", "Share"), _counted(counts, details)))


# -- labels ---------------------------------------------------------------------------------------


def _labels(stages: Sequence[Stage]) -> Html:
    fields = [
        (number, field, counts)
        for number, stage in enumerate(stages)
        for field, counts in stage.labels.items()
        if any(counts.values())
    ]
    if not fields:
        return NOTHING
    tables = []
    for number, field, counts in fields[:MOST]:
        heads = (shortened(field, 40) or "Answer", "Count", "Share")
        tables.append(_bars(heads, _counted(counts), hue(number), caption("caption", list(stages), number)))
    more = f" {len(fields) - MOST} further fields are not shown." if len(fields) > MOST else ""
    return section("Labels", f"How often each label was given.{more}", element("div", *tables, class_="pairs"))


# -- answers that stand out -----------------------------------------------------------------------


def _standing_out(stages: Sequence[Stage]) -> Html:
    slow = [(call, number) for number, stage in enumerate(stages) for call in stage.slowest]
    dear = [(call, number) for number, stage in enumerate(stages) for call in stage.dearest]
    if not slow and not dear:
        return NOTHING
    slow.sort(key=lambda pair: -pair[0].latency)
    dear.sort(key=lambda pair: (-(pair[0].cost or 0), -(pair[0].input + pair[0].output)))
    costly = "Dearest" if any(call.cost for call, _ in dear) else "Most tokens"
    tables = (_calls("Slowest", slow, stages), _calls(costly, dear, stages))
    note = "By id, or by key where there is none."
    return section("Answers that stand out", note, element("div", *tables, class_="pairs"))


def _calls(title: str, calls: Sequence[tuple[Call, int]], stages: Sequence[Stage]) -> Html:
    if not calls:
        return NOTHING
    rows = []
    for call, number in calls[:MOST_CALLS]:
        whose = Html(f", {data_name(stages[number].name, 24)}") if len(stages) > 1 else NOTHING
        more = element("small", data_name(call.model, 32), f", {tokens(call.input, call.output)}", whose)
        cost = UNKNOWN if call.cost is None else dollars(call.cost)
        head = element("th", data_name(call.id or call.key, 24), more, scope="row")
        rows.append(element("tr", head, element("td", duration(call.latency)), element("td", cost)))
    return element("table", element("caption", title), table_head("Answer", "Latency", "Cost"), element("tbody", *rows))
