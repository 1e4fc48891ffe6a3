"""What a whole stream of votes came to: votes used and saved, the spread of scores, agreement beyond chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from llmstream.votes import criteria
from llmstream.votes.agreement import Agreement
from llmstream.votes.consensus import Verdict
from llmstream.votes.criteria import Criteria

MOST = 20  # places of the answers that are followed; a schema rarely has more
BINS = 5  # of the distribution of scores


class VoteTotals:
    """Gathers as the records come out; memory does not grow with them."""

    def __init__(self, scoring: Criteria | None = None) -> None:
        self._cast = 0
        self._could = 0
        self._records = 0
        self._agreement = 0.0
        self._places: dict[str, Agreement] = {}
        self._scores: dict[str, ScoreRange] = {}
        if scoring:
            scales = {name: (one.low, one.high) for name, one in scoring.items()}
            scales[criteria.OVERALL] = criteria.scale(scoring)
            self._scores = {name: ScoreRange(*scale) for name, scale in scales.items()}

    def add(self, votes: Sequence[Any], verdict: Verdict, value: Any, could: int) -> None:
        """Another record: its votes, what came of them, and how many there could have been."""
        self._records += 1
        self._cast += len(votes)
        self._could += could
        self._agreement += verdict.agreement
        places: dict[str, list[Any]] = {}
        for vote in votes:
            for path, leaf in _leaves(vote, ""):
                places.setdefault(path, []).append(leaf)
        for path, leaves in places.items():
            if path in self._places or len(self._places) < MOST:
                self._places.setdefault(path, Agreement()).add(leaves)
        for name, scores in self._scores.items():
            scores.add(value[name])

    def as_lines(self) -> list[str]:
        """For the end of the run."""
        if not self._records:
            return []
        saved = f" ({self._could - self._cast} saved)" if self._could > self._cast else ""
        lines = [f"votes {self._cast}{saved}, agreement {self._agreement / self._records:.2f}"]
        lines += [f"{name}: {scores}" for name, scores in self._scores.items()]
        for path, found in self._beyond_chance().items():
            figures = ", ".join(f"{name} {figure:.3f}" for name, figure in found.items())
            lines.append(f"{path}: {figures}" if path else figures)
        return lines

    def as_dict(self) -> dict[str, Any]:
        """The same for programs."""
        if not self._records:
            return {}
        return {
            "cast": self._cast,
            "saved": self._could - self._cast,
            "agreement": round(self._agreement / self._records, 4),
            "beyond_chance": self._beyond_chance(),
        }

    def _beyond_chance(self) -> dict[str, dict[str, float]]:
        """The figures of agreement at each place that has any."""
        figures = {path: agreement.figures() for path, agreement in self._places.items()}
        return {path: found for path, found in figures.items() if found}


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The places of an answer at which voters can be compared: all that is not within a list."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else name)
    elif not isinstance(value, list):
        yield path, value


class ScoreRange:
    """The range and a small distribution of scores on a scale."""

    def __init__(self, low: float, high: float) -> None:
        self._low, self._high = low, high
        self._bins: Counter[int] = Counter()
        self._sum = 0.0
        self._least, self._most = float(high), float(low)

    def add(self, score: float) -> None:
        self._sum += score
        self._least, self._most = min(self._least, score), max(self._most, score)
        share = (score - self._low) / (self._high - self._low)
        self._bins[min(BINS - 1, int(share * BINS))] += 1

    def __str__(self) -> str:
        count = self._bins.total()
        width = (self._high - self._low) / BINS
        bins = ", ".join(
            f"{self._low + width * n:g}-{self._low + width * (n + 1):g}: {self._bins[n]}" for n in range(BINS)
        )
        return f"{self._least:g} to {self._most:g}, mean {self._sum / count:.2f} ({bins})"
