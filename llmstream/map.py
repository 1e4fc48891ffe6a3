"""llm-map: ask a model about each record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstream.records.values import Failure, Outcome
from llmstream.shell import options
from llmstream.shell.options import pick

if TYPE_CHECKING:
    from llmstream.calls.ask import Ask
    from llmstream.prompts.bodies import Build
    from llmstream.records.values import Answer, Record, Request
    from llmstream.stream.splice import Splicer

FORMS = ("llm-map [option]... PROMPT [FILE]...", "llm-map [option]... -f PROMPTFILE [FILE]...")
ABOUT = "Ask a model about each record: JSON Lines in, the records with an answer out."
TABLE = (*options.FOR_MODELS, *options.ABOUT_ITSELF)


def main(argv: list[str]) -> int:
    o, operands = options.command_line("llm-map", FORMS, ABOUT, TABLE, argv)
    prompt, names = options.prompt_and_files(o.prompt_file, operands)
    from llmstream.books import labels  # not before: --help is to be quick
    from llmstream.books.books import Keeping
    from llmstream.books.progress import Showing
    from llmstream.calls import asking
    from llmstream.shell.files import Streams
    from llmstream.stream import flow, reading, splice

    access, wording, policy = pick(o, asking.Access), pick(o, asking.Wording), pick(o, asking.Policy)
    shape = asking.shape(wording.schema)
    splicer = splice.Splicer(pick(o, splice.Placing), with_schema=shape is not None)
    account = asking.account(access)
    model = asking.model(o.model, access, account)
    build = asking.builder(prompt, wording, shape, model)
    plan = flow.Plan(
        streams=pick(o, Streams),
        reading=reading.lines_of(names, raw_text=o.raw_input),
        done=o.done,
        asking=asking.asking(access, policy, wording, account, [model], shape),
        labels=labels.of(shape) if shape else None,
        keeping=pick(o, Keeping),
        showing=pick(o, Showing),
        ending=pick(o, flow.Ending),
        unordered=o.unordered,
    )
    return flow.run(plan, lambda ask: Map(ask, build, splicer))


class Map:
    """One record in, one request, one record out."""

    calls_at_once = 1

    def __init__(self, ask: Ask, build: Build, splicer: Splicer) -> None:
        self._ask = ask
        self._build = build
        self._splicer = splicer

    def take(self, record: Record) -> list[Outcome | tuple[Record, Request]]:
        request = self._splicer.obstacle(record) or self._build(record)
        if isinstance(request, Failure):
            return [Outcome(record, failure=request)]
        request = self._ask.memory.number(request)
        found = self._ask.memory.recall(request)
        return [(record, request) if found is None else self._outcome(record, found)]

    def rest(self) -> list[Outcome | tuple[Record, Request]]:
        return []

    async def finish(self, job: tuple[Record, Request]) -> Outcome:
        record, request = job
        return self._outcome(record, await self._ask(request))

    def _outcome(self, record: Record, found: Answer | Failure) -> Outcome:
        if isinstance(found, Failure):
            return Outcome(record, failure=found)
        return self._splicer.outcome(record, found)
