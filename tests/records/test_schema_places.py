"""Where a schema has labels and lists, in whichever of its forms they are."""

from __future__ import annotations

from typing import Any

import pytest

from llmstream.records import notation
from llmstream.records.schema_places import MOST, as_text, options, places


def found(schema: Any) -> dict[str, tuple[list[Any], bool]]:
    """The labels of each place, and whether nothing else can stand there."""
    return {as_text(place.path): (list(place.labels), place.closed) for place in places(schema) if place.labels}


def lists(schema: Any) -> list[str]:
    return [as_text(place.path) for place in places(schema) if place.is_list]


def thing(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


AB = {"enum": ["a", "b"]}
NULL = {"type": "null"}
DEFS = {"$defs": {"ab": AB}}

# What Pydantic 2 writes for
#     class Tone(StrEnum): good = "good"; bad = "bad"; mixed = "mixed"
#     class Person(BaseModel): role: Literal["host", "guest"]; tone: Tone | None = None
#     class Answer(BaseModel):
#         tone: Tone; second: Optional[Tone]; sure: bool | None; people: list[Person]; name: str | None
PYDANTIC = {
    "$defs": {
        "Person": {
            "properties": {
                "role": {"enum": ["host", "guest"], "title": "Role", "type": "string"},
                "tone": {"anyOf": [{"$ref": "#/$defs/Tone"}, {"type": "null"}], "default": None},
            },
            "required": ["role"],
            "title": "Person",
            "type": "object",
        },
        "Tone": {"enum": ["good", "bad", "mixed"], "title": "Tone", "type": "string"},
    },
    "properties": {
        "tone": {"$ref": "#/$defs/Tone"},
        "second": {"anyOf": [{"$ref": "#/$defs/Tone"}, {"type": "null"}]},
        "sure": {"anyOf": [{"type": "boolean"}, {"type": "null"}], "title": "Sure"},
        "people": {"items": {"$ref": "#/$defs/Person"}, "title": "People", "type": "array"},
        "name": {"anyOf": [{"type": "string"}, {"type": "null"}], "title": "Name"},
    },
    "required": ["tone", "second", "sure", "people", "name"],
    "title": "Answer",
    "type": "object",
}


def test_as_pydantic_writes_it() -> None:
    tones = ["good", "bad", "mixed"]
    assert found(PYDANTIC) == {
        "tone": (tones, True),
        "second": ([*tones, None], True),
        "sure": ([True, False, None], True),
        "people[].role": (["host", "guest"], True),
        "people[].tone": ([*tones, None], True),
    }
    assert lists(PYDANTIC) == ["people"]
    assert options(PYDANTIC) == {"tone": 3, "second": 4, "sure": 3, "people[].role": 2, "people[].tone": 4}


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("a x|y, b bool, c x|y|z?, d bool?, e, f int, g 1..3", {"a": 2, "b": 2, "c": 4, "d": 3}),
        ("a {b {c x|y}}, l [x|y], p [{r x|y, n [[bool]]}]", {"a.b.c": 2, "l[]": 2, "p[].r": 2, "p[].n[][]": 2}),
    ],
)
def test_the_short_notation(text: str, known: dict[str, int]) -> None:
    assert options(notation.read(text)) == known


@pytest.mark.parametrize(
    ("schema", "labels", "closed"),
    [
        (AB, ["a", "b"], True),
        ({"const": "a"}, ["a"], True),
        ({"type": "boolean"}, [True, False], True),
        ({"type": ["boolean", "null"]}, [True, False, None], True),
        ({"enum": [1, True, 1.0, {"a": [1]}, "1"]}, [1.0, True, {"a": [1]}, "1"], True),  # 1 and 1.0 are one value
        ({"anyOf": [AB, {"enum": ["b", "c"]}]}, ["a", "b", "c"], True),
        ({"oneOf": [{"const": "a"}, {"const": "b"}, NULL]}, ["a", "b", None], True),
        ({"anyOf": [AB, {"type": "string"}]}, ["a", "b"], False),
        ({"anyOf": [AB, {"type": ["boolean", "string"]}]}, ["a", "b"], False),
        ({"anyOf": [AB, True]}, ["a", "b"], False),
        ({"allOf": [AB], "description": "x"}, ["a", "b"], True),
        ({"allOf": [AB, {"type": "string"}]}, ["a", "b"], True),
        ({"allOf": [AB, {"enum": ["b", "c"]}]}, ["b"], True),
        ({"$ref": "#/$defs/ab"}, ["a", "b"], True),
        ({"anyOf": [{"anyOf": [{"$ref": "#/$defs/ab"}, NULL]}, {"const": "c"}]}, ["a", "b", None, "c"], True),
    ],
)  # fmt: skip
def test_the_labels_of_a_place(schema: Any, labels: list[Any], closed: bool) -> None:
    whole, inner = schema | DEFS, thing(x=thing(y=schema)) | DEFS
    assert found(whole) == {"": (labels, closed)}
    assert found(inner) == {"x.y": (labels, closed)}
    assert options(whole) == ({"": len(labels)} if closed else {})


@pytest.mark.parametrize(
    "schema",
    [
        True, {}, {"type": "string"}, {"type": ["string", "null"]}, NULL, {"anyOf": [{"type": "string"}, NULL]},
        {"$ref": "#/$defs/none"}, {"$ref": "#"}, {"$ref": "http://localhost/x"}, {"anyOf": []}, {"properties": 1},
    ],
)  # fmt: skip
def test_a_place_without_labels(schema: Any) -> None:
    assert list(places(schema)) == []
    assert options(schema) == {}


def test_one_place_in_several_forms() -> None:
    """Of an object that is a cat or a dog, the kind is a label."""
    cat, dog = (thing(kind={"const": kind}, **{kind: {"type": "boolean"}}) for kind in ("cat", "dog"))
    assert options(thing(pet={"anyOf": [cat, dog, NULL]})) == {"pet.kind": 2, "pet.cat": 2, "pet.dog": 2}
    assert options(thing(pet={"anyOf": [cat, thing(kind={"type": "string"})]})) == {"pet.cat": 2}


def test_a_list_that_is_one_form_of_a_place() -> None:
    schema = thing(x={"anyOf": [{"type": "array", "items": AB}, AB]})
    assert lists(schema) == ["x"]
    assert found(schema) == {"x": (["a", "b"], False), "x[]": (["a", "b"], True)}
    assert options(schema) == {"x[]": 2}


def test_a_tree_refers_to_itself() -> None:
    node = thing(kind=AB, children={"type": "array", "items": {"$ref": "#/$defs/node"}})
    assert options({"$ref": "#/$defs/node", "$defs": {"node": node}}) == {"kind": 2}
    assert lists({"$ref": "#/$defs/node", "$defs": {"node": node}}) == ["children"]
    assert list(places({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, AB]}}}))


def test_types_that_refer_to_one_another_take_no_time() -> None:
    """As an expression in brackets may be any other: there are more ways through it than anyone can walk."""
    names = [f"t{n}" for n in range(12)]
    form = {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in names]}
    defs = {name: thing(kind={"const": name}, left=dict(form), right=dict(form)) for name in names}
    known = options({**form, "$defs": defs})
    assert known["kind"] == known["left.kind"] == 12
    assert len(known) <= MOST
