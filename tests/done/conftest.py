"""What holds for every test of the done-file."""

from __future__ import annotations

import os

import pytest

from llmstream.done import recovery
from llmstream.done.index import Index


@pytest.fixture(autouse=True)
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is warned of; and small tables, for a table of the real size takes longer than a test."""
    monkeypatch.setattr(Index, "SLOTS", 64)
    told: list[str] = []
    monkeypatch.setattr(recovery, "warn", told.append)
    return told


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """For thousands of files, none of which has to survive anything."""
    monkeypatch.setattr(os, "fdatasync", lambda _: None)
    monkeypatch.setattr(os, "fsync", lambda _: None)
