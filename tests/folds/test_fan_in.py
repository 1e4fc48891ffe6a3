"""A tree of folds, whatever order its nodes are done in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmstream.folds.fan_in import Tree


def plain(parts: list, fan_in: int) -> list:
    """The same, level by level."""
    while len(parts) > 1:
        parts = [parts[at : at + fan_in] for at in range(0, len(parts), fan_in)]
    return parts


@given(st.integers(1, 90), st.integers(2, 7), st.randoms(), st.data())
def test_every_order_makes_the_same_tree(size: int, fan_in: int, dice, data) -> None:
    """Nodes are done in any order, before and after it is known how many there are."""
    tree, roots = Tree(fan_in), []
    known_after = data.draw(st.integers(0, size), label="nodes that are done before the last has come")
    under_way = [(0, number, number) for number in range(size)]
    for turn in range(10 * size):
        ready = tree.close(size) if turn == known_after else []
        if turn != known_after and under_way:
            node = tree.put(*under_way.pop(dice.randrange(len(under_way))))
            ready = [node] if node else []
        roots += [node.parts[0] for node in ready if node.root]
        under_way += [(node.level, node.number, node.parts) for node in ready if not node.root]
    assert roots == plain(list(range(size)), fan_in)
    assert not under_way


def test_nothing_is_held_that_is_done() -> None:
    tree = Tree(2)
    for number in range(1000):
        node = tree.put(0, number, number)
        while node:
            node = tree.put(node.level, node.number, len(node.parts))
        assert sum(map(len, tree._done)) <= 11


def test_an_empty_input_has_no_root() -> None:
    assert Tree(3).close(0) == []
