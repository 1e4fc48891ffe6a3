"""Records that belong together, folded into one: a function of the records in the order they come.

Without further rules the fold is a deep merge. At each place

    objects   are merged field by field, fields in the order in which they first appear
    lists     become one list of all their items, each once, the first of those that are the same
    scalars   the last one stays
    null      gives way to anything

and where kinds meet, an object stays before a list, a list before a scalar. What is dropped then
disagreed, and so did two scalars that are not equal. A rule for a field replaces this there.

Items are the same if they are strings that are alike, numbers of the same value, lists of such,
or objects that are equal; objects that have a value in the fields that `match` names are the same
if they are alike in these, and are merged. A list that meets no other one stays as it is.

Folding some of the records first and then the rest gives the same. A state holds what was folded
so far, not the records, and changes it in place: it owns what it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

from llmstream.records import equality, exact
from llmstream.records.equality import Path
from llmstream.records.words import brief
from llmstream.votes import consensus

_KIND = {
    type(None): "null",
    bool: "boolean",
    **dict.fromkeys((int, float, exact.Wide, exact.WideInt), "number"),
    str: "string",
    list: "list",
    dict: "object",
}
_NULL, _SCALAR, _LIST, _OBJECT = range(4)
_RANK = {made: {"null": _NULL, "list": _LIST, "object": _OBJECT}.get(kind, _SCALAR) for made, kind in _KIND.items()}
_SCALARS = frozenset(made for made, rank in _RANK.items() if rank == _SCALAR)
_GIVE_WAY = _SCALARS | {type(None)}  # to a scalar

SHORT = 8  # items of a list whose keys are made anew for each further list: cheaper than keeping them for every group


class CannotFold(ValueError):
    """Why a field cannot be folded as the user said, in one line."""


class Rules(NamedTuple):
    """What the user said about folding."""

    take: tuple[tuple[Path, How], ...] = ()
    match: tuple[Path, ...] = ()
    conflicts: bool = False


def rules(take: Iterable[tuple[Path, How]] = (), match: Iterable[Path] = (), *, conflicts: bool = False) -> Rules:
    """Rules that do not contradict one another; ValueError says which do."""
    made = Rules(tuple(take), tuple(match), conflicts)
    paths = sorted(path for path, _ in made.take)
    for path, after in pairwise(paths):
        if path == after:
            raise ValueError(f"{'.'.join(path)} is taken twice")
        if path == after[: len(path)]:
            raise ValueError(f"{'.'.join(path)} and {'.'.join(after)}: one is a part of the other")
    return made


# -- the records of a group, one after the other ----------------------------------------------------


class State:
    """A group that is being folded."""

    __slots__ = ("data", "known", "members", "rules", "taken", "watch")

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.data: dict[str, Any] = {}
        self.members = 0
        self.known: dict[int, tuple[list[Any], _Known]] | None = None  # of long lists, by their id
        self.taken = tuple(_Place(path, how) for path, how in rules.take)
        self.watch = _Watch() if rules.conflicts else None


def begin(rules: Rules) -> State:
    """A group without a record so far."""
    return State(rules)


def add(state: State, data: dict[str, Any], where: str = "") -> None:
    """One more record, which belongs to the state from now on. where: for whoever wants to know what disagreed."""
    if state.taken:
        _take(state, data, where)
    if state.members:
        _objects(state, state.data, data, (), where)
    else:
        state.data = data
        if state.watch:
            state.watch.first = where
    state.members += 1


def end(state: State) -> dict[str, Any]:
    """The folded record; CannotFold if a rule did not suit the values."""
    for place in state.taken:
        if place.found:
            equality.at(state.data, place.path[:-1])[place.path[-1]] = _closed(state, place)
    return state.data


def untouched(state: State) -> bool:
    """Is the folded record the only one there was, so that its own bytes can stand for it?"""
    return state.members == 1 and not any(place.found and place.how.changes_one for place in state.taken)


def conflicts(state: State) -> list[dict[str, Any]]:
    """What disagreed, in the order in which it came up; for after the end."""
    return [] if state.watch is None else state.watch.told()


# -- the deep merge ---------------------------------------------------------------------------------


def _objects(state: State, mine: dict[str, Any], theirs: dict[str, Any], path: _Spot, where: str) -> None:
    quick = _GIVE_WAY if state.watch is None else _NONE
    for name, new in theirs.items():
        old = mine.get(name)
        if type(old) in quick and type(new) in _SCALARS:  # as _merged has it, without a call
            mine[name] = new
        else:
            mine[name] = _merged(state, old, new, (*path, name), where)


_NONE: frozenset[type] = frozenset()


def _merged(state: State, old: Any, new: Any, path: _Spot, where: str) -> Any:
    """What two values at one place come to."""
    if state.watch:
        state.watch.compare(old, new, path, where)
    mine, theirs = _RANK[type(old)], _RANK[type(new)]
    if mine != theirs:
        return old if mine > theirs else new
    if mine == _OBJECT:
        _objects(state, old, new, path, where)
    elif mine == _LIST:
        _union(state, old, new, _identity, path, where)
    else:
        return new
    return old


_Known = dict[Hashable, Any]  # the items of a list by what identifies them
_Identify = Callable[[Any, tuple[Path, ...]], Hashable]


def _union(state: State, mine: list[Any], theirs: list[Any], identify: _Identify, path: _Spot, where: str) -> None:
    held = state.known.get(id(mine)) if state.known else None
    known = held[1] if held else _single(state, mine, identify, path)
    _gather(state, mine, known, theirs, identify, path, where)
    if not held and len(mine) > SHORT:
        state.known = state.known or {}
        state.known[id(mine)] = mine, known  # the list too: as long as it is held nothing else has its id


def _single(state: State, mine: list[Any], identify: _Identify, path: _Spot) -> _Known:
    """Leaves each item of a list once."""
    match = state.rules.match
    known = {identify(item, match): item for item in mine}
    if len(known) == len(mine) and not state.watch:
        return known
    items, known = mine[:], {}
    mine.clear()
    _gather(state, mine, known, items, identify, path, state.watch.origin(path) if state.watch else "")
    return known


def _gather(
    state: State, mine: list[Any], known: _Known, items: list[Any], identify: _Identify, path: _Spot, where: str
) -> None:
    match = state.rules.match
    for item in items:
        key = identify(item, match)
        if key not in known:
            known[key] = item
            mine.append(item)
            if state.watch and isinstance(key, _Matched):
                state.watch.met(item, key, match, path, where)
        elif isinstance(key, _Matched):
            _objects(state, known[key], item, (*path, key), where)


# -- what is the same -------------------------------------------------------------------------------


class _Matched(NamedTuple):
    """An object in a list, by the fields that identify it."""

    values: tuple[Hashable, ...]


_Spot = tuple[str | _Matched, ...]  # a place in the folded record, within items that are matched, too


def _identity(item: Any, match: tuple[Path, ...]) -> Hashable:
    if isinstance(item, str):
        return equality.text(item)
    if isinstance(item, list):
        return "list", tuple(_identity(inner, ()) for inner in item)
    if isinstance(item, dict):
        found = tuple(_identifying(equality.at(item, path)) for path in match)
        if any(value is not None for value in found):
            return _Matched(found)
    return equality.equal(item)


def _identifying(value: Any) -> Hashable:
    """Only scalars: they stay alike when the object is merged with others, which a list of tags may not."""
    return _identity(value, ()) if type(value) in _SCALARS else None


def _exactly(item: Any, _: tuple[Path, ...]) -> Hashable:
    return exact.dumps(item)


# -- what disagreed ---------------------------------------------------------------------------------


class _Watch:
    """Looks on while values meet. Of the places that agree it knows only where the later ones came up."""

    def __init__(self) -> None:
        self.first = ""
        self._later: dict[_Spot, str] = {}
        self._labels: dict[_Matched, str] = {}
        self._found: dict[_Spot, dict[Hashable, tuple[Any, str]]] = {}

    def compare(self, old: Any, new: Any, path: _Spot, where: str) -> None:
        mine, theirs = _RANK[type(old)], _RANK[type(new)]
        if mine == _NULL and theirs != _NULL:
            self._later[path] = where
        elif theirs != _NULL and not (mine == theirs and (mine > _SCALAR or _same(old, new))):
            if path not in self._found:
                self._found[path] = {equality.equal(old): (old, self.origin(path))}
            self._found[path].setdefault(equality.equal(new), (new, where))
            if theirs > mine:
                self._later[path] = where

    def met(self, item: Any, key: _Matched, match: tuple[Path, ...], path: _Spot, where: str) -> None:
        """An item that others may be merged into."""
        self._later.setdefault((*path, key), where)
        self._labels.setdefault(key, _label(item, match))

    def origin(self, path: _Spot) -> str:
        """Where what stands at a place was first seen: with what is around it, if nothing else is known."""
        parts = (path[:end] for end in range(len(path), 0, -1))
        return next((self._later[part] for part in parts if part in self._later), self.first)

    def told(self) -> list[dict[str, Any]]:
        return [{"field": self._name(path), **_told(found.values())} for path, found in self._found.items()]

    def _name(self, path: _Spot) -> str:
        parts = (f"[{self._labels[part]}]" if isinstance(part, _Matched) else f".{part}" for part in path)
        return "".join(parts).removeprefix(".")


def _same(old: Any, new: Any) -> bool:
    """Of two scalars."""
    if type(old) is type(new) and not isinstance(old, exact.Wide):
        return bool(old == new)
    return equality.equal(old) == equality.equal(new)


def _label(item: Any, match: tuple[Path, ...]) -> str:
    """What a person would call an item."""
    names = [value for path in match if type(value := equality.at(item, path)) in _SCALARS]
    return ", ".join(name.strip() if isinstance(name, str) else exact.dumps(name).decode() for name in names)


def _told(met: Iterable[tuple[Any, str]]) -> dict[str, Any]:
    """The values that met, each once: a list may have grown into one that another record had."""
    told: dict[Hashable, tuple[Any, str]] = {}
    for value, where in met:
        told.setdefault(equality.equal(value), (value, where))
    return {"values": [value for value, _ in told.values()], "from": [where for _, where in told.values()]}


# -- rules for fields -------------------------------------------------------------------------------


class How(NamedTuple):
    """How the values of one field become one."""

    name: str
    kinds: tuple[str, ...]  # of value that it takes, one of them at a time; of none: anything
    more: Callable[[State, _Place, Any], Any]  # what to hold with one more value; None is held at first
    close: Callable[[State, Any], Any] = lambda _, held: held
    nulls: bool = False  # counts null as a value
    changes_one: bool = False  # makes something else of one value alone


class _Place:
    """A field with a rule, and what its values came to so far."""

    __slots__ = ("found", "held", "how", "kind", "path", "where", "wrong")

    def __init__(self, path: Path, how: How) -> None:
        self.path, self.how = path, how
        self.found = False
        self.held: Any = None
        self.kind = self.where = ""  # of the value that came last
        self.wrong = ""  # why the rule does not suit


def how(text: str) -> How:
    """The rule of a name; ValueError lists those there are."""
    if text not in _HOWS:
        raise ValueError(f"one of {' '.join(_HOWS)}")
    return _HOWS[text]


def take(text: str) -> tuple[Path, How]:
    """The field and the rule of FIELD=HOW; ValueError says what is wanted."""
    name, equals, rule = text.rpartition("=")
    path = tuple(name.split("."))
    if not equals or not all(path):
        raise ValueError(f"FIELD=HOW, where HOW is one of {' '.join(_HOWS)}")
    return path, how(rule)


def _take(state: State, data: dict[str, Any], where: str) -> None:
    """Takes the values of such fields out. The null that is left keeps their place among the others."""
    for place in state.taken:
        within, name = equality.at(data, place.path[:-1]), place.path[-1]
        if isinstance(within, dict) and name in within:
            value, within[name] = within[name], None
            place.found = True
            if value is not None or place.how.nulls:
                place.where = where
                _put(state, place, value)


def _put(state: State, place: _Place, value: Any) -> None:
    kind = _KIND[type(value)]
    place.wrong = place.wrong or _unsuited(place, kind)
    if not place.wrong:
        place.kind = kind
        place.held = place.how.more(state, place, value)


def _unsuited(place: _Place, kind: str) -> str:
    """Why the rule cannot take a value of this kind."""
    kinds = place.how.kinds
    if not kinds or (kind in kinds and place.kind in ("", kind)):
        return ""
    beside = f" beside {_a(place.kind)}" if kind in kinds else ""
    wanted = " or ".join(f"{name}s" for name in kinds)
    return f"{_shown(place)} takes {wanted}, not {_a(kind)}{beside}" + (f" ({place.where})" if place.where else "")


def _closed(state: State, place: _Place) -> Any:
    if place.wrong:
        raise CannotFold(place.wrong)
    try:
        return place.how.close(state, place.held)
    except OverflowError:
        raise CannotFold(f"{_shown(place)} of its numbers is too large a number") from None


def _shown(place: _Place) -> str:
    return f"{brief('.'.join(place.path), 60)}: {place.how.name}"


def _a(kind: str) -> str:
    return "an object" if kind == "object" else f"a {kind}"


def _first(_: State, place: _Place, value: Any) -> Any:
    return value if place.held is None else place.held


def _last(_: State, _place: _Place, value: Any) -> Any:
    return value


def _united(identify: _Identify) -> Callable[[State, _Place, Any], Any]:
    def more(state: State, place: _Place, value: list[Any]) -> Any:
        if place.held is not None:
            _union(state, place.held, value, identify, place.path, place.where)
            return place.held
        if state.watch:  # items that match may still disagree
            state.watch.compare(None, value, place.path, place.where)
        return value

    return more


def _extended(_: State, place: _Place, value: list[Any]) -> Any:
    if place.held is None:
        return value
    place.held += value  # in place: it is ours
    return place.held


def _listed(_: State, place: _Place, value: Any) -> list[Any]:
    held: list[Any] = [] if place.held is None else place.held
    held.append(value)
    return held


def _counted(_: State, place: _Place, _value: Any) -> int:
    return (place.held or 0) + 1


def _longest(_: State, place: _Place, value: Any) -> Any:
    return value if place.held is None or len(value) > len(place.held) else place.held


def _least(_: State, place: _Place, value: Any) -> Any:
    return value if place.held is None or _for_order(value) < _for_order(place.held) else place.held


def _most(_: State, place: _Place, value: Any) -> Any:
    return value if place.held is None or _for_order(value) > _for_order(place.held) else place.held


def _for_order(value: Any) -> Any:
    return value if isinstance(value, str) else equality.decimal(value)


class _Sum(NamedTuple):
    total: Decimal
    of: int
    whole: bool
    last: Any


_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)  # drops no digit


def _summed(_: State, place: _Place, value: float) -> _Sum:
    total, of, whole, _last = place.held or (0, 0, True, None)
    return _Sum(_EXACT.add(total, equality.decimal(value)), of + 1, whole and isinstance(value, int), value)


def _sum(_: State, held: _Sum | None) -> Any:
    return held and _settled(held, Fraction(held.total))


def _mean(_: State, held: _Sum | None) -> Any:
    return held and _settled(held, Fraction(held.total) / held.of)


def _settled(held: _Sum, found: Fraction) -> Any:
    """One number alone comes back with all its digits."""
    if held.of == 1:
        return held.last
    float(found)  # what no double holds could not be read again
    return consensus.written(found, whole=held.whole)


def _majority(state: State, held: list[Any] | None) -> Any:
    return held and consensus.agree(held, consensus.Rules(match=state.rules.match)).value


_HOWS = {
    rule.name: rule
    for rule in (
        How("first", (), _first),
        How("last", (), _last),
        How("union", ("list",), _united(_identity)),
        How("union:exact", ("list",), _united(_exactly)),
        How("concat", ("list",), _extended),
        How("list", (), _listed, nulls=True, changes_one=True),
        How("sum", ("number",), _summed, _sum),
        How("mean", ("number",), _summed, _mean),
        How("min", ("number", "string"), _least),
        How("max", ("number", "string"), _most),
        How("count", (), _counted, lambda _, held: held or 0, changes_one=True),
        How("majority", (), _listed, _majority),
        How("longest", ("string", "list"), _longest),
    )
}
