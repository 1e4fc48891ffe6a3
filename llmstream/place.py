"""Where an answer goes: into its record, or alone onto stdout."""

from __future__ import annotations

import os
from types import SimpleNamespace

from llmstream import exact, records
from llmstream.complain import warn
from llmstream.values import Answer, Failure, Outcome, Record, told


class Place:
    """-o, -M and -r, and a terminal's need for escapes."""

    def __init__(self, o: SimpleNamespace) -> None:
        self._output: tuple[str, ...] = o.output
        self._meta: tuple[str, ...] | None = o.meta
        self._raw: bool = o.raw_output
        self._terminal = os.isatty(1)
        self._replaced_told = False

    def failure(self, record: Record) -> Failure | None:
        """Why there is no place in this record, before anything is paid for it."""
        for path in () if self._raw else (self._output, self._meta or ()):
            name = records.blocked(record.data, path)
            if name:
                return Failure("output", f"cannot put {'.'.join(path)} into the record: {name} is not an object")
        return None

    def outcome(self, record: Record, answer: Answer) -> Outcome:
        """The bytes that go out for an answer."""
        out = self._alone(answer) if self._raw else self._spliced(record, answer)
        if out is None:
            return Outcome(record, failure=Failure("output", "the answer is not an object, and only one can be merged"))
        return Outcome(record, (records.for_terminal(out) if self._terminal else out) + b"\n", replayed=answer.replayed)

    def _alone(self, answer: Answer) -> bytes:
        if answer.value.startswith(b'"'):
            text: str = exact.loads(answer.value)
            return text.encode()
        return answer.value

    def _spliced(self, record: Record, answer: Answer) -> bytes | None:
        self._tell_replaced(record)
        if self._output:
            line = records.put(record, self._output, answer.value)
        elif answer.value.startswith(b"{"):
            line = records.merge(record, answer.value)
        else:
            return None
        if self._meta is None:
            return line
        new = {self._output[0]: None} if self._output else exact.loads(answer.value)
        with_answer = record._replace(line=line, data={**record.data, **new})  # put looks for names only
        return records.put(with_answer, self._meta, exact.dumps(told(answer)))

    def _tell_replaced(self, record: Record) -> None:
        if self._output and not self._replaced_told and records.holds(record.data, self._output):
            self._replaced_told = True
            warn(f"{record.where}: the record has a field {'.'.join(self._output)} already; it is replaced")
