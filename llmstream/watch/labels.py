"""Labels in answers: fields that hold one of a few short texts again and again."""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Any

from llmstream.records import exact

MOST_LABELS = 20  # different ones in a field; where there are more, it is no label
LONGEST_LABEL = 60
MOST_FIELDS = 100  # in which labels are looked for
DEEPEST = 8  # lists and objects within one another that are looked into

_BOOLEANS = ("false", "true")


class Labels:
    """Fields of answers that hold labels, and how often each label came up. Memory is bounded."""

    def __init__(self) -> None:
        self._fields: dict[str, dict[str, int] | None] = {}  # None: it holds something else than labels

    def add(self, answers: Iterable[str]) -> None:
        for answer in answers:
            self._add(_value(answer), "", 0)

    def merge(self, other: Labels) -> None:
        for path, counts in other._fields.items():
            if counts is None:
                self._count(path, None, 0)
            else:
                for label, times in counts.items():
                    self._count(path, label, times)

    def as_dict(self) -> dict[str, dict[str, int]]:
        """The counts by field, the most frequent label first. A field is left out if its labels seem to be few only
        because there are few answers: a label comes up again."""
        return {
            path: dict(sorted(counts.items(), key=itemgetter(1), reverse=True))
            for path, counts in self._fields.items()
            if counts and (counts.keys() <= set(_BOOLEANS) or sum(counts.values()) >= 2 * len(counts))
        }

    def _add(self, value: Any, path: str, depth: int) -> None:
        """Count the labels in a part of an answer by their places, a.b or a[].b."""
        if isinstance(value, str):
            self._count(path, _label(value), 1)
        elif isinstance(value, bool):
            self._count(path, _BOOLEANS[value], 1)
        elif depth == DEEPEST:
            return
        elif isinstance(value, dict):
            for name, inner in value.items():
                self._add(inner, f"{path}.{name}" if path else name, depth + 1)
        elif isinstance(value, list):
            for inner in value:
                self._add(inner, f"{path}[]", depth + 1)

    def _count(self, path: str, label: str | None, times: int) -> None:
        """label: None is text that is no label."""
        if path not in self._fields and len(self._fields) == MOST_FIELDS:
            return
        counts = self._fields.setdefault(path, {})
        if counts is None:
            return
        if label is None or (label not in counts and len(counts) == MOST_LABELS):
            self._fields[path] = None
        else:
            counts[label] = counts.get(label, 0) + times


def _label(text: str) -> str | None:
    return text if len(text) <= LONGEST_LABEL and "\n" not in text else None


def _value(answer: str) -> Any:
    """An answer's list or object; any other answer is its text."""
    try:
        value = exact.loads_quickly(answer.encode())
    except ValueError:
        return answer.strip()
    return value if isinstance(value, (dict, list, str)) else answer.strip()
