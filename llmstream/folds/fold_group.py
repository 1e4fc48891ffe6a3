"""The records of a group folded into one line, with what disagreed put into it where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from llmstream.folds.fold import Fold
from llmstream.folds.hows import CannotFold
from llmstream.folds.rules import FoldRules
from llmstream.records import exact, splicing
from llmstream.records.equality import Path
from llmstream.records.values import Failure, Record


class FoldedLine(NamedTuple):
    line: bytes
    disagreed: bool  # did anything in the records; known only if the rules say that conflicts are noted


class GroupFold:
    """A group of records on its way to one line; what is held is the fold, not the records."""

    __slots__ = ("_fold", "first", "others")

    def __init__(self, first: Record, rules: FoldRules) -> None:
        """first: the record that the group begins with; it is still to be added."""
        self.first = first
        self.others: list[Record] = []  # those after the first that were kept, without their data
        self._fold = Fold(rules)

    @property
    def members(self) -> int:
        return self._fold.members

    def add(self, record: Record, *, keep: bool = False) -> None:
        """keep: hold the record's line, for whoever needs it if the group fails."""
        if keep and self.members:
            self.others.append(record._replace(data={}))  # its data is the fold's from here on
        self._fold.add(record.data, record.where)

    def folded(self, conflicts_field: Path | None = None) -> FoldedLine | Failure:
        """The line of the folded record. conflicts_field: where to put what disagreed."""
        try:
            data = self._fold.end()
        except CannotFold as error:
            return Failure("fold", str(error))
        line = self.first.line if self._fold.is_untouched() else exact.dumps(data)
        conflicts = self._fold.conflicts()
        if not conflicts_field or not conflicts:
            return FoldedLine(line, bool(conflicts))
        if name := splicing.blocked(data, conflicts_field):
            message = f"cannot put {'.'.join(conflicts_field)} into the record: {name} is not an object"
            return Failure("output", message)
        record = Record(line, data, self.first.where)
        return FoldedLine(splicing.put(record, conflicts_field, exact.dumps(conflicts)), disagreed=True)


def fold_group(members: Sequence[Record], rules: FoldRules, conflicts_field: Path | None) -> FoldedLine | Failure:
    """The same for all records of a group at once; their data stay as they are."""
    group = GroupFold(members[0], rules)
    for record in members:
        group.add(record._replace(data=exact.loads(record.line)))
    return group.folded(conflicts_field)
