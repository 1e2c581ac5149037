"""Fixtures of the server's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.model_server import ModelServer
from tests.support.server import Server
from tests.support.server_pool import ServerPool


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory, server_pool: ServerPool) -> Iterator[Server]:
    """One server for all tests of a module, which look only at their own connections."""
    model_server = ModelServer()
    environment = {"OPENAI_BASE_URL": model_server.url, "OPENAI_MODEL": "stand-in"}
    instance = tmp_path_factory.mktemp("shared") / "instance"
    server = Server(instance, environment=environment, server_pool=server_pool).start()
    yield server
    server.stop()
    model_server.close()
    assert "Traceback" not in "".join(server.log)
