"""The records of a group folded into one, in the order they come: a deep merge, and rules for single fields.

Folding some of the records first and then the rest gives the same. What is held is what was folded
so far, not the records.
"""

from __future__ import annotations

from typing import Any

from llmstream.folds.conflicts import Conflicts
from llmstream.folds.deep_merge import DeepMerge
from llmstream.folds.hows import TakenField
from llmstream.folds.rules import FoldRules


class Fold:
    """A group that is being folded. It owns the data that it is given, and changes them in place."""

    __slots__ = ("_data", "_merge", "_taken", "members")

    def __init__(self, rules: FoldRules) -> None:
        self.members = 0
        self._data: dict[str, Any] = {}
        self._merge = DeepMerge(rules.match, Conflicts() if rules.conflicts else None)
        self._taken = tuple(TakenField(path, how, self._merge) for path, how in rules.take)

    def add(self, data: dict[str, Any], where: str = "") -> None:
        """One more record. where: it came from, for whoever asks what disagreed."""
        for field in self._taken:
            field.take_from(data, where)
        if self.members:
            self._merge.objects(self._data, data, (), where)
        else:
            self._data = data
            if self._merge.conflicts:
                self._merge.conflicts.first = where
        self.members += 1

    def end(self) -> dict[str, Any]:
        """The folded record; CannotFold if a rule did not suit the values."""
        for field in self._taken:
            field.put_into(self._data)
        return self._data

    def is_untouched(self) -> bool:
        """Is the folded record the only one there was, so that its own bytes can stand for it?"""
        return self.members == 1 and not any(field.found and field.how.changes_one for field in self._taken)

    def conflicts(self) -> list[dict[str, Any]]:
        """What disagreed, in the order in which it came up; for after the end."""
        return self._merge.conflicts.as_list() if self._merge.conflicts else []
