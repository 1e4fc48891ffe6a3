"""Where an answer, and what is told about it, go: into the record, or the answer alone onto stdout."""

from __future__ import annotations

import os
from types import SimpleNamespace

from llmstream.records import exact, splicing, words
from llmstream.records.values import Answer, Failure, Outcome, Record, told
from llmstream.shell.messages import warn

Told = tuple[tuple[str, ...], bytes]  # a place in the record, and what goes there beside the answer


class Place:
    """-o, -M and -r, and a terminal's need for escapes. also: further places that will be filled."""

    def __init__(self, o: SimpleNamespace, also: tuple[tuple[str, ...], ...] = ()) -> None:
        self._output: tuple[str, ...] = o.output
        self._meta: tuple[str, ...] | None = getattr(o, "meta", None)
        self._raw: bool = o.raw_output
        self._paths = () if self._raw else (self._output, *([self._meta] if self._meta else []), *also)
        self._terminal = os.isatty(1)
        self._replaced_told = False

    def failure(self, record: Record) -> Failure | None:
        """Why there is no place in this record, before anything is paid for it."""
        for path in self._paths:
            name = splicing.blocked(record.data, path)
            if name:
                return Failure("output", f"cannot put {'.'.join(path)} into the record: {name} is not an object")
        return None

    def outcome(self, record: Record, answer: Answer, *more: Told) -> Outcome:
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

    def _spliced(self, record: Record, answer: Answer, more: tuple[Told, ...]) -> bytes | None:
        if self._meta:
            more = ((self._meta, exact.dumps(told(answer))), *more)
        if self._output:
            self._tell_replaced(record)
            return splicing.put_each(record, ((self._output, answer.value), *more))
        if answer.value.startswith(b"{"):
            return splicing.put_each(splicing.merge(record, answer.value), more)
        return None

    def _tell_replaced(self, record: Record) -> None:
        if not self._replaced_told and splicing.holds(record.data, self._output):
            self._replaced_told = True
            warn(f"{record.where}: the record has a field {'.'.join(self._output)} already; it is replaced")
