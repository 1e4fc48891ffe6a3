"""How many votes the stopping rules save, and what they cost: python tests/bench/votes.py [QUESTIONS]

Simulated voters answer QUESTIONS questions, each voter on a question right with the same
probability, drawn from 55 to 95 %. Every rule sees the same votes. Points lost are counted
against all 40. An option counts as right by as much as all 40 votes, and what is known of the
voters, say that it is: which of two is right that have 20 votes each would be mere noise.
tests/test_stopping.py has the figures without any.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from functools import cache
from itertools import permutations
from math import comb, prod
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from llmstream.votes import stopping  # after the path is set

N = 40
LEAST = 2
QUESTIONS = 100_000
SEED = 20_240

Contest = tuple[int, ...]
Rule = Callable[[Contest, int], int]  # the contest and the votes cast; how many more


class Kind(NamedTuple):
    """A kind of question. The first answer is right; the others share the wrong votes."""

    name: str
    wrong: tuple[float, ...]


KINDS = [
    Kind("yes or no", (1,)),
    Kind("four options, wrong votes spread evenly", (1 / 3, 1 / 3, 1 / 3)),
    Kind("four options, wrong votes 70:15:15", (0.7, 0.15, 0.15)),
    Kind("four options, wrong votes all on one", (1, 0, 0)),
]

# -- rules ------------------------------------------------------------------------------------------


def fixed(votes: int) -> Rule:
    return lambda _, cast: votes - cast


def ours(confidence: float | None, write: Callable[[Contest], Contest] = lambda contest: contest) -> Rule:
    """As llm-vote does. write: how the contest is written down."""

    @cache
    def more(contest: Contest, cast: int) -> int:
        return stopping.further_votes([write(contest)], cast, N, LEAST, confidence)

    return more


def seen(contest: Contest) -> Contest:
    """Without the options that nobody voted for; room for some that nobody knows."""
    return (*(seen_only(contest) or (0,)), *stopping.UNSEEN)


def seen_only(contest: Contest) -> Contest:
    return tuple(filter(None, contest))


def adaptive_consistency(threshold: float) -> Rule:
    """P. Aggarwal and others, Let's Sample Step by Step (2023): is the leader's share above a half of the two best?"""

    @cache
    def more(contest: Contest, cast: int) -> int:
        second, first = sorted(contest)[-2:]
        flips = first + second + 1  # Beta(first + 1, second + 1) above a half, as so many flips of a coin
        above = sum(comb(flips, heads) for heads in range(first + 1)) / 2**flips
        return 0 if cast == N or (cast >= LEAST and above > threshold) else 1

    return more


def rules(kind: Kind) -> dict[str, Rule]:
    table = {
        **{f"{votes} votes": fixed(votes) for votes in (5, 10, N)},
        **{f"Adaptive-Consistency {p}": adaptive_consistency(p) for p in (0.95, 0.99)},
        "settled": ours(None),
        **{f"chance {p}": ours(p) for p in (0.9, 0.95, 0.98, 0.99, 0.995, 0.999)},
    }
    if len(kind.wrong) > 1:
        table |= {"chance 0.995, UNSEEN": ours(0.995, seen), "chance 0.995, seen only": ours(0.995, seen_only)}
    return table


# -- voters -----------------------------------------------------------------------------------------


def question(kind: Kind, share: float, chance: random.Random) -> tuple[list[float], list[Contest]]:
    """How probably each option is right, and the contest after 0, 1, ... 40 votes.

    Options stand in the order in which they were first voted for, as llm-vote has them.
    """
    right = 0.55 + 0.4 * share
    wrong = [(1 - right) * share for share in kind.wrong]
    votes = chance.choices(range(1 + len(wrong)), (right, *wrong), k=N)
    order = list(dict.fromkeys((*votes, *range(1 + len(wrong)))))
    found = contests([order.index(vote) for vote in votes], len(order))
    return truth(found[N], right, wrong), found


def truth(counts: Contest, right: float, wrong: Sequence[float]) -> list[float]:
    """The probability of each option to be the right one, whichever of the others has which of the wrong votes."""
    orders = set(permutations(wrong))
    likely = [
        sum(prod(map(pow, (right, *order), (counts[one], *counts[:one], *counts[one + 1 :]))) for order in orders)
        for one in range(len(counts))
    ]
    return [share / sum(likely) for share in likely]


def contests(votes: Sequence[int], options: int) -> list[Contest]:
    counts = [0] * options
    found = [tuple(counts)]
    for vote in votes:
        counts[vote] += 1
        found.append(tuple(counts))
    return found


def asked(rule: Rule, found: Sequence[Contest]) -> int:
    """How many votes a rule takes."""
    cast = 0
    while more := rule(found[cast], cast):
        cast += more
    return cast


def measure(kind: Kind, questions: int) -> dict[str, tuple[float, float]]:
    """For each rule: votes per question, and the percentage of right answers."""
    chance = random.Random(SEED)
    table = rules(kind)
    votes, good = dict.fromkeys(table, 0), dict.fromkeys(table, 0.0)
    for number in range(questions):
        right, found = question(kind, (number + chance.random()) / questions, chance)  # evenly spread
        for name, rule in table.items():
            cast = asked(rule, found)
            votes[name] += cast
            good[name] += right[found[cast].index(max(found[cast]))]
    return {name: (votes[name] / questions, 100 * good[name] / questions) for name in table}


def main(questions: int) -> None:
    say = sys.stdout.write
    say(f"{questions} questions; votes per question, times fewer than {N}, % right, points lost against {N}\n")
    for kind in KINDS:
        measured = measure(kind, questions)
        all_votes = measured[f"{N} votes"][1]
        say(f"\n{kind.name}\n")
        for name, (votes, right) in measured.items():
            say(f"  {name:26}{votes:8.2f}{N / votes:8.2f}{right:10.3f}{all_votes - right:9.3f}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else QUESTIONS)
