"""How long answers take."""

import time
from statistics import NormalDist

import pytest
from sim_client import body, send, serving

from llmstream import sim
from llmstream.endpoint.latency import Latency


def test_latency():
    with serving("--latency", "200ms") as port:
        start = time.monotonic()
        assert send(port, body())[0] == 200
        assert time.monotonic() - start > 0.19


def test_the_lognormal_has_the_mean_and_the_percentile():
    latency = Latency.of(*sim.read_latency("0.5s:2s"))
    assert latency.at(0.99) == pytest.approx(2)
    steps = 100_000
    assert sum(latency.at((step + 0.5) / steps) for step in range(steps)) / steps == pytest.approx(0.5, rel=0.01)
    assert Latency.of(*sim.read_latency("50")).at(0.7) == Latency.of(*sim.read_latency("50ms")).at(0.1) == 0.05
    assert Latency.of(*sim.read_latency("3:3")).at(NormalDist().cdf(1)) == pytest.approx(0.003)
