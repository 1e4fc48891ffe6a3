"""The way out: each outcome in its turn, no faster than the reader of stdout takes them."""

from __future__ import annotations

from collections.abc import Callable

from llmstream.books.books import Books
from llmstream.records.values import BadLine, Outcome, Record
from llmstream.shell.messages import Stop
from llmstream.shell.standard_streams import Output
from llmstream.shell.stop_switch import StopSwitch
from llmstream.stream.order import Order, Window
from llmstream.stream.sink import Sink


class Delivery:
    """Takes outcomes as they come, and lets them leave in the order that was asked for."""

    def __init__(
        self, order: Order, window: Window, sink: Sink, output: Output, books: Books, switch: StopSwitch
    ) -> None:
        self._order = order
        self._window = window
        self._sink = sink
        self._output = output
        self._books = books
        self._switch = switch

    async def expect(self, turn: int, source: Record | BadLine) -> None:
        """Something will be asked about a record: its outcome will come later, and those behind it may have to wait."""
        await self._window.room()
        self._window.enter(turn, source)

    async def put(self, turn: int, outcome: Outcome) -> None:
        ready = self._order.put(turn, outcome)
        if not ready:
            self._window.hold(turn, outcome)
        for its_turn, first in ready:
            self._window.leave(its_turn)
            self._stop_if(self._sink.put, first)
        self._stop_if(self._books.arrived, outcome)
        await self._output.room()

    def _stop_if(self, enter: Callable[[Outcome], None], outcome: Outcome) -> None:
        """Stop the run if an outcome cannot be entered somewhere."""
        try:
            enter(outcome)
        except Stop as reason:
            self._switch.pull(reason)
