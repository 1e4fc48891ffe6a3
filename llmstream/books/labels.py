"""How often each label of a schema came up, and how long its lists are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from llmstream.records import exact, schema

MOST_FIELDS = 10  # that get a line for people; programs are told all
MOST_LABELS = 12  # in a line

Path = tuple[str | None, ...]  # the names on the way to a place; None is each item of a list


def of(shape: schema.Shape) -> Labels | None:
    """What there is to count in the answers of a schema."""
    found = dict.fromkeys(_places(shape.schema, shape.schema, (), ()))
    fields, lists = ([path for path, of_list in found if of_list == wanted] for wanted in (False, True))
    return Labels(fields, lists) if fields or lists else None


def _places(part: Any, whole: Any, path: Path, followed: tuple[str, ...]) -> Iterator[tuple[Path, bool]]:
    """Where a part of a schema has labels, and where lists (True)."""
    if not isinstance(part, dict):
        return
    kinds = part.get("type")
    kinds = set(kinds) if isinstance(kinds, list) else {kinds}
    if isinstance(part.get("enum"), list) or "const" in part or "boolean" in kinds <= {"boolean", "null"}:
        yield path, False
    if "array" in kinds:
        yield path, True
    for form in _forms(part):
        yield from _places(form, whole, path, followed)
    reference = part.get("$ref")
    if isinstance(reference, str) and reference not in followed:  # a tree refers to itself
        yield from _places(_referred(whole, reference), whole, path, (*followed, reference))
    named = part.get("properties")
    for name, inner in named.items() if isinstance(named, dict) else ():
        yield from _places(inner, whole, (*path, name), followed)
    yield from _places(part.get("items"), whole, (*path, None), followed)


def _forms(part: dict[str, Any]) -> Iterator[Any]:
    for keyword in ("anyOf", "oneOf", "allOf"):
        forms = part.get(keyword)
        yield from forms if isinstance(forms, list) else ()


def _referred(whole: Any, reference: str) -> Any:
    """The part of a schema that #/$defs/name is."""
    start, *names = reference.split("/")
    for name in names:
        whole = whole.get(name) if isinstance(whole, dict) else None
    return whole if start == "#" else None


class Labels:
    """Gathers as the records go out; memory is that of the schema."""

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

    def told(self) -> dict[str, dict[str, Any]]:
        """For programs: of each field the labels with count and share, or the average length."""
        told: dict[str, dict[str, Any]] = {}
        for path, counts in self._counts.items():
            if counts:
                total = counts.total()
                told[_shown(path)] = {label: {"count": n, "share": round(n / total, 4)} for label, n in _named(counts)}
        for path, length in self._lengths():
            told.setdefault(_shown(path), {})["average_length"] = round(length, 2)
        return told

    def _lengths(self) -> list[tuple[Path, float]]:
        return [(path, items / lists) for path, (lists, items) in self._lists.items() if lists]

    def lines(self) -> list[str]:
        """For people."""
        told = [f"{_shown(path) or 'answer'}: {_line(counts)}" for path, counts in self._counts.items() if counts]
        told += [f"{_shown(path) or 'answer'}: {length:.1f} on average" for path, length in self._lengths()]
        more = len(told) - MOST_FIELDS
        return told[:MOST_FIELDS] + [f"{more} further fields are in --summary FILE"] * (more > 0)


def _line(counts: Counter[bytes]) -> str:
    total = counts.total()
    named = _named(counts)
    shown = [(exact.dumps(label).decode() if _odd(label) else label, n) for label, n in named[:MOST_LABELS]]
    first, *others = [f"{label} {n}" for label, n in shown]
    rest = total - sum(n for _, n in shown)
    parts = [f"{first} ({100 * shown[0][1] / total:.1f} %)", *others, *([f"others {rest}"] if rest else [])]
    return ", ".join(parts)


def _odd(label: str) -> bool:
    """Would nobody see where it begins and ends?"""
    return label != label.strip() or not label or ", " in label


def _named(counts: Counter[bytes]) -> list[tuple[str, int]]:
    """The labels as text, the most frequent first; with its quotes where another would look the same."""
    texts = Counter(map(_text, counts))
    return [(_text(label) if texts[_text(label)] == 1 else label.decode(), n) for label, n in counts.most_common()]


def _text(label: bytes) -> str:
    return str(exact.loads(label)) if label.startswith(b'"') else label.decode()


def _shown(path: Path) -> str:
    """a.b, people[].role"""
    return "".join("[]" if name is None else f".{name}" if n else name for n, name in enumerate(path))


def _at(value: Any, path: Path) -> Iterator[Any]:
    """What stands at a place, or at that of each item of a list."""
    if not path:
        yield value
    elif path[0] is None:
        for item in value if isinstance(value, list) else ():
            yield from _at(item, path[1:])
    elif isinstance(value, dict) and path[0] in value:
        yield from _at(value[path[0]], path[1:])
