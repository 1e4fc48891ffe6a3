"""llm-vote: ask several times, keep the consensus."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from llmstream.records import exact
from llmstream.records.values import Answer, Failure, Outcome, Record, Request, together
from llmstream.shell import options
from llmstream.shell.messages import FIX_FIRST, Stop, warn
from llmstream.shell.named_files import READ
from llmstream.shell.options import Option
from llmstream.stream.splice import Place
from llmstream.votes import criteria, stopping
from llmstream.votes.consensus import Rules, Verdict, agree, report
from llmstream.votes.stopping import Contest
from llmstream.votes.totals import Tally

if TYPE_CHECKING:
    from types import SimpleNamespace

    from llmstream.calls.ask import Ask
    from llmstream.prompts.bodies import Build
    from llmstream.votes.criteria import Criteria

SHOWN = 10  # failed votes that get a line of their own

FORMS = (
    "llm-vote [option]... PROMPT [FILE]...",
    "llm-vote [option]... -f PROMPTFILE [FILE]...",
    "llm-vote --count FIELD [-g FIELD]... [option]... [FILE]...",
)
ABOUT = "Ask a model several times about each record, and keep what most votes say."


# fmt: off
JURY = tuple(
    option._replace(help="model; may be repeated: a jury, the votes go round it", many=True, default=())
    if option.long == "model" else option
    for option in options.FOR_MODELS
)
OWN = (
    Option("votes", "n", "N", "votes for each record; 3, or one for each model", options.whole(1, 1000), shared=True),
    Option("number", "", "HOW", "of numbers: mean, median or trimmed", options.one_of("mean", "median", "trimmed"),
           "mean", shared=True),
    Option("match", "", "FIELD", "what identifies an object in a list; may be repeated; all its strings",
           options.own_field, (), many=True),
    Option("votes-field", "", "FIELD", "where it is told how the votes fell", options.own_field, ("vote",)),
    Option("ballots", help="keep every vote there, too"),
    Option("all-votes", help="ask them all, also where further votes cannot change the verdict", shared=True),
    Option("confidence", "", "P", "stop asking when the leader would win with this probability",
           options.number(0.5, 1), shared=True),
    Option("min-votes", "", "N", "never stop before so many votes; 2", options.whole(1, 1000), shared=True),
    Option("quorum", "", "N", "valid votes that a record needs; more than half", options.whole(1, 1000), shared=True),
    Option("criteria", "", "FILE", "score by the criteria in FILE, and add overall_score", options.some,
           file=READ),
    Option("count", "", "FIELD", "ask nobody: the votes stand in FIELD as a list, or with -g one in each record",
           options.own_field),
    Option("group", "g", "FIELD", "with --count: records with the same FIELD are one group; may be repeated",
           options.own_field, (), many=True),
    Option("sorted", help="with -g: the records of a group follow one another"),
)
# fmt: on
TABLE = (*OWN, *JURY, *options.ABOUT_ITSELF)


def main(argv: list[str]) -> int:
    o, operands = options.command_line("llm-vote", FORMS, ABOUT, TABLE, argv)
    if o.count:
        from llmstream import counting  # imports neither openai nor pypeln

        return counting.run(o, operands or ["-"])
    text, files = options.prompt_and_files(o, operands)
    check(o)
    from llmstream.calls import start  # not before: --help is to be quick
    from llmstream.records import schema
    from llmstream.stream import flow

    scoring = read_criteria(o)
    start.check(o)
    shape = start.shape(o)
    account = start.account(o)
    models = [start.model(name, o, account) for name in o.model or [None]]
    builds = {model: start.builder(o, text, model, shape, constants(models, model, scoring)) for model in models}
    settings = flow.Settings(o, files, models, *start.asking(o, models, shape, account))
    labels = schema.labels(shape.schema) if shape else {}
    rules = Rules(o.number, o.match, {path: len(values) for path, values in labels.items()})
    return flow.run(settings, lambda ask: Vote(ask, models, builds, scoring, rules, o))


# -- what the user said ---------------------------------------------------------------------------


def check(o: SimpleNamespace) -> None:
    """Options that do not go together; and the numbers that depend on one another."""
    models = len(o.model) or 1
    for name, flag in (("group", "-g"), ("sorted", "--sorted")):
        if getattr(o, name):
            raise Stop(FIX_FIRST, f"cannot use {flag} alone: it wants --count FIELD")
    o.votes = o.votes or max(3, models)
    if o.votes < models:
        raise Stop(FIX_FIRST, f"cannot use -n {o.votes} with {models} models: each should vote at least once")
    for name, flag in (("quorum", "--quorum"), ("min_votes", "--min-votes")):
        if (getattr(o, name) or 0) > o.votes:
            raise Stop(FIX_FIRST, f"cannot use {flag} {getattr(o, name)} with {o.votes} votes")
    o.min_votes = o.min_votes or min(2, o.votes)
    if o.all_votes and o.confidence is not None:
        raise Stop(FIX_FIRST, "cannot use --all-votes and --confidence together")
    if o.ballots and o.raw_output:
        raise Stop(FIX_FIRST, "cannot use -r and --ballots together: -r prints the verdict alone")


def read_criteria(o: SimpleNamespace) -> Criteria | None:
    """The criteria; they are the schema, too."""
    if o.criteria is None:
        return None
    if o.schema is not None:
        raise Stop(FIX_FIRST, "cannot use --criteria and -S together: the criteria are the schema")
    try:
        made = criteria.read(options.text_of("criteria", o.criteria))
    except ValueError as error:
        raise Stop(FIX_FIRST, f"cannot use the criteria in {o.criteria}: {error}") from None
    o.schema = criteria.schema(made)
    return made


def constants(models: Sequence[str], model: str, scoring: Criteria | None) -> dict[str, Any]:
    """What a template can say beside the record's fields."""
    jury = {"model": model} if len(models) > 1 else {}
    return jury | ({"criteria": criteria.told(scoring)} if scoring else {})


# -- the votes of a record ------------------------------------------------------------------------

Cast = Sequence[Answer | Failure]  # the votes so far, by their numbers


class Job(NamedTuple):
    """A record, and a request for each vote that it may need."""

    record: Record
    requests: Sequence[Request]


class Vote:
    """One record in, its votes side by side, one record with their consensus out."""

    def __init__(
        self,
        ask: Ask,
        models: Sequence[str],
        builds: Mapping[str, Build],
        scoring: Criteria | None,
        rules: Rules,
        o: SimpleNamespace,
    ) -> None:
        self._ask = ask
        self._builds = builds
        self._jurors = [models[number % len(models)] for number in range(o.votes)]
        self._criteria = scoring
        self._o = o
        self._rules = rules
        self._before_any: list[Contest | None] = [
            (0,) * known for path, known in rules.options.items() if "[" not in path
        ]
        self._place = Place(o, (o.votes_field,))
        self._tally = Tally(scoring)
        self._failures_told = 0
        self.at_once = self._more((), None)

    def take(self, record: Record) -> list[Outcome | Job]:
        failure = self._place.failure(record)
        requests = failure or self._requests(record)
        return [Outcome(record, failure=requests) if isinstance(requests, Failure) else Job(record, requests)]

    def rest(self) -> list[Outcome | Job]:
        return []

    async def finish(self, job: Job) -> Outcome:
        cast, verdict = await self._poll(job.requests, ())
        if self._short(cast) and not self._o.once:
            cast, verdict = await self._poll(job.requests, await self._second_chance(job.requests, cast))
        failure = self._failure(cast)
        if failure or verdict is None:
            return Outcome(job.record, failure=failure)
        await self._give_up(job, cast)
        return self._outcome(job.record, cast, verdict)

    def lines(self) -> list[str]:
        return self._tally.lines()

    def told(self) -> dict[str, Any]:
        return {"votes": self._tally.told()}

    # -- the requests

    def _requests(self, record: Record) -> list[Request] | Failure:
        """A request for each vote: of one model they differ in the number of the sample alone."""
        first: dict[str, Request] = {}
        for model, build in self._builds.items():
            built = build(record)
            if isinstance(built, Failure):
                return built
            first[model] = self._ask.number(built)
        samples: Counter[str] = Counter()
        requests = []
        for model in self._jurors:
            requests.append(_sample(first[model], samples[model]))
            samples[model] += 1
        return requests

    # -- asking

    async def _poll(self, requests: Sequence[Request], cast: Cast) -> tuple[Cast, Verdict | None]:
        """Votes in rounds until there are enough. Each round waits for its last vote: what is
        asked next depends on the votes, never on the order in which they arrive."""
        verdict = self._verdict(cast)
        while more := self._more(cast, verdict):
            cast = [*cast, *await self._votes(requests[len(cast) :][:more])]
            if any(isinstance(vote, Failure) and vote.unasked for vote in cast):
                break
            verdict = self._verdict(cast)
        return cast, verdict

    async def _second_chance(self, requests: Sequence[Request], cast: Cast) -> Cast:
        """What failed in an earlier run is left alone only as long as the other votes are enough."""
        failed = [number for number, vote in enumerate(cast) if _failed_earlier(vote)]
        votes = dict(zip(failed, await self._votes([requests[n] for n in failed], again=True), strict=True))
        return [votes.get(number, vote) for number, vote in enumerate(cast)]

    async def _votes(self, requests: Sequence[Request], *, again: bool = False) -> Cast:
        return await asyncio.gather(*(self._vote(request, again) for request in requests))

    async def _vote(self, request: Request, again: bool) -> Answer | Failure:
        return self._ask.recall(request, again=again) or await self._ask(request)

    def _verdict(self, cast: Cast) -> Verdict | None:
        values = [exact.loads(vote.value) for vote in cast if isinstance(vote, Answer)]
        return agree(values, self._rules) if values else None

    def _more(self, cast: Cast, verdict: Verdict | None) -> int:
        """How many further votes the next round asks for; none if there are enough, or never will be."""
        o = self._o
        left, valid = o.votes - len(cast), _valid(cast)
        if valid + left < (o.quorum or o.votes // 2 + 1):
            return 0
        if o.all_votes:
            return int(left)
        contests: list[Contest | None] = verdict.contests if verdict else self._before_any
        if verdict and not verdict.fixed and o.confidence is None:
            contests = [*contests, None]
        wanted = stopping.wanted(contests, len(cast), o.votes, o.min_votes, o.confidence)
        return int(min(left, max(wanted, (o.quorum or 0) - valid)))

    # -- what came of them

    def _short(self, cast: Cast) -> bool:
        return _valid(cast) < (self._o.quorum or len(cast) // 2 + 1)

    def _failure(self, cast: Cast) -> Failure | None:
        """Why there is no verdict."""
        failures = [vote for vote in cast if isinstance(vote, Failure)]
        if unasked := [failure for failure in failures if failure.unasked]:
            return unasked[0]
        if not self._short(cast):
            return None
        first, valid = failures[0], _valid(cast)
        attempts = sum(failure.attempts for failure in failures)
        if not valid:
            return first._replace(message=f"{first.message} (no vote of {len(cast)} is valid)", attempts=attempts)
        return Failure("quorum", f"{valid} of {len(cast)} votes are valid: {first.message}", first.status, attempts)

    async def _give_up(self, job: Job, cast: Cast) -> None:
        """Tell of votes that failed, and remember them: a replay is to give the same verdict."""
        for number, (request, vote) in enumerate(zip(job.requests, cast, strict=False), 1):
            if isinstance(vote, Failure) and vote.attempts:
                await self._ask.give_up(request, vote)
                self._failures_told += 1
                if self._failures_told <= SHOWN:
                    warn(f"{job.record.where}: vote {number}: {vote.message}")

    def _outcome(self, record: Record, cast: Cast, verdict: Verdict) -> Outcome:
        answers = [vote for vote in cast if isinstance(vote, Answer)]
        same = len({vote.value for vote in answers}) == 1
        value = answers[0].value if same else exact.dumps(verdict.value)
        if self._criteria:
            value = exact.dumps(criteria.with_overall(verdict.value, self._criteria))
        self._tally.add([exact.loads(vote.value) for vote in answers], verdict, exact.loads(value), self._o.votes)
        told = exact.dumps(self._told(cast, verdict))
        return self._place.outcome(record, together(answers, value), (self._o.votes_field, told))

    def _told(self, cast: Cast, verdict: Verdict) -> dict[str, Any]:
        """How the votes fell: of all, and in a jury of each model."""
        told = self._counted(cast, verdict)
        if len(self._builds) > 1:
            jurors = {
                model: [vote for who, vote in zip(self._jurors, cast, strict=False) if who == model]
                for model in self._builds
            }
            told["models"] = {model: self._counted(votes, self._verdict(votes)) for model, votes in jurors.items()}
        return told

    def _counted(self, cast: Cast, verdict: Verdict | None) -> dict[str, Any]:
        valid = _valid(cast)
        told: dict[str, Any] = {"votes": valid, "failed": len(cast) - valid}
        told |= report(verdict) if verdict else {}
        failures = Counter(vote.type for vote in cast if isinstance(vote, Failure))
        told |= {"failures": dict(failures)} if failures else {}
        if self._o.ballots:
            told["ballots"] = [exact.loads(vote.value) for vote in cast if isinstance(vote, Answer)]
        return told


def _sample(request: Request, number: int) -> Request:
    """The same request, asked for another vote."""
    return request._replace(key=f"{request.key}-v{number}") if number else request


def _valid(cast: Cast) -> int:
    return sum(isinstance(vote, Answer) for vote in cast)


def _failed_earlier(vote: Answer | Failure) -> bool:
    """Is this what the done-file says of an earlier run?"""
    return isinstance(vote, Failure) and not vote.attempts
