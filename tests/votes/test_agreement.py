"""Fleiss' kappa and Krippendorff's alpha, against published figures and against their definitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstream.records.exact import Wide
from llmstream.votes.agreement import MOST, Agreement

Units = Sequence[Sequence[Any]]

# -- published examples -----------------------------------------------------------------------------

# Fleiss' kappa as it is worked out in Wikipedia: 14 raters, 10 subjects, 5 categories; kappa 0.210.
FLEISS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]

# K. Krippendorff, Computing Krippendorff's Alpha-Reliability (2011): A, two observers of a dichotomy;
# B, two observers and five values; C and D, four observers who did not all see all twelve units.
A = ["0100000010", "1110010000"]
B = ["aabbdcccedda", "babbbccceddd"]
C = ["123321412...", "1233224125..", ".33323422513", "12332441251."]


def units(observers: Sequence[str]) -> list[list[str]]:
    return [[value for value in unit if value != "."] for unit in zip(*observers, strict=True)]


def numbers(observers: Sequence[str]) -> list[list[int]]:
    return [[int(value) for value in unit] for unit in units(observers)]


# -- straight from the definitions ------------------------------------------------------------------


def fleiss(matrix: Units) -> Fraction | None:
    if len({len(unit) for unit in matrix}) != 1 or len(matrix[0]) < 2:
        return None
    raters = len(matrix[0])
    values = {value for unit in matrix for value in unit}
    table = [[sum(1 for vote in unit if vote == value) for value in values] for unit in matrix]
    shares = [Fraction(sum(column), len(matrix) * raters) for column in zip(*table, strict=True)]
    by_unit = [Fraction(sum(n * n for n in row) - raters, raters * (raters - 1)) for row in table]
    observed, expected = sum(by_unit) / Fraction(len(matrix)), sum(share**2 for share in shares)
    return None if expected == 1 else Fraction((observed - expected) / (1 - expected))


def krippendorff(matrix: Units, kind: str) -> Fraction | None:
    """By the matrix of coincidences, every pair of values of every unit on its own."""
    pairable = [unit for unit in matrix if len(unit) > 1]
    values = sorted({value for unit in pairable for value in unit}, key=in_order)
    together = {(one, two): Fraction(0) for one in values for two in values}
    for unit in pairable:
        for i, one in enumerate(unit):
            for j, two in enumerate(unit):
                if i != j:
                    together[one, two] += Fraction(1, len(unit) - 1)
    margin = {one: sum((together[one, two] for two in values), Fraction(0)) for one in values}
    n = sum(margin.values(), Fraction(0))
    far = DISTANCES[kind]
    observed = sum((both * far(one, two, values, margin) for (one, two), both in together.items()), Fraction(0))
    expected = sum(
        (margin[one] * margin[two] * far(one, two, values, margin) for one in values for two in values), Fraction(0)
    )
    return None if expected == 0 else 1 - (n - 1) * observed / expected


def in_order(value: Any) -> tuple[str, Fraction]:
    return (value, Fraction(0)) if isinstance(value, str) else ("", as_written(value))


def _nominal(one: Any, two: Any, values: list[Any], margin: dict[Any, Fraction]) -> Fraction:
    return Fraction(one != two)


def _ordinal(one: Any, two: Any, values: list[Any], margin: dict[Any, Fraction]) -> Fraction:
    low, high = sorted((values.index(one), values.index(two)))
    between = sum((margin[value] for value in values[low : high + 1]), Fraction(0))
    return (between - (margin[one] + margin[two]) / 2) ** 2


def _interval(one: Any, two: Any, values: list[Any], margin: dict[Any, Fraction]) -> Fraction:
    return (as_written(one) - as_written(two)) ** 2


def as_written(value: float) -> Fraction:
    return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)


DISTANCES: dict[str, Callable[[Any, Any, list[Any], dict[Any, Fraction]], Fraction]] = {
    "nominal": _nominal,
    "ordinal": _ordinal,
    "interval": _interval,
}


def streamed(matrix: Units) -> Agreement:
    agreement = Agreement()
    for unit in matrix:
        agreement.add(unit)
    return agreement


def figure(matrix: Units, name: str) -> float | None:
    return streamed(matrix).figures().get(name)


def same(ours: float | None, theirs: Fraction | None) -> bool:
    if ours is None or theirs is None:
        return ours is None and theirs is None
    return ours == pytest.approx(float(theirs), rel=1e-12, abs=1e-12)


# -- against what was published ---------------------------------------------------------------------


def test_fleiss() -> None:
    matrix = [[value for value, n in enumerate(row) for _ in range(n)] for row in FLEISS]
    kappa = fleiss(matrix)
    assert kappa is not None
    assert round(float(kappa), 3) == 0.210
    assert f"{streamed(matrix).figures()['kappa']:.9f}" == f"{float(kappa):.9f}" == "0.209930704"


@pytest.mark.parametrize(
    ("matrix", "kind", "published"),
    [
        (units(A), "nominal", 0.095),
        (units(B), "nominal", 0.692),
        (units(C), "nominal", 0.743),
        (numbers(C), "nominal", 0.743),
        (numbers(C), "ordinal", 0.815),
        (numbers(C), "interval", 0.849),
    ],
    ids=["A", "B", "C", "D nominal", "D ordinal", "D interval"],
)
def test_krippendorff(matrix: Units, kind: str, published: float) -> None:
    alpha = krippendorff(matrix, kind)
    assert alpha is not None
    assert round(float(alpha), 3) == published
    assert f"{streamed(matrix).figures()[f'{kind} alpha']:.9f}" == f"{float(alpha):.9f}"


# -- against the definitions ------------------------------------------------------------------------

SCALAR = st.one_of(st.sampled_from(["a", "b", "c"]), st.booleans(), st.none(), st.integers(0, 2))
ANY_NUMBER = st.one_of(
    st.integers(1, 4),
    st.integers(-(2**200), 2**200),
    st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: value != int(value)),
)


def told_apart(value: Any) -> Any:
    """For the definitions: Python takes True for 1."""
    return f"{value}" if value is None or isinstance(value, bool) else value


@given(st.lists(st.lists(SCALAR, max_size=5), max_size=8))
def test_any_values(matrix: Units) -> None:
    apart = [[told_apart(value) for value in unit] for unit in matrix]
    assert same(figure(matrix, "nominal alpha"), krippendorff(apart, "nominal"))


@given(st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(SCALAR, min_size=n, max_size=n), max_size=8)))
def test_any_values_of_as_many_voters(matrix: Units) -> None:
    apart = [[told_apart(value) for value in unit] for unit in matrix]
    assert same(figure(matrix, "kappa"), fleiss(apart) if matrix else None)


@given(st.lists(st.lists(ANY_NUMBER, max_size=5), max_size=8))
def test_any_numbers(matrix: Units) -> None:
    found = streamed(matrix).figures()
    for kind in DISTANCES:
        assert same(found.get(f"{kind} alpha"), krippendorff(matrix, kind)), kind


@given(st.lists(st.lists(st.integers(1, 5), max_size=5), max_size=8), st.randoms(use_true_random=False))
def test_no_order_changes_a_digit(matrix: list[list[int]], order: Any) -> None:
    before = streamed(matrix).figures()
    order.shuffle(matrix)
    for unit in matrix:
        order.shuffle(unit)
    assert streamed(matrix).figures() == before


# -- at the edges -----------------------------------------------------------------------------------


@pytest.mark.parametrize("matrix", [[], [[]], [["a"]], [["a"], ["b"]], [["a", "a"], ["a", "a"]], [[3, 3.0], [3, 3]]])
def test_nothing_to_compare(matrix: Units) -> None:
    assert streamed(matrix).figures() == {}


def test_everybody_agrees() -> None:
    assert streamed([[1, 1], [2, 2]]).figures() == {
        "kappa": 1.0,
        "nominal alpha": 1.0,
        "ordinal alpha": 1.0,
        "interval alpha": 1.0,
    }


def test_kappa_needs_as_many_votes_for_each() -> None:
    assert figure([["a", "b"], ["a", "a"], ["b", "b"]], "kappa") is not None
    assert figure([["a", "b"], ["a", "a", "b"], ["b", "b"]], "kappa") is None
    assert figure([["a", "b"], ["a"], ["b", "b"]], "kappa") is None
    assert figure([["a", "b"], [], ["b", "b"]], "kappa") is not None  # nobody voted: it is no unit


def test_true_is_no_number() -> None:
    found = streamed([[True, 1], [1, 1], [True, True]]).figures()
    nominal = krippendorff([["t", 1], [1, 1], ["t", "t"]], "nominal")
    assert found["nominal alpha"] == pytest.approx(float(nominal or 0))
    assert not found.keys() & {"ordinal alpha", "interval alpha"}


@pytest.mark.parametrize("other", ["2", None, False, float("nan"), float("inf")])
def test_scales_are_for_numbers(other: Any) -> None:
    found = streamed([[1, 2], [2, other], [1, 1]]).figures()
    assert "nominal alpha" in found
    assert not found.keys() & {"ordinal alpha", "interval alpha"}


def test_a_vote_without_another_does_not_count() -> None:
    assert figure([[1, 2], ["no number"], [1, 1], []], "interval alpha") == figure([[1, 2], [1, 1]], "interval alpha")


def test_strings_are_alike_as_for_the_vote() -> None:
    assert figure([["Yes", "yes "], ["No", "no"]], "nominal alpha") == 1.0


def test_too_many_values() -> None:
    few, many = (streamed([[n, n + 1] for n in range(last)]) for last in (MOST - 1, MOST))
    assert few.figures().keys() == {"kappa", "nominal alpha", "ordinal alpha", "interval alpha"}
    assert many.figures().keys() == {"interval alpha"}
    many.add([1, 2])
    interval = krippendorff([*([n, n + 1] for n in range(MOST)), [1, 2]], "interval")
    assert same(many.figures()["interval alpha"], interval)


def test_digits_beyond_a_double() -> None:
    huge = 10**30
    near = [[huge + value for value in unit] for unit in numbers(C)]
    assert figure(near, "interval alpha") == figure(numbers(C), "interval alpha")
    tiny = [[Wide(f"0.{'3' * 40}{value}") for value in unit] for unit in numbers(C)]
    assert streamed(tiny).figures() == streamed(numbers(C)).figures()


def test_one_number_written_in_two_ways() -> None:
    """1e23 is a number that its double only comes near."""
    assert figure([[1e23, 10**23], [1, 1]], "interval alpha") == 1.0
    assert figure([[0.1, Wide("0.2999999999999999999")], [0.1, 0.1]], "interval alpha") is not None
