"""Fixtures for model servers."""

from __future__ import annotations

import pytest

EVENT_BYTES = 1_000_000


@pytest.fixture
def small_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit an event of a stream to EVENT_BYTES, so that a test need not send more."""
    monkeypatch.setattr("overseer.llm.event_stream.MAX_EVENT_BYTES", EVENT_BYTES)
