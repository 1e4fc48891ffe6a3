"""The house: which room may know which, and which alone may know a library. The sources are read, never run."""

from __future__ import annotations

import ast
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest
from tool import BIN, TOOLS, TOP

PACKAGE = TOP / "llmstream"
MANUAL = TOP / "man"
TOOL_MODULES = [tool.removeprefix("llm-") for tool in TOOLS]
# A module of the package by its name: "map" is a tool, "calls.ask" stands in a room.
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py"
)

# What each room may know: no arrow goes up, and none goes round. Tools know rooms, and never one another.
ROOMS: dict[str, set[str]] = {
    "stream": {"calls", "done", "books", "records", "shell"},
    "calls": {"prompts", "done", "books", "records", "shell"},
    "watch": {"done", "books", "records", "shell"},
    "books": {"records", "shell"},
    "done": {"records", "shell"},
    "endpoint": {"records", "shell"},
    "prompts": {"records"},
    "folds": {"votes", "records"},
    "votes": {"records"},
    "shell": {"records"},
    "records": set(),
}
PURE = ("prompts", "votes", "folds", "records")  # values in, values out: no socket, clock, signal or file
# The only room, or module, that may know a library.
ALONE: dict[str, str | tuple[str, ...]] = {
    "openai": "calls.wire",
    "httpx2": "calls.wire",
    "aiohttp": "calls.wire",
    "pypeln": "stream",
    "tenacity": "calls",
    "jinja2": "prompts",
    "jsonschema_rs": "records",
    "orjson": ("records", "endpoint"),
}


class Import(NamedTuple):
    """One imported module, and when it is imported."""

    name: str
    lazy: bool  # inside a function
    typing: bool  # under TYPE_CHECKING: never at run time


def path_of(module: str) -> Path:
    return PACKAGE.joinpath(*module.split(".")).with_suffix(".py")


def room_of(module: str) -> str:
    """The room that a module stands in; none for a tool."""
    return module.partition(".")[0] if "." in module else ""


def imports_of(module: str) -> list[Import]:
    return list(_imports(ast.parse(path_of(module).read_text(encoding="utf-8"))))


def _imports(node: ast.AST, *, lazy: bool = False, typing: bool = False) -> Iterator[Import]:
    lazy = lazy or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    typing = typing or (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"))
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        assert not node.level, f"a relative import, line {node.lineno}"
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    for name in names:
        yield Import(name, lazy=lazy, typing=typing)
    for child in ast.iter_child_nodes(node):
        yield from _imports(child, lazy=lazy, typing=typing)


def packages(module: str) -> set[str]:
    """The packages that a module imports, at any time, ours not counted."""
    return {found.name.partition(".")[0] for found in imports_of(module)} - {"llmstream"}


def neighbours(module: str, *, typing: bool = True, lazy: bool = True) -> set[str]:
    """The modules of ours that a module imports."""
    wanted = [found for found in imports_of(module) if (typing or not found.typing) and (lazy or not found.lazy)]
    found = set()
    for one in wanted:
        name = one.name.removeprefix("llmstream.")
        while name and name not in MODULES:
            name = name.rpartition(".")[0]
        found |= {name} if name and one.name.startswith("llmstream.") else set()
    return found


# -- the rooms --------------------------------------------------------------------------------------


def arrows() -> dict[str, set[str]]:
    """The rooms that each room knows today."""
    found: dict[str, set[str]] = {room: set() for room in ROOMS}
    for module in MODULES:
        if room := room_of(module):
            found[room] |= {room_of(other) or other for other in neighbours(module)} - {room}
    return found


def test_every_folder_is_a_room_that_says_what_is_in_it() -> None:
    folders = {path.parent.name: path.read_text() for path in PACKAGE.glob("*/__init__.py")}
    assert set(folders) == set(ROOMS)
    for room, text in folders.items():
        assert re.fullmatch(r'"""[^\n]+[.]"""\n', text), room


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_knows_only_what_it_may(room: str) -> None:
    too_much = {
        f"{module} -> {other}"
        for module in MODULES
        if room_of(module) == room
        for other in neighbours(module)
        if room_of(other) and room_of(other) not in {room, *ROOMS[room]}
    }
    assert not too_much


def test_no_arrow_goes_up_and_none_goes_round() -> None:
    order = list(ROOMS)
    for room, known in ROOMS.items():
        assert all(order.index(other) > order.index(room) for other in known), room
    try:
        TopologicalSorter({module: neighbours(module) for module in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_table_of_arrows(request: pytest.FixtureRequest) -> None:
    """pytest -s -k table_of_arrows prints it."""
    table = arrows()
    if request.config.getoption("capture") == "no":
        sys.stdout.writelines(f"{room:>9} -> {' '.join(sorted(known)) or '-'}\n" for room, known in table.items())
    assert all(known <= ROOMS[room] for room, known in table.items())


def test_the_tools_stand_in_front() -> None:
    assert sorted(path.stem for path in PACKAGE.glob("*.py")) == sorted(["__init__", *TOOL_MODULES])


def test_tools_do_not_know_one_another() -> None:
    for module in TOOL_MODULES:
        assert not neighbours(module) & set(TOOL_MODULES), module


def test_names_that_say_nothing() -> None:
    last = {module.rpartition(".")[2] for module in MODULES}
    assert not last & {"utils", "util", "base", "manager", "helpers", "common", "misc"}


def test_who_asks_nobody_loads_no_calls() -> None:
    """What needs no model starts at once: it shares nothing with what calls one."""
    seen, todo = set(), {"merge", "progress", "stream.flow_without_calls"}
    while todo:
        module = todo.pop()
        seen.add(module)
        todo |= neighbours(module, lazy=False, typing=False) - seen
    assert not {room_of(module) for module in seen} & {"calls"}


# -- what is from outside ---------------------------------------------------------------------------


@pytest.mark.parametrize("library", ALONE)
def test_one_place_knows_a_library(library: str) -> None:
    for module in MODULES:
        if library in packages(module) and room_of(module):
            assert module.startswith(ALONE[library]), module


def test_openai_and_http_are_loaded_when_they_are_needed() -> None:
    heavy = {"openai", "aiohttp", "httpx2"}
    for module in MODULES:
        eager = {found.name.partition(".")[0] for found in imports_of(module) if not found.lazy and not found.typing}
        assert not eager & heavy, module


def test_every_import_from_outside_is_a_dependency() -> None:
    told = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["dependencies"]
    known = {re.split(r"[\[<>=~! ]", name)[0].replace("-", "_") for name in told} | {"httpx2"}  # openai brings that
    for module in MODULES:
        assert packages(module) <= known | set(sys.stdlib_module_names), module


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module) in PURE])
def test_values_in_values_out(module: str) -> None:
    reach = {
        "os", "io", "pathlib", "socket", "ssl", "time", "threading", "subprocess", "signal", "random", "http", "urllib",
    }  # fmt: skip
    assert not packages(module) & reach
    calls = [node for node in ast.walk(ast.parse(path_of(module).read_text())) if isinstance(node, ast.Call)]
    called = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
    assert not called & {"open", "print", "input", "exec", "eval", "__import__"}


def test_the_network_is_behind_the_wire() -> None:
    network = {"http", "urllib", "socket", "ssl"}
    for module in MODULES:
        if packages(module) & network:
            assert module.startswith(("calls.wire", "calls.prices", "endpoint.", "shell.line_sharing", "sim")), module


@pytest.mark.parametrize("module", TOOL_MODULES)
def test_help_loads_nothing_heavy(module: str) -> None:
    """What a tool imports before it has read its options, and what those import in turn."""
    seen: set[str] = set()
    todo = {module}
    while todo:
        name = todo.pop()
        seen.add(name)
        todo |= neighbours(name, typing=False, lazy=False) - seen
    eager = {found.name for name in seen for found in imports_of(name) if not found.lazy and not found.typing}
    heavy = {
        "openai",
        "aiohttp",
        "httpx2",
        "pypeln",
        "tenacity",
        "jinja2",
        "jsonschema_rs",
        "pydantic",
    }
    assert not {name.partition(".")[0] for name in eager} & heavy


# -- files that belong together ---------------------------------------------------------------------


@pytest.mark.parametrize("tool", TOOLS)
def test_four_files_belong_together(tool: str) -> None:
    name = tool.removeprefix("llm-")
    assert tool == f"llm-{name}"
    belong = [BIN / tool, PACKAGE / f"{name}.py", MANUAL / f"{tool}.1", TOP / "tests" / f"test_{name}.py"]
    assert [str(path.relative_to(TOP)) for path in belong if not path.is_file()] == []


def test_no_page_without_its_tool() -> None:
    assert {page.stem for page in MANUAL.glob("llm-*.1")} <= set(TOOLS)


@pytest.mark.parametrize("tool", TOOLS)
def test_executables_are_short(tool: str) -> None:
    path = BIN / tool
    text = path.read_text()
    assert os.access(path, os.X_OK)
    assert text.startswith("#!/usr/bin/env python3\n")
    assert len(text.splitlines()) <= 18
    assert f'messages.leave("{tool}")' in text


def test_everything_is_installed() -> None:
    wheel = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["shared-scripts"] == {f"bin/{tool}": tool for tool in TOOLS}
    pages = {f"man/{page.name}": f"share/man/man{page.suffix[1:]}/{page.name}" for page in MANUAL.glob("*.[0-9]")}
    assert wheel["shared-data"] == pages


# -- what no file says ------------------------------------------------------------------------------


def project_files() -> Iterator[Path]:
    """The files of the project: what .gitignore names is none of it, nor what the tools of the trade leave."""
    gitignore = TOP / ".gitignore"
    ignored = [line.strip("/") for line in gitignore.read_text().splitlines()] if gitignore.exists() else []
    passed_by = [*ignored, ".git", "__pycache__", ".*_cache", ".venv", "dist", "build"]
    for folder, folders, names in os.walk(TOP):
        folders[:] = [name for name in folders if not any(fnmatch(name, pattern) for pattern in passed_by)]
        yield from (Path(folder, name) for name in names if not any(fnmatch(name, pattern) for pattern in passed_by))


def says(pattern: str) -> list[str]:
    """Where the project's files say something: file, line and the words."""
    looked_for = re.compile(pattern)
    found = []
    for path in project_files():
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            found += [f"{path.relative_to(TOP)}:{number}: {hit[0]}" for hit in looked_for.finditer(line)]
    return found


def test_no_file_names_a_registry() -> None:
    hosts = r"pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|crates\.io|proxy\.golang\.org|anaconda\.(?:org|com)"
    assert says(rf"(?i)\b(?:[\w-]+\.)*(?:{hosts})|--(?:extra-)?index-url") == []


def test_no_file_names_a_place_on_one_machine() -> None:
    assert says(r"(?<![\w.~$}*-])/(?:work|tmp|root)/\w[\w./-]*") == []
