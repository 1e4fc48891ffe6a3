"""How far voters agree over a whole stream: Fleiss' kappa and Krippendorff's alpha.

A unit is what was voted on once: a record, or one place in its answer. Everything is summed up
while the units go by, in whole numbers and fractions, so that no order of them and no size of a
number changes a digit. What is undefined is None: nothing to compare, or values that never vary.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from fractions import Fraction
from itertools import combinations
from typing import Any

from llmstream.records import equality

MOST = 200  # different values that are told apart; pairs of them are counted
_NOTHING = Fraction(0)


class Agreement:
    """The votes on one place of the answers, of any number of records."""

    def __init__(self) -> None:
        self._sizes: set[int] = set()
        self._values: _Values | None = _Values()  # None: too many of them
        self._ranks: _Ranks | None = _Ranks()  # None: too many, or not all of them numbers
        self._distances: _Distances | None = _Distances()  # None: not all of them numbers

    def add(self, votes: Sequence[Any]) -> None:
        """One unit's votes: strings, numbers, true, false and null. Those that are missing are left out.

        Strings are the same if they would count as the same option. A unit without votes is none.
        """
        if votes:
            self._sizes.add(len(votes))
        if len(votes) < 2:
            return  # nobody to agree with
        if self._values:
            self._values.add(Counter(map(equality.key, votes)), len(votes))
            if len(self._values.counts) > MOST:
                self._values = self._ranks = None
        if not self._distances or not all(_is_number(vote) for vote in votes):
            self._ranks = self._distances = None
            return
        found = Counter(map(equality.number, votes))
        self._distances.add(found, len(votes))
        if self._ranks:
            self._ranks.add(found, len(votes))

    def figures(self) -> dict[str, float]:
        """Those that are defined, of Fleiss' kappa and Krippendorff's alphas.

        Kappa needs the same number of votes, two or more, for every unit. Nominal: values are the same or not.
        Ordinal: two numbers are as far apart as there are votes between them. Interval: their difference counts,
        squared.
        """
        figures: dict[str, float | None] = {}
        if self._values and len(self._sizes) == 1:
            figures["kappa"] = self._values.kappa()
        if self._values:
            figures["nominal alpha"] = self._values.alpha()
        if self._ranks:
            figures["ordinal alpha"] = self._ranks.alpha()
        if self._distances:
            figures["interval alpha"] = self._distances.alpha()
        return {name: figure for name, figure in figures.items() if figure is not None}


def _is_number(vote: Any) -> bool:
    if isinstance(vote, float):
        return math.isfinite(vote)
    return isinstance(vote, int) and not isinstance(vote, bool)


def _alpha(votes: int, observed: Fraction, possible: Fraction | int) -> float | None:
    """Observed: over the ordered pairs within units, each unit's divided by one less than its votes.

    Possible: over the ordered pairs of all votes, whatever their unit.
    """
    return float(1 - (votes - 1) * observed / possible) if possible else None


class _Values:
    """Values that are the same or not."""

    def __init__(self) -> None:
        self.counts: Counter[Hashable] = Counter()
        self._agreeing = _NOTHING

    def add(self, counts: Counter[Hashable], size: int) -> None:
        self.counts.update(counts)
        self._agreeing += Fraction(sum(count * (count - 1) for count in counts.values()), size - 1)

    def kappa(self) -> float | None:
        votes = self.counts.total()
        by_chance = sum(count * count for count in self.counts.values())
        if by_chance == votes * votes:
            return None
        return float((self._agreeing * votes - by_chance) / (votes * votes - by_chance))

    def alpha(self) -> float | None:
        votes = self.counts.total()
        same = sum(count * count for count in self.counts.values())
        return _alpha(votes, votes - self._agreeing, votes * votes - same)


class _Distances:
    """Numbers that are as far apart as their difference. Sums are enough for that: no value is kept."""

    def __init__(self) -> None:
        self._votes = 0
        self._sum = self._squares = self._observed = _NOTHING

    def add(self, found: Mapping[Fraction, int], size: int) -> None:
        total = sum((count * number for number, count in found.items()), _NOTHING)
        squares = sum((count * number * number for number, count in found.items()), _NOTHING)
        self._votes += size
        self._sum += total
        self._squares += squares
        self._observed += _spread(size, total, squares) / (size - 1)

    def alpha(self) -> float | None:
        return _alpha(self._votes, self._observed, _spread(self._votes, self._sum, self._squares))


def _spread(votes: int, total: Fraction, squares: Fraction) -> Fraction:
    """The squared differences of all ordered pairs."""
    return 2 * (votes * squares - total * total)


class _Ranks:
    """Numbers that are as far apart as their ranks, which are known only when all votes are."""

    def __init__(self) -> None:
        self._counts: Counter[Fraction] = Counter()
        self._pairs: dict[tuple[Fraction, Fraction], Fraction] = {}

    def add(self, found: Mapping[Fraction, int], size: int) -> None:
        self._counts.update(found)
        for (low, low_count), (high, high_count) in combinations(sorted(found.items()), 2):
            both = self._pairs.get((low, high), _NOTHING)
            self._pairs[low, high] = both + Fraction(2 * low_count * high_count, size - 1)

    def alpha(self) -> float | None:
        ranks = self._middle_ranks()
        observed = sum((both * (ranks[high] - ranks[low]) ** 2 for (low, high), both in self._pairs.items()), _NOTHING)
        total = sum((count * ranks[number] for number, count in self._counts.items()), _NOTHING)
        squares = sum((count * ranks[number] ** 2 for number, count in self._counts.items()), _NOTHING)
        votes = self._counts.total()
        return _alpha(votes, observed, _spread(votes, total, squares))

    def _middle_ranks(self) -> dict[Fraction, Fraction]:
        """Krippendorff's ordinal difference is that of the ranks in the middle of each value's votes."""
        below, ranks = 0, {}
        for number, count in sorted(self._counts.items()):
            ranks[number] = below + Fraction(count, 2)
            below += count
        return ranks
