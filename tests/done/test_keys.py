"""Keys are a file format: what is built here is in the files of every user."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstream.done import keys

DIGEST = "0123456789abcdef0123456789abcdef"
built = st.builds(
    lambda base, number: keys.with_occurrence(DIGEST, number) if base else keys.with_serial(DIGEST, number + 1),
    st.booleans(),
    st.integers(0, 1 << 24),
)


def test_the_bytes_of_keys() -> None:
    assert keys.with_occurrence(DIGEST, 0) == DIGEST
    assert keys.with_occurrence(DIGEST, 12) == f"{DIGEST}-12"
    assert keys.with_serial(DIGEST, 1) == f"{DIGEST}-r1"
    assert keys.with_sample(DIGEST, 0) == DIGEST
    assert keys.with_sample(f"{DIGEST}-12", 3) == f"{DIGEST}-12-v3"
    assert keys.idempotency_key(f"{DIGEST}-v3", 1) == f"{DIGEST}-v3"
    assert keys.idempotency_key(f"{DIGEST}-v3", 2) == f"{DIGEST}-v3+1"


@given(built, st.integers(0, 1000))
def test_a_vote_and_its_record(key: str, sample: int) -> None:
    vote = keys.with_sample(key, sample)
    assert keys.record_of(vote) == key
    assert keys.is_further_vote(vote) == (sample > 0)


@pytest.mark.parametrize("samples", [(), (0, 0), (0, 1, 2, 0), (1, 2)])
def test_first_and_further_votes(samples: tuple[int, ...]) -> None:
    votes = [keys.with_sample(f"{number:032x}", sample) for number, sample in enumerate(samples)]
    first, further = keys.split_votes(votes)
    assert list(first) == [vote for vote, sample in zip(votes, samples, strict=True) if not sample]
    assert list(further) == [vote for vote, sample in zip(votes, samples, strict=True) if sample]


@given(st.lists(st.sampled_from(["", "-", "v", "-v", "-v1", "a"])))
def test_keys_that_somebody_made_up(made_up: list[str]) -> None:
    first, further = keys.split_votes(made_up)
    assert sorted([*first, *further]) == sorted(made_up)
    assert all(map(keys.is_further_vote, further))
    assert not any(map(keys.is_further_vote, first))
