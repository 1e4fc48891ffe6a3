"""Two values made into one, in place: what folding does where no rule says otherwise.

At each place

    objects   are merged field by field, fields in the order in which they first appear
    lists     become one list of all their items, each once, the first of those that are the same
    scalars   the last one stays
    null      gives way to anything

and where kinds meet, an object stays before a list, a list before a scalar. What is dropped then
disagreed, and so did two scalars that are not equal. A list that meets no other one stays as it is.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from llmstream.folds.conflicts import Conflicts
from llmstream.folds.kinds import LIST, OBJECT, RANK_OF, SCALARS
from llmstream.folds.same_items import Identify, Matched, Spot, alike
from llmstream.records.equality import Path

SHORT = 8  # items of a list whose keys are made anew for each further list: cheaper than keeping them for every group
_GIVE_WAY = SCALARS | {type(None)}  # to a scalar
_NONE: frozenset[type] = frozenset()
_Known = dict[Hashable, Any]  # the items of a list by what identifies them


class DeepMerge:
    """Merges the values of one group's records. conflicts: notes what disagrees, where that is asked for."""

    __slots__ = ("_known", "conflicts", "match")

    def __init__(self, match: tuple[Path, ...], conflicts: Conflicts | None) -> None:
        self.match = match
        self.conflicts = conflicts
        self._known: dict[int, tuple[list[Any], _Known]] | None = None  # of long lists, by their id

    def objects(self, mine: dict[str, Any], theirs: dict[str, Any], path: Spot, where: str) -> None:
        quick = _GIVE_WAY if self.conflicts is None else _NONE
        for name, new in theirs.items():
            old = mine.get(name)
            if type(old) in quick and type(new) in SCALARS:  # what _merged would do, without a call
                mine[name] = new
            else:
                mine[name] = self._merged(old, new, (*path, name), where)

    def _merged(self, old: Any, new: Any, path: Spot, where: str) -> Any:
        """What two values at one place come to."""
        if self.conflicts:
            self.conflicts.compare(old, new, path, where)
        mine, theirs = RANK_OF[type(old)], RANK_OF[type(new)]
        if mine != theirs:
            return old if mine > theirs else new
        if mine == OBJECT:
            self.objects(old, new, path, where)
        elif mine == LIST:
            self.union(old, new, alike, path, where)
        else:
            return new
        return old

    def union(self, mine: list[Any], theirs: list[Any], identify: Identify, path: Spot, where: str) -> None:
        held = self._known.get(id(mine)) if self._known else None
        known = held[1] if held else self._each_once(mine, identify, path)
        self._gather(mine, known, theirs, identify, path, where)
        if not held and len(mine) > SHORT:
            self._known = self._known or {}
            self._known[id(mine)] = mine, known  # the list too: as long as it is held nothing else has its id

    def _each_once(self, mine: list[Any], identify: Identify, path: Spot) -> _Known:
        """Leaves each item of a list once."""
        known = {identify(item, self.match): item for item in mine}
        if len(known) == len(mine) and not self.conflicts:
            return known
        items, known = mine[:], {}
        mine.clear()
        self._gather(mine, known, items, identify, path, self.conflicts.origin(path) if self.conflicts else "")
        return known

    def _gather(
        self, mine: list[Any], known: _Known, items: list[Any], identify: Identify, path: Spot, where: str
    ) -> None:
        for item in items:
            key = identify(item, self.match)
            if key not in known:
                known[key] = item
                mine.append(item)
                if self.conflicts and isinstance(key, Matched):
                    self.conflicts.note_item(item, key, self.match, path, where)
            elif isinstance(key, Matched):
                self.objects(known[key], item, (*path, key), where)
