"""Scoring by criteria: a file of them makes the schema, and their weights the overall score."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple

from llmstream.records import equality, exact
from llmstream.records.words import brief
from llmstream.votes import consensus

OVERALL = "overall_score"
SCALE = [1, 10]
_KNOWN = {"description", "weight", "scale"}


class Criterion(NamedTuple):
    description: str
    weight: Fraction
    low: float
    high: float

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


Criteria = Mapping[str, Criterion]


def read(text: str) -> Criteria:
    """The criteria of a JSON text; ValueError says in one line what to fix."""
    try:
        data = exact.loads(text.encode())
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(data, dict) or not data:
        raise ValueError('needs an object, such as {"clarity": {"description": "...", "scale": [1, 10]}}')
    if OVERALL in data:
        raise ValueError(f"{OVERALL} is the weighted mean; give the criterion another name")
    made = {name: _criterion(name, given) for name, given in data.items()}
    if not sum(criterion.weight for criterion in made.values()):
        raise ValueError("every weight is 0")
    return made


def _criterion(name: str, given: Any) -> Criterion:
    if not isinstance(given, dict):
        raise ValueError(f'{name}: needs an object, such as {{"description": "...", "weight": 1}}')
    if unknown := given.keys() - _KNOWN:
        raise ValueError(
            f"{name}: {brief(', '.join(sorted(unknown)), 60)}: a criterion has {', '.join(sorted(_KNOWN))}"
        )
    description, weight, scale = given.get("description", ""), given.get("weight", 1), given.get("scale", SCALE)
    if not isinstance(description, str):
        raise ValueError(f"{name}: description is not a string")
    if not _is_number(weight) or weight < 0:
        raise ValueError(f"{name}: weight is not a number, 0 or more")
    if not isinstance(scale, list) or len(scale) != 2 or not all(map(_is_number, scale)) or scale[0] >= scale[1]:
        raise ValueError(f"{name}: scale is not [LOWEST, HIGHEST]")
    return Criterion(description, equality.number(weight), *scale)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def schema(criteria: Criteria) -> str:
    """The JSON Schema of one vote: a score for each criterion, and nothing else."""
    properties = {
        name: {
            "type": "integer" if one.whole else "number",
            "minimum": one.low,
            "maximum": one.high,
            **({"description": one.description} if one.description else {}),
        }
        for name, one in criteria.items()
    }
    made = {"type": "object", "properties": properties, "required": list(criteria), "additionalProperties": False}
    return exact.dumps(made).decode()


def for_template(criteria: Criteria) -> dict[str, Any]:
    """What a template's {{ criteria }} says."""
    return {
        name: {
            "description": one.description,
            "weight": consensus.written(one.weight, whole=True),
            "scale": [one.low, one.high],
        }
        for name, one in criteria.items()
    }


def with_overall(scores: dict[str, Any], criteria: Criteria) -> dict[str, Any]:
    """The scores and their weighted mean."""
    weights = sum(one.weight for one in criteria.values())
    total = sum(equality.number(scores[name]) * one.weight for name, one in criteria.items())
    return {**scores, OVERALL: consensus.written(Fraction(total / weights), whole=True)}


def scale(criteria: Criteria) -> tuple[float, float]:
    """What the overall score can lie between."""
    weights = float(sum(one.weight for one in criteria.values()))
    low = sum(float(one.weight) * one.low for one in criteria.values()) / weights
    high = sum(float(one.weight) * one.high for one in criteria.values()) / weights
    return low, high
