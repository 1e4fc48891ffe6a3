"""The page of llm-progress, looked at in a real browser."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from browser import CHROMIUM, Browser, Told, browser
from hypothesis import given, settings
from hypothesis import strategies as st

from llmstream.books import histogram
from llmstream.records.values import Spent
from llmstream.watch import page
from llmstream.watch.elements import HUES
from llmstream.watch.plots import MOST_BINS
from llmstream.watch.stages import Stage
from llmstream.watch.standing_out import Call

AT = 1795261230.0  # 21 November 2026, 11:40:30 UTC
NOW = int(AT // 60)
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "</style></title></svg><b>loud</b>",
    "' onmouseover='alert(3)",
    "abc\u202edcb\u2066 \x00\x1b[2J\x85\ud800",
    "{{ 7 * 7 }} &lt;i&gt; %s {name} אבג",
    "javascript:alert(4)//" + "x" * 5000,
)


def spread(middle: float, answers: int) -> dict[int, int]:
    """Latencies around a middle, most of them near to it."""
    waits = (middle * 4 ** ((n * 0.618 % 1) + (n * 0.414 % 1) + (n * 0.732 % 1) - 1.5) for n in range(answers))
    return dict(Counter(map(histogram.bucket, waits)))


def call(number: int, cost: float | None = 0.004) -> Call:
    return Call(f"{number:032x}", f"DS_{number}" if number % 2 else None, "small", 9.5 - number / 2, 1200, 80, cost)


def stage(name: str = "tags.done", ago: Sequence[int] = range(60), **more: Any) -> Stage:
    """A stage that gave seven answers in each of the minutes that are so long ago."""
    answers = 7 * len(ago)
    usual = Stage(
        name=name, done=answers, rejected=12, failed=3, left=200, running=4711, rate=0.12, overall=0.1, eta=1980.0,
        models={"small": Spent(answers, 1200 * answers, 80 * answers, 300 * answers, 9 * answers, 0.004 * answers)},
        first=60.0 * (NOW - max(ago)) + 3, last=60.0 * (NOW - min(ago)) + 28,
        minutes=dict.fromkeys((NOW - minutes for minutes in ago), 7), latencies=spread(1.4, answers),
        failures={"schema": 9, "http 429": 31, "timeout": 1},
        labels={"topic": {"weather": 200, "ships": 150, "food": 70}, "": {"yes": 12, "no": 3}},
        slowest=[call(n) for n in range(10)], dearest=[call(n, 0.1 / (n + 1)) for n in range(10)],
    )  # fmt: skip
    return usual._replace(**more)


NOTHING = Stage("new.done", 0, 0, None, None, None, None, None, None, {}, None, None, {}, {}, {}, {}, (), ())
ONE = NOTHING._replace(
    name="one.done", done=1, models={"small": Spent(1, 900, 30, 0, 0, 0.0021)}, first=AT - 90, last=AT - 90,
    minutes={NOW - 2: 1}, latencies={histogram.bucket(0.8): 1}, slowest=[call(1)], dearest=[call(1)],
)  # fmt: skip
FREE = {"small": Spent(420, 504_000, 33_600, 0, 0, 0.0)}
UNPRICED = {"local": Spent(420, 504_000, 33_600, 0, 0, None)}
CASES = {
    "nothing": [],
    "no answer yet": [NOTHING],
    "one answer": [ONE],
    "two minutes": [stage(ago=range(2))],
    "an hour": [stage()],
    "three stages": [
        stage("done/tags.done"),
        stage("done/a-rather-long-name-of-a-stage-that-translates.done", range(20, 95), models=UNPRICED, eta=None),
        stage("done/short.done", [0, 1, 40], latencies=spread(0.02, 400), rejected=0, failed=None, left=None),
    ],
    "a week": [stage(ago=[n for n in range(10080) if n % 1440 > 300]), stage("b", range(9000, 10080))],
    "years": [stage(ago=[0, 525_600, 20_000_000])],
    "quick and slow": [stage(latencies={histogram.bucket(0.0005): 9000, histogram.bucket(4000): 1})],
    "almost all slow": [stage(latencies={histogram.bucket(0.0005): 1, histogram.bucket(4000): 90000})],
    "all cost nothing": [stage(models=FREE)],
    "no cost known": [stage(models=UNPRICED, dearest=[call(n, None) for n in range(10)], slowest=[call(0, None)])],
    "thirty models": [stage(models={f"model-{n}": Spent(9, 9000 + n, 900, 0, 0, n / 7) for n in range(30)})],
    "twenty labels": [stage(labels={"topic": {f"label {n}": 400 // (n + 1) for n in range(20)}})],
    "large numbers": [
        stage(
            "x" * 300, done=9_876_543_210, left=1_234_567_890, eta=9e6, rate=123_456.0, minutes={NOW: 1_234_567},
            models={"m" * 200: Spent(9_876_543_210, 10**13, 10**12, 10**12, 10**11, 12_345_678.9)},
            latencies={histogram.bucket(1.1): 9_876_543_210},
        )
    ],
}  # fmt: skip
VIEWS: dict[str, dict[str, Any]] = {
    "light": {},
    "dark": {"dark": True},
    "phone": {"width": 360, "height": 740, "phone": True},
}

# -- in a browser -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not CHROMIUM:
        pytest.skip("chromium is not installed")
    with browser(tmp_path_factory.mktemp("profile")) as one:
        yield one


Show = Callable[..., Told]


@pytest.fixture
def show(chromium: Browser, tmp_path: Path) -> Show:
    """Opens the page of some stages."""

    def opened(stages: Sequence[Stage], **view: Any) -> Told:
        path = tmp_path / "page.html"
        path.write_text(page.html(stages, AT), encoding="utf-8")
        return chromium.open(path, **view)

    return opened


PLOTS = """
(() => {
  const box = e => { const b = e.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom] }
  return [...document.querySelectorAll("svg.plot")].map(plot => ({
    box: box(plot),
    label: plot.getAttribute("aria-label"),
    bars: [...plot.querySelectorAll("rect")].map(box),
    titles: [...plot.querySelectorAll("rect > title")].map(title => title.textContent),
    texts: [...plot.querySelectorAll("text")].map(text =>
      ({text: text.textContent, box: box(text), size: parseFloat(getComputedStyle(text).fontSize)})),
  }))
})()
"""
# What sticks out of the window, and what is wider than the place that it has.
TOO_WIDE = """
[...document.querySelectorAll("body *")].filter(e => {
  const box = e.getBoundingClientRect()
  const out = box.width && (box.left < -0.5 || box.right > document.documentElement.clientWidth + 0.5)
  const cut = e.matches("td, th, dd, dt, p, h1, h2, caption, figcaption") && e.scrollWidth > e.clientWidth + 1
  return (out || cut) && !e.closest(".stages thead")
}).map(e => e.outerHTML.slice(0, 200))
"""
# The contrast of every colour that text or a mark has against the page.
CONTRASTS = """
(() => {
  const light = colour => {
    const [r, g, b] = colour.match(/[0-9.]+/g).slice(0, 3).map(part => part / 255)
      .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const paper = light(getComputedStyle(document.documentElement).backgroundColor)
  const ratio = colour => (Math.max(light(colour), paper) + 0.05) / (Math.min(light(colour), paper) + 0.05)
  const own = e => [...e.childNodes].some(node => node.nodeType == Node.TEXT_NODE && node.data.trim())
  const all = [...document.querySelectorAll("body *")]
  const colour = (e, name) => getComputedStyle(e)[name]
  return {
    backgrounds: new Set(all.map(e => colour(e, "backgroundColor"))).size,
    texts: all.filter(e => own(e) && !e.matches("title"))
      .map(e => ratio(colour(e, e.matches("text") ? "fill" : "color"))),
    marks: all.filter(e => e.matches(".plot rect, .part0, .part1, circle")).map(e => ratio(colour(e, "fill"))),
  }
})()
"""


def inside(box: list[float], frame: list[float]) -> bool:
    left, top, right, bottom = frame
    return left - box[0] < 0.5 and top - box[1] < 0.5 and box[2] - right < 0.5 and box[3] - bottom < 0.5


def meet(one: list[float], other: list[float]) -> bool:
    return min(one[2], other[2]) - max(one[0], other[0]) > 0.5 and min(one[3], other[3]) - max(one[1], other[1]) > 0.5


def answers(titles: Sequence[str]) -> int:
    """The answers that the bars of a plot tell of."""
    found = (re.search(r": ([\d,]+) answers?", one) for one in titles)
    return sum(int(one[1].replace(",", "")) for one in found if one)


def fits(chromium: Browser, width: int) -> list[dict[str, Any]]:
    """Nothing sticks out, is cut or covers anything else. The plots, for more."""
    assert chromium.run("[document.documentElement.scrollWidth, innerWidth]") == [width, width]
    assert chromium.run(TOO_WIDE) == []
    plots: list[dict[str, Any]] = chromium.run(PLOTS)
    for plot in plots:
        texts = plot["texts"]
        assert len(texts) >= 2
        assert min(text["size"] for text in texts) >= 10
        assert [text for text in texts if not inside(text["box"], plot["box"])] == []
        assert [(a, b) for a, b in combinations(texts, 2) if meet(a["box"], b["box"])] == []
        assert all(inside(bar, plot["box"]) for bar in plot["bars"])
    return plots


def is_quiet(opened: Told) -> bool:
    """Nothing was loaded besides the page, and nothing complained."""
    return not opened.messages and [address.partition(":")[0] for address in opened.requests] == ["file"]


@pytest.mark.parametrize("case", CASES)
def test_everything_is_drawn_and_has_its_place(case: str, chromium: Browser, show: Show) -> None:
    stages = CASES[case]
    assert is_quiet(show(stages, **VIEWS["phone"]))
    assert all(plot["box"][2] - plot["box"][0] > 300 for plot in fits(chromium, 360))
    assert is_quiet(show(stages))
    plots = fits(chromium, 1280)
    drawn = [one.minutes for one in stages if one.minutes] + [one.latencies for one in stages if one.latencies]
    for plot, counts in zip(plots, drawn, strict=True):
        left, top, right, bottom = plot["box"]
        assert right - left > 300
        assert 100 < bottom - top < 300
        assert plot["label"]
        assert answers(plot["titles"]) == sum(counts.values())
        assert 1 <= len(plot["bars"]) <= MOST_BINS
        assert all(bar[2] - bar[0] > 1 and bar[3] - bar[1] > 0.3 for bar in plot["bars"])


def test_every_minute_of_a_short_run_has_its_bar(chromium: Browser, show: Show) -> None:
    show([stage(ago=[0, 1, 5, 90])])
    plot = chromium.run(PLOTS)[0]
    assert plot["titles"] == [f"21 Nov {time}: 7 answers" for time in ("10:10", "11:35", "11:39", "11:40")]
    assert len({round(bar[3] - bar[1]) for bar in plot["bars"]}) == 1


def test_a_bar_is_as_long_as_its_share(chromium: Browser, show: Show) -> None:
    show([stage(labels={"topic": {"weather": 200, "ships": 50, "food": 100}}, failures={}, models={})])
    widths = chromium.run('[...document.querySelectorAll(".bars .part0")].map(e => e.getBoundingClientRect().width)')
    assert [round(width / widths[0], 2) for width in widths] == [1, 0.5, 0.25]


@pytest.mark.parametrize("view", VIEWS)
def test_contrast(view: str, chromium: Browser, show: Show) -> None:
    show([stage(f"{n}.done") for n in range(HUES)], **VIEWS[view])
    found = chromium.run(CONTRASTS)
    assert found["backgrounds"] == 1  # whatever stands on the page stands on the page's own colour
    assert len(found["texts"]) > 100
    assert min(found["texts"]) >= 4.5
    assert min(found["marks"]) >= 3


def test_dark_where_the_reader_wants_it_and_light_on_paper(chromium: Browser, show: Show) -> None:
    paper = "getComputedStyle(document.documentElement).backgroundColor.match(/[0-9]+/g).slice(0, 3).map(Number)"
    show([ONE])
    assert min(chromium.run(paper)) > 240
    show([ONE], dark=True)
    assert max(chromium.run(paper)) < 40
    scheme = {"name": "prefers-color-scheme", "value": "dark"}
    chromium.call("Emulation.setEmulatedMedia", media="print", features=[scheme])
    assert min(chromium.run(paper)) > 240
    show(CASES["three stages"], width=720)
    chromium.call("Emulation.setEmulatedMedia", media="print", features=[scheme])
    assert len(fits(chromium, 720)) == 6


def named(*names: str) -> list[Stage]:
    """Stages in which everything that comes from data has one of these names."""
    counts = {name: 10 * (n + 1) for n, name in enumerate(names)}
    calls = [Call(name, name if n % 2 else None, name, 1.0 + n, 9, 9, None) for n, name in enumerate(names)]
    spent = {name: Spent(1, 100 * (n + 1), 10, 0, 0, None) for n, name in enumerate(names)}
    more: dict[str, Any] = {"models": spent, "failures": counts, "labels": dict.fromkeys(names, counts)}
    return [stage(name, **more, slowest=calls, dearest=calls) for name in names]


def test_what_comes_from_data_is_shown_and_nothing_else(chromium: Browser, show: Show) -> None:
    census = """(() => {
      const all = [...document.querySelectorAll("*")]
      return [all.map(e => e.tagName), [...new Set(all.flatMap(e => e.getAttributeNames()))].filter(n => n != "title")]
    })()"""
    show(named(*(f"name {n}" for n in range(len(HOSTILE)))))
    tags, attributes = chromium.run(census)
    opened = show(named(*HOSTILE))
    assert is_quiet(opened)
    assert chromium.run(census) == [tags, attributes]
    text = chromium.run("document.body.innerText")
    for name in HOSTILE[:4]:
        assert name in text
    assert "abc\\u202edcb\\u2066 \\x00\\x1b[2J\\x85\\ud800" in text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    assert chromium.run("document.title").startswith("llm-progress: <script>alert(1)</script>, ")
    assert chromium.run(TOO_WIDE) == []


@pytest.mark.parametrize("view", ["light", "phone"])
def test_who_cannot_see_learns_the_same(view: str, chromium: Browser, show: Show) -> None:
    show(CASES["three stages"], **VIEWS[view])
    chromium.call("Accessibility.enable")
    nodes = chromium.call("Accessibility.getFullAXTree")["nodes"]
    chromium.call("Accessibility.disable")
    roles = Counter(node["role"]["value"] for node in nodes if not node.get("ignored"))
    assert roles["image"] == 6  # the plots; bars and dots say nothing that the tables do not
    assert roles["heading"] == 8
    headings = [node for node in nodes if not node.get("ignored") and node["role"]["value"] == "heading"]
    assert [node["properties"][0]["value"]["value"] for node in headings] == [1, *[2] * 7]
    assert roles["rowheader"] >= 3 + 2 + 3 + 15 + 20
    assert all(node["name"]["value"] for node in nodes if node["role"]["value"] in ("image", "rowheader"))


def test_the_browser_would_tell(chromium: Browser, tmp_path: Path) -> None:
    """What these tests look for is seen where it is there."""
    meta = re.search(r"<meta[^>]*Security[^>]*>", page.html([], AT))
    assert meta
    path = tmp_path / "page.html"
    path.write_text(f"<!DOCTYPE html>{meta[0]}<script>document.title = 1</script><img src='http://127.0.0.1:9/x.png'>")
    opened = chromium.open(path)
    assert len([message for message in opened.messages if "Content Security Policy" in message]) == 2
    assert chromium.run("document.title") != "1"
    path.write_text("<!DOCTYPE html><script>console.log('here'); nothing.at.all</script><p style='width: 2000px'>wide")
    opened = chromium.open(path, width=360)
    assert opened.messages == ["here", "Uncaught"]
    assert len(chromium.run(TOO_WIDE)) == 1


# -- without one --------------------------------------------------------------------------------


def text_of(stages: Sequence[Stage]) -> str:
    """What is written on the page, elements parted by a space."""
    return " ".join(re.sub(r"<[^>]*>", " ", page.html(stages, AT).partition("<body>")[2]).split())


def test_a_page_is_small() -> None:
    assert len(page.html([], AT)) < 6_000
    assert len(page.html(CASES["a week"] + [stage("c", range(10080))], AT).encode()) < 100_000


def test_the_figures_of_a_stage() -> None:
    text = text_of([stage()])
    assert "As of 21 Nov 2026, 11:40:30 UTC . Answers from 21 Nov 2026, 10:41 to 11:40 UTC (59 min 25 s)." in text
    assert "Done 420 67.4 % of 623 Failed 3 12 answers rejected Left 200 about 33 min Rate 7.2/min" in text
    assert "Cost $1.68 $4.00 per 1,000 answers Tokens in 504,000 126,000 cached Tokens out 33,600 3,780" in text
    assert "http 429 31 75.6 % schema 9 22.0 % timeout 1 2.4 %" in text


def test_what_is_not_known_is_not_made_up() -> None:
    text = text_of(CASES["no cost known"])
    assert "Cost – not known" in text
    assert "Tokens by model" in text
    assert "$" not in text
    text = text_of([stage(models=UNPRICED | {"small": Spent(10, 100, 10, 0, 0, 2.5)})])
    assert "Cost $2.50+ not all of it is known" in text
    text = text_of([NOTHING])
    assert "Failed" not in text
    assert "Throughput" not in text
    assert "Nothing was read" in text_of([])


def test_what_is_free_costs_nothing() -> None:
    text = text_of(CASES["all cost nothing"])
    assert "Cost $0.00" in text
    assert "Tokens by model" in text


def test_the_rest_is_added_up() -> None:
    text = text_of(CASES["thirty models"])
    assert f"10 others 90 calls, {10 * 9000 + 45:,} in, 9,000 out {10 * 9900 + 45:,} $6.43" in text
    assert "others" not in text_of(CASES["twenty labels"])


def test_rates_have_a_unit_that_suits_them() -> None:
    assert "Answers a minute, from 21 Nov 2026 on." in text_of([stage()])
    assert "Answers an hour, averaged over 1 h, from 14 Nov 2026 on." in text_of([stage(ago=range(0, 10080, 900))])
    assert "Answers a day, averaged over 128 d, from 29 Jul 1988 on." in text_of(CASES["years"])


class Tags(HTMLParser):
    """The elements of a page, with the names of their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs if name != "title")))


@settings(max_examples=25, deadline=None)
@given(st.text() | st.text("<>&\"'/=! -abc\x00\u202e\ud800"))
def test_no_name_makes_an_element(name: str) -> None:
    shown = page.html(named(name), AT)
    assert Tags(shown).found == Tags(page.html(named("name"), AT)).found
    shown.encode()
