"""Fixtures of the tests of the web package."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _fast_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the fingerprint of the password cheap; servers in processes of their own use the real cost."""
    monkeypatch.setattr("overseer.storage.sessions.SCRYPT_COST", 2)
