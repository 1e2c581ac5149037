"""Fixtures of the storage tests."""

from __future__ import annotations

import pytest

from tests.support.server import Server, StartServer

SHORT_WAITS: dict[str, object] = {"short_waits": {}}


@pytest.fixture
def server(start_server: StartServer) -> Server:
    """A server with short timeouts."""
    return start_server(altered=SHORT_WAITS)
