"""The one grammar of keys: how they are built, and what can be read off them.

    DIGEST                  32 hex digits of the request's body
    DIGEST-N                an equal request in the same run, from 1 on
    DIGEST-rN               a request of a run that has no done-file: nothing is looked up by it
    KEY-vN                  a further vote on the same request, from 1 on
    KEY+N                   a further asking of it; only in the header Idempotency-Key, never in a line

What is zero is left out. Keys are a file format: one byte more, and every user pays again.
"""

from __future__ import annotations

from collections.abc import Sequence

_SAMPLE = "-v"


def with_occurrence(digest: str, occurrence: int) -> str:
    """The key of a request that came up so often before in this run."""
    return f"{digest}-{occurrence}" if occurrence else digest


def with_serial(digest: str, serial: int) -> str:
    """The key of the request with this number, where no done-file counts the occurrences."""
    return f"{digest}-r{serial}"


def with_sample(key: str, sample: int) -> str:
    """The key of a vote; the votes on a request are numbered from zero."""
    return f"{key}{_SAMPLE}{sample}" if sample else key


def idempotency_key(key: str, asking: int) -> str:
    """What the endpoint knows an asking by; the first one is number 1. Tries of one asking share it."""
    return f"{key}+{asking - 1}" if asking > 1 else key


def is_further_vote(key: str) -> bool:
    """Is this a vote other than the first one?"""
    return _SAMPLE in key


def record_of(key: str) -> str:
    """The key without its sample: what all votes on one request share."""
    return key.partition(_SAMPLE)[0]


def split_votes(keys: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """The keys of first (or only) votes, and those of further votes. Cheap where there are none of the latter."""
    if _SAMPLE not in "".join(keys):
        return keys, ()
    return [key for key in keys if _SAMPLE not in key], [key for key in keys if _SAMPLE in key]
