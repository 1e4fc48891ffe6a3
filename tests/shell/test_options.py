"""What a command line means, however it is spelled, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstream.records import words
from llmstream.shell import options
from llmstream.shell.messages import FIX_FIRST, Stop
from llmstream.shell.options import Option

TABLE = (*options.FOR_MODELS, *options.ABOUT_ITSELF)
LONG = [f"--{option.long}" for option in TABLE]


def read(*argv: str, **environ: str) -> tuple[SimpleNamespace, list[str]]:
    return options.read(TABLE, list(argv), environ)


def refused(*argv: str, **environ: str) -> str:
    """What is said of a command line that is wrong."""
    with pytest.raises(Stop) as stop:
        read(*argv, **environ)
    assert stop.value.status == FIX_FIRST
    assert "\n" not in stop.value.reason
    return stop.value.reason


# -- options, operands and what stands between them -----------------------------------------------

MEANS: list[tuple[list[str], dict[str, Any], list[str]]] = [
    ([], {"jobs": 8, "done": None, "unordered": False, "param": (), "output": ("output",)}, []),
    (["a", "-U", "b"], {"unordered": True}, ["a", "b"]),
    (["a", "-", "b"], {}, ["a", "-", "b"]),
    (["a", ""], {}, ["a", ""]),
    (["a", "--", "-U", "--", "b"], {"unordered": False}, ["a", "-U", "--", "b"]),
    (["-U", "--"], {"unordered": True}, []),
    (["-Ur"], {"unordered": True, "raw_output": True}, []),
    (["-Urd", "x"], {"unordered": True, "raw_output": True, "done": "x"}, []),
    (["-Urdx"], {"unordered": True, "raw_output": True, "done": "x"}, []),
    (["-Uj8", "a"], {"unordered": True, "jobs": 8}, ["a"]),
    (["-j9"], {"jobs": 9}, []),
    (["-j", "9"], {"jobs": 9}, []),
    (["--jobs=9"], {"jobs": 9}, []),
    (["--jobs", "9"], {"jobs": 9}, []),
    (["-j", "10000"], {"jobs": 10000}, []),
    # a value is whatever follows
    (["-d", "-U"], {"done": "-U", "unordered": False}, []),
    (["-d", "--"], {"done": "--"}, []),
    (["-d", "-"], {"done": "-"}, []),
    (["--done", "--unordered"], {"done": "--unordered", "unordered": False}, []),
    (["-d=x"], {"done": "=x"}, []),
    (["--done=-U"], {"done": "-U"}, []),
    (["--done=a=b"], {"done": "a=b"}, []),
    (["--system="], {"system": ""}, []),
    (["-s", ""], {"system": ""}, []),
    # given again: the last one counts, -P gathers
    (["-j1", "--jobs=2", "-j", "3"], {"jobs": 3}, []),
    (["-U", "-U"], {"unordered": True}, []),
    (["-Pa=1", "-P", "b=x", "--param=a=2"], {"param": (("a", 1), ("b", "x"), ("a", 2))}, []),
    (["-v", "-q", "--help", "--version"], {"verbose": True, "quiet": True, "help": True, "version": True}, []),
    (["--timeout=0.5"], {"timeout": 0.5}, []),
    (["--drain", "0"], {"drain": 0.0}, []),
    (["--retries", "0", "--reask", "0"], {"retries": 0, "reask": 0}, []),
]


@pytest.mark.parametrize(("argv", "values", "operands"), MEANS, ids=[" ".join(row[0]) or "nothing" for row in MEANS])
def test_command_line(argv: list[str], values: dict[str, Any], operands: list[str]) -> None:
    found, rest = read(*argv)
    assert {name: getattr(found, name) for name in values} == values
    assert rest == operands


def test_first_operand_may_end_the_options() -> None:
    found, rest = options.read(TABLE, ["-U", "env", "-r", "--", "x"], {}, mixed=False)
    assert (found.unordered, found.raw_output, rest) == (True, False, ["env", "-r", "--", "x"])
    assert options.read(TABLE, ["-U", "--", "-r"], {}, mixed=False)[1] == ["-r"]


WRONG = [
    (["--zzz"], "no such option --zzz: see --help"),
    (["--zzz=3"], "no such option --zzz: see --help"),
    (["--job"], "no such option --job: did you mean --jobs?"),
    (["--job=3"], "no such option --job: did you mean --jobs?"),
    (["--keep-ordre"], "no such option --keep-ordre: did you mean --unordered?"),
    (["-Z"], "no such option -Z: see --help"),
    (["-UZ"], "no such option -Z: see --help"),
    (["--=x"], "no such option --: see --help"),
    (["---"], "no such option ---: see --help"),
    (["--unordered=yes"], "cannot use --unordered=yes: --unordered takes no value"),
    (["--unordered="], "cannot use --unordered=: --unordered takes no value"),
    (["-d"], "cannot use -d: it needs FILE after it"),
    (["-Ud"], "cannot use -d: it needs FILE after it"),
    (["--done"], "cannot use --done: it needs FILE after it"),
    (["a", "-P"], "cannot use -P: it needs NAME=VALUE after it"),
    (["-d", ""], "cannot use -d : it needs something that is not empty"),
    (["--done="], "cannot use --done : it needs something that is not empty"),
    (["-j0"], "cannot use -j 0: it needs a whole number from 1 to 10000"),
    (["-j", "10001"], "cannot use -j 10001: it needs a whole number from 1 to 10000"),
    (["-j-1"], "cannot use -j -1: it needs a whole number from 1 to 10000"),
    (["--jobs=8.0"], "cannot use --jobs 8.0: it needs a whole number from 1 to 10000"),
    (["--jobs="], "cannot use --jobs : it needs a whole number from 1 to 10000"),
    (["-j", " 8"], "cannot use -j  8: it needs a whole number from 1 to 10000"),
    (["-j", "٣"], "cannot use -j ٣: it needs a whole number from 1 to 10000"),
    (["-j", "²"], "cannot use -j ²: it needs a whole number from 1 to 10000"),
    (["--retries", "-1"], "cannot use --retries -1: it needs a whole number, 0 or more"),
    (["--retries", "9" * 5000], f"cannot use --retries {'9' * 5000}: it needs a whole number, 0 or more"),
    (["--timeout", "0"], "cannot use --timeout 0: it needs a number, 0.001 or more"),
    (["--timeout", "nan"], "cannot use --timeout nan: it needs a number, 0.001 or more"),
    (["--timeout", "inf"], "cannot use --timeout inf: it needs a number, 0.001 or more"),
    (["--timeout", "1m"], "cannot use --timeout 1m: it needs a number, 0.001 or more"),
    (["--drain", "-1"], "cannot use --drain -1: it needs a number, 0 or more"),
]


@pytest.mark.parametrize(("argv", "told"), WRONG, ids=[" ".join(row[0])[:40] for row in WRONG])
def test_wrong_command_line(argv: list[str], told: str) -> None:
    assert refused(*argv) == told


@pytest.mark.parametrize("option", TABLE, ids=LONG)
def test_no_prefix_stands_for_an_option(option: Option) -> None:
    for end in range(3, len(option.long) + 2):
        word = f"--{option.long}"[:end]
        if word not in LONG:
            assert refused(word, "1").startswith(f"no such option {word}: ")
            assert refused(f"{word}=1").startswith(f"no such option {word}: ")


def test_table_is_sound() -> None:
    assert len(set(LONG)) == len(TABLE)
    letters = [option.short for option in TABLE if option.short]
    assert len(set(letters)) == len(letters)
    for option in TABLE:
        assert option.help and len(option.short) <= 1 and option.long.replace("-", "").isalpha()
        assert option.value or (option.default is None and not option.many)


# -- the environment ------------------------------------------------------------------------------


def test_variables_set_what_flags_override() -> None:
    both = {"LLMSTREAM_JOBS": "3", "LLMSTREAM_MAX_ERRORS": "5%", "LLMSTREAM_MODEL": "m"}
    found, _ = read(**both)
    assert (found.jobs, found.max_errors, found.model) == (3, (5.0, "%"), "m")
    found, _ = read("-j4", "--max-errors=2", "-m", "n", **both)
    assert (found.jobs, found.max_errors, found.model) == (4, (2, ""), "n")


def test_parameters_of_a_variable_give_way_to_flags() -> None:
    assert read(LLMSTREAM_PARAM="seed=1")[0].param == (("seed", 1),)
    assert read("-Pa=1", "-Pb=2", LLMSTREAM_PARAM="seed=1")[0].param == (("a", 1), ("b", 2))


@pytest.mark.parametrize(("text", "quiet"), [("", False), ("0", False), ("no", False), ("False", False)] + [
    (text, True) for text in ("1", "yes", "true", "on")
])  # fmt: skip
def test_flags_of_the_environment(text: str, quiet: bool) -> None:
    assert read(LLMSTREAM_QUIET=text)[0].quiet is quiet
    assert read("-q", LLMSTREAM_QUIET=text)[0].quiet is True


def test_an_empty_variable_is_none() -> None:
    assert read(LLMSTREAM_JOBS="", LLMSTREAM_MODEL="")[0].jobs == 8


def test_what_belongs_to_one_stage_has_no_variable() -> None:
    own = [option for option in TABLE if not option.shared]
    assert {"prompt_file", "output", "done", "errors", "help"} <= {option.name for option in own}
    found, _ = read(**{option.variable: "x" for option in own})
    assert found == read()[0]


def test_wrong_variables_are_named() -> None:
    assert refused(LLMSTREAM_JOBS="x") == "cannot use LLMSTREAM_JOBS=x: it needs a whole number from 1 to 10000"
    assert refused("-j4", LLMSTREAM_PARAM="n=3").startswith("cannot use LLMSTREAM_PARAM=n=3: it needs a field of")


# -- any spelling, any argument -------------------------------------------------------------------

VALUES = {"d": st.text(min_size=1), "j": st.integers(1, 10000).map(str), "s": st.text(), "m": st.text(min_size=1)}
FLAGS = "UqrvR"
NAMED = {option.short: option for option in TABLE if option.short}


@st.composite
def spelled(draw: st.DrawFn) -> tuple[list[str], dict[str, Any], list[str]]:
    """A command line in some spelling, and what it means."""
    argv, values, operands = [], {}, []
    for kind in draw(st.lists(st.sampled_from(["flags", "short", "long", "operand"]), max_size=8)):
        if kind == "operand":
            operands.append(draw(st.text().filter(lambda text: text == "-" or not text.startswith("-"))))
            argv.append(operands[-1])
            continue
        flags = draw(st.lists(st.sampled_from(FLAGS), min_size=kind == "flags", max_size=3)) if kind != "long" else []
        values |= {NAMED[flag].name: True for flag in flags}
        if kind == "flags":
            argv.append("-" + "".join(flags))
            continue
        letter = draw(st.sampled_from(sorted(VALUES)))
        option, text = NAMED[letter], draw(VALUES[letter])
        values[option.name] = option.read(text)
        if kind == "short" and text and draw(st.booleans()):
            argv.append(f"-{''.join(flags)}{letter}{text}")
        elif kind == "short":
            argv += [f"-{''.join(flags)}{letter}", text]
        else:
            argv += draw(st.sampled_from([[f"--{option.long}={text}"], [f"--{option.long}", text]]))
    return argv, values, operands


@given(spelled(), st.lists(st.text(), max_size=2))
def test_spelling_does_not_matter(line: tuple[list[str], dict[str, Any], list[str]], behind: list[str]) -> None:
    argv, values, operands = line
    assert options.read(TABLE, argv, {}) == (SimpleNamespace(**{**vars(read()[0]), **values}), operands)
    assert options.read(TABLE, [*argv, "--", *behind], {})[1] == operands + behind


WORDS = st.one_of(st.text(max_size=6), st.sampled_from(LONG), st.sampled_from([f"-{letter}" for letter in NAMED]))


@given(st.lists(st.builds(str.__add__, WORDS, st.text(max_size=4)), max_size=5))
def test_any_arguments_are_read_or_refused(argv: list[str]) -> None:
    try:
        found, _ = options.read(TABLE, argv, {})
    except Stop as stop:
        assert stop.status == FIX_FIRST
        assert "\n" not in words.escape(stop.reason)
    else:
        assert set(vars(found)) == {option.name for option in TABLE}


# -- values ---------------------------------------------------------------------------------------


@given(st.integers(0, 30), st.integers(0, 10**6), st.integers(0, 5000), st.integers(5000, 10**5))
def test_whole_numbers_stay_in_their_range(zeros: int, value: int, low: int, high: int) -> None:
    text = "0" * zeros + str(value)
    try:
        assert options.whole(low, high)(text) == value
        assert low <= value <= high
    except ValueError:
        assert zeros or not low <= value <= high


@given(st.floats() | st.integers(), st.floats(0, 10), st.floats(10, 100))
def test_numbers_stay_in_their_range(value: float, low: float, high: float) -> None:
    try:
        assert options.number(low, high)(str(value)) == value
        assert low <= value <= high
    except ValueError:
        assert not low <= value <= high


FIELDS = [
    ("a", ("a",)),
    ("a.b", ("a", "b")),
    ("a.b.c", ("a", "b", "c")),
    (".", ()),
    ("số dư", ("số dư",)),
    ("json", ("json",)),
    ("out.js", ("out", "js")),
    ("out.jsonl", None),
    ("out.json", None),
    ("out.csv", None),
    ("a/b", None),
    ("/", None),
    ("./x", None),
    ("a..b", None),
    (".a", None),
    ("a.", None),
    ("..", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "path"), FIELDS)
def test_output_field(text: str, path: tuple[str, ...] | None) -> None:
    if path is None:
        assert refused("-o", text).startswith(f"cannot use -o {text}: it needs the name of a field")
    else:
        assert read("-o", text)[0].output == path


def test_a_file_name_as_output_field_is_told_about_stdout() -> None:
    assert refused("-oout.jsonl").endswith("the records go to stdout, > FILE")


def test_meta_is_never_the_record_itself() -> None:
    assert read("-Ma.b")[0].meta == ("a", "b")
    assert refused("-M.") == "cannot use -M .: it needs the name of a field"


PARAMETERS = [
    ("temperature=0", ("temperature", 0)),
    ("a=0.5", ("a", 0.5)),
    ("a=true", ("a", True)),
    ("a=null", ("a", None)),
    ("a=[1]", ("a", [1])),
    ('a={"b":{}}', ("a", {"b": {}})),
    ('a="1"', ("a", "1")),
    ("service_tier=flex", ("service_tier", "flex")),
    ("a=", ("a", "")),
    ("a=b=c", ("a", "b=c")),
    ("a= 1 ", ("a", 1)),
    ("a=True", ("a", "True")),
    ("a=NaN", ("a", "NaN")),
    ("a=1e400", ("a", "1e400")),
    ("a={", ("a", "{")),
    ("N=3", ("N", 3)),
    ("a=12345678901234567890123", ("a", 12345678901234567890123)),
    ("a=" + "[" * 5000, ("a", "[" * 5000)),
]


@pytest.mark.parametrize(("text", "pair"), PARAMETERS, ids=[row[0][:30] for row in PARAMETERS])
def test_parameter(text: str, pair: tuple[str, Any]) -> None:
    assert read("-P", text)[0].param == (pair,)


@pytest.mark.parametrize("text", ["", "a", "=1", "="])
def test_a_parameter_has_a_name_and_a_value(text: str) -> None:
    assert refused("-P", text) == f"cannot use -P {text}: it needs NAME=VALUE"


@pytest.mark.parametrize("name", options.NOT_PARAMETERS)
def test_parameters_that_are_not_the_users(name: str) -> None:
    assert refused("-P", f"{name}=1").endswith("a field of the request other than messages, model, n, stream")


@pytest.mark.parametrize(
    ("text", "limit"),
    [("1", (1, "")), ("300", (300, "")), ("50%", (50.0, "%")), ("0.5%", (0.5, "%")), ("0%", (0.0, "%"))]
    + [(text, None) for text in ("0", "-1", "x", "", "%", "101%", "-1%", "1.5", "nan%", "5 percent")],
)
def test_max_errors(text: str, limit: tuple[float, str] | None) -> None:
    if limit is None:
        assert refused("--max-errors", text).startswith(f"cannot use --max-errors {text}: it needs a ")
    else:
        assert read("--max-errors", text)[0].max_errors == limit


# -- the prompt and the files ---------------------------------------------------------------------


def parts(*argv: str) -> tuple[str, list[str]]:
    o, operands = read(*argv)
    return options.prompt_and_files(o.prompt_file, operands)


def complaint(*argv: str) -> str:
    with pytest.raises(Stop) as stop:
        parts(*argv)
    assert stop.value.status == FIX_FIRST
    return stop.value.reason


def test_prompt_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("asks").write_text("as written\n\n")
    assert parts("ask") == ("ask", ["-"])
    assert parts("ask", "a", "-", "b") == ("ask", ["a", "-", "b"])
    assert parts("") == ("", ["-"])
    assert parts("x" * 5000) == ("x" * 5000, ["-"])
    assert parts("--", "-U") == ("-U", ["-"])
    assert parts("-f", "asks") == ("as written\n\n", ["-"])
    assert parts("a", "-f", "asks", "-") == ("as written\n\n", ["a", "-"])


def test_what_is_no_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data.jsonl").touch()
    Path("latin").write_bytes(b"\xe9")
    Path("folder").mkdir()
    assert complaint().startswith("no PROMPT: ")
    assert complaint("data.jsonl") == (
        "cannot use the file data.jsonl as PROMPT: -f data.jsonl reads the prompt from it"
    )
    assert complaint("-f", "missing") == "cannot read prompt file missing: No such file or directory"
    assert complaint("-f", "folder") == "cannot read prompt file folder: Is a directory"
    assert complaint("-f", "latin") == "cannot read prompt file latin: it is not UTF-8"
    assert parts("folder") == ("folder", ["-"])  # a word that happens to be a directory's name


def test_text_or_file(tmp_path: Path) -> None:
    file = tmp_path / "system"
    file.write_text("Be brief.\n", encoding="utf-8")
    assert options.text_or_file("system message", "@ is no file here"[1:]) == " is no file here"
    assert options.text_or_file("system message", f"@{file}") == "Be brief.\n"
    with pytest.raises(Stop, match="cannot read system message"):
        options.text_or_file("system message", "@")


# -- --help ---------------------------------------------------------------------------------------


@given(st.lists(st.text("abcdefgh-", min_size=1, max_size=12), max_size=30), st.booleans())
def test_help_fits_a_terminal(words: list[str], default: bool) -> None:
    option = Option("some-option", "s", "VALUE", " ".join(words), default=8 if default else None)
    text = options.usage(["llm-x [option]..."], "About.", [option], "llm-x")
    assert all(len(line) <= 80 and line == line.rstrip() for line in text.splitlines())
    assert " ".join(text.split()).find(" ".join(["-s, --some-option VALUE", *words])) > 0
    assert text.endswith("\n\nThe manual: man llm-x\n")
