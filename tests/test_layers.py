"""Who may know whom. The sources are read, never run."""

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
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")
TOOL_MODULES = [tool.removeprefix("llm-") for tool in TOOLS]
PURE = (
    "agreement", "alike", "answer", "consensus", "criteria", "exact", "exposition", "fold", "histogram", "labels",
    "page", "prompt", "records", "schema", "stopping", "sums", "tables", "tally", "tree", "values",
)  # fmt: skip
MANUAL = TOP / "man"


class Import(NamedTuple):
    """One imported module, and when it is imported."""

    name: str
    lazy: bool  # inside a function
    typing: bool  # under TYPE_CHECKING: never at run time


def imports_of(module: str) -> list[Import]:
    return list(_imports(ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))))


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
    parts = [found.name.split(".") for found in wanted if found.name.startswith("llmstream.")]
    return {part[1] for part in parts if not part[1].startswith("__")}


def who_imports(*wanted: str) -> set[str]:
    return {module for module in MODULES if packages(module) & set(wanted)}


# -- one place for each thing from outside ----------------------------------------------------------

HTTP = {"openai", "aiohttp", "httpx", "httpx2", "httpcore", "requests", "urllib3"}


def test_only_wire_knows_openai_and_http() -> None:
    assert who_imports(*HTTP) == {"wire"}
    assert not {found.name for found in imports_of("wire") if not found.lazy and not found.typing} & HTTP


def test_only_flow_knows_pypeln() -> None:
    assert who_imports("pypeln") == {"flow"}


def test_only_ask_knows_tenacity() -> None:
    assert who_imports("tenacity") == {"ask"}


def test_only_prices_knows_genai_prices() -> None:
    assert who_imports("genai_prices") == {"prices"}
    eager = {found.name for found in imports_of("prices") if not found.lazy and not found.typing}
    assert not {name for name in eager if "genai" in name}


def test_only_line_knows_tqdm() -> None:
    assert who_imports("tqdm") == {"line"}


def test_every_import_from_outside_is_a_dependency() -> None:
    told = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["dependencies"]
    known = {re.split(r"[\[<>=~! ]", name)[0].replace("-", "_") for name in told} | {"httpx2"}  # openai brings that
    for module in MODULES:
        assert packages(module) <= known | set(sys.stdlib_module_names), module


@pytest.mark.parametrize("module", [name for name in PURE if name in MODULES])
def test_values_in_values_out(module: str) -> None:
    forbidden = {
        "os",
        "io",
        "pathlib",
        "socket",
        "ssl",
        "time",
        "asyncio",
        "threading",
        "subprocess",
        "signal",
        "random",
    }
    assert not packages(module) & (forbidden | HTTP | {"http", "urllib"})
    calls = [node for node in ast.walk(_tree(module)) if isinstance(node, ast.Call)]
    called = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
    assert not called & {"open", "print", "input", "exec", "eval", "__import__"}


def _tree(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))


# -- among ourselves --------------------------------------------------------------------------------


def test_tools_do_not_know_one_another() -> None:
    for module in TOOL_MODULES:
        assert not neighbours(module) & set(TOOL_MODULES), module


def test_who_asks_nobody_loads_no_calls() -> None:
    """What needs no model starts at once: it shares nothing with what calls one."""
    for module in ("merge", "plain", "recount", "groups", "fold", "tables", "outlet", "each"):
        assert not neighbours(module, lazy=False) & {"flow", "ask", "wire", "start", "limits", "stdio", "fuse"}


def test_only_tools_know_the_flow() -> None:
    assert {module for module in MODULES if "flow" in neighbours(module)} <= {*TOOL_MODULES, "fuse"}


KNOWS_NOTHING_OF = [
    ("values", set(MODULES)),
    ("exact", set(MODULES)),
    ("records", {"options", "start", "prompt", "answer", "ask", "wire", "flow", "done"}),
    ("prompt", {"wire", "ask", "flow", "done", "limits", "options", "stdio"}),
    ("answer", {"wire", "ask", "flow", "done", "limits", "options", "stdio"}),
    ("schema", {"wire", "ask", "flow", "done", "limits", "options", "stdio"}),
    ("done", {"prompt", "answer", "schema", "ask", "wire", "flow", "limits", "records"}),
    ("wire", {"ask", "done", "limits", "flow", "prompt", "answer", "records"}),
    ("limits", {"wire", "ask", "flow", "done", "prompt", "answer"}),
    ("ask", {"flow", "stdio", "place", "options", "start", "records"}),
    ("flow", {"prompt", "answer", "schema", "start", "options"}),
    ("events", {"flow", "stdio", "wire", "ask", "done", "summary", "status", "line"}),
    ("log", {"flow", "ask", "done", "events", "options", "start", "wire"}),
    ("summary", {"flow", "ask", "done", "options", "start", "wire", "line"}),
    ("histogram", set(MODULES)),
    ("labels", set(MODULES) - {"exact", "schema"}),
    ("prices", set(MODULES) - {"complain", "exact", "options", "values"}),
    ("line", set(MODULES) - {"complain"}),
    ("through", set(MODULES) - {"complain", "files", "line"}),
    ("exposition", {"report", "flow", "ask", "wire", "options", "files"}),
    ("page", {"report", "flow", "ask", "wire", "options", "files"}),
    ("stages", {"report", "flow", "ask", "wire", "options"}),
    ("stdio", set(MODULES) - {"files", "named_files"}),
    ("named_files", set(MODULES) - {"complain"}),
    ("files", {"flow", "plain", "ask", "done", "options", "start", "wire"}),
    ("plain", {"flow", "ask", "wire", "done", "start", "options", "stdio"}),
    ("consensus", set(MODULES) - {"alike", "exact", "stopping"}),
    ("stopping", set(MODULES)),
    ("agreement", set(MODULES) - {"exact", "alike"}),
    ("complain", set(MODULES)),
    ("options", {"flow", "start", "wire", "ask", "done"}),
]


@pytest.mark.parametrize(("module", "others"), KNOWS_NOTHING_OF, ids=[row[0] for row in KNOWS_NOTHING_OF])
def test_knows_nothing_of(module: str, others: set[str]) -> None:
    assert not neighbours(module) & others


@pytest.mark.parametrize("module", ["limits", "ask", "flow", "done"])
def test_no_http_by_another_door(module: str) -> None:
    assert not packages(module) & (HTTP | {"http", "urllib", "socket", "ssl"})


def test_everybody_imports_somebody_who_exists() -> None:
    for module in MODULES:
        assert neighbours(module) <= set(MODULES), module


def test_no_cycle() -> None:
    try:
        TopologicalSorter({module: neighbours(module) for module in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


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
    heavy = HTTP | {"pypeln", "tenacity", "jinja2", "jsonschema_rs", "genai_prices", "pydantic", "tqdm"}
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
    assert len(text.splitlines()) <= 15
    assert f'complain.leave("{tool}", {tool.removeprefix("llm-")}.main)' in text


def test_the_package_is_flat() -> None:
    assert [path.name for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE] == []
    assert not set(MODULES) & {"utils", "util", "base", "manager", "helpers", "common", "misc"}


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
