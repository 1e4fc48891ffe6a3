"""What somebody gets who installs it: each Python of this machine, an environment with nothing else in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tool import TOOLS, TOP, environment

WANTED = ("3.11", "3.12", "3.13", "3.14")


def pythons() -> list[str]:
    """One interpreter of each version that we say we run on: in PATH, and where version managers keep them."""
    folders = [*os.get_exec_path(), "/usr/local/bin", "/opt/homebrew/bin"]
    home = Path.home()
    for pattern in (".pyenv/versions/*/bin", ".local/share/uv/python/*/bin", ".asdf/installs/python/*/bin"):
        folders += [str(path) for path in sorted(home.glob(pattern))]
    found = {".".join(map(str, sys.version_info[:2])): sys.executable}
    for folder in folders:
        for version in WANTED:
            path = Path(folder, f"python{version}")
            if version not in found and path.is_file() and works(path):
                found[version] = str(path)
    return [found[version] for version in WANTED if version in found]


def works(python: Path) -> bool:
    """A version manager's stand-in may be there for a version that is not."""
    return subprocess.run([python, "-c", "import venv, ensurepip"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("python", pythons())
def test_a_fresh_environment_without_setuptools(python: str, tmp_path: Path) -> None:
    env = environment() | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run([python, "-m", "venv", tmp_path / "env"], check=True, env=env)
    here = tmp_path / "env" / "bin"
    subprocess.run([here / "pip", "install", "-q", "--no-compile", TOP], check=True, env=env, stdout=subprocess.DEVNULL)
    subprocess.run([here / "pip", "uninstall", "-q", "-y", "setuptools", "stopit"], check=True, env=env,
                   capture_output=True)  # fmt: skip
    have = subprocess.run([here / "python", "-c", "import setuptools"], capture_output=True, check=False)
    assert have.returncode, "this environment has setuptools after all"

    command = [
        here / "llm-sim",
        "--",
        here / "llm-map",
        "-S",
        "tone good|bad",
        "-d",
        tmp_path / "x.done",
        "Tone {{ t }}",
    ]
    result = subprocess.run(command, input=b'{"t":"fine"}\n', capture_output=True, env=env, check=False, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(b'{"t":"fine","output":{"tone":"')
    assert {line.partition(b":")[0] for line in result.stderr.splitlines()} == {b"llm-map"}, result.stderr

    for tool in TOOLS:
        shown = subprocess.run([here / tool, "--help"], capture_output=True, env=env, check=False)
        assert (shown.returncode, shown.stderr) == (0, b"")
    for page in (TOP / "man").iterdir():
        assert (tmp_path / "env" / "share" / "man" / f"man{page.suffix[1:]}" / page.name).is_file()
