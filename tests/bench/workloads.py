"""What is measured: who is run at which work, and what to read off it."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import util
from math import isnan, nan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from running import Command, Spent, lines, run  # after the path is set
from server import ANSWER, Server
from tool import command, environment

HERE = Path(__file__).resolve().parent
PROMPT = "In one word, is this about the weather?\n\n"
TEXT = "It rained in Paris, and nobody minded: the market was open, and so were the cafes. "
QUICK = 100  # so much less work

MAP, BARE, NAIVE, LITELLM = "llm-map -d", "bare loop", "AsyncOpenAI", "litellm"
SCRIPTS = {BARE: "bare.py", NAIVE: "naive.py", LITELLM: "naive_litellm.py"}
ALONE = ", 1 record"  # behind a contestant's name

# -- what is measured -------------------------------------------------------------------------------


class Unready(Exception):
    """What a workload needs could not be made."""


class Case(NamedTuple):
    """Something that is run and measured."""

    name: str
    pipe: Sequence[Command]  # run in an empty directory
    out: int | None  # lines that have to come out
    latency: int = 0
    to_first: bool = False  # wall time is that to the first byte
    terminal: bool = False  # stderr is one
    times: int = 1  # in each round: more where a small difference counts and a run is short


class Figure(NamedTuple):
    """What the runs come to, and what it should be."""

    what: str
    value: float
    unit: str = ""
    target: float | None = None
    least: bool = False  # the target is a lower bound

    @property
    def verdict(self) -> str:
        if self.target is None or isnan(self.value):
            return ""
        over = (self.target - self.value if self.least else self.value - self.target) / self.target
        return "met" if over <= 0 else f"missed by {over:.1%}"


class Workload(NamedTuple):
    """Cases that are run in turns, and what to read off their medians."""

    title: str
    cases: Sequence[Case]
    figures: Callable[[Mapping[str, Spent]], list[Figure]]
    rounds: int | None = None  # else as many as was asked for


class Bench(NamedTuple):
    """Where, against what and how long."""

    folder: Path
    server: Server
    rounds: int
    quick: bool

    def size(self, records: int) -> int:
        return max(2, records // QUICK) if self.quick else records

    def records(self, count: int, size: int = 100, answers: int = 0) -> Path:
        """A file of records: their texts of about so many bytes, with so many fields of earlier stages."""
        path = self.folder / f"in-{count}-{size}-{answers}.jsonl"
        if not path.exists():
            text = (TEXT * (size // len(TEXT) + 1))[:size]
            before = {f"stage{number}": ANSWER for number in range(answers)}
            with path.open("w") as file:
                for number in range(count):
                    file.write(json.dumps({"id": number, "text": f"{number}. {text}", **before}) + "\n")
        return path

    def finished(self, count: int) -> Path:
        """A done-file that knows so many records, as llm-map has written it."""
        path = self.folder / f"finished-{count}.done"
        if not path.exists():
            self.prepare(Case(path.name, [llm_map(256, self.records(count), "-d", path)], count))
        return path

    def prepare(self, case: Case) -> None:
        if reason := self.measure(case).failed:
            raise Unready(f"{case.name}: {reason}")

    def measure(self, case: Case) -> Spent:
        with TemporaryDirectory(dir=self.folder) as scratch:
            folder, before = Path(scratch), self.server.cpu()
            env = environment(OPENAI_BASE_URL=self.server.urls[case.latency])
            spent = run(case.pipe, env, folder, to_first=case.to_first, terminal=case.terminal)
            came = lines(folder / "out")
            if case.out not in (None, came) and not spent.failed:
                return Spent(failed=f"{came} records came out of {case.out}")
            return spent if spent.failed else spent._replace(endpoint=self.server.cpu() - before)


# -- who is run -------------------------------------------------------------------------------------


def llm_map(jobs: int, source: Path | None, *words: str | Path) -> Command:
    return command("llm-map", "-j", str(jobs), *words, PROMPT + "{{ text }}", *([source] if source else []))


def asked(name: str, jobs: int, source: Path) -> Command:
    """A contestant at work."""
    if name == MAP:
        return llm_map(jobs, source, "-d", "done")
    return [sys.executable, str(HERE / SCRIPTS[name]), str(source), str(jobs), PROMPT]


def contestants() -> list[str]:
    return [MAP, BARE, NAIVE, *([LITELLM] if util.find_spec("litellm") else [])]


def race(bench: Bench, names: Sequence[str], count: int, jobs: int, size: int = 100, **more: Any) -> list[Case]:
    source = bench.records(count, size)
    return [Case(name, [asked(name, jobs, source)], count, **more) for name in names]


def race_and_start(bench: Bench, names: Sequence[str], count: int, jobs: int, size: int = 100) -> list[Case]:
    """The same, and with one record, so that the start can be taken off."""
    alone = race(bench, names, 1, jobs, size)
    return [*race(bench, names, count, jobs, size), *(case._replace(name=case.name + ALONE) for case in alone)]


def mapping(bench: Bench, name: str, count: int, jobs: int, *words: str | Path, **more: Any) -> Case:
    """llm-map with these options."""
    return Case(name, [llm_map(jobs, bench.records(count), *words)], count, **more)


# -- workloads --------------------------------------------------------------------------------------


def further(found: Mapping[str, Spent], name: str, records: int) -> float:
    """Milliseconds of CPU for each record after the first."""
    return (found[name].cpu - found[name + ALONE].cpu) * 1000 / (records - 1)


def ratio(value: float, base: float) -> float:
    return value / base if min(value, base) > 0 else nan  # in a tiny run the start may hide the work


def cpu(bench: Bench) -> Workload:
    count, names = bench.size(20_000), contestants()

    def figures(found: Mapping[str, Spent]) -> list[Figure]:
        ms = {name: further(found, name, count) for name in names}
        return [
            *(Figure(f"CPU of a further record, {name}", ms[name], "ms") for name in names),
            Figure("CPU of a further record, against the bare loop", ratio(ms[MAP], ms[BARE]), "x", 2.0),
            Figure("CPU of a further record, against AsyncOpenAI", ratio(ms[MAP], ms[NAIVE]), "x", 0.15),
        ]

    return Workload(f"{count:,} records, no latency, 64 in flight", race_and_start(bench, names, count, 64), figures)


def wall(bench: Bench, jobs: int, records: int, target: float) -> Workload:
    count = bench.size(records)
    cases = race(bench, contestants(), count, jobs, latency=100)

    def figures(found: Mapping[str, Spent]) -> list[Figure]:
        told = [Figure("wall time, against the bare loop", ratio(found[MAP].wall, found[BARE].wall), "x", target)]
        if jobs == 256:
            told.append(Figure("peak memory, with a done-file", found[MAP].memory, "MB", 70))
        return told

    return Workload(f"{count:,} records, 100 ms, {jobs:,} in flight", cases, figures)


def replay(bench: Bench) -> Workload:
    count = bench.size(200_000)
    case = mapping(bench, "llm-map, the second time", count, 256, "-d", bench.finished(count))

    def figures(found: Mapping[str, Spent]) -> list[Figure]:
        return [Figure("records a second, start-up included", count / found[case.name].wall, "", 30_000, least=True)]

    return Workload(f"replay of {count:,} finished records", [case], figures)


def opening(bench: Bench) -> Workload:
    count = bench.size(1_000_000)
    one = bench.finished(1)
    many = bench.folder / "many.done"
    many.touch(0o600)  # others may not read a done-file
    many.write_bytes(one.read_bytes())
    bench.prepare(Case(many.name, [[sys.executable, str(HERE / "finished.py"), str(many), str(count)]], 0))
    cases = [
        mapping(bench, f"{size:,} line{'s' * (size > 1)}", 1, 1, "-d", path, "--offline")
        for size, path in ((1, one), (count, many))
    ]

    def figures(found: Mapping[str, Spent]) -> list[Figure]:
        small, large = (found[case.name] for case in cases)
        return [
            Figure("time with it, start-up included", large.wall, "s", 5),
            Figure("memory that it takes", large.memory - small.memory, "MB", 64),
        ]

    return Workload(f"one record against a done-file of {count:,} lines", cases, figures, 3)


def start(bench: Bench) -> Workload:
    cases = race(bench, contestants(), 1, 8, to_first=True)

    def figures(found: Mapping[str, Spent]) -> list[Figure]:
        return [Figure("first result", found[MAP].wall, "s", 0.35)]

    return Workload("one record; wall time is that to the first byte of output", cases, figures, 10)


def no_calls(bench: Bench) -> Workload:
    cases = [
        Case("llm-map --help", [command("llm-map", "--help")], None),
        Case("llm-merge", [command("llm-merge", "-g", "id", bench.records(1))], 1),
    ]

    def figures(found: Mapping[str, Spent]) -> list[Figure]:
        return [
            Figure("--help", found["llm-map --help"].wall, "s", 0.1),
            Figure("a deterministic llm-merge", found["llm-merge"].wall, "s", 0.15),
        ]

    return Workload("without calls, start to end", cases, figures, 10)


def growth(bench: Bench) -> Workload:
    small, _, large = counts = [bench.size(records) for records in (5_000, 50_000, 500_000)]
    names = {count: f"llm-map, {count:,}" for count in (1, *counts)}
    cases = [mapping(bench, name, count, 256, times=3 if count <= small else 1) for count, name in names.items()]

    def figures(found: Mapping[str, Spent]) -> list[Figure]:
        start = found[names[1]].cpu
        each = {count: (found[names[count]].cpu - start) * 1000 / (count - 1) for count in counts}
        memory = {count: found[names[count]].memory for count in counts}
        return [
            Figure("peak memory", memory[large], "MB", 70),
            Figure(f"peak memory at {large:,}, against {small:,}", ratio(memory[large], memory[small]), "x", 1.05),
            *(Figure(f"CPU of a further record of {count:,}", each[count], "ms") for count in counts),
            Figure(f"CPU at {large:,}, against {small:,}", ratio(each[large], each[small]), "x", 1.05),
        ]

    return Workload("more and more records, no latency, 256 in flight, no done-file", cases, figures)


def pipe(bench: Bench) -> Workload:
    count = bench.size(5_000)
    alone = [f"stage {number + 1} alone" for number in range(3)]

    def stage(number: int, source: Path | None) -> Command:
        return llm_map(64, source, "-d", f"done{number}", "-o", f"stage{number}")

    singles = [[stage(number, bench.records(count, answers=number))] for number in range(3)]
    whole = [stage(number, None if number else bench.records(count)) for number in range(3)]

    def figures(found: Mapping[str, Spent]) -> list[Figure]:
        slowest = max(found[name].wall for name in alone)
        return [Figure("wall time, against the slowest stage alone", ratio(found["the pipe"].wall, slowest), "x", 1.1)]

    cases = [Case(name, stages, count, latency=100) for name, stages in zip(alone, singles, strict=True)]
    cases.append(Case("the pipe", whole, count, latency=100))
    return Workload(f"a pipe of three, {count:,} records, 100 ms, 64 in flight", cases, figures)


def long_prompts(bench: Bench) -> Workload:
    count, names = bench.size(5_000), [MAP, BARE]

    def figures(found: Mapping[str, Spent]) -> list[Figure]:
        ms = {name: further(found, name, count) for name in names}
        return [
            *(Figure(f"CPU of a further record, {name}", ms[name], "ms") for name in names),
            Figure("CPU of a further record, against the bare loop", ratio(ms[MAP], ms[BARE]), "x"),
        ]

    cases = race_and_start(bench, names, count, 64, 16_384)
    return Workload(f"{count:,} prompts of 16 KB, no latency, 64 in flight", cases, figures)


# As the manual shares the work among machines: a shard of the input, and a done-file, for each process.
SHARDS = """
split -n l/2 "$1" shard.; shift
for shard in shard.aa shard.ab; do "$@" -d $shard.done "$PROMPT" $shard > $shard.out & done
wait
cat shard.??.out
"""


def shards(bench: Bench) -> Workload:
    count = bench.size(40_000)
    one = mapping(bench, "one process", count, 64, "-d", "done")
    words = [str(bench.records(count)), *command("llm-map", "-j", "32")]
    script = f"PROMPT={shlex.quote(PROMPT + '{{ text }}')}\n{SHARDS}"
    two = Case("two, a shard each", [["sh", "-c", script, "sh", *words]], count)

    def figures(found: Mapping[str, Spent]) -> list[Figure]:
        faster = ratio(found[one.name].wall, found[two.name].wall)
        return [Figure("as many records a second", faster, "x")]

    return Workload(f"{count:,} records, no latency, 64 in flight, on more than one core", [one, two], figures)


def watched(bench: Bench) -> Workload:
    count = bench.size(20_000)
    kinds: dict[str, tuple[list[str], bool]] = {
        "nothing told": (["--no-progress"], False),
        "--log": (["--no-progress", "--log", "log"], False),
        "on a terminal": (["--no-progress"], True),
        "--progress": (["--progress"], True),
    }
    cases = [
        mapping(bench, name + label, size, 64, "-d", "done", *words, terminal=terminal)
        for label, size in (("", count), (ALONE, 1))
        for name, (words, terminal) in kinds.items()
    ]

    def figures(found: Mapping[str, Spent]) -> list[Figure]:
        ms = {name: further(found, name, count) for name in kinds}
        return [
            Figure("CPU of a further record with --log", ratio(ms["--log"], ms["nothing told"]), "x", 1.1),
            Figure("CPU of a further record with --progress", ratio(ms["--progress"], ms["on a terminal"]), "x", 1.03),
        ]

    return Workload(f"{count:,} records watched, no latency, 64 in flight", cases, figures)


WORKLOADS: dict[str, Callable[[Bench], Workload]] = {
    "cpu": cpu,
    "wall64": partial(wall, jobs=64, records=5_000, target=1.05),
    "wall256": partial(wall, jobs=256, records=10_000, target=1.15),
    "wall1024": partial(wall, jobs=1024, records=20_000, target=1.3),
    "replay": replay,
    "opening": opening,
    "start": start,
    "no-calls": no_calls,
    "growth": growth,
    "pipe": pipe,
    "long": long_prompts,
    "shards": shards,
    "watched": watched,
}
