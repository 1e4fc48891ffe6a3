"""How long answers take."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple, Self

_NORMAL = NormalDist()


class Latency(NamedTuple):
    """A log-normal distribution, or with no sigma one latency for all."""

    mean: float  # seconds
    sigma: float = 0.0

    @classmethod
    def of(cls, mean: float, p99: float) -> Self:
        """The one that has this mean and this 99th percentile, which is at most 14 times the mean."""
        if p99 == mean:
            return cls(mean)
        z = _NORMAL.inv_cdf(0.99)
        return cls(mean, z - math.sqrt(z * z - 2 * math.log(p99 / mean)))

    def at(self, chance: float) -> float:
        """The latency that so large a share of calls stays below."""
        if not self.sigma:
            return self.mean
        middle = math.log(self.mean) - self.sigma**2 / 2
        return math.exp(middle + self.sigma * _NORMAL.inv_cdf(chance))
