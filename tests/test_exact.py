"""JSON in and out: whatever is read and written again is the same value, to the last digit, or is refused."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from typing import Any

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llmstream import exact

# -- any JSON text that RFC 8259 allows (other tests build on these) --------------------------

SPACE = st.text(" \t\r", max_size=2)  # a newline would end the record
LETTERS = st.characters(exclude_categories=["Cs"], exclude_characters='"\\', min_codepoint=32)
ESCAPES = st.sampled_from([r"\"", r"\\", r"\/", r"\b", r"\n", r"\u0000", r"\u00e9", r"\uD83D\ude00", r"\u2028", "\x7f"])
STRINGS = st.lists(LETTERS | ESCAPES, max_size=6).map(lambda parts: f'"{"".join(parts)}"')
NAMES = STRINGS | st.sampled_from(['"a"', '"b"', r'"\u0061"', '"error"', '"text"', '"x:y"', '""'])


@st.composite
def numbers(draw: st.DrawFn) -> str:
    digits = st.text("0123456789", min_size=1, max_size=30)
    whole = draw(digits).lstrip("0") or "0"
    part = "." + draw(digits) if draw(st.booleans()) else ""
    signs = st.sampled_from(["e", "E", "e+", "E-", "e-0"])
    exponent = draw(signs) + str(draw(st.integers(0, 30) | st.integers(0, 400))) if draw(st.booleans()) else ""
    return draw(st.sampled_from(["", "-"])) + whole + part + exponent


HARD_NUMBERS = ["-0", "-0.0", "0e0", "1E5", "1.50", "1e-400", "-1e-400", "5e-324", "1e-99999999999999999999", "0.1"]
HARD_NUMBERS += ["9007199254740993", "9223372036854775807", "9223372036854775808", "18446744073709551616"]
HARD_NUMBERS += [
    "123456789012345e10",
    "9007199254740993e1",
    "0.30000000000000004",
    "1.7976931348623157e308",
    "1" * 300,
    "0." + "1" * 5000,
]
SCALARS = STRINGS | numbers() | st.sampled_from([*HARD_NUMBERS, "null", "true", "false", "[]", "{}", "[ ]", "{ }"])


def _inside(opening: str, parts: list[tuple[str, str, str]], closing: str) -> str:
    return opening + ",".join("".join(part) for part in parts) + closing


def list_texts(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(st.tuples(SPACE, values, SPACE), max_size=4).map(lambda parts: _inside("[", parts, "]"))


def object_texts(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.tuples(SPACE, NAMES, SPACE, SPACE, values, SPACE).map(
        lambda m: (m[0] + m[1] + m[2] + ":", m[3], m[4] + m[5])
    )
    return st.lists(member, max_size=5).map(lambda parts: _inside("{", parts, "}"))


VALUES = st.recursive(SCALARS, lambda inner: list_texts(inner) | object_texts(inner), max_leaves=12)
OBJECTS = object_texts(VALUES)


# -- what a text means, independent of what is tested ------------------------------------------


def number(text: str) -> tuple[str, str, int]:
    """A number as sign, digits without zeros around them, and exponent: exact, whatever its size."""
    mantissa, _, exponent = text.lower().partition("e")
    whole, _, part = mantissa.lstrip("-").partition(".")
    digits = (whole + part).lstrip("0")
    short = digits.rstrip("0")
    if not short:
        return "", "0", 0
    return "-" * text.startswith("-"), short, int(exponent or 0) - len(part) + len(digits) - len(short)


def meaning(text: str | bytes) -> Any:
    return json.loads(text, parse_int=number, parse_float=number)


def has_huge(text: str) -> bool:
    """Does a number in the text lie beyond what a double holds?"""
    found: list[float] = []
    json.loads(text, parse_int=lambda t: found.append(float(t)), parse_float=lambda t: found.append(float(t)))
    return any(map(math.isinf, found))


# -- reading and writing -----------------------------------------------------------------------


@settings(max_examples=400, deadline=None)
@given(SPACE, VALUES, SPACE)
def test_what_is_read_and_written_is_the_same(before: str, text: str, after: str) -> None:
    text = before + text + after
    try:
        value = exact.loads(text.encode())
    except ValueError:
        assert has_huge(text)
        return
    assert not has_huge(text)
    written = exact.dumps(value)
    assert meaning(written) == meaning(text)
    assert b"\n" not in written
    json.loads(written)
    orjson.loads(written)
    assert exact.dumps(exact.loads(written)) == written
    assert exact.dumps(exact.loads_leniently(text.encode())) == written


@pytest.mark.skipif(not shutil.which("jq"), reason="no jq here")
@settings(max_examples=5, deadline=None)
@given(st.lists(VALUES, min_size=30, max_size=60))
def test_jq_reads_what_is_written(texts: list[str]) -> None:
    lines = [exact.dumps(exact.loads(text.encode())) for text in texts if not has_huge(text)]
    lines.append(exact.dumps(exact.loads(b"[" * exact.DEEPEST + b"]" * exact.DEEPEST)))
    jq = subprocess.run(["jq", "-c", "."], input=b"\n".join(lines), capture_output=True, check=True)
    assert jq.stdout.count(b"\n") == len(lines)


@pytest.mark.parametrize("text", HARD_NUMBERS)
def test_a_hard_number(text: str) -> None:
    assert number(exact.dumps(exact.loads(text.encode())).decode()) == number(text)


@pytest.mark.parametrize(
    "text", ["1e400", "-1e400", "1E+309", "1" * 310, "-" + "9" * 5000, "[1e999999999]", '{"a":[1.0e400]}']
)
def test_a_number_that_no_double_holds_is_refused(text: str) -> None:
    for read in (exact.loads, exact.loads_leniently):
        with pytest.raises(ValueError, match="out of range"):
            read(text.encode())


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "nan", "[NaN, 1234567890123456789]", '{"a":NaN}'])
@pytest.mark.parametrize("read", [exact.loads, exact.loads_leniently])
def test_nan_and_infinity_are_refused(read: Any, text: str) -> None:
    with pytest.raises(ValueError):
        read(text.encode())


@pytest.mark.parametrize(
    "raw", [b"", b" ", b"{", b"[1,]", b"01", b"1.", b".5", b"+1", b"'a'", b'"\t"', b"\xef\xbb\xbf1", b"1 2", b"tru"]
)
@pytest.mark.parametrize("wide", [b"%b", b"[12345678901234567890,%b]"])
def test_what_is_no_json_is_refused(raw: bytes, wide: bytes) -> None:
    for read in (exact.loads, exact.loads_leniently):
        with pytest.raises(ValueError):
            read(wide % raw)


@given(st.binary(max_size=60) | st.text('{}[]":,\\ud8e+-.019ntf', max_size=40).map(str.encode))
def test_any_bytes_are_a_value_or_a_value_error(raw: bytes) -> None:
    for read in (exact.loads, exact.loads_leniently):
        try:
            value = read(raw)
        except ValueError:
            continue
        json.loads(exact.dumps(value))


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]"), ("[1,", "]")])
@pytest.mark.parametrize("inside", ["1", "12345678901234567890"])
def test_nesting(opening: str, closing: str, inside: str) -> None:
    def nested(depth: int) -> bytes:
        times = depth // len(closing)
        return (opening * times + inside + closing * times).encode()

    allowed = nested(exact.DEEPEST)
    assert exact.dumps(exact.loads(allowed)) == allowed
    for depth in (exact.DEEPEST + 2, 1000, 1100, 100_000):
        for read in (exact.loads, exact.loads_leniently):
            with pytest.raises(ValueError):
                read(nested(depth))


def test_many_brackets_side_by_side_or_in_a_text_are_not_deep() -> None:
    for value in ([[]] * 1000, "[{" * 1000, {"a": "[" * 1000}, {"[" * 300: [{}] * 300}):
        assert exact.loads(exact.dumps(value)) == value


# -- what is no Unicode ------------------------------------------------------------------------

HALVES = [
    (rb'"\ud800"', "\ufffd"),
    (rb'"a\uDFFFb"', "a\ufffdb"),
    (rb'["\ud83d\ude00\ud83d"]', ["\U0001f600\ufffd"]),
    (rb'{"\udc00":1}', {"\ufffd": 1}),
    (rb'["\ud800",12345678901234567890]', ["\ufffd", 12345678901234567890]),
    (b'"\xed\xa0\x80"', "\ufffd\ufffd\ufffd"),
    (b'"a\xffb"', "a\ufffdb"),
    (b'["\xff",1.00000000000000000001]', None),
]


@pytest.mark.parametrize(("raw", "mended"), HALVES)
def test_half_a_pair_and_bad_bytes(raw: bytes, mended: Any) -> None:
    with pytest.raises(ValueError):
        exact.loads(raw)
    assert mended is None or exact.loads_leniently(raw) == mended
    orjson.loads(exact.dumps(exact.loads_leniently(raw)))


def test_a_backslash_before_ud800_is_no_escape() -> None:
    assert exact.loads(rb'["\\ud800",12345678901234567890]')[0] == r"\ud800"


@given(st.text(st.characters() | st.sampled_from("\ud800\udc00\ufeff")))
def test_scrub_touches_only_halves(text: str) -> None:
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    expected = "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in whole)
    assert exact.scrub(text) == expected
    assert exact.scrub({text: [text, 1, None]}) == {expected: [expected, 1, None]}


def test_dumps_refuses_what_is_no_json() -> None:
    for value in ({1, 2}, object(), "\ud800", {1: 2}, 1 << 64):
        with pytest.raises(TypeError):
            exact.dumps(value)


# -- fields that stand twice -------------------------------------------------------------------


def repeats(text: str) -> bool:
    found: list[bool] = []
    json.loads(text, object_pairs_hook=lambda pairs: found.append(len(dict(pairs)) < len(pairs)))
    return any(found)


@settings(max_examples=100, deadline=None)
@given(OBJECTS)
def test_repeats_a_key(text: str) -> None:
    assume(not has_huge(text))
    assert exact.repeats_a_key(text.encode(), exact.loads(text.encode())) == repeats(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a":1,"a":2}', True),
        ('{"a"\t:1,"a"  :2}', True),
        (r'{"a":1,"\u0061":2}', True),
        ('{"a":{"b":[{"c":1,"c":2}]}}', True),
        ('{"a":"x:y\\":z","b":{"a":1}}', False),
        ('{"a":{"b":1},"c":{"b":2}}', False),
        ('{"a":":","a":1}', True),
        ("{}", False),
    ],
)
def test_repeats_a_key_by_example(text: str, expected: bool) -> None:
    assert exact.repeats_a_key(text.encode(), exact.loads(text.encode())) is expected
