"""An answer, and what is said about it, spliced into its record; or the answer alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from llmstream.records import exact, splicing, words
from llmstream.records.values import Answer, Failure, Outcome, Record, meta_of
from llmstream.shell.messages import FIX_FIRST, Stop, warn

Path = tuple[str, ...]
Beside = tuple[Path, bytes]  # a place in the record, and what goes there beside the answer


class Placing(NamedTuple):
    """Where answers go: options of these names."""

    output: Path  # (): into the record itself
    meta: Path | None = None
    raw_output: bool = False


class Splicer:
    """Puts answers where they go, and escapes what a terminal shows. also: further places that will be filled."""

    def __init__(self, placing: Placing, *, with_schema: bool, also: Sequence[Path] = ()) -> None:
        if not placing.output and not with_schema:
            raise Stop(FIX_FIRST, "cannot use -o . alone: only an object can be merged, so it needs -S SCHEMA")
        self._output = placing.output
        self._meta = placing.meta
        self._raw = placing.raw_output
        meta = (placing.meta,) if placing.meta else ()
        self._paths: Sequence[Path] = () if self._raw else (self._output, *meta, *also)
        self._terminal = os.isatty(1)
        self._said_replaced = False

    def obstacle(self, record: Record) -> Failure | None:
        """Why there is no place in this record, before anything is paid for it."""
        for path in self._paths:
            name = splicing.blocked(record.data, path)
            if name:
                return Failure("output", f"cannot put {'.'.join(path)} into the record: {name} is not an object")
        return None

    def outcome(self, record: Record, answer: Answer, *more: Beside) -> Outcome:
        """The bytes that go out for an answer."""
        out = self._alone(answer) if self._raw else self._spliced(record, answer, more)
        if out is None:
            return Outcome(record, failure=Failure("output", "the answer is not an object, and only one can be merged"))
        return Outcome(record, self._shown(out), replayed=answer.replayed, value=answer.value)

    def as_it_is(self, record: Record) -> Outcome:
        """The same for a record that goes out without an answer."""
        return Outcome(record, self._shown(record.line))

    def _shown(self, out: bytes) -> bytes:
        return (words.for_terminal(out) if self._terminal else out) + b"\n"

    def _alone(self, answer: Answer) -> bytes:
        if answer.value.startswith(b'"'):
            text: str = exact.loads(answer.value)
            return text.encode()
        return answer.value

    def _spliced(self, record: Record, answer: Answer, more: tuple[Beside, ...]) -> bytes | None:
        if self._meta:
            more = ((self._meta, exact.dumps(meta_of(answer))), *more)
        if self._output:
            self._say_replaced(record)
            return splicing.put_each(record, ((self._output, answer.value), *more))
        if answer.value.startswith(b"{"):
            return splicing.put_each(splicing.merge(record, answer.value), more)
        return None

    def _say_replaced(self, record: Record) -> None:
        if not self._said_replaced and splicing.holds(record.data, self._output):
            self._said_replaced = True
            warn(f"{record.where}: the record has a field {'.'.join(self._output)} already; it is replaced")
