"""Chance that is none: whatever is drawn is a digest of the seed, the request and the place it is drawn for."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple


class Place(NamedTuple):
    """Where in the answer a value stands."""

    path: str = ""
    name: str = ""  # of the nearest property: what the value is called
    turn: int = 0  # its number in a list
    level: int = 0

    def under(self, name: str) -> Place:
        return Place(f"{self.path}/{name}", name, self.turn, self.level + 1)

    def item(self, turn: int) -> Place:
        return Place(f"{self.path}/*", self.name, 31 * self.turn + turn, self.level + 1)


class Draw(NamedTuple):
    natural: bool  # what most votes say
    number: int


def digest(*parts: bytes) -> bytes:
    return blake2b(b"\0".join(parts), digest_size=16).digest()


def number(*parts: bytes) -> int:
    """A number of 64 bits that is always the same for the same parts."""
    return int.from_bytes(blake2b(b"\0".join(parts), digest_size=8).digest(), "big")


def share(*parts: bytes) -> float:
    """A number between 0 and 1, neither of them included, that is always the same for the same parts."""
    return ((number(*parts) >> 12) + 0.5) / 2**52
