"""How often each label of a schema came up, and how long its lists are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from llmstream.records import exact, schema, schema_places
from llmstream.records.schema_places import Path, as_text

MOST_FIELDS = 10  # that get a line for people; programs get all
MOST_LABELS = 12  # in a line


def of(shape: schema.Shape) -> Labels | None:
    """What there is to count in the answers of a schema."""
    places = list(schema_places.places(shape.schema))
    fields = [place.path for place in places if place.labels]
    lists = [place.path for place in places if place.is_list]
    return Labels(fields, lists) if places else None


class Labels:
    """Counts as the records go out; memory is that of the schema."""

    def __init__(self, fields: Iterable[Path], lists: Iterable[Path]) -> None:
        self._counts: dict[Path, Counter[bytes]] = {path: Counter() for path in fields}  # of labels, as JSON
        self._lists = {path: [0, 0] for path in lists}  # how many there were, and their items

    def add(self, answer: Any) -> None:
        for path, counts in self._counts.items():
            counts.update(exact.dumps(label) for label in _at(answer, path))
        for path, sums in self._lists.items():
            for items in _at(answer, path):
                if isinstance(items, list):
                    sums[0] += 1
                    sums[1] += len(items)

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """For programs: of each field the labels with count and share, or the average length."""
        found: dict[str, dict[str, Any]] = {}
        for path, counts in self._counts.items():
            total = counts.total()
            if total:
                found[as_text(path)] = {
                    label: {"count": n, "share": round(n / total, 4)} for label, n in _as_texts(counts)
                }
        for path, length in self._average_lengths():
            found.setdefault(as_text(path), {})["average_length"] = round(length, 2)
        return found

    def as_lines(self) -> list[str]:
        """For people."""
        found = [f"{as_text(path) or 'answer'}: {_line(counts)}" for path, counts in self._counts.items() if counts]
        found += [f"{as_text(path) or 'answer'}: {length:.1f} on average" for path, length in self._average_lengths()]
        more = len(found) - MOST_FIELDS
        if more > 0:
            found[MOST_FIELDS:] = [f"{more} further fields are in --summary FILE"]
        return found

    def _average_lengths(self) -> list[tuple[Path, float]]:
        return [(path, items / lists) for path, (lists, items) in self._lists.items() if lists]


def _line(counts: Counter[bytes]) -> str:
    total = counts.total()
    texts = [(_with_visible_ends(label), n) for label, n in _as_texts(counts)[:MOST_LABELS]]
    first, most = texts[0]
    parts = [f"{first} {most} ({100 * most / total:.1f} %)", *(f"{label} {n}" for label, n in texts[1:])]
    rest = total - sum(n for _, n in texts)
    if rest:
        parts.append(f"others {rest}")
    return ", ".join(parts)


def _with_visible_ends(label: str) -> str:
    """The label, with quotes where nobody would see where it begins and ends."""
    is_plain = label and label == label.strip() and ", " not in label
    return label if is_plain else exact.dumps(label).decode()


def _as_texts(counts: Counter[bytes]) -> list[tuple[str, int]]:
    """The labels as text, the most frequent first; with its quotes where another would look the same."""
    texts = Counter(map(_text, counts))
    return [(_text(label) if texts[_text(label)] == 1 else label.decode(), n) for label, n in counts.most_common()]


def _text(label: bytes) -> str:
    return str(exact.loads(label)) if label.startswith(b'"') else label.decode()


def _at(value: Any, path: Path) -> Iterator[Any]:
    """What stands at a place, or at that of each item of a list."""
    if not path:
        yield value
    elif path[0] is None:
        for item in value if isinstance(value, list) else ():
            yield from _at(item, path[1:])
    elif isinstance(value, dict) and path[0] in value:
        yield from _at(value[path[0]], path[1:])
