"""The index is a dict, in little memory."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmstream.done.index import Index


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("pcf"), st.integers(0, 24), st.integers(0, 1 << 39)), max_size=300))
def test_the_index_is_a_dict(todo: list[tuple[str, int, int]]) -> None:
    Index.SLOTS = 16  # eight keys a table
    index, places, counts = Index(), {}, {}
    for what, number, place in todo:
        key = b"%d" % number
        if what == "p":
            index.put(key, place)
            places[key] = place
        elif what == "c":
            assert index.count(key) == counts.get(key, 0)
            counts[key] = counts.get(key, 0) + 1
        assert index.find(key) == places.get(key)
    assert all(index.find(b"%d" % number) == places.get(b"%d" % number) for number in range(25))
    assert index.keys == len(places)


def test_the_index_takes_32_bytes_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Index, "SLOTS", 1 << 20)
    index = Index()
    for number in range(2_000_000):
        index.put(b"%032x" % number, number)
    assert sum(sys.getsizeof(table) for table in index._tables) <= 32 * 2_100_000
    assert index.keys == 2_000_000
    assert all(index.find(b"%032x" % number) == number for number in range(0, 2_000_000, 997))
