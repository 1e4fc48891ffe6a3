"""The manual against the tools: every option has its entry, every example runs, no page promises more.

Conventions of the pages in man/:

- The entry of an option in OPTIONS is `.It Fl d , Fl -done Ar FILE`. Its default is stated as "The
  default is 8." and its variable, where it has one, by its name. Fl is used for our own options only.
- `.Bd -literal` is a shell script (a makefile in the section MAKE). The scripts of a page are run one
  after another in one directory, with the files of FILES in it, and each has to print something or
  to leave a file. Whatever is no script is `.Bd -unfilled`.
- `.Bd -unfilled` right behind a script, with no text between, is what it prints.

In README.md a block ```sh is such a script too, and a block ```console is a session: the commands
behind `$ `, and what they say on stderr.
"""

from __future__ import annotations

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
from tool import BIN, TOOLS, TOP, environment, jsonl, run

from llmstream.books import summary
from llmstream.books.events import Counts, Events
from llmstream.calls import asking
from llmstream.calls.causes import Cause
from llmstream.shell import messages, options
from llmstream.shell.options import Option

PAGES = sorted((TOP / "man").iterdir())
PROSE = [*PAGES, TOP / "README.md", TOP / "CHANGES.md"]
SHARED_STATUS = {0, 1, messages.FIX_FIRST, messages.CANNOT_WRITE, messages.LATER}
BORROWED = ("awk", "b2sum", "jq", "make", "mlr", "split", "timeout")  # by examples; a system may lack them

POSTS = (
    {"id": 1, "author": "ann", "title": "Rain", "text": "It rained in Galway all week. Nobody minded."},
    {"id": 2, "author": "bo", "title": "Boats", "text": "The ferry runs again, says Mary Walsh.", "place": "Inis Oírr"},
    {"id": 3, "author": "ann", "title": "Bread", "text": "Anna Kelly bakes forty loaves before dawn."},
)
AUTHORS = (
    {"id": "ann", "name": "Ann Burke", "city": "Galway"},
    {"id": "bo", "name": "Bo Lind", "city": "Malmö"},
)
FILES = {
    "posts.jsonl": jsonl(*POSTS),
    "authors.jsonl": jsonl(*AUTHORS),
    "contacts.csv": "name,city\nAnn Burke,Galway\nBo Lind,Malmö\n",
    "book.txt": "It rained.\nIt rained more.\n\nThen came the sun.\n\nThe end.\n",
    "tag.prompt": "Three tags for this: {{ text }}\n",
}


def module(tool: str) -> ModuleType:
    return importlib.import_module(f"llmstream.{tool.removeprefix('llm-')}")


def table(tool: str) -> tuple[Option, ...]:
    found: tuple[Option, ...] = module(tool).TABLE
    return found


def source(tool: str) -> str:
    return (TOP / "man" / f"{tool}.1").read_text()


# -- reading a page ---------------------------------------------------------------------------


class Block(NamedTuple):
    """A display of a page, or a fenced block of README.md."""

    line: int
    section: str
    kind: str  # literal, unfilled; sh, console
    text: str
    behind: bool  # nothing but white space stands between it and the block before


def blocks_of_page(page: Path) -> list[Block]:
    found: list[Block] = []
    section, kind, at, behind = "", "", 0, False
    text: list[str] = []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if kind and line == ".Ed":
            found.append(Block(at, section, kind, "".join(text), behind))
            kind, behind, text = "", True, []
        elif kind:
            text.append(f"{unescaped(line)}\n")
        elif line.startswith(".Bd"):
            kind, at = line.split()[1].removeprefix("-"), number
        else:
            section = line.removeprefix(".Sh ") if line.startswith(".Sh ") else section
            behind = behind and line == ".Pp"
    return found


def blocks_of_readme() -> list[Block]:
    text = (TOP / "README.md").read_text()
    fenced = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(text[: each.start()].count("\n") + 1, "", each[1], each[2], False) for each in fenced]


def unescaped(text: str) -> str:
    for escape, char in ((r"\e", "\\"), (r"\&", ""), (r"\(dq", '"'), (r"\(aq", "'"), ("\\ ", " ")):
        text = text.replace(escape, char)
    return text


def plain(line: str) -> str:
    """The text of a line of mdoc, as far as entries of options and what stands around them need it."""
    words = line.split()[1:] if line.startswith(".") else line.split()
    out, close, joined, flag = "", "", True, False
    for word in words if line.startswith(".") else []:
        if word == "Ns":
            joined = True
        elif word == "Op":
            out, close, joined = out + "[" * joined + " [" * (not joined), "]", True
        elif word == "Fl":
            flag = True
        elif word not in ("Ar", "Cm", "Ev", "Pq", "Ql", "No"):
            space = "" if joined or word in (",", ".", ":", ";") else " "
            out, joined, flag = f"{out}{space}{'-' * flag}{word}", False, False
    return unescaped(out + close) if line.startswith(".") else unescaped(line)


def section(text: str, name: str) -> str:
    found = re.search(rf"^\.Sh {name}\n(.*?)(?=^\.Sh |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no section {name}"
    return found[1]


def entries(tool: str) -> dict[str, str]:
    """The options of a page as they are spelled there, each with the text of its entry."""
    _, *parts = re.split(r"^\.It (?=Fl )", section(source(tool), "OPTIONS"), flags=re.MULTILINE)
    heads = [part.partition("\n") for part in parts]
    return {plain(f".It {head}"): " ".join(map(plain, body.splitlines())) for head, _, body in heads}


def spelled(option: Option) -> str:
    short = f"-{option.short}, " if option.short else ""
    return f"{short}--{option.long} {option.value}".rstrip()


# -- options ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", TOOLS)
def test_every_option_has_its_entry_and_every_entry_its_option(tool: str) -> None:
    assert list(entries(tool)) == [spelled(option) for option in table(tool)]


@pytest.mark.parametrize("tool", TOOLS)
def test_defaults_are_those_of_the_table(tool: str) -> None:
    written = entries(tool)
    for option in table(tool):
        stated = re.findall(r"default is (\S+?)[.,:;]? ", written[spelled(option)] + " ")
        known = [] if option.default in (None, ()) else [options._shown(option.default)]
        if option.default or stated:  # none of something need not be said
            assert stated == known, f"the default of --{option.long}"


def test_default_model() -> None:
    assert asking.DEFAULT_MODEL in entries("llm-map")["-m, --model NAME"]


@pytest.mark.parametrize("tool", TOOLS)
def test_variables_stand_in_the_entries_of_their_options(tool: str) -> None:
    for option in table(tool):
        named = set(re.findall(r"LLMSTREAM_\w+", entries(tool)[spelled(option)]))
        assert named == ({option.variable} if option.shared else set()), f"--{option.long}"


def test_no_other_variable_is_named() -> None:
    known = {option.variable for tool in TOOLS for option in table(tool) if option.shared}
    for path in PROSE:
        assert set(re.findall(r"LLMSTREAM_\w+", path.read_text())) <= known, path.name


def all_options() -> set[str]:
    found = [option for tool in TOOLS for option in table(tool)]
    return {f"--{option.long}" for option in found} | {f"-{option.short}" for option in found if option.short}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_no_other_option(page: Path) -> None:
    tools = [page.stem] if page.stem in TOOLS else TOOLS
    known = {name for tool in tools for option in table(tool) for name in (f"--{option.long}", f"-{option.short}")}
    for line in page.read_text().splitlines():
        for name in re.findall(r"\bFl (-?[^\s,]+)", line) if line.startswith(".") else []:
            assert f"-{name}" in known | {"--"}, line


@pytest.mark.parametrize("tool", TOOLS)
def test_help_names_no_other_option(tool: str) -> None:
    shown = run(tool, "--help").stdout.decode()
    known = {f"--{option.long}" for option in table(tool)} | {f"-{option.short}" for option in table(tool)} | {"--"}
    assert set(re.findall(r"(?<![\w-])--?[a-z-]*", shown)) - {"-"} <= known


def test_readme_names_no_other_option() -> None:
    text = re.sub(r"^```.*?^```$", "", (TOP / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    ours = [words for words in re.findall(r"`([^`]*)`", text) if not re.match(r"(man|make|kill|pipx?) ", words)]
    for words in ours:
        assert set(re.findall(r"(?<![\w-])--?\w[\w-]*", words)) <= all_options(), words


# -- commands in examples ---------------------------------------------------------------------


def commands(script: str) -> Iterator[list[str]]:
    """Each call of one of our tools in a shell script, also within bash -c '...' and behind llm-sim --."""
    script = re.sub(r"<<'?(\w+)'?\n.*?^\1$", "", script.replace("\\\n", " "), flags=re.MULTILINE | re.DOTALL)
    lexer = shlex.shlex(script, posix=True, punctuation_chars="();<>|&\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    call: list[str] | None = None
    skip = False
    for word in lexer:
        if skip or (set(word) <= set("<>&") and set(word) & set("<>")):
            skip = not skip  # a redirection and its file
        elif set(word) <= set("();|&\n"):
            yield from [call] if call else []
            call = None
        elif word in TOOLS:
            yield from [call] if call else []
            call = [word]
        elif any(f"{tool} " in word for tool in TOOLS):
            yield from commands(word)
        elif call is not None:
            call.append(word)
    yield from [call] if call else []


def scripts() -> list[tuple[str, str]]:
    found = [(f"{page.name}:{block.line}", block) for page in PAGES for block in blocks_of_page(page)]
    found += [(f"README.md:{block.line}", block) for block in blocks_of_readme()]
    wanted = [(where, block) for where, block in found if block.kind in ("literal", "sh", "console")]
    return [(where, re.sub(r"^\$ ", "", block.text, flags=re.MULTILINE)) for where, block in wanted]


@pytest.mark.parametrize("where, script", scripts(), ids=[where for where, _ in scripts()])
def test_commands_use_options_that_there_are(where: str, script: str) -> None:
    for tool, *words in commands(script):
        try:
            options.read(table(tool), words, {}, mixed=tool != "llm-sim")
        except messages.Stop as stop:
            pytest.fail(f"{where}: {tool}: {stop.reason}")


def test_commands_are_found() -> None:
    script = "a=b llm-sim -x -- bash -c 'llm-map -r \"{{ a }}\" |\n llm-map -U' > f && llm-map -q\\\n -v"
    assert list(commands(script)) == [
        ["llm-map", "-r", "{{ a }}"],
        ["llm-map", "-U"],
        ["llm-sim", "-x", "--", "bash", "-c"],
        ["llm-map", "-q", "-v"],
    ]


# -- running the examples ---------------------------------------------------------------------


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    return desk_in(tmp_path)


def desk_in(place: Path) -> Path:
    """A directory with the files that the pages speak of, and beside it our tools for PATH."""
    (place / "bin").mkdir()
    for tool in TOOLS:
        wrapper = place / "bin" / tool
        wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(BIN / tool))} "$@"\n')
        wrapper.chmod(0o755)
    made = place / "desk"
    made.mkdir()
    for name, text in FILES.items():
        (made / name).write_text(text)
    return made


def shell(script: str, desk: Path) -> subprocess.CompletedProcess[str]:
    """Run a script as somebody would who has typed it in, but at a simulated endpoint."""
    words = [sys.executable, str(BIN / "llm-sim"), "--any-model", "--", "bash", "-o", "pipefail", "-ec", script]
    env = environment(PATH=f"{desk.parent / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return subprocess.run(words, cwd=desk, env=env, capture_output=True, text=True, timeout=120, check=False)


def lacking(script: str) -> list[str]:
    """Programs that a script needs and this system has not."""
    return [name for name in BORROWED if re.search(rf"\b{name} ", script) and not shutil.which(name)]


def left(desk: Path) -> dict[str, int]:
    """The files in a directory that are not empty, and when they were written."""
    return {path.name: path.stat().st_mtime_ns for path in desk.iterdir() if path.stat().st_size}


def check_script(where: str, script: str, desk: Path) -> str:
    before = left(desk)
    result = shell(script, desk)
    told = f"{where}: status {result.returncode}\n{result.stdout}{result.stderr}"
    assert result.returncode == 0, told
    assert " bug" not in result.stderr, told
    assert result.stdout.strip() or left(desk) != before, f"{told}it printed nothing, and left nothing"
    return result.stdout


def run_examples(page: Path, desk: Path) -> set[str]:
    """Run the scripts of a page; the programs for want of which some of them did not run."""
    missing: set[str] = set()
    printed: str | None = None
    for block in blocks_of_page(page):
        if block.kind == "literal" and block.section != "MAKE":
            lack = lacking(block.text)
            missing |= set(lack)
            printed = None if lack else check_script(f"{page.name}:{block.line}", block.text, desk)
        elif block.behind and printed is not None:
            assert printed == block.text, f"{page.name}:{block.line}"
    return missing


@pytest.fixture(scope="module")
def pages_under_way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Path, Future[set[str]]]]:
    """All the pages at once: their examples wait for one another, and for calls, most of the time."""
    with ThreadPoolExecutor(len(PAGES)) as pool:
        desks = {page: desk_in(tmp_path_factory.mktemp(page.name)) for page in PAGES}
        yield {page: pool.submit(run_examples, page, desk) for page, desk in desks.items()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_run(page: Path, pages_under_way: dict[Path, Future[set[str]]]) -> None:
    if missing := pages_under_way[page].result():
        pytest.skip(f"some of the examples want {', '.join(sorted(missing))}")


def test_makefile_of_the_manual(desk: Path) -> None:
    if lacking("make "):
        pytest.skip("no make")
    (block,) = [block for block in blocks_of_page(TOP / "man" / "llmstream.7") if block.section == "MAKE"]
    (desk / "Makefile").write_text(block.text)
    check_script("MAKE", "make", desk)
    assert (desk / "tagged.jsonl").read_text().count("\n") == len(POSTS)
    assert "up to date" in check_script("MAKE, again", "make", desk)
    (desk / "posts.jsonl").write_text('{"text":"fine"}\n{"none":1}\n')
    assert shell("make", desk).returncode == 2
    assert (desk / "tagged.jsonl").read_text().count("\n") == len(POSTS), "a half result has the name of a whole one"


# -- README -----------------------------------------------------------------------------------

_SETS_UP = re.compile(r"^(make|pipx?) ", re.MULTILINE)


def test_readme_examples_run(desk: Path) -> None:
    for block in blocks_of_readme():
        if block.kind == "sh" and not _SETS_UP.search(block.text):
            if lack := lacking(block.text):
                pytest.skip(f"no {', '.join(lack)}")
            check_script(f"README.md:{block.line}", block.text, desk)


def test_readme_set_up_commands_exist() -> None:
    text = "".join(block.text for block in blocks_of_readme() if block.kind == "sh" and _SETS_UP.search(block.text))
    targets = set(re.findall(r"^([a-z]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
    wanted = set(re.findall(r"^make (\w+)", text, re.MULTILINE))
    assert {"demo", "test", "install"} <= wanted <= targets
    assert set(re.findall(r"^pipx? .*", text, re.MULTILINE)) == {"pip install .", "pipx install ."}
    assert "[project]" in (TOP / "pyproject.toml").read_text()


def test_readme_says_what_ci_runs() -> None:
    ran = re.findall(r"^make .*", (TOP / ".ci" / "run").read_text(), re.MULTILINE)
    assert ran == ["make check"]
    assert "`make check`" in (TOP / "README.md").read_text()


def test_readme_session_is_real(desk: Path) -> None:
    """Killed and run again: the same messages as in the picture, whatever the numbers are today."""
    if lack := lacking("timeout "):
        pytest.skip(f"no {lack[0]}")
    (block,) = [block for block in blocks_of_readme() if block.kind == "console"]
    shutil.copy(TOP / "examples" / "articles.jsonl", desk)
    typed = re.findall(r"^\$ (.*)", block.text, re.MULTILINE)
    result = shell("set +e\n" + "\n".join(typed), desk)
    assert without_numbers(result.stderr) == without_numbers(block.text)
    assert (desk / "out.jsonl").read_text().count("\n") == 200


def without_numbers(text: str) -> list[str]:
    """The messages of llm-map; of replayed ones the first runs may have none."""
    text = re.sub(r"\d[\d.,]*\d|\d", "N", text).replace(" (N records/s)", "")
    return re.findall("llm-map: .*", text)


# -- the rest ---------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lint(page: Path) -> None:
    if not shutil.which("mandoc"):
        pytest.skip("no mandoc")
    said = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True, check=False)
    assert (said.stdout, said.returncode) == ("", 0)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_are_of_a_known_kind(page: Path) -> None:
    assert {block.kind for block in blocks_of_page(page)} <= {"literal", "unfilled"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_exit_statuses(page: Path) -> None:
    text = page.read_text()
    known = set(SHARED_STATUS)
    if page.stem in TOOLS:
        known |= {value for name, value in vars(module(page.stem)).items() if name.startswith("NOT_")}
    if "\n.Sh EXIT STATUS\n" in text:
        listed = {int(number) for number in re.findall(r"^\.It (\d+)$", section(text, "EXIT STATUS"), re.MULTILINE)}
        assert listed <= known
        assert listed == known or page.stem in ("llm-progress", "llm-sim")  # which ask nobody
    said = {int(number) for number in re.findall(r"\bstatus(?: is)? (\d+)", text)}
    assert {number for number in said if number < 100} <= known


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.name)
def test_no_tool_is_named_that_does_not_exist(path: Path) -> None:
    assert set(re.findall(r"\bllm-[a-z]+", path.read_text())) <= set(TOOLS)


def test_pages_refer_to_pages() -> None:
    ours = {f"{page.stem} {page.suffix[1:]}" for page in PAGES}
    for page in PAGES:
        referred = re.findall(r"^\.(?:Pq )?Xr (\S+ \d)", page.read_text(), re.MULTILINE)
        assert {name for name in referred if name.startswith("llm")} <= ours, page.name


def test_types_of_failures_are_all_there() -> None:
    """Those that the code gives, and no other, are in the table of the page."""
    code = "".join(path.read_text() for path in (TOP / "llmstream").rglob("*.py"))
    given = set(re.findall(r'\b(?:Failure|Rejected|Trouble)\(\s*"(\w+)"', code)) - {"stopped", "bug"}
    given |= {cause.failure_type for cause in Cause}
    listed = section(source("llm-map"), "FAILURES AND RETRIES") + section(source("llm-vote"), "DIAGNOSTICS")
    listed += section(source("llm-merge"), "DIAGNOSTICS")
    assert set(re.findall(r"^\.It Cm (\w+)$", listed, re.MULTILINE)) == given


def test_fields_of_the_done_file(desk: Path) -> None:
    """Each field of a line is in the page, in the order of the file."""
    made = shell("llm-map -q -d a.done Hi posts.jsonl; llm-map -q -d b.done -P max_tokens=1 Hi posts.jsonl", desk)
    assert made.returncode == 1
    lines = [(desk / name).read_text().splitlines()[0] for name in ("a.done", "b.done")]
    fields = list(dict.fromkeys(name for line in lines[::-1] for name in re.findall(r'[{,]"(\w+)":', line)))
    listed = re.findall(r"^\.It Cm (?:\\&)?(\w+)$", section((TOP / "man" / "llmstream-done.5").read_text(),
                        "DESCRIPTION"), re.MULTILINE)  # fmt: skip
    assert listed == [name for name in fields if name not in ("input", "output")]


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.name)
def test_summaries_are_as_they_are_printed(path: Path) -> None:
    for line in re.findall(r"^llm-map: (read .*)", path.read_text(), re.MULTILINE):
        told = {name: int(count) for name, count in re.findall(r"(\w+) (\d+)", line)}
        tries = re.search(r"in (\d+) tries", line)
        usable = re.search(r"of (\d+) in", line)
        names = re.findall(r"failed \d+ \(([^)]*)\)", line)
        counts = Counts(**{name: told[name] for name in told if name in Counts.__slots__}, names=names)
        counts.tries = int(tries[1]) if tries else counts.calls
        counts.recalled = counts.replayed
        happened = Events()
        happened.counts = counts
        again = summary.lines(happened, int(usable[1]) if usable else None)[0]
        assert line.rpartition(", ")[0] == again.rpartition(", ")[0], path.name
