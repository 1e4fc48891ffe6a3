"""How the values of one field become one, where the user says so: FIELD=HOW.

A further HOW is one more line of the table at the end of this file, and its entry in the manual.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from fractions import Fraction
from typing import Any, NamedTuple

from llmstream.folds.deep_merge import DeepMerge
from llmstream.folds.kinds import KIND_OF
from llmstream.folds.same_items import Identify, alike
from llmstream.records import equality, exact
from llmstream.records.equality import Path
from llmstream.records.words import brief
from llmstream.votes import consensus


class CannotFold(ValueError):
    """Why a field cannot be folded as the user said, in one line."""


class How(NamedTuple):
    """How the values of one field become one."""

    name: str
    kinds: tuple[str, ...]  # of value that it takes, one of them at a time; none: anything
    more: Callable[[Any, Any, TakenField], Any]  # what to hold, from what is held, None at first, and a further value
    close: Callable[[Any, TakenField], Any] = lambda held, _: held  # what becomes of it when all values have come
    nulls: bool = False  # counts null as a value
    changes_one: bool = False  # makes something else of one value alone


class TakenField:
    """A field with a HOW, and what its values came to so far."""

    __slots__ = ("found", "held", "how", "kind", "merge", "path", "where", "wrong")

    def __init__(self, path: Path, how: How, merge: DeepMerge) -> None:
        self.path, self.how, self.merge = path, how, merge
        self.found = False
        self.held: Any = None
        self.kind = self.where = ""  # of the value that came last
        self.wrong = ""  # why the HOW does not suit

    def take_from(self, data: dict[str, Any], where: str) -> None:
        """Takes the field's value out of a record. The null that is left keeps its place among the others."""
        within, name = equality.at(data, self.path[:-1]), self.path[-1]
        if not isinstance(within, dict) or name not in within:
            return
        value, within[name] = within[name], None
        self.found = True
        if value is not None or self.how.nulls:
            self.where = where
            kind = KIND_OF[type(value)]
            self.wrong = self.wrong or self._unsuited(kind)
            if not self.wrong:
                self.kind = kind
                self.held = self.how.more(self.held, value, self)

    def put_into(self, data: dict[str, Any]) -> None:
        """Puts what the values came to where they were taken from; CannotFold if they did not suit."""
        if not self.found:
            return
        if self.wrong:
            raise CannotFold(self.wrong)
        try:
            equality.at(data, self.path[:-1])[self.path[-1]] = self.how.close(self.held, self)
        except OverflowError:
            raise CannotFold(f"{self._name()} of its numbers is too large a number") from None

    def _unsuited(self, kind: str) -> str:
        """Why the HOW cannot take a value of this kind."""
        kinds = self.how.kinds
        if not kinds or (kind in kinds and self.kind in ("", kind)):
            return ""
        beside = f" beside {_a(self.kind)}" if kind in kinds else ""
        takes = " or ".join(f"{name}s" for name in kinds)
        return f"{self._name()} takes {takes}, not {_a(kind)}{beside}" + (f" ({self.where})" if self.where else "")

    def _name(self) -> str:
        return f"{brief('.'.join(self.path), 60)}: {self.how.name}"


def _a(kind: str) -> str:
    return "an object" if kind == "object" else f"a {kind}"


# -- what there is --------------------------------------------------------------------------------


def _first(held: Any, value: Any, _: TakenField) -> Any:
    return value if held is None else held


def _last(_held: Any, value: Any, _: TakenField) -> Any:
    return value


def _united(identify: Identify) -> Callable[[Any, Any, TakenField], Any]:
    def more(held: Any, value: list[Any], field: TakenField) -> Any:
        if held is not None:
            field.merge.union(held, value, identify, field.path, field.where)
            return held
        if field.merge.conflicts:  # items that match may still disagree
            field.merge.conflicts.compare(None, value, field.path, field.where)
        return value

    return more


def _concatenated(held: Any, value: list[Any], _: TakenField) -> Any:
    if held is None:
        return value
    held += value  # in place: it is ours
    return held


def _listed(held: list[Any] | None, value: Any, _: TakenField) -> list[Any]:
    if held is None:
        return [value]
    held.append(value)
    return held


def _counted(held: Any, _value: Any, _: TakenField) -> int:
    return (held or 0) + 1


def _longest(held: Any, value: Any, _: TakenField) -> Any:
    return value if held is None or len(value) > len(held) else held


def _least(held: Any, value: Any, _: TakenField) -> Any:
    return value if held is None or _for_order(value) < _for_order(held) else held


def _most(held: Any, value: Any, _: TakenField) -> Any:
    return value if held is None or _for_order(value) > _for_order(held) else held


def _for_order(value: Any) -> Any:
    return value if isinstance(value, str) else equality.decimal(value)


class _Sum(NamedTuple):
    total: Decimal
    of: int
    whole: bool
    last: Any


_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)  # drops no digit


def _summed(held: Any, value: float, _: TakenField) -> _Sum:
    total, of, whole, _last = held or (0, 0, True, None)
    return _Sum(_EXACT.add(total, equality.decimal(value)), of + 1, whole and isinstance(value, int), value)


def _sum(held: _Sum | None, _: TakenField) -> Any:
    return held and _as_number(held, Fraction(held.total))


def _mean(held: _Sum | None, _: TakenField) -> Any:
    return held and _as_number(held, Fraction(held.total) / held.of)


def _as_number(held: _Sum, found: Fraction) -> Any:
    """One number alone comes back with all its digits."""
    if held.of == 1:
        return held.last
    float(found)  # raises OverflowError: what no double holds could not be read again
    return consensus.written(found, whole=held.whole)


def _majority(held: list[Any] | None, field: TakenField) -> Any:
    return held and consensus.agree(held, consensus.Rules(match=field.merge.match)).value


HOWS = {
    how.name: how
    for how in (
        How("first", (), _first),
        How("last", (), _last),
        How("union", ("list",), _united(alike)),
        How("union:exact", ("list",), _united(lambda item, _: exact.dumps(item))),
        How("concat", ("list",), _concatenated),
        How("list", (), _listed, nulls=True, changes_one=True),
        How("sum", ("number",), _summed, _sum),
        How("mean", ("number",), _summed, _mean),
        How("min", ("number", "string"), _least),
        How("max", ("number", "string"), _most),
        How("count", (), _counted, lambda held, _: held or 0, changes_one=True),
        How("majority", (), _listed, _majority),
        How("longest", ("string", "list"), _longest),
    )
}
