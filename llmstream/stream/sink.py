"""Where outcomes end: on stdout, or among the failed records."""

from __future__ import annotations

from collections.abc import Callable

from llmstream.books.books import Books
from llmstream.books.labels import Labels
from llmstream.records import exact
from llmstream.records.values import Outcome


class Sink:
    """Hands on what goes to stdout, and enters everything in the books."""

    def __init__(self, books: Books, write: Callable[[Outcome], None], labels: Labels | None = None) -> None:
        self._books = books
        self._write = write
        self._labels = labels

    def put(self, outcome: Outcome) -> None:
        """Stop: the run cannot go on, or should not."""
        if outcome.failure is None:
            self._books.passed(outcome)
            if self._labels and outcome.value:
                self._labels.add(exact.loads(outcome.value))
            self._write(outcome)
        elif outcome.failure.type != "stopped":
            self._books.failed(outcome, outcome.failure)
