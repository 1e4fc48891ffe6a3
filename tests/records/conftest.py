"""What several tests of records set up."""

from __future__ import annotations

import pytest

from llmstream.records import reading


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest record is a short one."""
    monkeypatch.setattr(reading, "LONGEST", 40)
    monkeypatch.setattr(reading, "KEPT", 4)
