"""llm-vote: ask several times, keep the consensus."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from llmstream.records.values import Answer, Failure, Outcome, Record, Request, combined
from llmstream.shell import options
from llmstream.shell.messages import FIX_FIRST, Stop, warn
from llmstream.shell.named_files import READ
from llmstream.shell.options import Option, pick

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import SimpleNamespace

    from llmstream.calls.ask import Ask
    from llmstream.prompts.bodies import Build
    from llmstream.stream.splice import Splicer
    from llmstream.votes.criteria import Criteria
    from llmstream.votes.poll import Poll
    from llmstream.votes.totals import VoteTotals

SHOWN = 10  # failed votes that get a line of their own

FORMS = (
    "llm-vote [option]... PROMPT [FILE]...",
    "llm-vote [option]... -f PROMPTFILE [FILE]...",
    "llm-vote --count FIELD [-g FIELD]... [option]... [FILE]...",
)
ABOUT = "Ask a model several times about each record, and keep what most votes say."


ASKING = ("prompt_file", "system", "schema", "criteria", "meta", "done", "share", "param")  # what it takes to ask

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
    Option("votes-field", "", "FIELD", "where it says how the votes fell", options.own_field, ("vote",), place=True),
    Option("ballots", help="keep every vote there, too",
           excludes=(("raw_output", "-r prints the verdict alone"),)),
    Option("all-votes", help="ask them all, also where further votes cannot change the verdict", shared=True,
           excludes=(("confidence", "one asks for all votes, the other stops early"),)),
    Option("confidence", "", "P", "stop asking when the leader would win with this probability",
           options.number(0.5, 1), shared=True),
    Option("min-votes", "", "N", "never stop before so many votes; 2", options.whole(1, 1000), shared=True),
    Option("quorum", "", "N", "valid votes that a record needs; more than half", options.whole(1, 1000), shared=True),
    Option("criteria", "", "FILE", "score by the criteria in FILE, and add overall_score", options.some,
           file=READ, excludes=(("schema", "the criteria are the schema"),)),
    Option("count", "", "FIELD", "ask nobody: the votes stand in FIELD as a list, or with -g one in each record",
           options.own_field, excludes=tuple((name, "nobody is asked") for name in ASKING)),
    Option("group", "g", "FIELD", "with --count: records with the same FIELD are one group; may be repeated",
           options.own_field, (), many=True, needs=("count",)),
    Option("sorted", help="with -g: the records of a group follow one another", needs=("group",)),
)
# fmt: on
TABLE = (*OWN, *JURY, *options.ABOUT_ITSELF)


def main(argv: list[str]) -> int:
    o, operands = options.command_line("llm-vote", FORMS, ABOUT, TABLE, argv)
    if o.count:
        return main_counting(o, operands or ["-"])
    prompt, names = options.prompt_and_files(o.prompt_file, operands)
    votes, min_votes = numbers_of_votes(o)
    from llmstream.books import labels  # not before: --help is to be quick
    from llmstream.books.books import Keeping
    from llmstream.books.progress import Showing
    from llmstream.calls import asking
    from llmstream.records import schema_places
    from llmstream.shell.files import Streams
    from llmstream.stream import flow, reading, splice
    from llmstream.votes import consensus, criteria, poll, totals

    access, wording, policy = pick(o, asking.Access), pick(o, asking.Wording), pick(o, asking.Policy)
    scoring = read_criteria(o.criteria)
    shape = asking.shape(criteria.schema(scoring) if scoring else wording.schema)
    splicer = splice.Splicer(pick(o, splice.Placing), with_schema=shape is not None, also=[o.votes_field])
    account = asking.account(access)
    models = [asking.model(name, access, account) for name in o.model or [None]]
    builds = {
        model: asking.builder(prompt, wording, shape, model, constants(models, model, scoring)) for model in models
    }
    counting = consensus.Rules(o.number, o.match, schema_places.options(shape.schema) if shape else {})
    rules = poll.VoteRules(votes, min_votes, o.quorum, o.all_votes, o.confidence, tuple(models), counting)
    plan = flow.Plan(
        streams=pick(o, Streams),
        reading=reading.lines_of(names, raw_text=o.raw_input),
        done=o.done,
        asking=asking.asking(access, policy, wording, account, models, shape),
        labels=labels.of(shape) if shape else None,
        keeping=pick(o, Keeping),
        showing=pick(o, Showing),
        ending=pick(o, flow.Ending),
        unordered=o.unordered,
    )
    verdicts = Verdicts(splicer, o.votes_field, scoring, totals.VoteTotals(scoring), with_ballots=o.ballots)
    first = poll.Poll(rules)
    return flow.run(plan, lambda ask: Vote(ask, builds, first, verdicts, once=o.once), {"votes": verdicts.totals})


def main_counting(o: SimpleNamespace, names: Sequence[str]) -> int:
    """The votes stand in the records already."""
    from llmstream.books.books import Keeping
    from llmstream.folds.counted_votes import CountRules, counted
    from llmstream.folds.groups import GroupRules
    from llmstream.shell.files import Streams
    from llmstream.stream import flow_without_calls, reading, splice
    from llmstream.votes import consensus, totals

    if not o.output:
        raise Stop(FIX_FIRST, "cannot use -o . with --count: the verdict needs a field")
    splicer = splice.Splicer(pick(o, splice.Placing), with_schema=False, also=[o.votes_field])
    grouping = GroupRules(o.group, o.sorted, warn=warn) if o.group else None
    rules = CountRules(o.count, o.votes_field, o.quorum, o.ballots, consensus.Rules(o.number, o.match))
    votes = totals.VoteTotals()
    plan = flow_without_calls.Plan(pick(o, Streams), reading.lines_of(names, raw_text=o.raw_input), pick(o, Keeping))
    return flow_without_calls.run(plan, counted(rules, grouping, splicer, votes), totals={"votes": votes})


# -- what the user said ---------------------------------------------------------------------------


def numbers_of_votes(o: SimpleNamespace) -> tuple[int, int]:
    """How many votes there are at most and at least."""
    models = len(o.model) or 1
    votes = o.votes or max(3, models)
    if votes < models:
        raise Stop(FIX_FIRST, f"cannot use -n {votes} with {models} models: each should vote at least once")
    for number, flag in ((o.quorum, "--quorum"), (o.min_votes, "--min-votes")):
        if (number or 0) > votes:
            raise Stop(FIX_FIRST, f"cannot use {flag} {number} with {votes} votes")
    return votes, o.min_votes or min(2, votes)


def read_criteria(path: str | None) -> Criteria | None:
    """The criteria; they are the schema, too."""
    from llmstream.votes import criteria

    if path is None:
        return None
    try:
        return criteria.read(options.text_of("criteria", path))
    except ValueError as error:
        raise Stop(FIX_FIRST, f"cannot use the criteria in {path}: {error}") from None


def constants(models: Sequence[str], model: str, scoring: Criteria | None) -> dict[str, Any]:
    """What a template can say beside the record's fields."""
    from llmstream.votes import criteria

    jury = {"model": model} if len(models) > 1 else {}
    return jury | ({"criteria": criteria.for_template(scoring)} if scoring else {})


# -- the votes of a record ------------------------------------------------------------------------


class Job(NamedTuple):
    """A record, and a request for each vote that it may need."""

    record: Record
    requests: Sequence[Request]


class Vote:
    """One record in, its votes side by side, one record with their consensus out."""

    def __init__(self, ask: Ask, builds: Mapping[str, Build], first: Poll, verdicts: Verdicts, *, once: bool) -> None:
        """first: a poll without a vote."""
        self._ask = ask
        self._builds = builds
        self._first = first
        self._verdicts = verdicts
        self._once = once
        self._failures_shown = 0
        self.calls_at_once = first.next_round

    def take(self, record: Record) -> list[Outcome | Job]:
        requests = self._verdicts.obstacle(record) or self._requests(record)
        return [Outcome(record, failure=requests) if isinstance(requests, Failure) else Job(record, requests)]

    def rest(self) -> list[Outcome | Job]:
        return []

    async def finish(self, job: Job) -> Outcome:
        poll = await self._poll(job.requests, self._first)
        if poll.is_short and not self._once:
            poll = await self._poll(job.requests, await self._with_second_chances(job.requests, poll))
        if poll.failure:
            return Outcome(job.record, failure=poll.failure)
        await self._give_up(job, poll)
        return self._verdicts.outcome(job.record, poll)

    def _requests(self, record: Record) -> list[Request] | Failure:
        """A request for each vote: those of one model differ in the number of the sample alone."""
        from llmstream.done import keys

        rules = self._first.rules
        first: dict[str, Request] = {}
        for model, build in self._builds.items():
            built = build(record)
            if isinstance(built, Failure):
                return built
            first[model] = self._ask.memory.number(built)
        samples: Counter[str] = Counter()
        requests = []
        for number in range(rules.votes):
            model = rules.juror(number)
            requests.append(first[model]._replace(key=keys.with_sample(first[model].key, samples[model])))
            samples[model] += 1
        return requests

    async def _poll(self, requests: Sequence[Request], poll: Poll) -> Poll:
        """Votes in rounds until there are enough. Each round waits for its last vote: what is
        asked next depends on the votes, never on the order in which they arrive."""
        while more := poll.next_round:
            poll = poll.with_votes(await self._votes(requests[len(poll.votes) :][:more]))
        return poll

    async def _with_second_chances(self, requests: Sequence[Request], poll: Poll) -> Poll:
        """What failed in an earlier run is left alone only as long as the other votes are enough."""
        numbers = poll.failed_earlier
        votes = await self._votes([requests[number] for number in numbers], again=True)
        return poll.with_second_chances(dict(zip(numbers, votes, strict=True)))

    async def _votes(self, requests: Sequence[Request], *, again: bool = False) -> Sequence[Answer | Failure]:
        async def vote(request: Request) -> Answer | Failure:
            return self._ask.memory.recall(request, again=again) or await self._ask(request)

        return await asyncio.gather(*map(vote, requests))

    async def _give_up(self, job: Job, poll: Poll) -> None:
        """Say which votes failed, and remember them: a replay is to give the same verdict."""
        for number, (request, vote) in enumerate(zip(job.requests, poll.votes, strict=False), 1):
            if isinstance(vote.found, Failure) and vote.found.attempts:
                await self._ask.memory.give_up(request, vote.found)
                self._failures_shown += 1
                if self._failures_shown <= SHOWN:
                    warn(f"{job.record.where}: vote {number}: {vote.found.message}")


class Verdicts:
    """Puts verdicts into their records, and counts the votes."""

    def __init__(
        self,
        splicer: Splicer,
        votes_field: tuple[str, ...],
        scoring: Criteria | None,
        totals: VoteTotals,
        *,
        with_ballots: bool,
    ) -> None:
        self.totals = totals
        self.obstacle = splicer.obstacle
        self._splicer = splicer
        self._votes_field = votes_field
        self._scoring = scoring
        self._with_ballots = with_ballots

    def outcome(self, record: Record, poll: Poll) -> Outcome:
        from llmstream.records import exact

        assert poll.verdict  # no failure
        result = poll.result(self._scoring)
        self.totals.add(poll.values, poll.verdict, result.value, poll.rules.votes)
        votes = exact.dumps(poll.as_dict(with_ballots=self._with_ballots))
        return self._splicer.outcome(record, combined(poll.answers, result.spelled), (self._votes_field, votes))
