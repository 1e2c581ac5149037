"""Fixtures of the server's tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.support.model_server import ModelServer
from tests.support.server import Server, running
from tests.support.server_pool import ServerPool


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory, server_pool: ServerPool) -> Iterator[Server]:
    """One server for all tests of a module, which look only at their own connections."""
    instance = tmp_path_factory.mktemp("shared") / "instance"
    with closing(ModelServer()) as model_server, running(instance, model_server, server_pool=server_pool) as server:
        yield server
    assert "Traceback" not in "".join(server.log)
