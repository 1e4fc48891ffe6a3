"""When two items of lists that are folded are the same.

Strings are if they are alike, numbers of the same value, lists of such, and objects that are equal. Objects
that have a value in the fields that `match` names are the same if they are alike in these, and are merged.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from llmstream.folds.kinds import SCALARS
from llmstream.records import equality
from llmstream.records.equality import Path

Identify = Callable[[Any, tuple[Path, ...]], Hashable]  # an item, and the fields that identify an object


class Matched(NamedTuple):
    """An object in a list, by the fields that identify it."""

    values: tuple[Hashable, ...]


Spot = tuple[str | Matched, ...]  # a place in the folded record, even within items that match


def alike(item: Any, match: tuple[Path, ...]) -> Hashable:
    if isinstance(item, str):
        return equality.text(item)
    if isinstance(item, list):
        return "list", tuple(alike(inner, ()) for inner in item)
    if isinstance(item, dict):
        # Only scalars identify: they stay alike when the object is merged with others; a list of tags may not.
        values = [equality.at(item, path) for path in match]
        found = tuple(alike(value, ()) if type(value) in SCALARS else None for value in values)
        if any(value is not None for value in found):
            return Matched(found)
    return equality.exact_key(item)
