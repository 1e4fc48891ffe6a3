"""What llm-sim answers: it fits the schema, and is made of the text."""

import json
from collections import Counter
from hashlib import blake2b

import jsonschema_rs
import pytest
from sim_client import TEXT, body, content, send, thing

from llmstream.endpoint.answers import answer
from llmstream.endpoint.call import parse_body, read_call

NODE = thing(name={"type": "string"}, children={"type": "array", "items": {"$ref": "#/$defs/node"}})
LINK = thing(value={"type": "string"}, next={"anyOf": [{"$ref": "#/$defs/link"}, {"type": "null"}]})
SUM = thing(left={"$ref": "#/$defs/term"}, right={"$ref": "#/$defs/term"})
SCHEMAS = [
    thing(name={"type": "string"}, age={"type": "integer"}, year={"type": "integer"}, score={"type": "number"}),
    thing(one={"type": "integer", "minimum": 5, "maximum": 5}, half={"type": "number", "minimum": 0.5, "maximum": 0.5}),
    thing(
        small={"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.01}, low={"type": "number", "maximum": -7}
    ),
    thing(tenth={"type": "number", "multipleOf": 0.1, "minimum": 0.15}, three={"type": "integer", "multipleOf": 1.5}),
    thing(
        eight={"type": "integer", "exclusiveMinimum": 7, "exclusiveMaximum": 9},
        big={"type": "integer", "minimum": 10**15},
    ),
    thing(mood={"enum": ["positive", "negative"]}, odd={"enum": [1, None, "x", [2]]}, fixed={"const": {"k": [1]}}),
    thing(maybe={"type": ["string", "null"]}, either={"type": ["integer", "string"]}, no={"type": "null"}),
    thing(yes={"type": "boolean"}, free={}, also=True),
    thing(long={"type": "string", "minLength": 200}, short={"type": "string", "maxLength": 3}),
    thing(five={"type": "string", "minLength": 5, "maxLength": 5}),
    thing(a={"type": "string", "format": "date"}, b={"type": "string", "format": "date-time"}),
    thing(
        a={"type": "string", "format": "email"},
        b={"type": "string", "format": "uri"},
        c={"type": "string", "format": "uuid"},
    ),
    thing(six={"type": "array", "items": {"type": "string"}, "minItems": 6, "maxItems": 6, "uniqueItems": True}),
    thing(all={"type": "array", "items": {"enum": ["a", "b", "c"]}, "uniqueItems": True, "minItems": 3}),
    thing(five={"type": "array", "items": {"type": "boolean"}, "minItems": 5}, none={"type": "array", "maxItems": 0}),
    thing(
        pair={"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False, "minItems": 2}
    ),
    thing(
        rows={"type": "array", "items": {"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 3}}
    ),
    {"$defs": {"node": NODE}, "$ref": "#/$defs/node"},
    {"$defs": {"link": LINK}, "allOf": [{"$ref": "#/$defs/link"}]},
    {"$defs": {"term": {"anyOf": [{"$ref": "#/$defs/sum"}, {"type": "number"}]}, "sum": SUM}, "$ref": "#/$defs/sum"},
    {"definitions": {"a/b": {"type": "integer"}}, **thing(x={"$ref": "#/definitions/a~1b", "minimum": 7})},
    {"allOf": [{"properties": {"a": {"type": "string"}}}, {"properties": {"a": {"maxLength": 4}}, "required": ["a"]}]},
    thing(pet={"oneOf": [thing(kind={"const": "cat"}, lives={"type": "integer"}), thing(kind={"const": "dog"})]}),
    {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 5},
    {"type": "object", "propertyNames": {"enum": ["u", "v"]}, "additionalProperties": {"type": "integer"}},
    {"type": "object", "required": ["a", "b"]},
    {"type": "object", "properties": {"never": False}},
    {"type": "object"},
    {},
    {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 40}, "uniqueItems": True, "minItems": 40},
    {"anyOf": [thing(a={"type": "string"}), {"type": "array", "items": {"type": "null"}}]},
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: json.dumps(schema)[:60])
def test_answers_fit_the_schema(plain, schema):
    validator = jsonschema_rs.validator_for(schema, validate_formats=True)
    for turn in range(12):
        validator.validate(json.loads(content(plain, body(f"Look.\n\n{TEXT}", schema), key=str(turn))))


@pytest.mark.parametrize(
    "schema",
    [
        thing(never=False),
        {"$ref": "#/nowhere"},
        {"$ref": "#"},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
        {"type": "object", "properties": []},
        {"type": "nonsense"},
        {"enum": []},
        {"type": "integer", "minimum": 1e40},
    ],
    ids=json.dumps,
)
def test_schemas_that_nothing_fits_are_refused(plain, schema):
    status, _, answer = send(plain, body(schema=schema))
    assert status == 400
    assert json.loads(answer)["error"]["param"] == "response_format"


def test_a_strict_schema_wants_an_object(plain):
    form = {"type": "json_schema", "json_schema": {"name": "it", "strict": True, "schema": {"type": "array"}}}
    assert send(plain, body(response_format=form))[0] == 400


@pytest.mark.parametrize("form", [None, {"type": "json_object"}, {"type": "text"}])
def test_a_schema_in_a_message_counts(plain, form):
    schema = thing(people={"type": "array", "items": {"type": "string"}})
    data = body(
        f"Who?\n\n{TEXT}\n\nFit this JSON Schema:\n{json.dumps(schema)}", **({"response_format": form} if form else {})
    )
    jsonschema_rs.validator_for(schema).validate(json.loads(content(plain, data)))
    data["messages"] += [{"role": "assistant", "content": "?"}, {"role": "user", "content": "That does not fit."}]
    jsonschema_rs.validator_for(schema).validate(json.loads(content(plain, data)))


def test_json_object_with_a_schema_or_with_none(plain):
    form = {"type": "json_object", "schema": thing(year={"type": "integer"})}
    assert 1900 <= json.loads(content(plain, body(response_format=form)))["year"] <= 2025
    assert isinstance(json.loads(content(plain, body(response_format={"type": "json_object"}))), dict)


def test_names_come_from_the_text(plain):
    schema = thing(people={"type": "array", "items": {"type": "string"}, "minItems": 4})
    found = json.loads(content(plain, body(f"Who is in it? {TEXT}", schema)))["people"]
    assert set(found) <= {"Hồ Chí Minh", "Nghệ An", "Paris", "Hà Nội"}
    assert len(set(found)) == len(found)
    name = json.loads(content(plain, body("名前は何ですか。東京に住んでいます。", thing(name={"type": "string"}))))[
        "name"
    ]
    assert name in "名前は何ですか。東京に住んでいます。"


def test_text_comes_from_the_text_after_its_instructions(plain):
    assert content(plain, body(f"Summarise this: {TEXT}")) == "Hồ Chí Minh was born in Nghệ An in 1890."
    assert content(plain, body(f'Summarise\n\n{{"id": 7, "text": {json.dumps(TEXT)}}}')).startswith("Hồ Chí Minh")
    parts = [{"type": "text", "text": "Summarise."}, {"type": "text", "text": TEXT}]
    assert content(plain, body(parts)).startswith("Hồ Chí Minh")
    assert content(plain, body("")) != ""


def test_things_with_an_id_get_the_ids_of_the_prompt(plain):
    prompt = (
        'Answer each.\n\n{"id": "r1", "text": "One."}\n\n{"id": "r2", "text": "Two."}\n\n{"id": "r3", "text": "Three."}'
    )
    by_name = thing(results={"type": "array", "items": thing(id={"type": "string"}, label={"type": "string"})})
    assert [each["id"] for each in json.loads(content(plain, body(prompt, by_name)))["results"]] == ["r1", "r2", "r3"]
    by_enum = thing(results={"type": "array", "items": thing(id={"enum": [7, 8, 9, 10, 11, 12]})})
    assert [each["id"] for each in json.loads(content(plain, body(schema=by_enum)))["results"]] == [7, 8, 9, 10, 11, 12]


def test_votes_mostly_agree(plain):
    schema = thing(mood={"enum": ["negative", "positive", "mixed"]})
    votes = Counter(json.loads(content(plain, body(schema=schema), key=str(turn)))["mood"] for turn in range(60))
    assert votes["positive"] > 35  # it stands in the text
    assert len(votes) > 1


def test_max_tokens_cuts_off(plain):
    for limit in ({"max_tokens": 3}, {"max_completion_tokens": 3}):
        answer = json.loads(send(plain, body(**limit))[2])
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["usage"]["completion_tokens"] <= 3
        assert TEXT.startswith(answer["choices"][0]["message"]["content"])


def test_usage_is_a_quarter_of_the_bytes(plain):
    answer = json.loads(send(plain, body("Đà Nẵng"))[2])
    assert answer["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 3,
        "total_tokens": 6,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


# -- the same bytes for ever ------------------------------------------------------------------


def answered(data, seed=0, key=""):
    """What the endpoint would say, without a server."""
    raw = json.dumps(data).encode()
    asked = parse_body(raw)
    return answer(read_call(seed, raw, key, asked), asked).content


PERSON = thing(
    name={"type": "string"},
    birth_year={"type": "integer"},
    mood={"enum": ["negative", "positive"]},
    born={"type": "string", "format": "date"},
    confidence={"type": "number"},
    tags={"type": "array", "items": {"type": "string"}},
)


@pytest.mark.parametrize(
    ("seed", "key", "found"),
    [
        (0, "", ["Nghệ An", 1920, "positive", "2012-04-01", 0.63, ["and came back to Hà Nội"]]),
        (0, "vote-1", ["Nghệ An", 1920, "positive", "2012-04-01", 0.63, ["and came back to Hà Nội"]]),
        (0, "vote-2", ["Nghệ An", 1920, "positive", "2018-01-20", 0.63, ["and came back to Hà Nội"]]),
        (
            1,
            "",
            [
                "Hà Nội",
                1971,
                "positive",
                "2016-02-06",
                0.22,
                [
                    "lived in Paris, and came",
                    "He lived in Paris, and",
                    "1890. He lived in Paris",
                    "in 1890. He lived in",
                ],
            ],
        ),
    ],
)
def test_a_seed_a_request_and_a_key_make_one_answer(seed, key, found):
    assert list(json.loads(answered(body(schema=PERSON), seed, key)).values()) == found


def test_no_answer_to_any_schema_has_changed():
    """Whoever has rehearsed with a done-file finds the same answers in it as the next version gives."""
    digest = blake2b(digest_size=16)
    for schema in SCHEMAS:
        for seed in range(3):
            for key in ("", "a", "b"):
                digest.update(answered(body(schema=schema), seed, key).encode() + b"\n")
    assert digest.hexdigest() == "c041c823c64d30e21609af9f94126202"
