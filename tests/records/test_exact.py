"""JSON in and out: whatever is read and written again is the same value, to the last digit, or is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from json_texts import HARD_NUMBERS, OBJECTS, SPACE, VALUES, has_huge, meaning, number

from llmstream.records import exact

# -- any JSON text that RFC 8259 allows (other tests build on these) --------------------------


# -- what a text means, independent of what is tested ------------------------------------------


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
