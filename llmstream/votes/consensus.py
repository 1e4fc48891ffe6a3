"""What most votes say, for answers of any shape: a function of the votes in the order of their numbers.

At each place of the answer the commonest option wins, and of equally common ones the one that
was voted for first. Null, true, false and each string are options; to be a number, a list or
an object is one option each, and then

    numbers   are averaged, as they were written: three times 0.1 is 0.1
    lists     keep the items that more than half of the votes hold, in the order of their mean
              position (a vote without an item counts as if it stood last)
    objects   keep the fields that more than half of them hold, each with its own consensus

Items that are objects are the same if all their strings are, or the fields that `match` names.
Votes that are all the same come back as they are.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from llmstream.records import equality, exact
from llmstream.votes.stopping import Contest

TRIM = 5  # of the trimmed mean: a fifth of the votes goes at each end, of three and more at least one


class Rules(NamedTuple):
    """What the user said about counting."""

    number: str = "mean"  # or median, or trimmed
    match: tuple[equality.Path, ...] = ()
    options: Mapping[str, int] = MappingProxyType({})  # how many answers there are, at places where that is known


class Leaf(NamedTuple):
    """A place in the answer, and how its votes fell."""

    path: str
    agreement: float
    counts: Mapping[str, int] = MappingProxyType({})
    spread: float | None = None  # of numbers: their standard deviation
    tie: bool = False
    contests: tuple[Contest | None, ...] = ()  # what further votes can still decide; None: anything

    def as_dict(self) -> dict[str, Any]:
        made: dict[str, Any] = {"agreement": round(self.agreement, 4)}
        if self.counts:
            made["counts"] = dict(self.counts)
        if self.spread is not None:
            made["spread"] = round(self.spread, 6)
        if self.tie:
            made["tie"] = True
        return made


class Verdict(NamedTuple):
    value: Any
    leaves: tuple[Leaf, ...]
    fixed: bool = True  # False: its spelling, or the order of a list, can change though no contest does

    @property
    def agreement(self) -> float:
        return sum(leaf.agreement for leaf in self.leaves) / len(self.leaves)

    @property
    def contests(self) -> list[Contest | None]:
        return [contest for leaf in self.leaves for contest in leaf.contests]

    def as_dict(self) -> dict[str, Any]:
        """How the votes fell, for people and programs."""
        if [leaf.path for leaf in self.leaves] == [""]:
            return self.leaves[0].as_dict()
        tie = {"tie": True} if any(leaf.tie for leaf in self.leaves) else {}
        fields = {leaf.path or ".": leaf.as_dict() for leaf in self.leaves}
        return {"agreement": round(self.agreement, 4), **tie, "fields": fields}


# -- one place ----------------------------------------------------------------------------------


def agree(votes: Sequence[Any], rules: Rules, path: str = "", of: int = 0) -> Verdict:
    """The consensus of at least one vote. of: how many could have said something here."""
    of = of or len(votes)
    options: dict[Hashable, list[Any]] = {}
    for vote in votes:
        options.setdefault(_option(vote), []).append(vote)
    most = max(map(len, options.values()))
    leaders = [option for option in options if len(options[option]) == most]
    tie = len(leaders) > 1
    mine = options[leaders[0]]
    in_schema = _ITEM.sub("[]", path)  # the place of the schema that this place of the answer comes from
    unseen = rules.options.get(in_schema, 0) - len(options)
    contest = (*map(len, options.values()), *[0] * unseen)
    make = _KINDS.get(leaders[0])
    if make is None:
        spellings = Counter(mine)
        leaf = Leaf(path, most / of, _counts(votes), tie=tie, contests=(contest,))
        verdict = Verdict(max(spellings, key=lambda spelling: spellings[spelling]), (leaf,), len(spellings) == 1)
    else:
        verdict = make(mine, rules, path, of)
        if len(options) > 1:
            verdict = _among_others(verdict, Leaf(path, most / of, _counts(votes), tie=tie, contests=(contest,)))
    spelled = exact.dumps(votes[0])
    if all(exact.dumps(vote) == spelled for vote in votes[1:]):  # a further vote can end that: then it is made anew
        made_the_same = exact.dumps(verdict.value) == spelled
        verdict = verdict._replace(value=votes[0], fixed=verdict.fixed and made_the_same)
    return verdict


_ITEM = re.compile(r"\[.*?\]")


def _option(vote: Any) -> Hashable:
    """What a vote is counted as."""
    kind = _kind(vote)
    return kind if kind in _KINDS else equality.key(vote)


def _kind(vote: Any) -> str:
    if isinstance(vote, (int, float)) and not isinstance(vote, bool):
        return "number"
    return "list" if isinstance(vote, list) else "object" if isinstance(vote, dict) else "scalar"


def _among_others(verdict: Verdict, place: Leaf) -> Verdict:
    """Where some votes were of another kind altogether: that is shown in the leaf of the place itself."""
    inner = [leaf for leaf in verdict.leaves if leaf.path != place.path]
    own = next((leaf for leaf in verdict.leaves if leaf.path == place.path), None)
    if own:
        place = place._replace(agreement=own.agreement, spread=own.spread, contests=place.contests + own.contests)
    return verdict._replace(leaves=(place, *inner))


def _counts(votes: Sequence[Any]) -> dict[str, int]:
    """How many votes each option had, by what a person would call it."""
    first: dict[Hashable, Any] = {}
    count: Counter[Hashable] = Counter()
    for vote in votes:
        key = _kind(vote) if isinstance(vote, (list, dict)) else equality.key(vote)
        first.setdefault(key, vote)
        count[key] += 1
    counted = []
    for key, value in first.items():
        label = _label(value)
        exactly = label if isinstance(value, (list, dict)) else exact.dumps(value).decode()
        counted.append((label, exactly, count[key]))
    return _labelled(counted)


def _labelled(counted: Sequence[tuple[str, str, int]]) -> dict[str, int]:
    """Counts by their labels; by the exact ones if two were the same, such as those of true and "true"."""
    labelled = {label: count for label, _, count in counted}
    return labelled if len(labelled) == len(counted) else {exactly: count for _, exactly, count in counted}


def _label(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    return f"({_kind(value)})" if isinstance(value, (list, dict)) else exact.dumps(value).decode()


# -- numbers ------------------------------------------------------------------------------------


def _number(votes: list[Any], rules: Rules, path: str, of: int) -> Verdict:
    numbers = [equality.number(vote) for vote in votes]
    counts = Counter(numbers)
    found = _AVERAGES[rules.number](sorted(numbers))
    having, lacking = counts[found], len(votes) - counts[found]
    # A median that more than half of the votes name is theirs; any other moves with each further vote.
    contest = (lacking, having) if rules.number == "median" and having > lacking else None
    leaf = Leaf(path, max(counts.values()) / of, _counts(votes), _deviation(numbers), contests=(contest,))
    if len(counts) == 1 or (rules.number == "median" and found in counts):  # it stands in the votes
        spellings = Counter(exact.dumps(vote) for vote, number in zip(votes, numbers, strict=True) if number == found)
        return Verdict(exact.loads(max(spellings, key=lambda text: spellings[text])), (leaf,), len(spellings) == 1)
    return Verdict(written(found, whole=all(isinstance(vote, int) for vote in votes)), (leaf,))


def _deviation(numbers: Sequence[Fraction]) -> float:
    mean = _mean(numbers)
    variance = _mean([(number - mean) ** 2 for number in numbers])
    return math.sqrt(variance) if variance < _SQUARES else float(math.isqrt(int(variance)))


_SQUARES = 10**300  # what a double can hold


def written(number: Fraction, *, whole: bool) -> float:
    """An exact number as JSON has it: whole ones as such where all that went in were."""
    if whole and number.denominator == 1:
        return exact.WideInt(number) if abs(number) >= 1 << 63 else int(number)
    return float(number)


def _mean(numbers: Sequence[Fraction]) -> Fraction:
    return sum(numbers, Fraction(0)) / len(numbers)


def _median(numbers: Sequence[Fraction]) -> Fraction:
    middle = len(numbers) // 2
    return numbers[middle] if len(numbers) % 2 else (numbers[middle - 1] + numbers[middle]) / 2


def _trimmed(numbers: Sequence[Fraction]) -> Fraction:
    cut = max(1, len(numbers) // TRIM) if len(numbers) > 2 else 0
    return _mean(numbers[cut : len(numbers) - cut])


_AVERAGES: dict[str, Callable[[Sequence[Fraction]], Fraction]] = {"mean": _mean, "median": _median, "trimmed": _trimmed}


# -- lists --------------------------------------------------------------------------------------


def _list(votes: list[Any], rules: Rules, path: str, of: int) -> Verdict:
    held = [_items(vote, rules) for vote in votes]
    found = _gathered(held)
    kept = _in_order([item for item in found if 2 * len(found[item]) > len(votes)], held)
    parts: list[Verdict] = []
    inner: list[Leaf] = []
    for item in kept:
        values = found[item]
        place = f"{path}[{_item_label(values[0], rules)}]"
        part = agree(values, rules, place)
        parts.append(part)
        inner += _of_item(values[0], part, place, rules)
    fixed = len(kept) < 2 and all(part.fixed for part in parts)
    return Verdict([part.value for part in parts], (_list_leaf(found, rules, path, len(votes), of), *inner), fixed)


K = TypeVar("K")


def _gathered(votes: Iterable[Mapping[K, Any]]) -> dict[K, list[Any]]:
    """The values that each name, or item, has in the votes that hold it."""
    found: dict[K, list[Any]] = {}
    for vote in votes:
        for name, value in vote.items():
            found.setdefault(name, []).append(value)
    return found


_Item = tuple[Hashable, int]  # what identifies it, and whether it is the first, the second ... of these


def _items(vote: list[Any], rules: Rules) -> dict[_Item, Any]:
    """The items of one vote by their identity. The same object twice is one item, the same word twice is two."""
    items: dict[_Item, Any] = {}
    times: Counter[Hashable] = Counter()
    for item in vote:
        identity = equality.identity(item, rules.match)
        times[identity] += 1
        items.setdefault((identity, 1 if isinstance(item, dict) else times[identity]), item)
    return items


def _in_order(kept: list[_Item], held: list[dict[_Item, Any]]) -> list[_Item]:
    """By mean position among the items that are kept."""
    places: Counter[_Item] = Counter()
    chosen = set(kept)
    for items in held:
        ranks = {item: rank for rank, item in enumerate(item for item in items if item in chosen)}
        places.update({item: ranks.get(item, len(ranks)) for item in kept})
    return sorted(kept, key=lambda item: places[item])


def _list_leaf(found: dict[_Item, list[Any]], rules: Rules, path: str, cast: int, of: int) -> Leaf:
    yes = [len(values) for values in found.values()]
    sided = [max(count, cast - count) / of for count in yes] or [cast / of]
    labels = [
        (_numbered(_item_label(values[0], rules), nth), _numbered(exact.dumps(values[0]).decode(), nth), len(values))
        for (_, nth), values in found.items()
    ]
    contests = [(cast - count, count) for count in yes]
    return Leaf(
        path, sum(sided) / len(sided), _labelled(labels), contests=((cast, 0), *contests)
    )  # (cast, 0): one not seen yet


def _item_label(item: Any, rules: Rules) -> str:
    """What a person would call an item of a list."""
    if not isinstance(item, dict):
        return _label(item)
    matched = [value for path in rules.match if (value := equality.at(item, path)) is not None]
    names = matched or [value for value in item.values() if isinstance(value, str)]
    return ", ".join(map(_label, names)) if names else exact.dumps(item).decode()


def _numbered(label: str, nth: int) -> str:
    return f"{label} #{nth}" if nth > 1 else label


def _of_item(item: Any, part: Verdict, place: str, rules: Rules) -> list[Leaf]:
    """The leaves of an item that its identity does not settle already."""
    if not isinstance(item, dict):
        return []
    settled = {".".join(path) for path in rules.match if equality.at(item, path) is not None}
    settled = settled or {name for name, value in item.items() if isinstance(value, str)}
    if not settled:  # it is identified by all it holds
        return []
    return [leaf for leaf in part.leaves if leaf.path.removeprefix(f"{place}.") not in settled]


# -- objects ------------------------------------------------------------------------------------


def _object(votes: list[Any], rules: Rules, path: str, of: int) -> Verdict:
    kept: dict[str, Verdict] = {}
    leaves: list[Leaf] = []
    for name, values in _gathered(votes).items():
        place = f"{path}.{name}" if path else name or '""'
        having, lacking = len(values), len(votes) - len(values)
        if having > lacking:
            kept[name] = part = agree(values, rules, place, of)
            leaves += part.leaves
        if lacking:
            leaves.append(Leaf(f"{place}?", max(having, lacking) / of, contests=((lacking, having),)))
    nothing = Leaf(path, len(votes) / of, contests=((len(votes),),))
    fixed = all(part.fixed for part in kept.values())
    return Verdict({name: part.value for name, part in kept.items()}, tuple(leaves) or (nothing,), fixed)


_KINDS: dict[Hashable, Callable[[list[Any], Rules, str, int], Verdict]] = {
    "number": _number,
    "list": _list,
    "object": _object,
}
