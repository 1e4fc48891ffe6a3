"""Records in, folded records out: what llm-merge does without a model."""

from __future__ import annotations

from collections.abc import Iterable

from llmstream.folds.fold_group import GroupFold
from llmstream.folds.groups import GroupRules, Groups, Ready
from llmstream.folds.rules import FoldRules
from llmstream.records.equality import Path
from llmstream.records.values import Failure, Outcome, Record


class FoldedGroups:
    """The groups of the records, each folded into one. Without a grouping every record goes out as it came."""

    def __init__(
        self, grouping: GroupRules | None, rules: FoldRules, conflicts: Path | None, *, keep_members: bool
    ) -> None:
        self._conflicts = conflicts
        self._groups: Groups[GroupFold] | None = None
        if grouping:
            self._groups = Groups(
                grouping,
                lambda first: GroupFold(first, rules),
                lambda group, record: group.add(record, keep=keep_members),  # for the errors file alone
            )

    def take(self, record: Record) -> Iterable[Outcome]:
        if self._groups is None:
            return [Outcome(record, record.line + b"\n")]
        ready = self._groups.take(record)
        if isinstance(ready, Failure):
            return [Outcome(record, failure=ready)]
        return map(self._folded, ready) if ready else ()

    def rest(self) -> Iterable[Outcome]:
        return map(self._folded, self._groups.rest()) if self._groups else ()

    def _folded(self, ready: Ready[GroupFold]) -> Outcome:
        group = ready.group
        folded = ready.failure or group.folded(self._conflicts)
        if isinstance(folded, Failure):
            return Outcome(group.first, failure=folded, of=group.members, others=group.others)
        return Outcome(group.first, folded.line + b"\n", of=group.members, others=group.others)
