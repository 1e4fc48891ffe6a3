"""What the user said about folding: which field is folded how, what identifies an item, whether conflicts count."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from llmstream.folds.hows import HOWS, How
from llmstream.records.equality import Path


class FoldRules(NamedTuple):
    take: tuple[tuple[Path, How], ...] = ()
    match: tuple[Path, ...] = ()  # the fields that identify an object in a list
    conflicts: bool = False  # note what disagrees


def fold_rules(
    take: Iterable[tuple[Path, How]] = (), match: Iterable[Path] = (), *, conflicts: bool = False
) -> FoldRules:
    """Rules that do not contradict one another; ValueError says which do."""
    made = FoldRules(tuple(take), tuple(match), conflicts)
    paths = sorted(path for path, _ in made.take)
    for path, after in pairwise(paths):
        if path == after:
            raise ValueError(f"{'.'.join(path)} is taken twice")
        if path == after[: len(path)]:
            raise ValueError(f"{'.'.join(path)} and {'.'.join(after)}: one is a part of the other")
    return made


def field_and_how(text: str) -> tuple[Path, How]:
    """The two parts of FIELD=HOW; ValueError says what it should be."""
    name, equals, how = text.rpartition("=")
    path = tuple(name.split("."))
    if not equals or not all(path):
        raise ValueError(f"FIELD=HOW, where HOW is one of {' '.join(HOWS)}")
    if how not in HOWS:
        raise ValueError(f"one of {' '.join(HOWS)}")
    return path, HOWS[how]
