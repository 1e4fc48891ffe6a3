"""The forms of response_format, from the strictest to none: the highest that the endpoint takes.

Which it is, is found once for a run: until then there is one call at a time, and one probe decides for all.
"""

from __future__ import annotations

import asyncio

from llmstream.calls import answer
from llmstream.prompts import bodies
from llmstream.records.words import brief
from llmstream.shell.messages import warn


class Ladder:
    """Where on it this run stands. Without a schema there is nothing to find."""

    def __init__(self, *, with_schema: bool) -> None:
        self._with_schema = with_schema
        self._rung = 0
        self.settled = not with_schema
        self.probe = asyncio.Lock()  # held by a call as long as the form is not settled
        self._refusal = ""

    def body(self, body: bytes) -> bytes:
        """A request's body in the form that the endpoint takes."""
        return bodies.lowered(body, self._rung) if self._with_schema else body

    def step_down(self, status: int, message: str) -> bool:
        """If this error refuses the form: go on to the next one, if there is one."""
        refused = not self.settled and answer.refuses_format(status, message)
        if not refused or self._rung + 1 == len(bodies.RUNGS):
            return False
        self._rung += 1
        self._refusal = brief(message, 120)
        return True

    def settle(self) -> None:
        """The endpoint took the form."""
        if self.settled:
            return
        self.settled = True
        if self._rung:
            form = bodies.RUNGS[self._rung]
            warn(f"the endpoint refuses response_format, now using {form}: {self._refusal}")
