"""How the memory of a process grows with its input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tool import BIN, environment

WRITER = """
import sys
for number in range(int(sys.argv[1])):
    print('{"g":"group %d","n":%d,"text":"some words","tags":["a","tag %d"],"one":1}' % (
        number // 7, number, number % 1000))
"""


# A child begins with the memory of its parent: a small one says what it took itself.
MEASURE = """
import os, sys
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(child, 0)
os.write(2, b"%d" % (used.ru_maxrss // (1024 if sys.platform == "darwin" else 1)))
os._exit(os.waitstatus_to_exitcode(status))
"""


def memory(file: Path, *words: str | Path) -> int:
    """The kilobytes that the tool takes for a file."""
    measured = [sys.executable, "-c", MEASURE, sys.executable, BIN / "llm-merge", "-q", *words, file]
    done = subprocess.run(measured, stdout=subprocess.DEVNULL, stderr=-1, env=environment(), timeout=60, check=False)
    return int(done.stderr.splitlines()[-1])


def growth(folder: Path, count: int, *words: str | Path) -> float:
    """The part by which the memory grows from a tenth of so many records to all of them."""
    sizes = []
    for number in (count // 10, count):
        with (folder / "many").open("wb") as file:
            subprocess.run([sys.executable, "-c", WRITER, str(number)], stdout=file, check=True)
        sizes.append(memory(folder / "many", *words))
    assert sizes[1] < 40_000
    return sizes[1] / sizes[0] - 1
