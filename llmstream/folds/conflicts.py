"""What disagreed while records were folded: each field, the values that met there, and where each came from."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from llmstream.folds.kinds import NULL, RANK_OF, SCALAR, SCALARS
from llmstream.folds.same_items import Matched, Spot
from llmstream.records import equality, exact
from llmstream.records.equality import Path


class Conflicts:
    """Looks on while values meet. Of the places that agree it knows only where the later ones came up."""

    def __init__(self) -> None:
        self.first = ""  # where the first record came from
        self._later: dict[Spot, str] = {}
        self._labels: dict[Matched, str] = {}
        self._found: dict[Spot, dict[Hashable, tuple[Any, str]]] = {}

    def compare(self, old: Any, new: Any, path: Spot, where: str) -> None:
        mine, theirs = RANK_OF[type(old)], RANK_OF[type(new)]
        if mine == NULL and theirs != NULL:
            self._later[path] = where
        elif theirs != NULL and not (mine == theirs and (mine > SCALAR or _same_scalar(old, new))):
            if path not in self._found:
                self._found[path] = {equality.exact_key(old): (old, self.origin(path))}
            self._found[path].setdefault(equality.exact_key(new), (new, where))
            if theirs > mine:
                self._later[path] = where

    def note_item(self, item: Any, key: Matched, match: tuple[Path, ...], path: Spot, where: str) -> None:
        """An item that others may be merged into."""
        self._later.setdefault((*path, key), where)
        self._labels.setdefault(key, _label(item, match))

    def origin(self, path: Spot) -> str:
        """Where the value at a place was first seen: with what is around it, if nothing else is known."""
        parts = (path[:end] for end in range(len(path), 0, -1))
        return next((self._later[part] for part in parts if part in self._later), self.first)

    def as_list(self) -> list[dict[str, Any]]:
        """One object for each field that disagreed, in the order in which they came up."""
        listed = []
        for path, found in self._found.items():
            # Each value once: a list may have grown into one that another record had.
            met: dict[Hashable, tuple[Any, str]] = {}
            for value, where in found.values():
                met.setdefault(equality.exact_key(value), (value, where))
            values, origins = zip(*met.values(), strict=True)
            listed.append({"field": self._name(path), "values": list(values), "from": list(origins)})
        return listed

    def _name(self, path: Spot) -> str:
        parts = (f"[{self._labels[part]}]" if isinstance(part, Matched) else f".{part}" for part in path)
        return "".join(parts).removeprefix(".")


def _same_scalar(old: Any, new: Any) -> bool:
    if type(old) is type(new) and not isinstance(old, exact.Wide):
        return bool(old == new)
    return equality.exact_key(old) == equality.exact_key(new)


def _label(item: Any, match: tuple[Path, ...]) -> str:
    """What a person would call an item."""
    values = [equality.at(item, path) for path in match]
    names = [value for value in values if type(value) in SCALARS]
    return ", ".join(name.strip() if isinstance(name, str) else exact.dumps(name).decode() for name in names)
