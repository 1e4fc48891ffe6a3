"""What most votes say: every rule by example, and what holds for any votes at all."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from itertools import permutations, product
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tool import TOP

from llmstream.records import equality, exact
from llmstream.votes.consensus import Leaf, Rules, Verdict, agree
from llmstream.votes.stopping import Contest

MEAN = Rules()
MEDIAN = Rules("median")
TRIMMED = Rules("trimmed")
BY_NAME = Rules(match=(("name",),))


def read(text: str) -> Any:
    return exact.loads(text.encode())


def written(value: Any) -> str:
    return exact.dumps(value).decode()


def verdict_of(votes: Sequence[Any], rules: Rules = MEAN) -> str:
    return written(agree(votes, rules).value)


def leaf(verdict: Verdict, path: str) -> Leaf:
    (found,) = [leaf for leaf in verdict.leaves if leaf.path == path]
    return found


def leaves(votes: Sequence[Any], rules: Rules = MEAN) -> dict[str, Leaf]:
    return {leaf.path: leaf for leaf in agree(votes, rules).leaves}


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def person(name: Any, *role: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, **({"role": role[0]} if role else {}), **more}


# -- strings, booleans, null --------------------------------------------------------------------

HONG, HONG_APART = "Nguyễn Thị Hồng", decomposed("Nguyễn Thị Hồng")

MAJORITY: list[tuple[list[Any], Any]] = [
    # one option each
    (["a"], "a"),
    (["a", "b", "a"], "a"),
    (["b", "a", "a"], "a"),
    (["a", "b", "c", "b"], "b"),
    ([True, False, True], True),
    ([False, True, False], False),
    ([None, None, "a"], None),
    (["a", None, "a"], "a"),
    ([None, True, None], None),
    (["", "", "a"], ""),
    # what people do not mean, and the commonest spelling
    (["yes", "Yes ", "YES", "yes", "no"], "yes"),
    (["YES", "yes", "yes"], "yes"),
    (["yes.", "yes", "yes"], "yes"),
    ([" a ", "a", "b", "a"], "a"),
    ([" a ", " a ", "b"], " a "),
    (["a\n", "b", "c", "A"], "a\n"),
    (["New  York", "new york", "Paris"], "New  York"),
    (["straße", "STRASSE", "gasse"], "straße"),
    ([HONG_APART, HONG, HONG, "Lê Lợi"], HONG),
    ([HONG_APART, HONG, HONG_APART, "Lê Lợi"], HONG_APART),
    ([HONG.upper(), HONG_APART, "Lê Lợi"], HONG.upper()),
    (["Hà Nội", "HÀ NỘI", "Hà Nội", "Huế", "Huế"], "Hà Nội"),
    (["Ma", "Mà", "Má", "Mà"], "Mà"),
    # a tie goes to the first vote
    (["a", "b"], "a"),
    (["b", "a"], "b"),
    (["c", "a", "b", "b", "a"], "a"),
    (["c", "b", "a", "a", "b"], "b"),
    (["yes", "no", "NO", "YES"], "yes"),
    ([True, False], True),
    ([None, "a"], None),
    # different kinds are different options
    (["true", True, True], True),
    (["1", 1, "1"], "1"),
    (["null", None, None], None),
    ([0, False, False], False),
]


@pytest.mark.parametrize(("votes", "value"), MAJORITY)
def test_majority(votes: list[Any], value: Any) -> None:
    assert verdict_of(votes) == written(value)


# -- numbers ------------------------------------------------------------------------------------

HUGE = "123456789012345678901234567890"
LONG = "0.12345678901234567890123"

NUMBERS = [
    # the mean, of numbers as they were written
    ("0.1 0.1 0.1", MEAN, "0.1"),
    ("0.1 0.2", MEAN, "0.15"),
    ("0.1 0.2 0.3", MEAN, "0.2"),
    ("0.1 0.7", MEAN, "0.4"),
    ("1.1 2.2 3.3", MEAN, "2.2"),
    ("1 2 3", MEAN, "2"),
    ("1 2", MEAN, "1.5"),
    ("1 1 2", MEAN, str(4 / 3)),
    ("1.0 3", MEAN, "2.0"),
    ("-1 1", MEAN, "0"),
    ("-0.0 1 -1", MEAN, "0.0"),
    ("1e308 1e308 0", MEAN, "6.666666666666666e+307"),
    ("1e308 -1e308", MEAN, "0.0"),
    ("1.7976931348623157e308 1.7976931348623157e308 1.7976931348623155e308", MEAN, "1.7976931348623157e+308"),
    ("5e-324 5e-324 0", MEAN, "5e-324"),
    (f"{HUGE} {int(HUGE) + 2}", MEAN, str(int(HUGE) + 1)),
    (f"{HUGE} {-int(HUGE)}", MEAN, "0"),
    (f"{HUGE} 0 1", MEAN, str(float((int(HUGE) + 1) / 3))),
    ("9223372036854775807 9223372036854775809", MEAN, "9223372036854775808"),
    ("-9223372036854775808 -9223372036854775810", MEAN, "-9223372036854775809"),
    ("18446744073709551615 18446744073709551617", MEAN, "18446744073709551616"),
    ("9007199254740993 9007199254740995", MEAN, "9007199254740994"),
    (f"{LONG} 0.5", MEAN, str((0.12345678901234567890123 + 0.5) / 2)),
    ("0.1 0.10000000000000000000000001", MEAN, "0.1"),
    # the median
    ("1 2 9", MEDIAN, "2"),
    ("9 1 2", MEDIAN, "2"),
    ("1 2 3 9", MEDIAN, "2.5"),
    ("1 3 5 9", MEDIAN, "4"),
    ("0.1 0.2", MEDIAN, "0.15"),
    ("0.1 0.1 1e308", MEDIAN, "0.1"),
    (f"{HUGE} {HUGE} 1", MEDIAN, HUGE),
    ("7", MEDIAN, "7"),
    # the mean without the lowest and the highest: of three and more one at each end, of ten two
    ("7", TRIMMED, "7"),
    ("1 2", TRIMMED, "1.5"),
    ("1 2 99", TRIMMED, "2"),
    ("1 2 4 99", TRIMMED, "3"),
    ("99 1 2 3 4 5 -50 6 7", TRIMMED, "4"),
    ("0 1 1 1 1 1 7 99", TRIMMED, "2"),
    ("0 0 3 3 3 3 3 3 99 99", TRIMMED, "3"),
    ("0 1 2 3 3 3 3 4 99 99", TRIMMED, "3"),
    # all the same: as it was written
    (f"{LONG} {LONG} {LONG}", MEAN, LONG),
    ("-0.0 -0.0", MEAN, "-0.0"),
    ("1.0 1.0", MEAN, "1.0"),
    (f"{HUGE} {HUGE}", TRIMMED, HUGE),
    ("1e-400 1e-400", MEDIAN, "1e-400"),
]


@pytest.mark.parametrize(("votes", "rules", "value"), NUMBERS)
def test_numbers(votes: str, rules: Rules, value: str) -> None:
    assert verdict_of(list(map(read, votes.split())), rules) == value


AS_IT_WAS_WRITTEN = [
    ("1 1.0 1", MEAN, "1"),
    ("1.0 1 1.0", TRIMMED, "1.0"),
    (f"{LONG} {LONG}0 {LONG}", MEAN, LONG),
    ("2 2 3.5", MEDIAN, "2"),
    ("2.0 3 3 1", MEDIAN, "2.5"),
    (f"{LONG} {LONG} 0.5", MEDIAN, LONG),
    (f"{HUGE} {HUGE} 0.5", MEDIAN, HUGE),
    (f"0.1 {LONG} 0.5", MEDIAN, LONG),
]


@pytest.mark.parametrize(("votes", "rules", "value"), AS_IT_WAS_WRITTEN)
def test_a_number_that_a_vote_gave_is_spelled_as_it_was(votes: str, rules: Rules, value: str) -> None:
    assert verdict_of(list(map(read, votes.split())), rules) == value


def test_a_number_longer_than_python_likes_to_read() -> None:
    long = read("0." + "1" * 5000)
    assert verdict_of([long, long]) == long.text
    assert verdict_of([long, 0.5, 1]) == str((1 / 9 + 1.5) / 3)


@pytest.mark.parametrize("text", ["1e-9999999", "-1e-99999999999", "1e-99999999999999999999"])
def test_a_number_that_is_next_to_nothing_takes_no_time(text: str) -> None:
    look = f"""
from llmstream.records import exact
from llmstream.votes import consensus
tiny = exact.loads(b"{text}")
rules = consensus.Rules()
assert exact.dumps(consensus.agree([tiny, 1, 2], rules).value) == b"1.0"
assert exact.dumps(consensus.agree([[tiny], [tiny], []], rules).value) == b"[{text}]"
"""
    subprocess.run([sys.executable, "-c", look], cwd=TOP, timeout=5, check=True)


SPREAD = [
    ("7", 0.0),
    ("3 3 3", 0.0),
    ("1 2 3", statistics.pstdev([1, 2, 3])),
    ("2 4 4 4 5 5 7 9", 2.0),
    ("0.1 0.3", 0.1),
    ("1e308 -1e308", 1e308),
    ("1.7976931348623157e308 -1.7976931348623157e308", 1.7976931348623157e308),
    (f"{HUGE} {-int(HUGE)}", float(HUGE)),
    ("1e200 0", 5e199),
    ("1e-200 0", 0.0),
]


@pytest.mark.parametrize(("votes", "spread"), SPREAD)
def test_spread(votes: str, spread: float) -> None:
    found = leaf(agree(list(map(read, votes.split())), MEAN), "").spread
    assert found is not None
    assert math.isclose(found, spread, rel_tol=1e-12)
    assert math.isfinite(agree(list(map(read, votes.split())), MEAN).as_dict()["spread"])


# -- lists --------------------------------------------------------------------------------------

LISTS: list[tuple[list[Any], Any]] = [
    # who stays: more than half
    ([["a"], ["a"], []], ["a"]),
    ([["a"], [], []], []),
    ([["a", "b"], ["b", "c"], ["c", "b"]], ["b", "c"]),
    ([["a"], ["b"]], []),
    ([["a"], ["a"], ["b"], ["b"]], []),
    ([["a"], ["a"], ["a"], ["b"]], ["a"]),
    ([[], [], ["a"]], []),
    ([[], []], []),
    # in the order of the mean position
    ([["a", "b", "c"], ["c", "a", "b"], ["a", "b", "c"]], ["a", "b", "c"]),
    ([["b", "a"], ["a", "b"], ["a", "b"]], ["a", "b"]),
    ([["c", "b", "a"], ["c", "a", "b"], ["a", "c", "b"]], ["c", "a", "b"]),
    ([["a", "b"], ["b", "a"]], ["a", "b"]),  # a tie goes to the first vote
    ([["b", "a"], ["a", "b"]], ["b", "a"]),
    ([["a", "b"], ["b"], ["b", "a"]], ["b", "a"]),
    ([["b"], ["a", "b"], ["a", "b"]], ["a", "b"]),  # who is missing in a vote stands last there
    ([["x", "y", "a", "b"], ["b", "a"], ["a", "b"]], ["a", "b"]),  # among those that stay
    # what counts as the same, and its commonest spelling
    ([["Red", "blue "], ["RED", "Blue"], ["Red", "Blue"]], ["Red", "Blue"]),
    ([[HONG], [HONG_APART.upper()], [HONG_APART], [HONG_APART]], [HONG_APART]),
    ([["Đà Nẵng", "Huế"], [decomposed("huế"), "đà nẵng"], ["Huế", "ĐÀ NẴNG"]], ["Huế", "Đà Nẵng"]),
    ([["má", "ma"], ["mà", "ma"], ["mạ", "ma"]], ["ma"]),
    # the same word twice is two items
    ([["a", "a"], ["a"], ["a"]], ["a"]),
    ([["a", "a"], ["a"], ["a", "a"]], ["a", "a"]),
    ([["a", "b", "A"], ["a", "b", "a"], ["b", "a", "a"]], ["a", "b", "a"]),
    ([[1, 1], [1, 2], [1, 1]], [1, 1]),
    ([["a", "a", "a"], ["a", "a", "a"]], ["a", "a", "a"]),
    # numbers, booleans, null
    ([[1, 2, 3], [2, 3, 4], [3, 2, 9]], [2, 3]),
    ([[1.5], [1.5], [1]], [1.5]),
    ([[None], [None], ["a"]], [None]),
    ([[True, False], [False, True], [True, False]], [True, False]),
    # mixed kinds
    ([["1", 1], [1], ["1"]], ["1", 1]),
    ([["true", True, None], [True, "null"], [True, None, "null"]], [True, None, "null"]),
    ([[1, "a", None, {"n": "x"}, ["y"]]] * 2 + [[]], [1, "a", None, {"n": "x"}, ["y"]]),
    ([["An", {"name": "An"}], [{"name": "An"}], ["An"]], ["An", {"name": "An"}]),
    # lists in lists are items as a whole
    ([[["a", "b"], ["c"]], [["A", "b"]], [["c"], ["a", "B"]]], [["a", "b"], ["c"]]),
    ([[["a", "b"]], [["b", "a"]], [["a", "b"]]], [["a", "b"]]),
    ([[["a", "b"]], [["b", "a"]], [["a"]]], []),
    ([[[]], [[]], []], [[]]),
    ([[[["a"]]], [[["A"]]], [[["a"]]]], [[["a"]]]),
]


@pytest.mark.parametrize(("votes", "value"), LISTS)
def test_lists(votes: list[Any], value: Any) -> None:
    assert verdict_of(votes) == written(value)


# -- lists of entities --------------------------------------------------------------------------

AN, BA, CHI = person("An", "mayor"), person("Ba", "poet"), person("Chi", "nurse")

ENTITIES: list[tuple[list[Any], Rules, Any]] = [
    ([[AN, BA], [BA, AN], [AN, BA]], MEAN, [AN, BA]),
    ([[AN, BA], [AN, CHI], [BA, AN]], MEAN, [AN, BA]),
    ([[AN], [], [AN]], MEAN, [AN]),
    ([[AN], [], []], MEAN, []),
    ([[], [], []], MEAN, []),
    # the same person twice in one vote is one entity, and counts once
    ([[AN, AN], [AN], [BA]], MEAN, [AN]),
    ([[AN, AN], [BA], [CHI]], MEAN, []),
    ([[AN, BA, AN], [BA, AN, AN], [AN, BA]], MEAN, [AN, BA]),
    ([[AN, person("an ", "MAYOR")], [AN], []], MEAN, [AN]),
    ([[person("An", "mayor"), person("An", "poet")], [AN], [AN]], BY_NAME, [AN]),
    # another order, case, and way to write an accent
    (
        [
            [person(HONG, "mayor"), person("Đỗ Văn Bình", "poet")],
            [person(decomposed("ĐỖ VĂN BÌNH"), "Poet"), person(HONG_APART, "Mayor")],
            [person(HONG_APART, "mayor"), person("Đỗ Văn Bình", "poet ")],
        ],
        MEAN,
        [person(HONG_APART, "mayor"), person("Đỗ Văn Bình", "poet")],
    ),
    ([[person("Hòa", "x")], [person("Hoa", "x")], [person("HÒA", "x")]], MEAN, [person("Hòa", "x")]),
    ([[person("Lan", "x"), person("Lân", "x")], [person("Lân", "x")], [person("Lan", "x")]], MEAN,
     [person("Lan", "x"), person("Lân", "x")]),
    ([[{"role": "mayor", "name": "An"}], [AN], [AN]], MEAN, [{"role": "mayor", "name": "An"}]),
    # another role is another entity, unless the name alone says who it is
    ([[AN], [person("An", "poet")], [AN]], MEAN, [AN]),
    ([[AN], [person("An", "poet")], [person("An", "nurse")]], MEAN, []),
    ([[AN], [person("An", "poet")], [person("An", "poet")]], BY_NAME, [person("An", "poet")]),
    ([[AN], [person("An", "poet")], [person("an", "nurse")]], BY_NAME, [AN]),
    ([[AN, BA], [person("Ba", "nurse"), person("AN", "Mayor")], [person("an", "x"), BA]], BY_NAME, [AN, BA]),
    # no role
    ([[AN], [person("An", None)], [AN]], MEAN, [AN]),
    ([[AN], [person("An", None)], [person("An", None)]], MEAN, [person("An", None)]),
    ([[AN], [person("An", None)], [person("An", None)]], BY_NAME, [person("An", None)]),
    ([[AN], [person("An", None)], [AN]], BY_NAME, [AN]),
    ([[AN], [person("An")], [person("An", None)]], MEAN, [person("An")]),
    ([[AN], [person("An")], [AN]], BY_NAME, [AN]),
    ([[AN], [person("An")], [person("An")]], BY_NAME, [person("An")]),
    ([[person("An")], [person("An", None)], [person("An", None)]], MEAN, [person("An", None)]),
    # no name: all strings identify it
    ([[person(None, "mayor")], [person(None, "Mayor")], [AN]], BY_NAME, [person(None, "mayor")]),
    ([[{"role": "mayor"}], [person(None, "mayor")], []], BY_NAME, [{"role": "mayor"}]),
    # what does not identify is settled field by field
    (
        [[person("An", age=40, alive=True)], [person("An", age=42, alive=False)], [person("An", age=41, alive=True)]],
        MEAN,
        [person("An", age=41, alive=True)],
    ),
    (
        [[person("An", tags=["x", "y"])], [person("An", tags=["Y"])], [person("An", tags=["z", "y"])]],
        MEAN,
        [person("An", tags=["y"])],
    ),
    (
        [[person("An", at={"city": "Huế", "n": 1})], [person("An", at={"city": "HUẾ", "n": 3})]],
        MEAN,
        [person("An", at={"city": "Huế", "n": 2})],
    ),
    ([[{"x": 1, "y": True}], [{"y": True, "x": 1.0}], []], MEAN, [{"x": 1, "y": True}]),
    ([[{"x": 1}], [{"x": 2}], [{"x": 3}]], MEAN, []),
    ([[{}], [{}], []], MEAN, [{}]),
    # match by something else
    ([[{"id": 7, "n": "x"}], [{"id": 7}], [{"id": 8, "n": "x"}]], Rules(match=(("id",),)), [{"id": 7}]),
    ([[{"id": 7, "n": "x"}], [{"id": 7.0, "n": "y"}], []], Rules(match=(("id",),)), [{"id": 7, "n": "x"}]),
    (
        [[{"who": {"name": "An"}, "n": 1}], [{"who": {"name": "an"}, "n": 3}], []],
        Rules(match=(("who", "name"),)),
        [{"who": {"name": "An"}, "n": 2}],
    ),
    (
        [[person("An", "x", age=1), person("An", "y", age=5)], [person("an", "Y", age=7), person("an", "X", age=3)]],
        Rules(match=(("name",), ("role",))),
        [person("An", "x", age=2), person("An", "y", age=6)],
    ),
    # lists of mixed kinds
    ([[AN, "An", None], ["An", AN], [None, AN, "an"]], BY_NAME, [AN, "An", None]),
    ([[AN, [AN]], [[AN], AN], [[person("AN", "mayor")]]], MEAN, [[AN], AN]),
]  # fmt: skip


@pytest.mark.parametrize(("votes", "rules", "value"), ENTITIES)
def test_each_entity_stands_once(votes: list[Any], rules: Rules, value: Any) -> None:
    assert verdict_of(votes, rules) == written(value)
    wrapped = agree([{"people": vote} for vote in votes], rules).value  # the same one level down
    assert written(wrapped) == written({"people": value})


ALL_THE_SAME = [
    '[{"name":"An"},{"name":"An"}]',
    '[{"name":"An","age":1},{"name":"An","age":2}]',
    '" a "',
    '{"a":" x\\n","b":-0.0,"c":[1,1.0,1e2]}',
    f"[{LONG},{LONG}]",
    '{"b":1,"a":{"d":[],"c":{}}}',
]


@pytest.mark.parametrize("text", ALL_THE_SAME)
def test_unanimous_votes_come_back_before_any_other_rule(text: str) -> None:
    value = read(text)
    assert verdict_of([read(text) for _ in range(3)]) == written(value)
    assert verdict_of([{"x": read(text), "y": n} for n in (1, 3)]) == written({"x": value, "y": 2})


# -- objects ------------------------------------------------------------------------------------

OBJECTS: list[tuple[list[Any], Any]] = [
    ([{"a": "x", "b": 1}, {"a": "y", "b": 3}, {"a": "x", "b": 2}], {"a": "x", "b": 2}),
    ([{"a": "x", "b": 1}, {"b": 3, "a": "X"}], {"a": "x", "b": 2}),
    ([{"a": True}, {"a": False}, {"a": False}], {"a": False}),
    # fields one by one: the verdict need not be any of the votes
    (
        [{"a": "x", "b": "y", "c": "n"}, {"a": "n", "b": "y", "c": "z"}, {"a": "x", "b": "n", "c": "z"}],
        {"a": "x", "b": "y", "c": "z"},
    ),
    # nested
    ([{"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}], {"a": {"b": {"c": 1.5}}}),
    ([{"a": {"b": "x"}, "c": ["p", "q"]}, {"a": {"b": "X"}, "c": ["q"]}], {"a": {"b": "x"}, "c": ["q"]}),
    # null is a vote
    ([{"a": None}, {"a": None}, {"a": "x"}], {"a": None}),
    ([{"a": None}, {"a": "x"}, {"a": "x"}], {"a": "x"}),
    ([{"a": None}, {"a": 1}, {"a": 3}], {"a": 2}),
    ([{"a": None}, {"a": ["x"]}, {"a": ["x", "y"]}], {"a": ["x"]}),
    # a field that is not there is not null
    ([{"a": 1, "b": 1}, {"b": 2}, {"b": 3}], {"b": 2}),
    ([{"a": 1}, {"a": 3}, {}], {"a": 2}),
    ([{}, {}, {"a": 1}], {}),
    ([{"a": 1}, {}], {}),
    ([{}, {"a": 1}], {}),
    ([{"a": None}, {"a": None}, {}], {"a": None}),
    ([{"b": 1}, {"a": 1, "b": 1}, {"a": 1, "b": 1}], {"b": 1, "a": 1}),
    ([{"a": {"x": 1}}, {"a": {"y": 1}}, {"a": {"x": 1, "y": 1}}], {"a": {"x": 1, "y": 1}}),
    # a tie goes to the first vote, at each place
    ([{"a": "x", "b": False}, {"a": "y", "b": True}], {"a": "x", "b": False}),
    ([{"a": ["q", "p"]}, {"a": ["p", "q"]}], {"a": ["q", "p"]}),
    ([{"a": {"b": "x"}}, {"a": {"b": "y"}}], {"a": {"b": "x"}}),
    ([{"a": "x"}, {"a": {"b": "y"}}], {"a": "x"}),
    ([{"a": {"b": "y"}}, {"a": "x"}], {"a": {"b": "y"}}),
    # names are taken to the letter
    ([{"a": 1, "A": 5}, {"a": 3, "A": 7}], {"a": 2, "A": 6}),
    ([{"": 1, "a.b": 1, "a": {"b": 4}}, {"": 3, "a.b": 1, "a": {"b": 6}}], {"": 2, "a.b": 1, "a": {"b": 5}}),
]


@pytest.mark.parametrize(("votes", "value"), OBJECTS)
def test_objects(votes: list[Any], value: Any) -> None:
    assert verdict_of(votes) == written(value)


MIXED: list[tuple[list[Any], Any]] = [
    (["a", 1, 3], 2),
    ([1, "a", "a"], "a"),
    ([1, 2, "a", "b"], 1.5),
    (["a", 1, "b", 2, "c"], 1.5),
    (["a", 1], "a"),
    ([["x"], "x", ["x", "y"]], ["x"]),
    ([["x"], {"a": 1}, {"a": 3}], {"a": 2}),
    ([{"a": 1}, None, None], None),
    ([{}, [], [], {}], {}),
    ([True, 1, 2], 1.5),
    ([False, None, "", 0, [], {}], False),
]


@pytest.mark.parametrize(("votes", "value"), MIXED)
def test_mixed_kinds_in_one_place(votes: list[Any], value: Any) -> None:
    assert verdict_of(votes) == written(value)


# -- how the votes fell -------------------------------------------------------------------------

REPORTS: list[tuple[list[Any], Rules, dict[str, Any]]] = [
    (["a"], MEAN, {"agreement": 1.0, "counts": {"a": 1}}),
    (["yes", "YES ", "no"], MEAN, {"agreement": 0.6667, "counts": {"yes": 2, "no": 1}}),
    (["a", "b"], MEAN, {"agreement": 0.5, "counts": {"a": 1, "b": 1}, "tie": True}),
    (["c", "a", "a", "b", "b"], MEAN, {"agreement": 0.4, "counts": {"c": 1, "a": 2, "b": 2}, "tie": True}),
    ([True, None, True], MEAN, {"agreement": 0.6667, "counts": {"true": 2, "null": 1}}),
    ([HONG_APART, HONG, HONG], MEAN, {"agreement": 1.0, "counts": {HONG_APART: 3}}),
    # numbers
    ([1, 2, 3], MEAN, {"agreement": 0.3333, "counts": {"1": 1, "2": 1, "3": 1}, "spread": 0.816497}),
    ([1, 1.0, 2], MEDIAN, {"agreement": 0.6667, "counts": {"1": 2, "2": 1}, "spread": 0.471405}),
    ([4, 4], TRIMMED, {"agreement": 1.0, "counts": {"4": 2}, "spread": 0.0}),
    ([read(LONG), 0.5], MEAN, {"agreement": 0.5, "counts": {LONG: 1, "0.5": 1}, "spread": 0.188272}),
    # lists: how many votes hold each item
    ([["a", "b"], ["a"], ["A"]], MEAN, {"agreement": 0.8333, "counts": {"a": 3, "b": 1}}),
    ([["a", "a"], ["a"], ["a", "a"]], MEAN, {"agreement": 0.8333, "counts": {"a": 3, "a #2": 2}}),
    ([[], []], MEAN, {"agreement": 1.0}),
    ([[["a"]], [["A"]]], MEAN, {"agreement": 1.0, "counts": {"(list)": 2}}),
    ([[{"x": 1}], [{"x": 1}]], MEAN, {"agreement": 1.0, "counts": {'{"x":1}': 2}}),
    # objects
    (
        [{"a": "x", "b": 1}, {"a": "y", "b": 2}],
        MEAN,
        {
            "agreement": 0.5,
            "tie": True,
            "fields": {
                "a": {"agreement": 0.5, "counts": {"x": 1, "y": 1}, "tie": True},
                "b": {"agreement": 0.5, "counts": {"1": 1, "2": 1}, "spread": 0.5},
            },
        },
    ),
    (
        [{"a": {"b": "x"}}, {"a": {"b": "X", "c": True}}, {}],
        MEAN,
        {
            "agreement": 0.5556,
            "fields": {
                "a.b": {"agreement": 0.6667, "counts": {"x": 2}},
                "a.c?": {"agreement": 0.3333},
                "a?": {"agreement": 0.6667},
            },
        },
    ),
    ([{}, {}], MEAN, {"agreement": 1.0}),
    # entities
    (
        [[AN, BA], [AN], [person("an", "MAYOR")]],
        MEAN,
        {"agreement": 0.8333, "counts": {"An, mayor": 3, "Ba, poet": 1}},
    ),
    (
        [[AN], [person("An", "poet")], [AN]],
        BY_NAME,
        {
            "agreement": 0.8333,
            "fields": {
                ".": {"agreement": 1.0, "counts": {"An": 3}},
                "[An].role": {"agreement": 0.6667, "counts": {"mayor": 2, "poet": 1}},
            },
        },
    ),
    (
        [{"people": [person("An", age=1)]}, {"people": [person("An", age=3)]}],
        MEAN,
        {
            "agreement": 0.75,
            "fields": {
                "people": {"agreement": 1.0, "counts": {"An": 2}},
                "people[An].age": {"agreement": 0.5, "counts": {"1": 1, "3": 1}, "spread": 1.0},
            },
        },
    ),
    # mixed kinds
    (
        [["x"], None, ["x", "y"]],
        MEAN,
        {"agreement": 0.5, "counts": {"(list)": 2, "null": 1}},
    ),
    ([1, "a", 2], MEAN, {"agreement": 0.3333, "counts": {"1": 1, "a": 1, "2": 1}, "spread": 0.5}),
    (
        [{"a": "x"}, None, {"a": "x"}],
        MEAN,
        {
            "agreement": 0.6667,
            "fields": {
                ".": {"agreement": 0.6667, "counts": {"(object)": 2, "null": 1}},
                "a": {"agreement": 0.6667, "counts": {"x": 2}},
            },
        },
    ),
    ([{"a": 1}, [1]], MEAN, {
        "agreement": 0.5, "tie": True, "fields": {
            ".": {"agreement": 0.5, "counts": {"(object)": 1, "(list)": 1}, "tie": True},
            "a": {"agreement": 0.5, "counts": {"1": 1}, "spread": 0.0},
        },
    }),
]  # fmt: skip


@pytest.mark.parametrize(("votes", "rules", "told"), REPORTS)
def test_report(votes: list[Any], rules: Rules, told: dict[str, Any]) -> None:
    assert agree(votes, rules).as_dict() == told


LABELS: list[tuple[list[Any], dict[str, int]]] = [
    ([True, "true", True], {"true": 2, '"true"': 1}),
    (["true", True, True], {"true": 2, '"true"': 1}),
    (["true", '"true"', True], {'"true"': 1, r'"\"true\""': 1, "true": 1}),
    (["(list)", [1], [2]], {'"(list)"': 1, "(list)": 2}),
    (["1", 1, 2], {'"1"': 1, "1": 1, "2": 1}),
    (["null", None, None, "NULL"], {'"null"': 2, "null": 2}),
    ([["1"], [1], ["1", 1]], {'"1"': 2, "1": 2}),
    ([["true", True], [True], [True]], {'"true"': 1, "true": 3}),
    ([["An", {"name": "An"}], ["An"]], {'"An"': 2, '{"name":"An"}': 1}),
    ([[["a"]], [["b"], ["a"]]], {'["a"]': 2, '["b"]': 1}),
    ([[[], [], [1], [1]]], {"[]": 1, "[] #2": 1, "[1]": 1, "[1] #2": 1}),
    ([["a", "a", "a #2"], ["a"]], {'"a"': 2, '"a" #2': 1, '"a #2"': 1}),
    ([[{"name": "An"}], [{"title": "An"}], [{"title": "An"}]], {'{"name":"An"}': 1, '{"title":"An"}': 2}),
]


@pytest.mark.parametrize(("votes", "counts"), LABELS)
def test_two_options_are_never_counted_as_one(votes: list[Any], counts: dict[str, int]) -> None:
    assert dict(agree(votes, MEAN).leaves[0].counts) == counts


TIES: list[tuple[list[Any], Rules, set[str]]] = [
    (["a", "b"], MEAN, {""}),
    (["a", "A", "b"], MEAN, set()),
    ([1, "a"], MEAN, {""}),
    ([1, 2], MEAN, set()),
    ([["a"], "a"], MEAN, {""}),
    ([{"a": "x"}, {"a": "y"}], MEAN, {"a"}),
    ([{"a": {"b": None, "c": 1}}, {"a": {"b": 1, "c": 1}}], MEAN, {"a.b"}),
    ([[AN], [person("An", "poet")]], BY_NAME, {"[An].role"}),
    ([[AN], [person("An", "poet")], []], BY_NAME, {"[An].role"}),
    ([["a"], ["b"]], MEAN, set()),  # neither is held by more than half
]


@pytest.mark.parametrize(("votes", "rules", "tied"), TIES)
def test_ties(votes: list[Any], rules: Rules, tied: set[str]) -> None:
    verdict = agree(votes, rules)
    assert {leaf.path for leaf in verdict.leaves if leaf.tie} == tied
    assert verdict.as_dict().get("tie", False) is bool(tied)


# -- what further votes can still decide --------------------------------------------------------

CONTESTS: list[tuple[list[Any], Rules, dict[str, tuple[Contest | None, ...]]]] = [
    (["a"], MEAN, {"": ((1,),)}),
    (["a", "A", "b", "c"], MEAN, {"": ((2, 1, 1),)}),
    (["c", "a", "a"], MEAN, {"": ((1, 2),)}),
    ([True, None], MEAN, {"": ((1, 1),)}),
    # a mean moves with each vote; a median does not where most votes name it
    ([1, 1], MEAN, {"": (None,)}),
    ([1, 1], TRIMMED, {"": (None,)}),
    ([1, 2, 2], MEDIAN, {"": ((1, 2),)}),
    ([1, 1.0], MEDIAN, {"": ((0, 2),)}),
    ([1, 2, 3], MEDIAN, {"": (None,)}),
    ([1, 2, 2, 3], MEDIAN, {"": (None,)}),
    ([1, 3], MEDIAN, {"": (None,)}),
    # a list: an item that nobody named, then yes or no to each that somebody did
    ([[], []], MEAN, {"": ((2, 0),)}),
    ([["a", "b"], ["a"]], MEAN, {"": ((2, 0), (0, 2), (1, 1))}),
    ([["a", "a"], ["a"]], MEAN, {"": ((2, 0), (0, 2), (1, 1))}),
    # an object: its fields, and whether they are there
    ([{}, {}, {}], MEAN, {"": ((3,),)}),
    ([{"a": "x"}, {"a": "y"}, {"a": "x"}], MEAN, {"a": ((2, 1),)}),
    ([{"a": "x"}, {"a": "x"}, {}], MEAN, {"a": ((2,),), "a?": ((1, 2),)}),
    ([{"a": "x"}, {}, {}], MEAN, {"a?": ((2, 1),)}),
    # kinds, and what the leading kind has to decide
    ([["a"], None, ["a"]], MEAN, {"": ((2, 1), (2, 0), (0, 2))}),
    ([1, "a", 1], MEDIAN, {"": ((2, 1), (0, 2))}),
    ([1, "a", 1], MEAN, {"": ((2, 1), None)}),
    ([None, {"a": "x"}, {"a": "y"}], MEAN, {"": ((1, 2),), "a": ((1, 1),)}),
    # of entities only what does not identify them
    ([[AN], [AN]], MEAN, {"": ((2, 0), (0, 2))}),
    ([[AN], [person("An", "poet")]], BY_NAME, {"": ((2, 0), (0, 2)), "[An].role": ((1, 1),)}),
    ([[person("An", age=1)], [person("an", age=2)]], MEAN, {"": ((2, 0), (0, 2)), "[An].age": (None,)}),
]


@pytest.mark.parametrize(("votes", "rules", "contests"), CONTESTS)
def test_contests(votes: list[Any], rules: Rules, contests: dict[str, tuple[Contest | None, ...]]) -> None:
    assert {path: leaf.contests for path, leaf in leaves(votes, rules).items()} == contests


# Where it is known how many answers there are, those that nobody gave stand behind the others.
KNOWN: list[tuple[list[Any], dict[str, int], dict[str, Contest]]] = [
    (["a", "b", "a"], {"": 4}, {"": (2, 1, 0, 0)}),
    (["a", "b"], {"": 2}, {"": (1, 1)}),
    (["a", "b"], {"": 1}, {"": (1, 1)}),
    ([True], {"": 2}, {"": (1, 0)}),
    ([None, "a"], {"": 3}, {"": (1, 1, 0)}),
    ([{"a": "x", "b": "x"}], {"a": 3}, {"a": (1, 0, 0), "b": (1,)}),
    ([{"a": {"b": "x"}}], {"a.b": 2}, {"a.b": (1, 0)}),
    ([[person("An", "mayor")]], {"[].role": 2}, {"[An].role": (1, 0)}),
    ([{"people": [person("An", "x")]}], {"people[].role": 3}, {"people[An].role": (1, 0, 0)}),
]


@pytest.mark.parametrize(("votes", "options", "contests"), KNOWN)
def test_contests_with_all_answers_known(
    votes: list[Any], options: dict[str, int], contests: dict[str, Contest]
) -> None:
    verdict = agree(votes, Rules(match=(("name",),), options=options))
    assert {path: leaf(verdict, path).contests[0] for path in contests} == contests


def test_a_field_of_an_inner_list_is_not_taken_for_one_that_identifies_the_outer_item() -> None:
    votes = [[person("An", score="high", tests=[{"of": "eyes", "score": n}])] for n in (1, 2, 3)]
    verdict = agree(votes, MEAN)
    assert None in verdict.contests
    assert leaf(verdict, "[An, high].tests[eyes].score").spread is not None


def test_a_field_without_a_name_is_not_taken_for_the_whole() -> None:
    verdict = agree([{"": {"": "x"}, "a": True}, {"": {"": "y"}, "a": True}, None], MEAN)
    assert sorted(contest for contest in verdict.contests if contest) == [(1, 1), (2,), (2, 1)]
    assert len({leaf.path for leaf in verdict.leaves}) == 3


FIXED: list[tuple[list[Any], Rules, bool]] = [
    (["a", "a"], MEAN, True),
    (["a", "A"], MEAN, False),  # the spelling can change
    (["a", "A", "b", "b", "b"], MEAN, True),
    ([" a", " a"], MEAN, True),
    ([" a", " a", "b"], MEAN, True),
    ([None, None], MEAN, True),
    ([["a"], ["a"]], MEAN, True),
    ([["a"], ["A"]], MEAN, False),
    ([["a", "b"], ["a", "b"]], MEAN, False),  # the order can change
    ([["a", "b"], ["c"], ["a"]], MEAN, True),
    ([[], []], MEAN, True),
    ([[AN, AN], [AN, AN]], MEAN, False),  # once, as soon as a vote says something else
    ([[1], [1.0]], MEAN, False),
    ([2, 2.0], MEDIAN, False),
    ([2, 2, 3.5], MEDIAN, True),
    ([{"a": "x", "b": {"c": ["d"]}}] * 2, MEAN, True),
    ([{"a": "x", "b": {"c": ["d"]}}, {"a": "x", "b": {"c": ["D"]}}], MEAN, False),
    ([{"a": "x"}, {"a": "X"}], MEAN, False),
    ([{"a": "x"}, {"a": "X"}, {}, {}, {}], MEAN, True),
]


@pytest.mark.parametrize(("votes", "rules", "fixed"), FIXED)
def test_fixed(votes: list[Any], rules: Rules, fixed: bool) -> None:
    assert agree(votes, rules).fixed is fixed


def settled(verdict: Verdict, left: int) -> bool:
    """Nothing that is open can be decided otherwise by so many further votes; unseen options have none yet."""
    if not verdict.fixed:
        return False
    for contest in verdict.contests:
        if contest is None:
            return False
        second, first = sorted((0, *contest))[-2:]
        if first <= second + left:
            return False
    return True


def scored(outer: str, inner: str, **more: Any) -> list[Any]:
    return [{"name": "t", "score": outer, "tests": [{"name": inner, "score": 1, **more}]}]


# What a vote may say, and how many votes to try it with. Each pool is small, so that all there is can be tried.
POOLS: dict[str, tuple[list[Any], Rules, int]] = {
    "strings": (["a", "A", " a ", "b", None], MEAN, 3),
    "kinds": ([True, "true", 1, [], {}, None], MEDIAN, 3),
    "medians": ([1, 1.0, 2, 7, read(LONG), "x"], MEDIAN, 3),
    "letters": ([[], ["a"], ["A"], ["b"], ["a", "b"], ["b", "a"], ["a", "a"], ["c", "b", "a"]], MEAN, 3),
    "lists of numbers": ([[], [1], [1.0], [read(LONG)], [1, 2], None], MEAN, 3),
    "lists of lists": ([[], [["a"]], [["A"]], [[AN, AN]], [["a"], ["b"]]], MEAN, 3),
    "fields": ([{}, {"a": "x"}, {"a": "y"}, {"a": "x", "b": True}, {"b": True, "a": "x"}, {"a": {}}], MEAN, 3),
    "no names": ([{"": {"": "x"}}, {"": {"": "y"}}, {"": "x"}, {}, None], MEAN, 3),
    "entities": ([[], [AN], [person("AN", "mayor")], [AN, AN], [BA], [AN, BA], [person("An")]], MEAN, 3),
    "roles": ([[], [AN], [person("An", "poet")], [person("An", None)], [person("An")], [AN, BA]], BY_NAME, 3),
    "inner lists": ([scored("high", "eyes"), scored("high", "eyes", score=3), scored("low", "ears"), []], MEAN, 3),
    "ages": ([[person("An", age=1)], [person("An", age=1.0)], [person("An", age=2)], []], Rules("median", ()), 3),
    "five": (["a", "A", "b", None], MEAN, 5),
    "five lists": ([[], ["a"], ["b"], ["a", "b"]], MEAN, 4),
}


@pytest.mark.parametrize("pool", POOLS)
def test_what_is_settled_stays_whatever_comes(pool: str) -> None:
    says, rules, most = POOLS[pool]
    tried = 0
    for n in range(2, most + 1):
        for votes in product(says, repeat=n):
            verdict = agree(votes, rules)
            left = max((left for left in range(1, n) if settled(verdict, left)), default=0)
            for further in continuations(says, left):
                tried += 1
                final = agree([*votes, *further], rules)
                assert written(final.value) == written(verdict.value), [*votes, *further]
                assert not any(leaf.tie for leaf in final.leaves), [*votes, *further]
    assert tried > 20


def continuations(says: Sequence[Any], left: int) -> Iterator[tuple[Any, ...]]:
    for votes in range(1, left + 1):
        yield from product(says, repeat=votes)


# -- properties ---------------------------------------------------------------------------------

NUMERALS = ["0", "-0.0", "1", "1.0", "2", "0.1", "0.2", "1e308", "-1e308", "5e-324", "1e-400", "9007199254740993"]
NUMERALS += ["9223372036854775808", "18446744073709551616", HUGE, f"{HUGE}.0", LONG, f"{LONG}0", "1e23", str(10**23)]

near_texts = st.sampled_from(["", "a", "A", " a ", "b", "a b", "a  B", "true", "null", "1", HONG, HONG_APART])
near_names = st.sampled_from(["name", "role", "a", "a.b", ""])
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
near_numbers = st.sampled_from(list(map(read, NUMERALS)))


def json_values(scalars: st.SearchStrategy[Any], names: st.SearchStrategy[str], most: int) -> st.SearchStrategy[Any]:
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=3),
        max_leaves=most,
    )


plain = st.none() | st.booleans()
any_values = json_values(plain | numbers | near_numbers | st.text(max_size=6), st.text(max_size=4), 12)
near_values = json_values(plain | near_numbers | near_texts, near_names, 6)  # often the same as others
values = near_values | any_values
rules = st.builds(
    Rules,
    number=st.sampled_from(["mean", "median", "trimmed"]),
    match=st.sampled_from([(), (("name",),), (("a",), ("role", "a"))]),
    options=st.dictionaries(st.sampled_from(["", "a", "role", "[].role", "a.b"]), st.integers(0, 4)),
)


@st.composite
def some_votes(draw: st.DrawFn, values: st.SearchStrategy[Any] = values) -> list[Any]:
    """Votes that are often the same, or lists and objects of the same parts."""
    said = draw(st.lists(values, min_size=1, max_size=4))
    one = st.sampled_from(said)
    together = st.lists(one, max_size=3) | st.dictionaries(near_names, one, max_size=3)
    return draw(st.lists(draw(st.sampled_from([one, together, one | together, values])), min_size=1, max_size=7))


@settings(max_examples=150, deadline=None)
@given(values, st.integers(1, 9), rules)
def test_unanimous_votes_come_back_as_they_are(value: Any, n: int, rules: Rules) -> None:
    text = exact.dumps(value)
    verdict = agree([exact.loads(text) for _ in range(n)], rules)
    assert exact.dumps(verdict.value) == exact.dumps(exact.loads(text))
    assert not any(leaf.tie for leaf in verdict.leaves)


@settings(max_examples=200, deadline=None)
@given(some_votes(), rules)
def test_any_votes_have_a_verdict_that_can_be_told(votes: list[Any], rules: Rules) -> None:
    before = written(votes)
    verdict = agree(votes, rules)
    assert written(votes) == before  # nobody's vote was touched
    text = exact.dumps(verdict.value)
    assert exact.dumps(exact.loads(text)) == text
    assert verdict_of([verdict.value]) == text.decode()
    exact.loads(exact.dumps(verdict.as_dict()))
    assert exact.dumps(agree(votes, rules).value) == text


@settings(max_examples=200, deadline=None)
@given(some_votes(), rules)
def test_the_report_adds_up(votes: list[Any], rules: Rules) -> None:
    verdict = agree(votes, rules)
    n = len(votes)
    assert verdict.leaves
    for leaf in verdict.leaves:
        assert 0 < leaf.agreement <= 1
        assert all(1 <= count <= n for count in leaf.counts.values())
        assert leaf.spread is None or 0 <= leaf.spread < math.inf
        assert leaf.contests
        for contest in leaf.contests:
            assert contest is None or 0 <= sum(contest) <= n
    assert 0 < verdict.agreement <= 1 + 1e-9
    whole = verdict.leaves[0]
    if whole.path == "" and not all(isinstance(vote, (list, dict)) for vote in votes):
        assert sum(whole.counts.values()) == n
        contest = whole.contests[0]
        assert whole.tie is (contest is not None and contest.count(max(contest)) > 1)


def once(value: Any, match: tuple[equality.Path, ...]) -> Any:
    """The value with each entity once in a list, as a verdict has it unless all votes say otherwise."""
    if isinstance(value, dict):
        return {name: once(inner, match) for name, inner in value.items()}
    if not isinstance(value, list):
        return value
    kept: dict[Any, Any] = {}
    for number, item in enumerate(once(item, match) for item in value):
        kept.setdefault(equality.identity(item, match) if isinstance(item, dict) else number, item)
    return list(kept.values())


@settings(max_examples=200, deadline=None)
@given(some_votes(), rules.filter(lambda rules: rules.number != "trimmed"), st.integers(1, 3))
def test_a_vote_for_the_verdict_never_changes_it(votes: list[Any], rules: Rules, times: int) -> None:
    votes = [once(vote, rules.match) for vote in votes]
    value = agree(votes, rules).value
    for _ in range(times):
        votes.append(value)
        assert verdict_of(votes, rules) == written(value)


# Votes in which nothing can tie: an odd number of them, two ways to answer at each place that all of
# them fill, each spelled in one way; and everything else is a number or is held by most or not.
NAMES = ("An", "Bình", "Đức")


def people(names: Sequence[str], roles: Sequence[str]) -> st.SearchStrategy[list[Any]]:
    return st.tuples(*[st.builds(person, st.just(name), st.sampled_from(roles), age=ages) for name in names]).map(list)


ages = st.integers(0, 99)
some_names = st.lists(st.sampled_from(NAMES), unique=True)


def ballots(rules: Rules) -> st.SearchStrategy[dict[str, Any]]:
    some_people = some_names.flatmap(lambda names: people(names, "x" if rules.match else "xy"))
    return st.fixed_dictionaries(
        {
            "label": st.sampled_from(["tốt", "xấu"]),
            "ok": st.booleans(),
            "maybe": st.sampled_from([None, "x"]),
            "score": st.integers(-5, 5),
            "tags": st.lists(st.sampled_from("abcde"), max_size=6),
            "some": some_people,
            "all": st.permutations(NAMES).flatmap(lambda names: people(names, "xy")),
            "at": st.fixed_dictionaries({"city": st.sampled_from(["Huế", "Vinh"])}, optional={"n": ages}),
            "kind": st.sampled_from([{"deep": ["x"]}, None]),
        },
        optional={"more": ages},
    )


@st.composite
def shuffled_ballots(draw: st.DrawFn, rules: Rules) -> tuple[list[Any], list[Any]]:
    size = draw(st.sampled_from([1, 3, 5]))
    votes = draw(st.lists(ballots(rules), min_size=size, max_size=size))
    return votes, draw(st.permutations(votes))


def as_sets(value: Any) -> Any:
    """Without the order of lists and of fields."""
    if isinstance(value, list):
        return sorted((as_sets(item) for item in value), key=written)
    return {name: as_sets(value[name]) for name in sorted(value)} if isinstance(value, dict) else value


@pytest.mark.parametrize("rules", [MEAN, MEDIAN, BY_NAME])
@settings(max_examples=30, deadline=None)
@given(st.data())
def test_the_order_of_votes_does_not_matter(rules: Rules, data: st.DataObject) -> None:
    votes, shuffled = data.draw(shuffled_ballots(rules))
    one, other = agree(votes, rules), agree(shuffled, rules)
    assert written(as_sets(one.value)) == written(as_sets(other.value))
    assert one.fixed is other.fixed
    assert math.isclose(one.agreement, other.agreement)


@settings(max_examples=100, deadline=None)
@given(st.lists(numbers | near_numbers, min_size=1, max_size=5, unique_by=equality.number), rules)
def test_the_order_of_numbers_does_not_matter(votes: list[Any], rules: Rules) -> None:
    assert len({(verdict_of(order, rules), leaf(agree(order, rules), "").spread) for order in permutations(votes)}) == 1


orders = st.lists(st.permutations("abcd").flatmap(lambda all_: st.integers(2, 4).map(lambda n: all_[:n])),
                  min_size=1, max_size=5)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(orders)
def test_items_stand_in_the_order_of_their_mean_position(votes: list[list[str]]) -> None:
    kept = [letter for letter in "abcd" if sum(letter in vote for vote in votes) * 2 > len(votes)]
    ranked = [[letter for letter in vote if letter in kept] for vote in votes]
    place = {letter: sum(vote.index(letter) if letter in vote else len(vote) for vote in ranked) for letter in kept}
    assume(len(set(place.values())) == len(place))
    for order in permutations(votes[:4]):
        assert verdict_of([*order, *votes[4:]]) == written(sorted(kept, key=lambda letter: place[letter]))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_an_item_stays_if_more_than_half_hold_it(data: st.DataObject) -> None:
    texts = data.draw(st.lists(st.text(max_size=5) | near_texts, min_size=1, max_size=5, unique_by=equality.text))
    votes = data.draw(st.lists(st.lists(st.sampled_from(texts), unique=True), min_size=1, max_size=7))
    kept = {text for text in texts if sum(text in vote for vote in votes) * 2 > len(votes)}
    value = agree(votes, MEAN).value
    assert len(value) == len(kept)
    assert set(map(equality.text, value)) == set(map(equality.text, kept))


@settings(max_examples=200, deadline=None)
@given(st.lists(numbers | near_numbers, min_size=1, max_size=9), st.sampled_from(["mean", "median", "trimmed"]))
def test_an_average_lies_between_the_votes(votes: list[Any], how: str) -> None:
    value = agree(votes, Rules(how)).value
    assert min(map(float, votes)) <= float(value) <= max(map(float, votes))


# No stack is used up by what can be read: 200 lists and objects within one another.
WRAPS: list[Callable[[Any], Any]] = [
    lambda value: [value],
    lambda value: {"a": value},
    lambda value: [{"name": "An", "of": value}],
]


@pytest.mark.parametrize("wrap", WRAPS)
def test_the_deepest_votes(wrap: Callable[[Any], Any]) -> None:
    votes = ["x", "X", "y"]
    for _ in range(exact.DEEPEST // written(wrap(0)).replace("{", "[").count("[")):
        votes = list(map(wrap, votes))
    assert verdict_of(votes) == written(votes[0])
