"""When enough votes have been cast, against what every continuation would bring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cache
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstream.votes.stopping import UNSEEN, Contest, chance, further_votes, settled

contest_of_two = st.tuples(st.integers(0, 12), st.integers(0, 12))
any_contest = st.lists(st.integers(0, 9), min_size=2, max_size=5).map(tuple)
small_contest = st.lists(st.integers(0, 4), min_size=2, max_size=4).map(tuple)


def continuations(options: int, left: int) -> Iterator[Contest]:
    """All the ways in which the votes that are left may fall."""
    if options == 1:
        yield (left,)
        return
    for votes in range(left + 1):
        for others in continuations(options - 1, left - votes):
            yield (votes, *others)


def plus(contest: Contest, further: Contest) -> Contest:
    return tuple(have + more for have, more in zip(contest, further, strict=True))


# -- settled ----------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 4), max_size=3).map(tuple), st.integers(0, 4))
def test_settled_is_what_no_continuation_can_change(contest: Contest, left: int) -> None:
    with_new = (*contest, 0, 0)  # further votes may go to what nobody has said yet
    leader = with_new.index(max(with_new))
    ends = [plus(with_new, further) for further in continuations(len(with_new), left)]
    alone = all(end[leader] > max(end[:leader] + end[leader + 1 :]) for end in ends)
    assert settled(contest, left) == alone


# -- chance -----------------------------------------------------------------------------------------


def predicted(contest: Contest, left: int) -> dict[Contest, Fraction]:
    """How probable each end is: a Dirichlet prior by which two voters agree five times out of eight."""
    prior = Fraction(3, 5 * len(contest) - 8)
    total = sum(contest) + prior * len(contest)
    return {
        plus(contest, further): prod(
            (rising(have + prior, more) for have, more in zip(contest, further, strict=True)), start=Fraction(1)
        )
        / rising(total, left)
        for further in continuations(len(contest), left)
    }


def rising(weight: Fraction, votes: int) -> Fraction:
    """weight (weight + 1) ... / votes!"""
    return prod((Fraction(weight + n, n + 1) for n in range(votes)), start=Fraction(1))


@pytest.mark.parametrize("options", range(2, 12))
def test_two_voters_agree_as_often_however_many_options(options: int) -> None:
    prior = Fraction(3, 5 * options - 8)
    assert (prior + 1) / (options * prior + 1) == Fraction(5, 8)


@given(contest_of_two, st.integers(0, 12))
def test_chance_of_two_options(contest: Contest, left: int) -> None:
    leader = contest.index(max(contest))
    ends = predicted(contest, left)
    assert sum(ends.values()) == 1
    ahead = sum(share for end, share in ends.items() if end[leader] == max(end))
    assert chance(contest, left) == pytest.approx(float(ahead), abs=1e-12)


@given(small_contest, st.integers(0, 6))
def test_chance_of_more_options(contest: Contest, left: int) -> None:
    leader = contest.index(max(contest))
    ends = predicted(contest, left)
    overtakes = [sum(share for end, share in ends.items() if end[rival] > end[leader]) for rival in range(len(contest))]
    ahead = sum(share for end, share in ends.items() if end[leader] == max(end))
    found = chance(contest, left)
    assert found == pytest.approx(max(0.0, float(1 - sum(overtakes))), abs=1e-12)
    assert found <= float(ahead) + 1e-12
    if found > 0.95:  # where it decides, a lower bound that is near
        assert float(ahead) - found < 0.005


@pytest.mark.parametrize(
    ("contest", "left"), [((7, 0), 33), ((6, 1), 33), ((20, 15), 5), ((6, 0, 0, 0), 34), ((5, 2, 1), 20)]
)
def test_chance_in_a_real_run(contest: Contest, left: int) -> None:
    """The few whose ends can still be listed at 40 votes."""
    ends = predicted(contest, left)
    ahead = sum(share for end, share in ends.items() if end[0] == max(end))
    assert chance(contest, left) == pytest.approx(float(ahead), abs=0.005 if len(contest) > 2 else 1e-12)


@given(any_contest, st.integers(0, 30))
def test_a_vote_for_the_leader_never_makes_it_less_certain(contest: Contest, left: int) -> None:
    leader = contest.index(max(contest))
    further = (*contest[:leader], contest[leader] + 1, *contest[leader + 1 :])
    assert chance(further, left) >= chance(contest, left + 1) - 1e-12


@given(contest_of_two, st.integers(0, 30))
def test_a_vote_for_the_other_never_makes_it_more_certain(contest: Contest, left: int) -> None:
    low, high = sorted(contest)
    if low < high:
        assert chance((high, low + 1), left) <= chance((high, low), left + 1) + 1e-12


@given(any_contest, st.integers(0, 30), st.randoms(use_true_random=False))
def test_chance_knows_no_order(contest: Contest, left: int, order: object) -> None:
    turned = list(contest)
    order.shuffle(turned)  # type: ignore[attr-defined]
    assert chance(tuple(turned), left) == chance(contest, left)


@given(any_contest, st.integers(0, 30))
def test_chance_is_a_probability_and_certain_when_settled(contest: Contest, left: int) -> None:
    assert 0 <= chance(contest, left) <= 1
    assert chance(contest, 0) == 1
    if settled(contest, left):
        assert chance(contest, left) == 1


def test_an_option_that_nobody_named_may_be_left_out() -> None:
    assert chance((6,), 34) == chance((6, 0), 34)
    assert chance((), 4) == chance((0, 0), 4)


def test_many_votes_and_options() -> None:
    assert 0.99 < chance((260, 200, *(30,) * 8), 300) < 1
    assert chance((550, 440), 10) == 1
    assert chance((100_000, 99_900), 100_000) == pytest.approx(0.651, abs=0.001)  # nothing underflows
    assert 0 < further_votes([(100, 95, 90, 80, 70, 60, 50, 40, 30, 20)], 635, 1000, 2, 0.99) < 60


# -- wanted -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "first"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (9, 5), (40, 21)])
def test_first_round(n: int, first: int) -> None:
    assert further_votes([], 0, n, 2, None) == first


@pytest.mark.parametrize(
    ("contests", "cast", "n", "least", "confidence", "more"),
    [
        ([(3,)], 3, 5, 2, None, 0),
        ([(2, 1)], 3, 5, 2, None, 1),
        ([(2, 2)], 4, 5, 2, None, 1),
        ([(3, 2)], 5, 5, 2, None, 0),
        ([(3,)], 3, 5, 4, None, 1),  # not before the least
        ([(3,)], 3, 5, 5, None, 2),
        ([], 0, 5, 4, None, 4),
        ([], 0, 5, 9, None, 5),  # never more than all
        ([], 2, 5, 2, None, 2),  # both failed: two of the three left, both alike
        ([], 5, 5, 2, None, 0),
        ([(2,)], 3, 5, 2, None, 1),  # one failed
        ([None], 3, 5, 2, None, 2),
        ([(3,), None], 3, 5, 2, 0.5, 2),
        ([(3,), (2, 1)], 3, 5, 2, None, 1),  # every contest has to be decided
        ([()], 0, 5, 2, None, 3),
        ([], 0, 40, 2, 0.995, 6),
        ([(0, *UNSEEN)], 0, 40, 2, 0.995, 6),
        ([(0, 0)], 0, 40, 2, 0.995, 7),  # yes or no: a lead is worth less than among many options
        ([(7, 0)], 7, 40, 2, 0.995, 0),
        ([(6, 1)], 7, 40, 2, 0.995, 2),
        ([(7, 0), (7, 0), (7, 0)], 7, 40, 2, 0.995, 1),  # all three have to last
        ([(20, 20)], 40, 40, 2, 0.995, 0),
    ],
)
def test_wanted(
    contests: Sequence[Contest | None], cast: int, n: int, least: int, confidence: float | None, more: int
) -> None:
    assert further_votes(contests, cast, n, least, confidence) == more


CONFIDENCE = st.sampled_from([None, 0.5, 0.9, 0.99, 0.999, 1.0])


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), min_size=12, max_size=12),
    st.integers(1, 12),
    st.integers(1, 4),
    CONFIDENCE,
)
def test_rounds_stop_where_single_votes_would(
    votes: list[tuple[int, int]], n: int, least: int, confidence: float | None
) -> None:
    """No vote is asked for in vain, and none is left out."""
    in_rounds = cast = 0
    while more := further_votes(counted(votes[:cast]), cast, n, least, confidence):
        cast, in_rounds = cast + more, in_rounds + 1
    single = next(k for k in range(n + 1) if not further_votes(counted(votes[:k]), k, n, least, confidence))
    assert min(least, n) <= cast <= n
    assert cast == single
    assert in_rounds <= n


def counted(votes: list[tuple[int, int]]) -> list[Contest]:
    """An answer with two places: one of four words, and yes or no."""
    words, sides = zip(*votes, strict=True) if votes else ((), ())
    return [tuple(words.count(word) for word in range(4)), (sides.count(0), sides.count(1))]


@given(small_contest, st.integers(0, 20), CONFIDENCE)
def test_the_round_is_the_smallest_that_could_be_enough(contest: Contest, left: int, confidence: float | None) -> None:
    cast = sum(contest)
    more = further_votes([contest], cast, cast + left, 0, confidence)
    leader = contest.index(max(contest))

    def enough(votes: int) -> bool:
        then = (*contest[:leader], contest[leader] + votes, *contest[leader + 1 :])
        if confidence is None:
            return settled(then, left - votes)
        return chance(then, left - votes) >= confidence

    assert more == next((votes for votes in range(left) if enough(votes)), left)


# -- what it saves, exactly -------------------------------------------------------------------------


@pytest.mark.parametrize(("wrong", "fewer"), [((1.0,), 2.4), ((1 / 3, 1 / 3, 1 / 3), 3.3)], ids=["yes or no", "four"])
def test_votes_saved(wrong: tuple[float, ...], fewer: float) -> None:
    """Voters who are right with 55 to 95 %: far fewer votes than 40, a tenth of a point lost at most."""
    grid = [0.55 + 0.4 * (step + 0.5) / 20 for step in range(20)]
    found = [votes_and_right(right, wrong, 0.995) for right in grid]
    fixed = [votes_and_right(right, wrong, 2.0) for right in grid]  # never sure enough
    assert sum(votes for votes, _ in fixed) == pytest.approx(40 * len(grid))
    assert 40 * len(grid) / sum(votes for votes, _ in found) > fewer
    assert sum(good for _, good in fixed) - sum(good for _, good in found) < 0.001 * len(grid)


@cache
def more(contest: Contest, cast: int, confidence: float) -> int:
    return further_votes([contest], cast, 40, 2, confidence)


def votes_and_right(right: float, wrong: tuple[float, ...], confidence: float) -> tuple[float, float]:
    """Over all ways in which 40 votes can fall. The first option is right; equal ones are as likely to win."""
    votes = good = 0.0
    here: dict[Contest, float] = {(0,) * (1 + len(wrong)): 1.0}
    for cast in range(41):
        there: dict[Contest, float] = {}
        for contest, share in here.items():
            if not more(contest, cast, confidence):
                votes += share * cast
                good += share * (contest[0] == max(contest)) / contest.count(max(contest))
                continue
            for option, chosen in enumerate((right, *((1 - right) * part for part in wrong))):
                counts = [*contest[:option], contest[option] + 1, *contest[option + 1 :]]
                after = (counts[0], *sorted(counts[1:]))  # the wrong ones are all the same
                there[after] = there.get(after, 0.0) + share * chosen
        here = there
    return votes, good
