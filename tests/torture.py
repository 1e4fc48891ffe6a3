"""kill -9, again and again: pipes of filters, killed at random and run until they end, and then the books.

    python tests/torture.py [ROUNDS [SEED]]

A round is one kill. Each pipe is drawn from the seed: how many stages, how many records, how
many calls at once, how slow and how unreliable the endpoint (llm-sim). When a pipe has ended
with status 0 its output is held against the input, against a run that nobody killed, and what
was paid against the endpoint's own log. The last line sums up; the status is 1 if a book is
not right, and the seed brings the same pipe again.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

from tool import command, environment

AT_ONCE = 4  # pipes; their start-up is what takes the time
PATIENCE = 60  # runs that a pipe may need until it ends
HANGS = 120.0  # seconds after which a pipe that does not end has failed


class Plan(NamedTuple):
    """One pipe: everything about it that chance decides."""

    seed: int
    records: int
    jobs: tuple[int, ...]  # of each stage
    tools: tuple[str, ...]  # of each stage
    latency: str
    errors: float
    garble: float
    unordered: bool
    schema: bool
    slow_reader: bool
    fold: str  # what comes behind the stages: nothing, a fold with a model, or votes that are counted
    kills: int


class Books(NamedTuple):
    """What came of one pipe, or of all of them."""

    kills: int = 0
    pipes: int = 0
    records: int = 0
    lost: int = 0
    doubled: int = 0
    different: int = 0
    twice: int = 0  # calls paid a second time
    allowed: int = 0  # so many may be: what was in flight in the stages that were killed
    too_often: int = 0  # pipes in which more were

    def plus(self, other: Books) -> Books:
        return Books(*(one + more for one, more in zip(self, other, strict=True)))

    @property
    def right(self) -> bool:
        return not (self.lost or self.doubled or self.different or self.too_often)


def draw(seed: int) -> Plan:
    dice = random.Random(seed)
    stages = dice.choice((1, 1, 2, 2, 3))
    tools = tuple(dice.choice(("llm-map", "llm-map", "llm-vote")) for _ in range(stages))
    return Plan(
        seed=seed,
        records=dice.choice((1, 7, 20, 40) if "llm-vote" in tools else (1, 7, 40, 90, 160)),
        jobs=tuple(dice.choice((1, 2, 5, 16)) for _ in range(stages)),
        tools=tools,
        latency=dice.choice(("0", "5", "20:80", "40:200")),
        errors=dice.choice((0, 0, 0.05, 0.2)),
        garble=dice.choice((0, 0, 0, 0.1)),
        unordered=dice.random() < 0.4,
        schema=dice.random() < 0.5,
        slow_reader=dice.random() < 0.2,
        fold=dice.choice(("", "", "merge", "count")),
        kills=dice.randint(3, 9),
    )


def stages(plan: Plan, folder: Path, name: str) -> list[list[str]]:
    """The command of each stage: one asks about the text, the next about what that one said."""
    unordered = plan.unordered and not plan.fold  # what folds depends on the order
    words = [*(["-U"] if unordered else []), *(["-S", "tag str, score 1..10"] if plan.schema else [])]
    asking = [
        command(
            tool, "-q", "-j", str(jobs), *words, "-d", f"{name}{number}.done", "-o", f"said{number}",
            *(["-n", "4", "--votes-field", f"vote{number}"] if tool == "llm-vote" else []),
            f"Stage {number} of {{{{ id }}}}: {{{{ {f'said{number - 1}' if number else 'text'} }}}}",
            *(["-"] if number else [folder / "in.jsonl"]),
        )
        for number, (tool, jobs) in enumerate(zip(plan.tools, plan.jobs, strict=True))
    ]  # fmt: skip
    if not plan.fold:
        return asking
    fold = {
        "merge": ["llm-merge", "-q", "-g", "lot", "-d", f"{name}-fold.done", "--always", "-p", "Fold {{ records }}"],
        "count": ["llm-vote", "-q", "--count", f"said{len(plan.jobs) - 1}", "-g", "lot", "-o", "said"],
    }[plan.fold]
    last = ["llm-map", "-q", "-j", "2", "-d", f"{name}-last.done", "-o", "last", "Of lot {{ lot }}"]
    return [*asking, command(*fold), command(*last)]


def start(plan: Plan, folder: Path, url: str, name: str) -> list[subprocess.Popen[bytes]]:
    """Start the whole pipe; its output goes into a file."""
    env = environment(OPENAI_BASE_URL=url)
    running: list[subprocess.Popen[bytes]] = []
    with (folder / f"{name}.out").open("wb") as out, (folder / f"{name}.err").open("ab") as told:
        for number, words in enumerate(stages(plan, folder, name)):
            last = number == len(stages(plan, folder, name)) - 1
            piped = subprocess.PIPE if plan.slow_reader or not last else out
            source = running[-1].stdout if running else subprocess.DEVNULL
            running.append(subprocess.Popen(words, cwd=folder, env=env, stdin=source, stdout=piped, stderr=told))
            if source not in (None, subprocess.DEVNULL):
                source.close()
        if plan.slow_reader:
            running.append(subprocess.Popen([sys.executable, "-c", SLOW_READER], stdin=running[-1].stdout, stdout=out))
            _closed(running[-2])
    return running


SLOW_READER = """
import os, time
while chunk := os.read(0, 700):
    os.write(1, chunk)
    time.sleep(0.01)
"""


def _closed(process: subprocess.Popen[bytes]) -> None:
    """Only the reader keeps the pipe open."""
    assert process.stdout
    process.stdout.close()


def end(running: list[subprocess.Popen[bytes]]) -> bool:
    """Wait for every stage. Did the pipe succeed?"""
    try:
        statuses = [process.wait(HANGS) for process in running]
    finally:
        for process in running:
            process.kill()
    return not any(statuses)


def wait_for_calls(running: list[subprocess.Popen[bytes]], bill: Path, calls: int) -> None:
    """Until the endpoint has had so many further calls, or the pipe has ended."""
    goal = count(bill) + calls
    while count(bill) < goal and running[-1].poll() is None:
        time.sleep(0.002)


def count(bill: Path) -> int:
    return bill.read_bytes().count(b"\n") if bill.exists() else 0


def kill_some(
    running: list[subprocess.Popen[bytes]], dice: random.Random, most: int, bill: Path, *, slow_reader: bool
) -> Counter[int]:
    """kill -9 to stages of a running pipe: at its start now and then, mostly when calls are under way."""
    killed: Counter[int] = Counter()
    wait_for_calls(running, bill, dice.choice((0, 1, 2, 5, 12, 30, 60)))
    time.sleep(dice.uniform(0, 0.03))
    stages = len(running) - slow_reader
    for number in dice.sample(range(stages), min(most, dice.randint(1, stages))):
        if running[number].poll() is None:
            running[number].kill()
            killed[number] += 1
            time.sleep(dice.choice((0, 0, 0.05, 0.2)))
    return killed


def play(seed: int) -> Books:
    """One pipe: killed as often as its plan says, run until it ends, and its books."""
    plan, dice = draw(seed), random.Random(-seed - 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lots = [dice.randint(1, 5) for _ in range(plan.records)]
        texts = [{"id": n, "lot": lot, "text": f"Record {n} of Đà Nẵng, lot {lot}."} for n, lot in enumerate(lots)]
        (folder / "in.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
        sim = subprocess.Popen(
            command(
                "llm-sim", "--log", folder / "bill", "--latency", plan.latency, "--seed", str(seed),
                "--error-rate", str(plan.errors), "--garble", str(plan.garble if plan.schema else 0),
            ),
            env=environment(), stdout=subprocess.PIPE,
        )  # fmt: skip
        try:
            assert sim.stdout
            url = sim.stdout.readline().decode().strip()
            return until_it_ends(plan, dice, folder, url, len(set(lots)) if plan.fold else plan.records)
        finally:
            sim.kill()
            sim.wait()


def until_it_ends(plan: Plan, dice: random.Random, folder: Path, url: str, expected: int) -> Books:
    """expected: records that come out."""
    killed: Counter[int] = Counter()
    for _ in range(PATIENCE):
        running = start(plan, folder, url, "killed")
        if killed.total() < plan.kills:
            killed += kill_some(
                running, dice, plan.kills - killed.total(), folder / "bill", slow_reader=plan.slow_reader
            )
        if end(running):
            break
    else:
        raise RuntimeError(f"seed {plan.seed}: the pipe does not end: {tail(folder)}")
    twice = paid_twice(folder / "bill")
    at_once = [*plan.jobs, 8, 2]  # of the stages, and of what folds behind them
    allowed = sum(at_once[number] * times for number, times in killed.items())
    books = Books(killed.total(), 1, plan.records, twice=twice, allowed=allowed, too_often=int(twice > allowed))
    books = books.plus(missing(plan, expected, (folder / "killed.out").read_bytes()))
    return books if plan.garble and plan.schema else books.plus(against_reference(plan, folder, url))


def tail(folder: Path) -> str:
    return (folder / "killed.err").read_text()[-600:]


def paid_twice(bill: Path) -> int:
    """Whole answers that were given to the same call more than once."""
    given = Counter(
        line["idempotency_key"]
        for line in map(json.loads, bill.read_text().splitlines())
        if line["billed"] and not line["fault"]
    )
    return sum(times - 1 for times in given.values())


def missing(plan: Plan, expected: int, out: bytes) -> Books:
    """Records, or lots, that are not in the output, and such as are there again."""
    seen = Counter(json.loads(line)["lot" if plan.fold else "id"] for line in out.splitlines())
    return Books(lost=expected - len(seen), doubled=seen.total() - len(seen))


def against_reference(plan: Plan, folder: Path, url: str) -> Books:
    """The output of the same pipe when nobody kills it: the same bytes, without -U in the same order."""
    for _ in range(PATIENCE):  # an endpoint with errors may need more than one run
        if end(start(plan, folder, url, "quiet")):
            break
    one, other = ((folder / f"{name}.out").read_bytes().splitlines() for name in ("killed", "quiet"))
    same = one == other if plan.fold or not plan.unordered else sorted(one) == sorted(other)
    return Books(different=int(not same))


def main(rounds: int, seed: int) -> int:
    began = time.monotonic()
    books, number = Books(), seed
    running: dict[Future[Books], int] = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while running or books.kills < rounds:
            while books.kills < rounds and len(running) < AT_ONCE:
                running[pool.submit(play, number)] = number
                number += 1
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                books = books.plus(told(running.pop(future), future.result()))
    print(  # noqa: T201
        f"torture: seeds {seed} to {number - 1}, {books.kills} kills in {books.pipes} pipes, {books.records} records: "
        f"lost {books.lost}, doubled {books.doubled}, different {books.different}, paid twice {books.twice} "
        f"(allowed {books.allowed}, exceeded in {books.too_often}), {time.monotonic() - began:.0f} s"
    )
    return 0 if books.right else 1


def told(seed: int, books: Books) -> Books:
    if not books.right:
        print(f"torture: seed {seed}: {books} {draw(seed)}", flush=True)  # noqa: T201
    return books


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os._exit(main(*given, *(200, 1)[len(given) :]))
