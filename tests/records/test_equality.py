"""When two values count as the same."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tool import TOP

from llmstream.records import equality, exact

NAME = (("name",),)


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def read(text: str) -> Any:
    return exact.loads(text.encode())


# -- examples -----------------------------------------------------------------------------------

SAME = [
    # white space and case
    ("An", " an\n"),
    ("An Bình", "AN  BÌNH"),
    ("a\tb", "A b"),
    ("a\u00a0b", "a b"),  # a space that does not break
    ("a\u2003b", "a b"),
    ("", " \n"),
    ("Straße", "STRASSE"),
    ("ΣΑΣ", "σας"),
    ("\u212a", "k"),  # the sign for Kelvin
    # accents in one piece and in several
    ("Nguyễn Thị Hồng", decomposed("Nguyễn Thị Hồng")),
    ("ĐẶNG VĂN ĐỨC", decomposed("đặng văn đức")),
    ("Trần Đại Nghĩa", decomposed("TRẦN  ĐẠI NGHĨA")),
    ("a\u0323\u0302", "a\u0302\u0323"),  # the marks of one letter in another order
    ("\u1fb4", "α\u0345\u0301"),  # one of these marks becomes a letter
    # numbers, however they are written
    (1, 1.0),
    (0, -0.0),
    (100, read("1E2")),
    (read("12345678901234567890"), read("12345678901234567890.0")),
    (read("0.12345678901234567890"), read("0.123456789012345678900")),
    # inside lists and objects
    (["An", 1], [" AN", 1.0]),
    ({"a": "x", "b": [1]}, {"b": [1.0], "a": "X"}),
]

DIFFERENT = [
    ("An", "Ân"),
    ("ma", "mà"),
    ("đ", "d"),
    ("a b", "ab"),
    ("", None),
    (None, False),
    (False, 0),
    (True, 1),
    (True, "true"),
    (None, "null"),
    (1, "1"),
    ([], {}),
    ([], None),
    ([1, 2], [2, 1]),
    ([1], 1),
    ({"a": None}, {}),
    ({"a": 1}, {"A": 1}),
    (2**53, 2**53 + 1),
    (read("0.1"), read("0.10000000000000000001")),
    (10**300, 10**300 + 1),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same(one: Any, other: Any) -> None:
    assert equality.key(one) == equality.key(other)
    assert hash(equality.key(one)) == hash(equality.key(other))


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_not_the_same(one: Any, other: Any) -> None:
    assert equality.key(one) != equality.key(other)


EQUAL = [
    ("a", "a", True),
    ("a", "A", False),
    ("a", " a", False),
    (HONG := "Nguyễn Thị Hồng", decomposed(HONG), False),
    ("1", 1, False),
    ('"a"', "a", False),
    (1, 1.0, True),
    (1, True, False),
    (0, False, False),
    (None, "null", False),
    ([1, "a"], [1, "a"], True),
    ([1, "a"], ["a", 1], False),
    ({"a": 1}, {"a": 1}, True),
    ({"a": 1}, {"a": 2}, False),
    ({"a": 1, "b": None}, {"b": None, "a": 1.0}, True),
    (read("12345678901234567890"), read("12345678901234567891"), False),
    (read("0.12345678901234567890"), read("0.12345678901234567891"), False),
]


@pytest.mark.parametrize(("one", "other", "equal"), EQUAL)
def test_equal(one: Any, other: Any, equal: bool) -> None:
    assert (equality.exact_key(one) == equality.exact_key(other)) is equal


NUMBERS = [
    ("3", Fraction(3)),
    ("0.1", Fraction(1, 10)),
    ("-0.0", Fraction(0)),
    ("1e3", Fraction(1000)),
    ("1e23", Fraction(10**23)),
    ("1e308", Fraction(10**308)),
    ("0.30000000000000004", Fraction(30000000000000004, 10**17)),
    ("18446744073709551617", Fraction(2**64 + 1)),
    ("0.12345678901234567890123", Fraction(12345678901234567890123, 10**23)),
    ("0." + "1" * 5000, Fraction((10**5000 - 1) // 9, 10**5000)),
]


@pytest.mark.parametrize(
    ("text", "number"), NUMBERS, ids=lambda value: str(value)[:30] if isinstance(value, str) else ""
)
def test_a_number_is_what_was_written(text: str, number: Fraction) -> None:
    assert equality.number(read(text)) == number


@pytest.mark.parametrize("text", ["1e-400", "-1e-99999999", "1e-99999999999", "1e-99999999999999999999"])
def test_a_number_that_is_next_to_nothing_costs_nothing(text: str) -> None:
    """In a process of its own: written out it is a number that no memory holds."""
    look = f"""
from llmstream.records import equality, exact
value = exact.loads(b"{text}")
assert abs(equality.number(value)) < 1e-300
equality.key(value)
"""
    subprocess.run([sys.executable, "-c", look], cwd=TOP, timeout=5, check=True)


AN = {"name": "An", "role": "mayor", "age": 40}

IDENTICAL: list[tuple[Any, Any, tuple[equality.Path, ...]]] = [
    # all strings
    (AN, {"role": " MAYOR", "name": "an", "age": 41}, ()),
    (AN, {"name": "An", "role": "mayor"}, ()),
    ({"name": "An", "role": None}, {"name": "An"}, ()),
    ({"name": "An", "tags": ["x"]}, {"name": "An", "tags": []}, ()),
    # what match names
    (AN, {"name": "AN", "role": "poet"}, NAME),
    (AN, {"name": "An", "role": None}, NAME),
    ({"id": 1, "n": "x"}, {"id": 1.0, "n": "y"}, (("id",),)),
    ({"id": 0, "n": "x"}, {"id": 0, "n": "y"}, (("id",),)),
    ({"who": {"name": "An"}, "n": "x"}, {"who": {"name": "an", "age": 1}, "n": "y"}, (("who", "name"),)),
    ({"a": "x", "b": None, "c": "1"}, {"a": "x", "c": "2"}, (("a",), ("b",))),
    # none of what match names is there: all strings
    ({"title": "x", "n": 1}, {"title": "X", "n": 2}, NAME),
    ({"name": None, "title": "x"}, {"title": "X"}, NAME),
    # no strings at all: everything
    ({"x": 1, "y": [2]}, {"y": [2.0], "x": 1}, ()),
    # no objects
    ("An", " an", NAME),
    ([{"name": "An"}], [{"name": "AN"}], ()),
]

APART: list[tuple[Any, Any, tuple[equality.Path, ...]]] = [
    (AN, {"name": "An", "role": "poet", "age": 40}, ()),
    (AN, {"name": "An", "role": None, "age": 40}, ()),
    (AN, {"name": "Ân", "role": "mayor", "age": 40}, NAME),
    ({"name": "An"}, {"title": "An"}, ()),
    ({"name": "An", "role": ""}, {"name": "An"}, ()),
    ({"name": "An", "title": "x"}, {"name": None, "title": "x"}, NAME),
    ({"a": "x", "b": 1}, {"a": "x", "b": 2}, (("a",), ("b",))),
    ({"a": "x", "b": None}, {"a": None, "b": "x"}, (("a",), ("b",))),
    ({"x": 1}, {"x": 2}, ()),
    ({"x": 1}, {"x": 1, "y": None}, ()),
    ({}, [], ()),
    ({"name": "An"}, "An", NAME),
    ([AN], [{"name": "An"}], NAME),  # match is about items that are objects themselves
]


@pytest.mark.parametrize(("one", "other", "match"), IDENTICAL)
def test_one_entity(one: Any, other: Any, match: tuple[equality.Path, ...]) -> None:
    assert equality.identity(one, match) == equality.identity(other, match)
    assert hash(equality.identity(one, match)) == hash(equality.identity(other, match))


@pytest.mark.parametrize(("one", "other", "match"), APART)
def test_two_entities(one: Any, other: Any, match: tuple[equality.Path, ...]) -> None:
    assert equality.identity(one, match) != equality.identity(other, match)


AT = [
    ({"a": 1}, ("a",), 1),
    ({"a": {"b": [2]}}, ("a", "b"), [2]),
    ({"a.b": 1}, ("a", "b"), None),
    ({"a": [{"b": 1}]}, ("a", "b"), None),
    ({"a": None}, ("a", "b"), None),
    ({}, ("a",), None),
    ([1], ("0",), None),
    ("text", ("a",), None),
    ("text", (), "text"),
]


@pytest.mark.parametrize(("data", "path", "value"), AT)
def test_what_is_at_a_path(data: Any, path: equality.Path, value: Any) -> None:
    assert equality.at(data, path) == value


# -- properties ---------------------------------------------------------------------------------

texts = st.text(max_size=8) | st.text("aăâđAÁ\u0301\u0302\u0323\u0345αΑßΣσς \n", max_size=8)


@settings(max_examples=300, deadline=None)
@given(texts)
def test_what_people_do_not_mean_is_gone_once_and_for_all(text: str) -> None:
    folded = equality.text(text)
    assert equality.text(folded) == folded
    for form in ("NFC", "NFD"):
        assert equality.text(unicodedata.normalize(form, text)) == folded
    assert equality.text(f" {text}\n") == folded
    assert equality.text(text.strip()) == folded


@settings(max_examples=300, deadline=None)
@given(st.integers(-(10**300), 10**300) | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_the_nearest_to_what_json_says(value: float) -> None:
    assert float(equality.number(value)) == float(value)
    assert equality.number(read(exact.dumps(exact.WideInt(value) if isinstance(value, int) else value).decode())) == (
        equality.number(value)
    )
