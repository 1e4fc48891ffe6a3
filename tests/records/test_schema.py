"""The short notation and JSON Schema: what they mean, what is refused, and what a value is told."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import Any

import jsonschema_rs
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmstream.records import exact
from llmstream.records.schema import SchemaError, Shape, read

STR: dict[str, Any] = {"type": "string"}
INT: dict[str, Any] = {"type": "integer"}


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def enum(*values: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(values)}


def items(schema: Any) -> dict[str, Any]:
    return {"type": "array", "items": schema}


def whole(low: int, high: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high}


def or_null(schema: dict[str, Any]) -> dict[str, Any]:
    both = {**schema, "type": [schema["type"], "null"]}
    return {**both, "enum": [*schema["enum"], None]} if "enum" in schema else both


def told(schema: dict[str, Any], words: str) -> dict[str, Any]:
    return {**schema, "description": words}


# -- the short notation -----------------------------------------------------------------------

MEANS = [
    # fields and simple types
    ("name", of(name=STR)),
    ("name, age int, tags [str]", of(name=STR, age=INT, tags=items(STR))),
    ("a str, b int, c float, d bool", of(a=STR, b=INT, c={"type": "number"}, d={"type": "boolean"})),
    ("a,b,", of(a=STR, b=STR)),
    ("  a ,\tb  int ", of(a=STR, b=INT)),
    ("a\nb int\n\n\nc", of(a=STR, b=INT, c=STR)),
    ("a,\r\nb int,\r\n", of(a=STR, b=INT)),
    ("a\n, b", of(a=STR, b=STR)),
    ("\ufeffa", of(a=STR)),
    # names
    (
        "名前, नाम int, first-name, last_name, 2nd",
        of(名前=STR, नाम=INT, **{"first-name": STR}, last_name=STR, **{"2nd": STR}),
    ),
    (
        '"full name", "a.b" int, "1..10", "int"?',
        of(**{"full name": STR, "a.b": INT, "1..10": STR, "int": or_null(STR)}),
    ),
    ('{"full name" str: what, role}', of(**{"full name": told(STR, "what"), "role": STR})),
    # null
    ("name?", of(name=or_null(STR))),
    ("a int?, b [str]?, c [str?]", of(a=or_null(INT), b=or_null(items(STR)), c=items(or_null(STR)))),
    ("a x|y?, b {c}?", of(a=or_null(enum("x", "y")), b=or_null(of(c=STR)))),
    ("a 1..5 ?", of(a=or_null(whole(1, 5)))),
    # ranges and enumerations
    ("a 1..10, b -5..5, c 7..7, d -3 .. -1", of(a=whole(1, 10), b=whole(-5, 5), c=whole(7, 7), d=whole(-3, -1))),
    ("tone very good|very bad", of(tone=enum("very good", "very bad"))),
    ('a "a, b"|c, d x|"str"', of(a=enum("a, b", "c"), d=enum("x", "str"))),
    ("a 1|2|3, b it's|n/a", of(a=enum("1", "2", "3"), b=enum("it's", "n/a"))),
    ("label\tsports |\n  politics |\n  other\nscore int", of(label=enum("sports", "politics", "other"), score=INT)),
    # nesting
    ("a [[int]], b [x|y], c [1..5]", of(a=items(items(INT)), b=items(enum("x", "y")), c=items(whole(1, 5)))),
    ("tags[str], who{name}", of(tags=items(STR), who=of(name=STR))),
    ("{name, role}", of(name=STR, role=STR)),
    (" {\n name\n role\n}\n", of(name=STR, role=STR)),
    (
        "people [{name, role a|b}], place str?: where it happened",
        of(people=items(of(name=STR, role=enum("a", "b"))), place=told(or_null(STR), "where it happened")),
    ),
    # descriptions
    ("name: full name, age int: in years", of(name=told(STR, "full name"), age=told(INT, "in years"))),
    (
        "name: first, last\nage int: years, rounded,\n",
        of(name=told(STR, "first, last"), age=told(INT, "years, rounded")),
    ),
    ("place: where (city, country), x", of(place=told(STR, "where (city, country)"), x=STR)),
    ("a: the [b, {c}] part: always, x", of(a=told(STR, "the [b, {c}] part: always"), x=STR)),
    ("a: 1) first 2) second, b: sad :(, c", of(a=told(STR, "1) first 2) second"), b=told(STR, "sad :("), c=STR)),
    ("a {b: in it}: of it", of(a=told(of(b=told(STR, "in it")), "of it"))),
    ("a: one a|b or none, b str: int", of(a=told(STR, "one a|b or none"), b=told(STR, "int"))),
    # each group has fields on one line or lines of their own
    ("a [{b: x, c}]\nd: y, z", of(a=items(of(b=told(STR, "x"), c=STR)), d=told(STR, "y, z"))),
    ("a: x, b {\n c: y, z\n d\n}", of(a=told(STR, "x"), b=of(c=told(STR, "y, z"), d=STR))),
    ("{\n a: b, c int\n}", of(a=told(STR, "b"), c=INT)),
    ('a "]"|"}", b: x, c', of(a=enum("]", "}"), b=told(STR, "x"), c=STR)),
]


@pytest.mark.parametrize(("text", "schema"), MEANS)
def test_the_notation_means(text: str, schema: dict[str, Any]) -> None:
    shape = read(text)
    assert orjson.dumps(shape.schema, option=orjson.OPT_SORT_KEYS) == orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)
    assert shape.strict


def test_fields_keep_their_order() -> None:
    shape = read("zebra, apple {y, x}, mango")
    assert list(shape.schema["properties"]) == shape.schema["required"] == ["zebra", "apple", "mango"]
    assert b'"zebra":{"type":"string"},"apple":{"type":"object","properties":{"y":' in shape.response_format


REFUSED = [
    ("name strng", "unknown type 'strng' of field 'name' (str, int, float, bool, [T], a|b, 1..10, {…})"),
    ("a {b [{c strng}]}", "unknown type 'strng' of field 'a.b.c'"),
    ("full name str", "unknown type 'name str' of field 'full'"),
    ("", "no field in the schema"),
    (" \n ", "no field in the schema"),
    ("a {}", "no field in field 'a'"),
    ("{}", "no type, properties or the like"),
    (",", "a field without a name before ','"),
    ("a,,b", "a field without a name"),
    ("a {b,,c}", "in field 'a'"),
    ('"" str', "a field without a name"),
    ("a, b int, a", "field 'a' is there twice"),
    ('x {a, "a"}', "field 'a' is there twice in field 'x'"),
    # what wants a name
    ("[str]", "give the field a name"),
    ("a|b", "give the field a name"),
    ('"a, b"|c', "give the field a name"),
    ("1..10", "give the field a name"),
    ("int", "give the field a name: 'NAME int', or \"int\" as a name"),
    ("str name", "give the field a name"),
    ("a {{b}}", "give the field a name"),
    ("a.b int", "quote the name of field 'a.b', as \"a.b\""),
    ("名前，年齢", "quote the name"),
    ("{'type': 'object'}", "quote the name"),
    ("name=str", "quote the name"),
    # brackets and strings
    ("{a, b", "missing '}' at the end"),
    ("a {b", "missing '}' at the end in field 'a'"),
    ("a [str", "missing ']' before the end in field 'a'"),
    ("a [str, b]", "missing ']' before ', b]' in field 'a'"),
    ("a [{b]}", "']}' stands where the next field, or a comma, should in field 'a'"),
    ("a [", "a type is missing before the end in field 'a'"),
    ("a []", "a type is missing before ']' in field 'a'"),
    ("a]", "']' stands where"),
    ("a}", "'}' stands where"),
    ("{a}, b", "', b' follows the closing '}'"),
    ("{a}?", "'?' follows the closing '}'"),
    ("a??", "'?' stands where"),
    ("name? int", "'int' stands where"),
    ('"a', "the closing quote is missing"),
    ('a "\\q"|b', "not a JSON string"),
    ('a "\\ud800"|b', "not a JSON string"),
    ("a " + "[" * 60 + "int" + "]" * 60, "nested deeper than 50 levels"),
    ("a {" * 60, "nested deeper than 50 levels"),
    # ranges and enumerations
    ("a 10..1", "range '10..1' of field 'a' is empty"),
    ("a 1.5..3", "range '1.5..3' of field 'a' needs two whole numbers"),
    ("a 1..", "needs two whole numbers"),
    ("a 1..99999999999999999999", "needs two whole numbers"),
    ("a x|y|x", "value 'x' of field 'a' is there twice"),
    ("a x||y", "an empty value of field 'a'"),
    ("a x|", "an empty value of field 'a'"),
    ("a |x", "give the field a name"),
    ('a "x"', "one value only"),
    ("a str|int", "'str' is a type, not a value, of field 'a'"),
    ("a x|1..5", "'1..5' is a type, not a value"),
    # descriptions
    ("a:", "no words after the colon of field 'a'"),
    ("a: ,b", "no words after the colon of field 'a'"),
    ("name: str, age: int", "the type of field 'name' goes before the colon: 'name str'"),
    ("a: [str]", "goes before the colon: 'a [str]' (as a description: 'a str: …')"),
    ("a: 1..5", "goes before the colon"),
    ("a: yes|no", "goes before the colon"),
    ("a: {b}", "goes before the colon"),
    ("a: in [0, 1), b", "'[' is never closed in the description of field 'a'"),
    ("a: \udc80", "not valid UTF-8"),
    # JSON
    ("[1, 2]", "a JSON Schema is an object, not [1, 2]"),
    ('"name"', "a JSON Schema is an object"),
    ("true", "a JSON Schema is an object"),
    ("42", "a JSON Schema is an object"),
    ('{"type": "object"', "not JSON: unexpected end of data (line 1, column 18)"),
    ('{"type": "object",\n "properties": {]}', "(line 2, column 17)"),
    ('{"name": "string", "age": 5}', "no type, properties or the like in the JSON Schema"),
    ('{"type": "strng"}', 'not a JSON Schema: type: "strng" is not one of'),
    ('{"type": "object", "properties": []}', 'not a JSON Schema: properties: [] is not of type "object"'),
    ('{"type": "string", "pattern": "("}', "not a JSON Schema: pattern:"),
    ('{"type": "object", "required": ["a", "a"]}', "not a JSON Schema: required:"),
    ('{"$ref": "#/$defs/x"}', "a reference cannot be followed: Pointer '/$defs/x' does not exist"),
    ('{"$schema": "http://example.org/x", "type": "object"}', "a reference cannot be followed: Unknown meta-schema"),
    ('{"type": "integer", "maximum": 123456789012345678901234567890}', "exceeds 64-bit range"),
    ('{"items": ' * 600 + "{}" + "}" * 600, "not a JSON Schema: Recursion limit"),
]


@pytest.mark.parametrize(("text", "reason"), REFUSED, ids=[text[:30] for text, _ in REFUSED])
def test_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(SchemaError) as caught:
        read(text)
    assert reason in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 300


# -- JSON Schema --------------------------------------------------------------------------------

CLOSED = of(a=STR)
PERSON = {**of(who={"$ref": "#/$defs/p"}), "$defs": {"p": CLOSED}}
STRICT = [
    (CLOSED, True),
    (PERSON, True),
    (of(), True),
    (of(a={"anyOf": [CLOSED, {"type": "null"}]}), True),
    (of(a=items({"$ref": "#"})), True),
    ({"type": "object"}, False),
    ({**CLOSED, "additionalProperties": True}, False),
    ({**CLOSED, "required": []}, False),
    ({**CLOSED, "required": ["a", "b"]}, False),
    ({**CLOSED, "type": ["object", "null"]}, False),
    ({"anyOf": [CLOSED]}, False),
    ({"type": "array", "items": CLOSED}, False),
    (of(a={"type": "object"}), False),
    (of(a={"type": ["object", "null"]}), False),
    (of(a=items({"properties": {"b": STR}})), False),
    (of(a={"anyOf": [STR, {"type": "object"}]}), False),
    (of(a=items(True)), False),
    ({**PERSON, "$defs": {"p": {"type": "object"}}}, False),
    (of(a={"oneOf": [STR, INT]}), False),
    (of(a={"$ref": "https://json-schema.org/draft/2020-12/schema"}), False),
    ({**CLOSED, "$schema": "http://json-schema.org/draft-07/schema#", "$defs": 5}, False),
    ({**CLOSED, "$schema": "http://json-schema.org/draft-07/schema#", "$defs": {"a": {"properties": 5}}}, False),
]


@pytest.mark.parametrize(("schema", "strict"), STRICT)
def test_strict(schema: dict[str, Any], strict: bool) -> None:
    shape = read(json.dumps(schema))
    assert shape.strict is strict
    assert shape.schema == schema
    assert orjson.loads(shape.response_format)["json_schema"]["strict"] is strict


def test_response_format_has_no_white_space_and_keeps_the_order() -> None:
    schema = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "string"}}}
    packed = b'{"type":"json_schema","json_schema":{"name":"answer","strict":false,"schema":{"type":"object","properties":{"b":{"type":"string"},"a":{"type":"string"}}}}}'  # noqa: E501
    assert read(json.dumps(schema)).response_format == packed
    assert read("\n" + json.dumps(schema, indent=4) + "\n").response_format == packed
    turned = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
    assert read(json.dumps(turned)).response_format != packed


def test_a_reference_reaches_no_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        for schema in (
            {"$ref": url},
            {"$schema": url, "type": "object"},
            {"$id": url, "$ref": "other.json"},
            {"type": "object", "properties": {"a": {"$dynamicRef": url}}},
        ):
            with pytest.raises(SchemaError, match="reference cannot be followed"):
                read(json.dumps(schema))
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_reference_reaches_no_file(tmp_path: Any) -> None:
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    with pytest.raises(SchemaError, match="reference cannot be followed"):
        read(json.dumps({"$ref": (tmp_path / "schema.json").as_uri()}))


def test_importing_is_cheap() -> None:
    program = "import sys, llmstream.records.schema; sys.exit('jsonschema_rs' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# -- judging a value --------------------------------------------------------------------------------

PEOPLE = "name, age int, score 1..5?, people [{name, role a|b}]?"
GOOD: dict[str, Any] = {"name": "Ann", "age": 3, "score": None, "people": None}
ANY_OF = json.dumps({"anyOf": [{"type": "null"}, of(kind={"const": "cat"}), of(kind={"const": "dog"}, legs=INT)]})

JUDGED = [
    (PEOPLE, GOOD, None),
    (PEOPLE, {**GOOD, "people": [{"name": "x", "role": "b"}]}, None),
    (PEOPLE, {**GOOD, "age": "x"}, 'age: "x" is not of type "integer"'),
    (PEOPLE, {**GOOD, "age": True}, 'age: true is not of type "integer"'),
    (PEOPLE, {**GOOD, "age": 1.5}, 'age: 1.5 is not of type "integer"'),
    (PEOPLE, {**GOOD, "age": 10**30}, None),
    (PEOPLE, {**GOOD, "score": 10**30}, f"score: {10**30} is greater than the maximum of 5"),
    (PEOPLE, {**GOOD, "score": 0}, "score: 0 is less than the minimum of 1"),
    (PEOPLE, {**GOOD, "people": [{"name": 3, "role": "a"}]}, 'people.0.name: 3 is not of type "string"'),
    (PEOPLE, {**GOOD, "people": [{"name": "", "role": "c"}]}, 'people.0.role: "c" is not one of "a" or "b"'),
    (PEOPLE, {**GOOD, "people": [{"role": "a"}]}, 'people.0: "name" is a required property'),
    (PEOPLE, {**GOOD, "more": 1}, "Additional properties are not allowed ('more' was unexpected)"),
    (PEOPLE, [], '[] is not of type "object"'),
    (PEOPLE, None, 'null is not of type "object"'),
    ("a, b", {"a": 1, "b": 2}, 'a: 1 is not of type "string"; b: 2 is not of type "string"'),
    ("a int", {"a": "\ud800"}, "not a JSON value: "),
    ("a x|y?", {"a": None}, None),
    ("a bool", {"a": 1}, 'a: 1 is not of type "boolean"'),
    (ANY_OF, None, None),
    (ANY_OF, {"kind": "dog", "legs": "x"}, 'legs: "x" is not of type "integer"'),
    (ANY_OF, {"kind": "cow"}, 'kind: "cat" was expected'),
    ('{"type": "string", "format": "date"}', "2026-02-31", '"2026-02-31" is not a "date"'),
]


@pytest.mark.parametrize(("schema", "value", "fault"), JUDGED)
def test_a_value_is_told(schema: str, value: Any, fault: str | None) -> None:
    told = read(schema).check(value)
    assert told == fault or (fault is not None and told is not None and told.startswith(fault))


def test_at_most_three_faults_each_of_them_short() -> None:
    told = read("a int, b int, c int, d int").check(dict.fromkeys("abcd", "long " * 1000))
    assert told is not None
    assert [part[:8] for part in told.split("; ")] == ['a: "long', 'b: "long', 'c: "long']
    assert told.endswith('is not of type "integer"')
    assert len(told) < 450


class Whole(int):
    pass


class Literal(float):
    pass


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ({"a": Whole(3), "b": [Literal(0.5)]}, True),
        ({"a": Whole(10**30), "b": []}, True),
        ({"a": Literal(2.0), "b": [Whole(1)]}, True),
        ({"a": Literal(0.5), "b": []}, False),
        ({"a": 1, "b": Whole(1)}, False),
        (exact.loads(b'{"a":123456789012345678901234567890,"b":[0.12345678901234567890]}'), True),
        (exact.loads(b'{"a":0.12345678901234567890,"b":[]}'), False),
    ],
)
def test_subclasses_of_numbers_are_judged_as_numbers(value: Any, fits: bool) -> None:
    assert (read("a int, b [float]").check(value) is None) is fits


# -- properties ---------------------------------------------------------------------------------------

Written = tuple[str, dict[str, Any]]  # a type in the notation, and what it means

words = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=6)
phrases = st.sampled_from(["who it is", "where (city, country)", "it's: a|b or [x, {y}]", "1) a 2) b", 'a 5" disk'])
bare_names = words.filter(lambda name: name not in ("str", "int", "float", "bool"))
names = bare_names.map(lambda name: (name, name)) | st.text(min_size=1, max_size=6).map(
    lambda name: (orjson.dumps(name).decode(), name)
)
values = words.filter(lambda word: word not in ("str", "int", "float", "bool")).map(
    lambda word: (word, word)
) | st.text(max_size=6).map(lambda word: (orjson.dumps(word).decode(), word))


@st.composite
def enumerations(draw: st.DrawFn) -> Written:
    drawn = draw(st.lists(values, min_size=2, max_size=4, unique_by=lambda value: value[1]))
    return "|".join(text for text, _ in drawn), enum(*(word for _, word in drawn))


@st.composite
def ranges(draw: st.DrawFn) -> Written:
    low, high = sorted(draw(st.tuples(*[st.integers(-(10**17), 10**17)] * 2)))
    return f"{low}..{high}", whole(low, high)


@st.composite
def objects(draw: st.DrawFn, types: st.SearchStrategy[Written]) -> Written:
    by_line = draw(st.booleans())
    fields, properties = [], {}
    for text, name in draw(st.lists(names, min_size=1 + by_line, max_size=4, unique_by=lambda name: name[1])):
        kind, schema = draw(types)
        if draw(st.booleans()):
            spoken = draw(phrases) + ", and so on" * by_line
            kind, schema = f"{kind}: {spoken}", told(schema, spoken)
        fields.append(f"{text} {kind}")
        properties[name] = schema
    return ("\n" if by_line else ", ").join(fields), of(**properties)


def nested(types: st.SearchStrategy[Written]) -> st.SearchStrategy[Written]:
    inner = types | types.map(lambda pair: pair if "null" in pair[1]["type"] else (pair[0] + "?", or_null(pair[1])))
    lists = inner.map(lambda pair: (f"[{pair[0]}]", items(pair[1])))
    return lists | objects(inner).map(lambda pair: (f"{{ {pair[0]}\n}}", pair[1]))


simple: st.SearchStrategy[Written] = st.sampled_from(
    [("str", STR), ("int", INT), ("float", {"type": "number"}), ("bool", {"type": "boolean"})]
)
notations = objects(st.recursive(simple | ranges() | enumerations(), nested, max_leaves=6))


@settings(max_examples=150, deadline=None)
@given(notations)
def test_what_is_written_is_what_is_meant(written: Written) -> None:
    text, schema = written
    for shape in (read(text), read(f"{{{text}}}")):
        assert shape.schema == schema
        assert list(shape.schema["properties"]) == list(schema["properties"])
        assert shape.strict
        assert jsonschema_rs.meta.is_valid(shape.schema)


@settings(max_examples=100, deadline=None)
@given(notations)
def test_a_schema_read_back_as_json_is_the_same(written: Written) -> None:
    shape = read(written[0])
    again = read(json.dumps(shape.schema, indent=1, ensure_ascii=False))
    assert again[:3] == shape[:3]


def shape_or_reason(text: str) -> Shape | None:
    try:
        return read(text)
    except SchemaError as error:
        reason = str(error)
    assert len(reason.splitlines()) == 1
    return None


pieces = st.sampled_from(
    [*"ab1 -,:|?[]{}()\"'\n\\.", "..", "int", "str?", "a|b", "x [", "{a}", "1..3", '"q"', "\udc80"]
)


@settings(max_examples=500, deadline=None)
@given(st.text() | st.lists(pieces, max_size=20).map("".join))
def test_any_text_is_a_strict_shape_or_a_reason(text: str) -> None:
    shape = shape_or_reason(text)
    if shape:
        assert shape.strict
        assert jsonschema_rs.meta.is_valid(shape.schema)
        assert orjson.loads(shape.response_format)["json_schema"]["schema"] == shape.schema


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
keywords = st.sampled_from(
    [
        "type",
        "properties",
        "required",
        "items",
        "anyOf",
        "$defs",
        "$ref",
        "additionalProperties",
        "enum",
        "$schema",
        "x",
    ]
)
schema_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["object", "string", "#", "#/x", "x", "http://x.y/z"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keywords, inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=300, deadline=None)
@given(schema_like, json_values)
def test_any_json_is_a_shape_or_a_reason(schema: Any, value: Any) -> None:
    shape = shape_or_reason(json.dumps(schema))
    if shape:
        shape.check(value)


@settings(max_examples=100, deadline=None)
@given(notations, json_values)
def test_any_value_is_judged(written: Written, value: Any) -> None:
    told = read(written[0]).check(value)
    assert told is None or (told and len(told.splitlines()) == 1)
