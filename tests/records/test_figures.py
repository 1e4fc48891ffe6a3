"""Figures as a person reads them."""

from __future__ import annotations

import pytest

from llmstream.records import figures

CLOCKS = {
    0: "0:00",
    59.9: "0:59",
    60: "1:00",
    3599: "59:59",
    3600: "1:00:00",
    3909: "1:05:09",
    86_399: "23:59:59",
    90_000: "1d 01h",
    1e6: "11d 13h",
    1e9: "11,574d 01h",
}


@pytest.mark.parametrize(("seconds", "shown"), CLOCKS.items())
def test_a_span_as_a_clock_shows_it(seconds: float, shown: str) -> None:
    assert figures.clock(seconds) == shown


DURATIONS = {
    0: "0 ms",
    0.00012: "0.12 ms",
    0.0123: "12.3 ms",
    0.32: "320 ms",
    0.9996: "1 s",
    1.44: "1.44 s",
    9.96: "9.96 s",
    59.4: "59.4 s",
    59.97: "1 min",
    133: "2 min 13 s",
    1234.4: "20 min 34 s",
    3599.7: "1 h",
    7980: "2 h 13 min",
    86_399: "1 d",
    100_000: "1 d 4 h",
    9e6: "104 d 4 h",
}


@pytest.mark.parametrize(("seconds", "shown"), DURATIONS.items())
def test_durations(seconds: float, shown: str) -> None:
    assert figures.duration(seconds) == shown


RATES = {
    0: "0/s",
    0.0000001: "0.00036/h",
    0.001: "3.6/h",
    0.0123: "44.3/h",
    0.02: "1.2/min",
    0.12: "7.2/min",
    0.5: "30/min",
    1.5: "1.5/s",
    41.234: "41.2/s",
    98.76: "98.8/s",
    1234.5: "1,234/s",
    123456.7: "123,457/s",
}


@pytest.mark.parametrize(("a_second", "shown"), RATES.items())
def test_rates(a_second: float, shown: str) -> None:
    assert figures.rate(a_second) == shown


def test_a_rate_may_say_of_what() -> None:
    assert figures.rate(500, "records") == "500 records/s"
    assert figures.rate(0.3, "records") == "18 records/min"


SHORT = {0: "0", 9_999: "9,999", 10_000: "10k", 12_345: "12.3k", 999_499: "999k", 999_500: "1M", 1_234_567: "1.23M"}


@pytest.mark.parametrize(
    ("number", "shown"), [*SHORT.items(), (45_600_000_000, "45.6G"), (10**13, "10T"), (10**16, "10,000T")]
)
def test_large_numbers_in_short(number: int, shown: str) -> None:
    assert figures.short(number) == shown


def test_where_there_is_room_a_large_number_is_exact() -> None:
    assert figures.short(1_234_567, exact_below=10_000_000) == "1,234,567"
    assert figures.short(12_345_678, exact_below=10_000_000) == "12.3M"


def test_one_and_many() -> None:
    assert [figures.number_of(number, "line") for number in (0, 1, 2000)] == ["0 lines", "1 line", "2,000 lines"]


@pytest.mark.parametrize(
    ("share", "shown"), [(0, "0.0 %"), (0.2468, "24.7 %"), (0.9999, "99.9 %"), (1, "100.0 %"), (1e-9, "0.0 %")]
)
def test_percent_is_a_hundred_at_the_end_only(share: float, shown: str) -> None:
    assert figures.percent(share) == shown


VOLUMES = [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_940, "999.9 kB"), (999_999, "1.0 MB")]
VOLUMES += [(12_345_678, "12.3 MB"), (10**15, "1,000.0 TB")]


@pytest.mark.parametrize(("size", "shown"), VOLUMES)
def test_volumes(size: int, shown: str) -> None:
    assert figures.volume(size) == shown


def test_tokens() -> None:
    assert figures.tokens(1200, 80) == "1,200 in, 80 out"
    assert figures.tokens(1200, 8000, 300, 9) == "1,200 in (300 cached), 8,000 out (9 reasoning)"


@pytest.mark.parametrize(
    ("cost", "shown"),
    [
        (None, "-"),
        (0.0, "$0.00"),
        (1e-9, "$0.000000001"),
        (7.5e-07, "$0.00000075"),
        (0.000123, "$0.00012"),
        (0.0056, "$0.0056"),
        (0.5, "$0.5000"),
        (1.0, "$1.00"),
        (1234567.891, "$1,234,567.89"),
    ],
)
def test_dollars(cost: float | None, shown: str) -> None:
    found = figures.dollars(cost)
    assert found.rstrip("0") == shown.rstrip("0")
    assert found.count(".") == shown.count(".")
    assert not found.endswith(".")


def test_sums_in_dollars() -> None:
    assert figures.sum_in_dollars([]) == "-"
    assert figures.sum_in_dollars([None]) == "-"
    assert figures.sum_in_dollars([0.5, None]) == "$0.5000+"
    assert figures.sum_in_dollars([1.5, 2]) == "$3.50"
