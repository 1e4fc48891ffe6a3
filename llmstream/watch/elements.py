"""HTML out of text: whatever is put into an element is escaped, so that nothing can be forgotten."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from llmstream.records import words

if TYPE_CHECKING:
    from llmstream.watch.stages import Stage

HUES = 4  # after so many stages the colours begin anew: each stage is named where it is drawn


class Html(str):
    """Text that is markup already, and is not escaped."""

    __slots__ = ()


NOTHING = Html("")


def safe(text: str) -> str:
    return text if isinstance(text, Html) else html.escape(words.escape(text))


def element(tag: str, *inside: str, **attributes: str | float | None) -> Html:
    """class_ is the attribute class, aria_label is aria-label, and None is left out."""
    shown = []
    for name, value in attributes.items():
        if value is not None:
            text = value if isinstance(value, str) else f"{value:.5g}"
            shown.append(f' {name.rstrip("_").replace("_", "-")}="{safe(text)}"')
    return Html(f"<{tag}{''.join(shown)}>{''.join(map(safe, inside))}</{tag}>")


def optional(tag: str, text: str, **attributes: str | float | None) -> Html:
    """The element; nothing, if no text stands in it."""
    return element(tag, text, **attributes) if text else NOTHING


def section(title: str, note: str, *inside: str) -> Html:
    return element("section", element("h2", title), optional("p", note, class_="note"), *inside)


def table_head(*names: str) -> Html:
    return element("thead", element("tr", *(element("th", name, scope="col") for name in names)))


def shortened(text: str, most: int) -> str:
    """Beginning and end of a name: the end of a path tells most."""
    end = most * 2 // 5
    return text if len(text) <= most else f"{text[: most - end - 1]}…{text[-end:]}"


def data_name(text: str, most: int = 60) -> Html:
    """A name out of data. It cannot turn the text around it, whatever it is written in."""
    shown = shortened(text, most)
    return element("bdi", shown or "(empty)", title=None if shown == text else shortened(text, 400))


# -- stages ---------------------------------------------------------------------------------------


def hue(number: int) -> str:
    """The class that gives a stage its colour."""
    return f"hue{number % HUES}"


def stage_name(stage: Stage, number: int) -> Html:
    circle = element("circle", cx="50%", cy="50%", r="50%")
    dot = element("svg", circle, class_=f"dot {hue(number)}", aria_hidden="true")
    return element("span", dot, data_name(stage.name), class_="stage")


def caption(tag: str, stages: list[Stage], number: int) -> Html:
    """Whose a table or a plot is, where that is a question."""
    return element(tag, stage_name(stages[number], number)) if len(stages) > 1 else NOTHING
