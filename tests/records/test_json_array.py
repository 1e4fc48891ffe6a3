"""One JSON array: the same records however the bytes come, and what is broken costs as little as can be told."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import pytest
from feeding import HYPOTHESIS, SIZES, read, told
from hypothesis import example, given
from hypothesis import strategies as st
from json_texts import OBJECTS, VALUES, has_huge

from llmstream.records import exact, json_array, reading
from llmstream.records.json_array import JsonArray
from llmstream.records.values import BadLine, Record


def of_json(data: bytes | str, sizes: Iterable[int] = ()) -> list[Record | BadLine]:
    return read(JsonArray("f.json"), data if isinstance(data, bytes) else data.encode(), sizes)


# -- JSON in --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("", []),
        ("\ufeff \n", []),
        ("[]", []),
        (" [ ] \n", []),
        ("\ufeff[{}]", [{}]),
        ('{"a":1}', [{"a": 1}]),
        ('{"a":[{"b":{}},"]}"]}', [{"a": [{"b": {}}, "]}"]}]),
        ('[{"a":"\\"]},{\\\\"},\n{"b":"\\\\"}]', [{"a": '"]},{\\'}, {"b": "\\"}]),
        ('{"a":1}{"b":2}\n{\n  "c": 3\n}\n', [{"a": 1}, {"b": 2}, {"c": 3}]),
        ('[{"a":1}] [] [{"b":2}]', [{"a": 1}, {"b": 2}]),
        ('[1,\n"x]",\n[2],null,{}]', [f"f.json:{where}" for where in (
            "1: not a JSON object: 1", '2: not a JSON object: "x]"', "3: not a JSON object: [2]",
            "3: not a JSON object: null")] + [{}]),
        ('1 "a" true', ["f.json:1: not a JSON object: 1", 'f.json:1: not a JSON object: "a"',
                        "f.json:1: not a JSON object: true"]),
    ],
)  # fmt: skip
def test_values(data: str, expected: list[Any]) -> None:
    for size in (1, 2, 1000):
        assert told(of_json(data, [size] * len(data.encode()))) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # A value that shows where it ends costs only itself.
        ('[{"a":NaN},{"b":1}]', ["1: not valid JSON: ", {"b": 1}]),
        ('[{"a":1e400},{"b":1}]', ["1: not valid JSON: number out of range", {"b": 1}]),
        ('[{"a":"\\ud800"},{"b":1}]', ["1: not valid JSON: ", {"b": 1}]),
        ('[{"a":"x\ny"},{"b":1}]', ["1: not valid JSON: ", {"b": 1}]),
        ('[\n {"a":1,\n  "b" 2},{"b":1}]', ["2: not valid JSON: .* at line 3 column 7", {"b": 1}]),
        ('[{},  {"a" 1},{"b":1}]', [{}, "1: not valid JSON: .* at line 1 column 12", {"b": 1}]),
        ("[" + '{"a":' * 300 + "1" + "}" * 300 + ',{"b":1}]', ["1: not valid JSON: nested too deep", {"b": 1}]),
        # Nothing sensible can follow these.
        ('[{"a":1}\n{"b":1}]', [{"a": 1}, "2: not valid JSON: no comma or ] at line 2 column 1"]),
        ('[{"a":1},]', [{"a": 1}, "1: not valid JSON: no value at line 1 column 10"]),
        ('[{"a":1},\n,{"b":1}]', [{"a": 1}, "2: not valid JSON: no value at line 2 column 1"]),
        ('[{"a":1}}', [{"a": 1}, "1: not valid JSON: no comma or ] at line 1 column 9"]),
        ('{"a":1},\n{"b":1}', [{"a": 1}, "1: not valid JSON: no value at line 1 column 8"]),
        ('{"a":1}\nso much text, and more', [{"a": 1}, "2: not valid JSON: .* at line 2 column 1"]),
        ("<html>\n<body>[]", ["1: not valid JSON: .* at line 1 column 1"]),
        ('[{"a":1},\n{"b":\n2', [{"a": 1}, "2: not valid JSON: the file ends in the middle .* at line 3 column 2"]),
        ('[{"a":1},\n{"b":"x', [{"a": 1}, "2: not valid JSON: the file ends in the middle .* at line 2 column 8"]),
        ('[{"a":1}\n', [{"a": 1}, "2: not valid JSON: the file ends before its array does at line 2 column 1"]),
        ("[", ["1: not valid JSON: the file ends before its array does at line 1 column 2"]),
        ("nul", ["1: not valid JSON: "]),
        ("]", ["1: not valid JSON: no value at line 1 column 1"]),
    ],
)  # fmt: skip
def test_what_is_broken(data: str, expected: list[Any]) -> None:
    for size in (1, 2, 7, 10000):
        found = of_json(data, [size] * len(data))
        assert len(found) == len(expected), found
        for one, what in zip(found, expected, strict=True):
            if isinstance(what, str):
                assert re.match(re.escape("f.json:" + what).replace(r"\.\*", ".*").replace(r"\ ", " "), told([one])[0])
            else:
                assert told([one]) == [what]


def test_a_record_is_on_one_line_and_keeps_its_digits() -> None:
    text = '[\n  {\r\n    "n": 12345678901234567890,\n\t"x" : [ 1.50,\n 1E5 ], "s": "a  \\n b"\n  }\n]\n'
    (found,) = of_json(text)
    assert isinstance(found, Record)
    assert found.line == b'{"n": 12345678901234567890,"x" : [ 1.50,1E5 ], "s": "a  \\n b"}'
    assert found.where == "f.json:2"
    assert exact.dumps(found.data["n"]) == b"12345678901234567890"


def test_what_an_earlier_run_said_of_a_record_is_taken_off() -> None:
    error = '{"by":"llm-map","type":"http","message":"","status":400,"attempts":1}'
    (found,) = of_json(f'[\n{{"a":1,\n"error":{error}}}]')
    assert found == Record(b'{"a":1}', {"a": 1}, "f.json:2")


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("size", [1, 3, 10, 39, 40, 41, 1000])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ('[{"a":1},\n{"b":"%s\n"},\n{"c":3}]' % ("x" * 90), [{"a": 1}, "f.json:2: value longer than 0 MB", {"c": 3}]),
        ('[{"a":1},{"b":[%s]},{"c":3}]' % ("[],{}," * 20), [{"a": 1}, "f.json:1: value longer than 0 MB", {"c": 3}]),
        ('["%s",{"c":3}]' % (r"\\\"" * 30), ["f.json:1: value longer than 0 MB", {"c": 3}]),
        ('[{"a":1},' + "9" * 90 + ',{"c":3}]', [{"a": 1}, "f.json:1: value longer than 0 MB"]),
        ("\n" * 50 + '{"a":1}', [{"a": 1}]),
    ],
)  # fmt: skip
def test_a_value_that_is_too_long(size: int, data: str, expected: list[Any]) -> None:
    found = of_json(data, [size] * (len(data) // size))
    assert told(found) == expected
    assert [one.raw for one in found if isinstance(one, BadLine)] == [
        {"9": b"9999", '"': b'"\\\\\\', "{": b'{"b"'}[chr(one.raw[0])] for one in found if isinstance(one, BadLine)
    ]


@pytest.mark.usefixtures("short")
def test_a_value_that_never_ends_takes_bounded_memory() -> None:
    for begin, piece in ((b'[{"a":"', b"xy"), (b'[{"a":[', b"{},"), (b"[", b"77"), (b"oh", b"no"), (b"", b"  ")):
        reader = JsonArray("f.json")
        reader.feed(begin)
        for _ in range(1000):
            reader.feed(piece)
        assert len(reader._held) <= 50
        assert len(reader.end()) <= 1


JSON_LIKE = st.text('{}[]":,\\ax1 \n-e', max_size=40) | st.lists(
    st.sampled_from(["[", "]", "{", "}", ",", '{"a":1}', '{"a":[{}]}', '"]', '"', '\\"', "1", "\n", '{"a": "}"}']),
    max_size=12,
).map("".join)


@st.composite
def written(draw: st.DrawFn) -> tuple[str, list[Any]]:
    """A JSON text of objects, in one of the shapes in which people have them."""
    found = [json.loads(one) for one in draw(st.lists(OBJECTS, max_size=5)) if not has_huge(one)]
    indent = draw(st.sampled_from([None, 0, 2]))
    ascii_only = draw(st.booleans())
    if draw(st.booleans()):
        return json.dumps(found, indent=indent, ensure_ascii=ascii_only), found
    space = draw(st.sampled_from(["", "\n", " \r\n\t"]))
    return space.join(json.dumps(one, indent=indent, ensure_ascii=ascii_only) for one in found), found


@HYPOTHESIS
@given(written(), SIZES)
def test_as_json_is_read_in_one_go(text: tuple[str, list[Any]], sizes: list[int]) -> None:
    found = of_json(text[0], sizes)
    assert told(found) == text[1]
    lines = [one.line for one in found]  # type: ignore[union-attr]
    assert not any(b"\n" in line for line in lines)
    assert [json.loads(line) for line in lines] == text[1]
    writer = json_array.JsonWriter()
    again = b"".join([*map(writer.element, lines), writer.end()])
    assert json.loads(again) == text[1]
    assert told(of_json(again, sizes)) == text[1]


@HYPOTHESIS
@given(st.lists(VALUES.filter(lambda text: text[0] in "[{" or not has_huge(text)), max_size=4), SIZES)
def test_values_of_any_kind_are_told_apart(values: list[str], sizes: list[int]) -> None:
    found = of_json("[" + ",\n".join(values) + "]", sizes)
    expected = [reading.parse(value.encode(), "") for value in values]
    assert [type(one) for one in found] == [type(one) for one in expected]
    assert told([one for one in found if isinstance(one, Record)]) == [
        one.data for one in expected if isinstance(one, Record)
    ]


def in_one_piece(text: str) -> list[Any] | None:
    """The values in a text, and of arrays their elements; None if it is not JSON."""
    values: list[Any] = []
    try:
        while text := text.lstrip(" \t\r\n"):
            value, end = json.JSONDecoder().raw_decode(text)
            if type(value) in (int, float) and re.match(r"[\w.:+\\-]", text[end:]):
                return None  # the library would read 01 as two numbers
            values += value if isinstance(value, list) else [value]
            text = text[end:]
    except ValueError:
        return None
    return values


@HYPOTHESIS
@given(JSON_LIKE, SIZES)
@example('[{"a":"\\', [1])
@example('{"a":[[[[[[1]]]]]]}{', [3])
@example('"\\""', [2])
def test_broken_json_does_not_depend_on_the_pieces(text: str, sizes: list[int]) -> None:
    whole = of_json(text)
    assert of_json(text, sizes) == whole
    assert of_json(text, [1] * len(text)) == whole
    for one in whole:
        if isinstance(one, Record):
            assert json.loads(one.line) == one.data
    expected = in_one_piece(text)
    if expected is None:
        assert any(isinstance(one, BadLine) and one.why.startswith("not valid") for one in whole)
    else:
        assert [isinstance(one, Record) for one in whole] == [isinstance(value, dict) for value in expected]
        assert [one.data for one in whole if isinstance(one, Record)] == [one for one in expected if type(one) is dict]


# -- out ------------------------------------------------------------------------------------------


def test_an_array() -> None:
    writer = json_array.JsonWriter()
    assert writer.end() == b"[]\n"
    assert writer.element(b'{"a" : 1.0}') + writer.element(b"{}") + writer.end() == b'[\n{"a" : 1.0},\n{}\n]\n'
