"""Fixtures of the storage tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from overseer.llm.choice import Models, ModelSettings
from overseer.rooms.overseer import Overseer
from tests.storage.rooms import Open
from tests.support.model_server import ModelServer
from tests.support.server import Server
from tests.support.server_pool import ServerPool

StartServer = Callable[..., Server]


@pytest.fixture
def opened(model_server: ModelServer) -> Iterator[Open]:
    """Opens an Overseer on a directory, as a start of the server does; all are closed at the end."""
    overseers: list[Overseer] = []

    def open_it(directory: Path, *, open_facets: int = 50) -> Overseer:
        models = Models(ModelSettings(base_url=model_server.url, name="stand-in"))
        overseers.append(Overseer(directory, models=models, open_facets=open_facets))
        overseers[-1].open()
        return overseers[-1]

    yield open_it
    for overseer in overseers:
        overseer.close()


@pytest.fixture
def start_server(model_server: ModelServer, server_pool: ServerPool) -> Iterator[StartServer]:
    """Starts servers with short timeouts on instance directories."""
    servers: list[Server] = []
    program = ("-m", "tests.storage.short_timeouts")
    settings = {"OPENAI_BASE_URL": model_server.url, "OPENAI_MODEL": "stand-in"}

    def start(instance: Path, **environment: str) -> Server:
        instance.mkdir(exist_ok=True)
        server = Server(instance, environment=settings | environment, program=program, server_pool=server_pool)
        servers.append(server)
        return server.start()

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def server(instance: Path, start_server: StartServer) -> Server:
    """A server with short timeouts."""
    return start_server(instance)
