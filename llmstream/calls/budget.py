"""What the run may spend: asked before a call, and settled after it."""

from __future__ import annotations

from typing import Protocol

from llmstream.shell.messages import FIX_FIRST, Stop
from llmstream.shell.stop_switch import StopSwitch


class Budget(Protocol):
    """Says whether a call may be made, and is told what it took."""

    async def reserve(self, body: bytes) -> bool: ...  # False: the run has stopped, call nobody

    def settle(self, cost: float | None) -> None: ...  # USD; None: not known. Of each call that was paid for


class Unlimited:
    """Nobody set a limit."""

    async def reserve(self, body: bytes) -> bool:
        return True

    def settle(self, cost: float | None) -> None: ...


class CostLimit:
    """--max-cost: what is in flight goes on, nothing else is asked.

    Looked at before a call and not behind one: a run that has nothing more to ask does not stop.
    """

    def __init__(self, limit: float, switch: StopSwitch) -> None:
        self._limit = limit
        self._switch = switch
        self._spent: float | None = 0.0

    async def reserve(self, body: bytes) -> bool:
        if self._spent is None:
            unknown = "a reply without usage, or a service tier without a price"
            reason = f"it is not known what the calls cost ({unknown}), so --max-cost cannot be held"
            self._switch.pull(Stop(FIX_FIRST, reason))
        elif self._spent >= self._limit:
            reason = f"stopped: the calls cost {self._spent:.6g} USD so far (--max-cost {self._limit:g})"
            self._switch.pull(Stop(1, reason))
        return self._switch.reason is None

    def settle(self, cost: float | None) -> None:
        self._spent = None if cost is None or self._spent is None else round(self._spent + cost, 12)
