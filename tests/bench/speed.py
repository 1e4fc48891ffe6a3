"""What llm-map costs beside a call, against a bare loop and the script that most people write: speed.py --help."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from math import isnan
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from running import Spent
from server import serving
from workloads import QUICK, WORKLOADS, Bench, Figure, Unready, Workload, start

HERE = Path(__file__).resolve().parent
FILES_AT_ONCE = 65536

# -- in turns ---------------------------------------------------------------------------------------


def in_turns(bench: Bench, workload: Workload) -> dict[str, list[Spent]]:
    """A B C A B C: what the machine does meanwhile happens to all of them."""
    found: dict[str, list[Spent]] = {case.name: [] for case in workload.cases}
    for _ in range(min(bench.rounds, 2) if bench.quick else workload.rounds or bench.rounds):
        for turn in range(max(case.times for case in workload.cases)):
            for case in workload.cases:
                if turn < case.times:
                    found[case.name].append(bench.measure(case))
    return found


def middle(runs: Sequence[Spent]) -> Spent:
    """The median of each measure, over the runs that did their work."""
    good = [spent[:-1] for spent in runs if not spent.failed]
    failed = next((spent.failed for spent in runs if spent.failed), "")
    return Spent(*map(median, zip(*good, strict=True)), failed=failed) if good else Spent(failed=failed)


# -- the machine ------------------------------------------------------------------------------------


def machine(folder: Path) -> dict[str, str]:
    cores = len(os.sched_getaffinity(0))
    return {
        "machine": f"{_processor()}, {cores} core{'s' * (cores > 1)}, {platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}, "
        + ", ".join(f"{name} {version}" for name, version in _packages()),
        "disk": f"fdatasync of a line takes {_fdatasync(folder / 'sync') * 1000:.2f} ms",
        "load": f"{os.getloadavg()[0]:.2f} before",
        "state": _git_state(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _processor() -> str:
    try:
        told = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        told = []
    return next((line.partition(":")[2].strip() for line in told if line.startswith("model name")), platform.machine())


def _packages() -> Iterator[tuple[str, str]]:
    for name in ("openai", "aiohttp", "orjson", "pypeln", "tenacity", "uvloop", "litellm"):
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue


def _fdatasync(path: Path, times: int = 20) -> float:
    with path.open("wb", buffering=0) as file:
        spent = []
        for _ in range(times):
            file.write(b"x" * 300)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            spent.append(time.perf_counter() - began)
    return median(spent)


def _git_state() -> str:
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True, check=False
        )
    except OSError:
        return "unknown"
    return told.stdout.strip() or "unknown"


# -- what is told -----------------------------------------------------------------------------------

say = sys.stdout.write


def table(workload: Workload, found: Mapping[str, Sequence[Spent]]) -> str:
    head = f"{workload.title}\n  {'':34}{'wall s':>9}{'CPU s':>9}{'MB':>8}{'endpoint':>10}\n"
    rows = (_row(name, middle(runs)) for name, runs in found.items())
    return head + "".join(rows)


def _row(name: str, spent: Spent) -> str:
    if isnan(spent.wall):
        return f"  {name:34}  failed: {spent.failed}\n"
    share = f"{spent.endpoint / spent.wall:.0%}"
    note = f"  failed at times: {spent.failed}" if spent.failed else ""
    return f"  {name:34}{spent.wall:9.3f}{spent.cpu:9.3f}{spent.memory:8.1f}{share:>10}{note}\n"


def figure_line(figure: Figure, *, judged: bool) -> str:
    value = "-" if isnan(figure.value) else f"{figure.value:,.0f}" if figure.value >= 1000 else f"{figure.value:.3g}"
    bound = f"at {'least' if figure.least else 'most'} {figure.target:,g}" if judged and figure.target else ""
    return f"  {figure.what:52}{value:>10} {figure.unit:3} {bound:18}{figure.verdict if judged else ''}".rstrip() + "\n"


def as_json(
    workload: Workload, found: Mapping[str, Sequence[Spent]], figures: Sequence[Figure], *, judged: bool
) -> dict[str, Any]:
    return {
        "title": workload.title,
        "cases": {
            name: {"median": _plain(middle(runs)), "runs": list(map(_plain, runs))} for name, runs in found.items()
        },
        "figures": [_plain(figure) | {"verdict": figure.verdict if judged else ""} for figure in figures],
    }


def _plain(row: Spent | Figure) -> dict[str, Any]:
    """JSON has no NaN."""
    return {name: None if isinstance(value, float) and isnan(value) else value for name, value in row._asdict().items()}


# -- the whole of it --------------------------------------------------------------------------------


def main(argv: Sequence[str]) -> None:
    chosen = options(argv)
    _end_tidily()
    _allow_many_files()
    with TemporaryDirectory(prefix="llmstream-bench-") as scratch, serving(Path(scratch)) as server:
        bench = Bench(Path(scratch), server, chosen.rounds, chosen.quick)
        about = {**machine(bench.folder), "endpoint": server.name, "rounds": str(chosen.rounds)}
        say("".join(f"{name:10}{value}\n" for name, value in about.items()))
        if chosen.quick:
            say(f"quick: a {QUICK}th of the records; it shows that everything runs, and nothing else\n")
        in_turns(bench, start(bench)._replace(rounds=1))  # so that the files are in memory and compiled
        told: dict[str, Any] = {}
        for name in chosen.only or WORKLOADS:
            told[name] = measured(bench, name)
            chosen.json.write_text(json.dumps({**about, "quick": chosen.quick, "workloads": told}, indent=1) + "\n")
    say(f"\nevery run: {chosen.json}\n")


def measured(bench: Bench, name: str) -> dict[str, Any]:
    """Run one workload and print its table; the same for programs."""
    say(f"\n[{name}] ")
    sys.stdout.flush()
    try:
        workload = WORKLOADS[name](bench)
    except Unready as reason:
        say(f"cannot be run: {reason}\n")
        return {"failed": str(reason)}
    found = in_turns(bench, workload)
    figures = workload.figures({case: middle(runs) for case, runs in found.items()})
    say(table(workload, found))
    say("".join(figure_line(figure, judged=not bench.quick) for figure in figures))
    sys.stdout.flush()
    return as_json(workload, found, figures, judged=not bench.quick)


def options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="speed.py", description=(__doc__ or "").rpartition(":")[0] + ".")
    parser.add_argument("--rounds", type=_whole, default=3, metavar="N", help="rounds, whose medians are told (3)")
    parser.add_argument("--quick", action="store_true", help=f"a {QUICK}th of the records, two rounds at most")
    parser.add_argument("--only", action="append", choices=WORKLOADS, metavar="NAME", help=", ".join(WORKLOADS))
    parser.add_argument(
        "--json",
        type=Path,
        default=HERE / "speed.json",
        metavar="FILE",
        help="where every run is written (%(default)s)",
    )
    return parser.parse_args(argv)


def _whole(text: str) -> int:
    return max(1, int(text))


def _end_tidily() -> None:
    """A signal leaves by way of every finally: what was started ends, what was written goes."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))


def _allow_many_files() -> None:
    """A thousand connections need more than many shells allow."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES_AT_ONCE if hard == resource.RLIM_INFINITY else min(FILES_AT_ONCE, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
