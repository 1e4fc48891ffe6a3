"""Have enough votes been cast? Pure arithmetic on counts.

A contest holds the votes for each option so far. On equal counts the earlier option wins, so
options stand in the order in which ties are decided. Options that are known are all written,
those without a vote as 0: (5, 0) for yes and no. Where any text may be an answer, those that
were seen are.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

Contest = tuple[int, ...]

UNSEEN: Contest = (0, 0)  # room for answers that nobody has given yet

# How likely two voters are to agree, before anyone has voted. It does not depend on the number of
# options: where there are ten, most votes still fall on one or two of them.
_AGREE = 5 / 8


def settled(contest: Contest, left: int) -> bool:
    """Can the votes that are left neither change who wins nor bring a tie?"""
    second, first = sorted((0, 0, *contest))[-2:]
    return first > second + left


def chance(contest: Contest, left: int) -> float:
    """How probable it is that the votes that are left would put no option ahead of the leader.

    A tie at the end is not counted against the leader: it says of neither that it is right.
    Exact for two options. For more it is a lower bound, as the chances of the others are simply
    added; where the leader is likely to stay ahead, the difference is too small to matter.
    """
    return _stays_ahead(tuple(sorted((*contest, 0, 0)[: max(2, len(contest))], reverse=True)), left)


def further_votes(contests: Sequence[Contest | None], cast: int, n: int, least: int, confidence: float | None) -> int:
    """How many votes to ask for in the next round; 0 is enough.

    It is the smallest number after which it could be enough, if all of them went to the leaders.
    Every contest has to be decided. None is one without a leader, such as a mean: it needs all n
    votes. Without a contest nothing is known of the answer yet. A confidence of None waits until
    every contest is settled.
    """
    left = max(0, n - cast)
    if None in contests:
        return left
    known = [contest for contest in contests if contest is not None] or [(0, *UNSEEN)]
    rounds = range(min(left, max(0, least - cast)), left)

    def enough(votes: int) -> bool:
        then = [_with(contest, votes) for contest in known]
        if confidence is None:
            return all(settled(contest, left - votes) for contest in then)
        return math.prod(chance(contest, left - votes) for contest in then) >= confidence

    return rounds.start + bisect_left(rounds, True, key=enough)  # a vote for the leader never makes it less certain


def _with(contest: Contest, votes: int) -> Contest:
    """The contest after so many further votes for its leader."""
    leader = contest.index(max(contest)) if contest else 0
    return (*contest[:leader], max(contest, default=0) + votes, *contest[leader + 1 :])


# -- the further votes, as a Dirichlet prior and the votes so far predict them
#
# Each vote falls on an option in proportion to its weight: the votes it has by then, and the
# prior's share. Options may be put together, and their weights are added. So a rival against the
# leader is a matter of three weights: the rival's, the leader's, and that of all others.


@lru_cache(maxsize=1 << 14)
def _stays_ahead(counts: Contest, left: int) -> float:
    """The counts fall; the first is the leader's."""
    prior = (1 - _AGREE) / (_AGREE * len(counts) - 1)  # the weight of one option: two voters agree as often as that
    leader, total = counts[0], sum(counts) + prior * len(counts)
    overtaken = 0.0
    for rival, how_many in Counter(counts[1:]).items():
        others = total - (leader + rival + 2 * prior) if len(counts) > 2 else 0.0
        overtaken += how_many * _overtakes(leader - rival, leader + prior, rival + prior, others, left)
    return max(0.0, 1 - overtaken)


def _overtakes(lead: int, leader: float, rival: float, others: float, left: int) -> float:
    """The probability that the rival, who is behind by the lead, ends in front of the leader."""
    sums = _in_front(lead, leader, rival, left)
    if not others:
        return max(0.0, sum(change for _, change in sums))
    probability = in_front = 0.0
    for shared, change in sums:
        in_front += change
        probability += in_front * _polya(shared, left - shared, leader + rival, others)
    return max(0.0, probability)


def _in_front(lead: int, leader: float, rival: float, left: int) -> Iterator[tuple[int, float]]:
    """How probable it is that the rival is in front after 1, 2, ... votes for one of the two, as differences.

    A single vote changes that only where the two stand level, or the rival is in front by one.
    """
    for votes in range(lead, left):
        for_rival, odd = divmod(votes + lead + 1, 2)
        for_leader = votes - for_rival
        here = _polya(for_rival, for_leader, rival, leader)
        to_leader = (leader + for_leader) / (leader + rival + votes)
        yield votes + 1, here * (1 - to_leader) if odd else -here * to_leader


def _polya(ours: int, theirs: int, our_weight: float, their_weight: float) -> float:
    """The probability that of ours + theirs votes exactly so many fall on each of two sides."""
    return math.exp(
        math.lgamma(ours + theirs + 1)
        - math.lgamma(ours + 1)
        - math.lgamma(theirs + 1)
        + math.lgamma(our_weight + ours)
        + math.lgamma(their_weight + theirs)
        - math.lgamma(our_weight + their_weight + ours + theirs)
        + math.lgamma(our_weight + their_weight)
        - math.lgamma(our_weight)
        - math.lgamma(their_weight)
    )
