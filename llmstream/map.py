"""llm-map: ask a model about each record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmstream.records.values import Answer, Failure, Outcome, Record, Request
from llmstream.shell import options
from llmstream.stream.splice import Place

if TYPE_CHECKING:
    from types import SimpleNamespace

    from llmstream.calls.ask import Ask
    from llmstream.prompts.bodies import Build

FORMS = ("llm-map [option]... PROMPT [FILE]...", "llm-map [option]... -f PROMPTFILE [FILE]...")
ABOUT = "Ask a model about each record: JSON Lines in, the records with an answer out."
TABLE = (*options.FOR_MODELS, *options.ABOUT_ITSELF)


def main(argv: list[str]) -> int:
    o, operands = options.command_line("llm-map", FORMS, ABOUT, TABLE, argv)
    text, files = options.prompt_and_files(o, operands)
    from llmstream.calls import start  # not before: --help is to be quick
    from llmstream.stream import flow

    start.check(o)
    shape = start.shape(o)
    account = start.account(o)
    model = start.model(o.model, o, account)
    build = start.builder(o, text, model, shape)
    settings = flow.Settings(o, files, [model], *start.asking(o, [model], shape, account))
    return flow.run(settings, lambda ask: Map(ask, build, o))


class Map:
    """One record in, one request, one record out."""

    at_once = 1

    def __init__(self, ask: Ask, build: Build, o: SimpleNamespace) -> None:
        self._ask = ask
        self._build = build
        self._place = Place(o)

    def take(self, record: Record) -> list[Outcome | tuple[Record, Request]]:
        return [self._begin(record)]

    def rest(self) -> list[Outcome | tuple[Record, Request]]:
        return []

    def _begin(self, record: Record) -> Outcome | tuple[Record, Request]:
        request = self._place.failure(record) or self._build(record)
        if isinstance(request, Failure):
            return Outcome(record, failure=request)
        request = self._ask.number(request)
        found = self._ask.recall(request)
        return (record, request) if found is None else self._outcome(record, found)

    async def finish(self, job: tuple[Record, Request]) -> Outcome:
        record, request = job
        return self._outcome(record, await self._ask(request))

    def _outcome(self, record: Record, found: Answer | Failure) -> Outcome:
        if isinstance(found, Failure):
            return Outcome(record, failure=found)
        return self._place.outcome(record, found)

    def lines(self) -> list[str]:
        return []

    def told(self) -> dict[str, Any]:
        return {}
