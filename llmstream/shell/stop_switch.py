"""Whether a run goes on: anybody may stop it, and the first reason counts."""

from __future__ import annotations

from collections.abc import Callable

from llmstream.shell.messages import Stop


class StopSwitch:
    """Pulled once."""

    def __init__(self) -> None:
        self.reason: Stop | None = None
        self.on_pull: list[Callable[[], None]] = []

    def pull(self, reason: Stop) -> None:
        if self.reason:
            return
        self.reason = reason
        for notify in self.on_pull:
            notify()
