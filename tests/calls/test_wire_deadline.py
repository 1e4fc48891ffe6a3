"""One timer for the deadlines of all calls."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from llmstream.calls.wire_deadline import Deadline


async def timed(deadline: Deadline, begin: float, end: float) -> tuple[str, float]:
    """How a call of so many seconds ended, and when."""
    await asyncio.sleep(begin)
    began = time.monotonic()
    try:
        with deadline:
            await asyncio.sleep(end)
    except TimeoutError:
        return "late", time.monotonic() - began
    return "done", time.monotonic() - began


async def many_calls(deadline: Deadline) -> list[Any]:
    """Calls that begin together and apart; every third is in time, and the last is cancelled."""
    tasks = [asyncio.ensure_future(timed(deadline, n % 10 * 0.05, 9 if n % 3 else 0.1)) for n in range(62)]
    await asyncio.sleep(0.2)
    tasks[-1].cancel()
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_one_timer_for_every_deadline() -> None:
    async def main() -> list[list[Any]]:
        deadline = Deadline(0.4)
        return [await many_calls(deadline), await many_calls(deadline)]  # the timer starts anew

    for *found, cancelled in asyncio.run(main()):
        assert isinstance(cancelled, asyncio.CancelledError)
        assert [how for how, _ in found] == ["late" if n % 3 else "done" for n in range(61)]
        took = sorted(seconds for how, seconds in found if how == "late")
        assert took[0] >= 0.39
        assert took[len(took) // 2] < 1  # of a busy machine
