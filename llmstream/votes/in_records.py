"""Votes that stand in the records already, as a list in one of them or one vote in each."""

from __future__ import annotations

from typing import Any

from llmstream.records import equality, splicing
from llmstream.records.equality import Path
from llmstream.records.values import Failure, Record


def list_of_votes(record: Record, path: Path) -> list[Any] | Failure:
    votes = equality.at(record.data, path)
    if isinstance(votes, list):
        return votes
    return without_vote(record, path) or Failure("votes", f"{'.'.join(path)}: not a list")


def without_vote(record: Record, path: Path) -> Failure | None:
    """Why there is no vote at a path; any value that stands there is one."""
    return None if splicing.holds(record.data, path) else Failure("votes", f"no field '{'.'.join(path)}'")


def too_few(votes: list[Any], path: Path, quorum: int | None) -> Failure | None:
    needed = quorum or 1
    if len(votes) >= needed:
        return None
    return Failure("quorum", f"{len(votes)} votes in {'.'.join(path)}, {needed} needed")
